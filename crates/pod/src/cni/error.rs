//! Why a pod could not be added to its network, or taken from it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why there is no network for pods, in words for a node's condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotReady {
    /// In one word, as conditions have it.
    pub reason: &'static str,
    /// For people: what is missing, where, and why.
    pub message: String,
}

impl NotReady {
    /// [`Self::reason`] when no directory has a file that could be a network.
    pub const NO_CONFIG: &str = "NetworkConfigMissing";
    /// [`Self::reason`] when there are files, and none can be used.
    pub const BAD_CONFIG: &str = "NetworkConfigInvalid";
    /// [`Self::reason`] when the network takes its addresses from the node's range, which is not known yet.
    pub const NO_POD_CIDR: &str = "PodCIDRMissing";
}

/// What a plugin is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// To add a pod to a network.
    Add,
    /// To take a pod from it.
    Del,
    /// To say which versions it speaks.
    Version,
}

impl Operation {
    /// As `CNI_COMMAND` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Version => "VERSION",
        }
    }
}

/// What went wrong with a plugin.
#[derive(Debug)]
pub enum Failure {
    /// No directory of plugins has such a program.
    Missing(Vec<PathBuf>),
    /// It could not be started, or talked to.
    Io(io::Error),
    /// It did not end in time, and was killed.
    TimedOut(Duration),
    /// It wrote more than is read, and was killed.
    TooLong(usize),
    /// It said why it failed.
    Refused {
        /// The specification's number, or the plugin's own from 100; 11 means to try again.
        code: u64,
        /// In short.
        message: String,
        /// At length; may be empty.
        details: String,
    },
    /// It failed without a word that could be understood; the end of what it wrote instead.
    Failed(ExitStatus, String),
    /// It said that it succeeded, and what it wrote is not a result.
    Garbage {
        /// What is wrong with it.
        problem: String,
        /// Its beginning.
        output: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(dirs) => write!(f, "there is no such program in {}", list(dirs)),
            Self::Io(error) => write!(f, "it cannot be run: {error}"),
            Self::TimedOut(patience) => {
                write!(f, "it did not end within {patience:.1?} and was killed")
            }
            Self::TooLong(most) => write!(f, "it wrote more than {most} bytes and was killed"),
            Self::Refused {
                code,
                message,
                details,
            } => {
                f.write_str(message)?;
                if !details.is_empty() {
                    write!(f, "; {details}")?;
                }
                write!(f, " (code {code})")
            }
            Self::Failed(status, words) if words.is_empty() => write!(f, "it failed ({status})"),
            Self::Failed(status, words) => write!(f, "it failed ({status}): {words}"),
            Self::Garbage { problem, output } => {
                write!(
                    f,
                    "its result cannot be read: {problem}; it wrote {output:?}"
                )
            }
        }
    }
}

pub(super) fn list(dirs: &[PathBuf]) -> String {
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    match dirs.as_slice() {
        [] => "no directory at all".to_owned(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} or {last}", before.join(", ")),
    }
}

/// What went wrong with which plugin.
#[derive(Debug, thiserror::Error)]
#[error("network {network:?}: plugin {plugin:?}: {} failed: {failure}", operation.name())]
pub struct PluginError {
    /// The network's name.
    pub network: String,
    /// The plugin's type.
    pub plugin: String,
    /// What it was run for.
    pub operation: Operation,
    /// What went wrong.
    pub failure: Failure,
}

/// Why a pod could not be added to its network, or taken from it.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// There is no network for pods at the moment.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The pod cannot be described to plugins as it is.
    #[error("{0}")]
    Invalid(String),
    /// The record of which pods are in which network cannot be read or written.
    #[error("the record of the pods' networks: {}: {source}", path.display())]
    Record {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Plugins of an earlier, interrupted call still run.
    #[error("whether CNI plugins of an earlier start still run: {0}")]
    Strays(io::Error),
    /// Plugins failed: one at adding, one or more at taking away.
    #[error("{}", failures(.0))]
    Plugins(Vec<PluginError>),
    /// All plugins succeeded, and none gave the pod an address.
    #[error("network {network:?}: its plugins gave the pod no address")]
    NoAddress {
        /// The network's name.
        network: String,
    },
    /// A pod could not be added, and what had been done could not be undone, so it is still on record.
    #[error("{add}; and it could not be undone: {undo}")]
    NotUndone {
        /// Why it was not added.
        add: Box<CniError>,
        /// Why it was not undone.
        undo: Box<CniError>,
    },
}

impl CniError {
    /// Whether a plugin asks to try again later (code 11), or it is a matter of the configuration that may be there soon.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NotReady(_) => true,
            Self::Plugins(failures) => failures
                .iter()
                .any(|error| matches!(error.failure, Failure::Refused { code: 11, .. })),
            _ => false,
        }
    }
}

fn failures(failures: &[PluginError]) -> String {
    let texts: Vec<String> = failures.iter().map(PluginError::to_string).collect();
    texts.join("; ")
}
