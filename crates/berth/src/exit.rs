//! How berth ends: the exit codes, and the one error type of the commands.

use std::fmt::Display;

/// The exit codes, as the README lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Something failed: a container, a pull, the engine refused.
    Failed = 1,
    /// The command line or a manifest is wrong; nothing was changed.
    Usage = 2,
    /// The pod or container is not there.
    NotFound = 3,
    /// A deadline passed.
    TimedOut = 4,
    /// The engine cannot be reached.
    Unreachable = 5,
}

/// Why a command failed, in words for the user, and the exit code that says it to scripts.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// Printed behind `error: `; empty when everything has been said already.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Display) -> Self {
        Self {
            code: code as u8,
            message: message.to_string(),
        }
    }

    /// An end with the code of the program that was run for the user.
    pub(crate) fn of_program(code: u8) -> Self {
        Self {
            code,
            message: String::new(),
        }
    }
}

impl From<berth_docker::Error> for Failure {
    fn from(error: berth_docker::Error) -> Self {
        let code = if error.is_connect() {
            Code::Unreachable
        } else if error.is_timeout() {
            Code::TimedOut
        } else {
            Code::Failed
        };
        Self::new(code, error)
    }
}

impl From<berth_pod::Error> for Failure {
    fn from(error: berth_pod::Error) -> Self {
        match error {
            berth_pod::Error::Docker(error) => error.into(),
            other => Self::new(Code::Failed, other),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Code::Failed, error)
    }
}
