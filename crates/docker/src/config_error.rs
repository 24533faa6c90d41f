//! The error of everything that is read before an engine is called: variables, addresses, files, contexts, credential helpers.
//!
//! It says where the value came from, what it was, the rule it breaks and what to do. It never holds a secret: whoever makes one leaves a
//! value out that could be one.

use std::fmt;
use std::path::{Path, PathBuf};

/// The most of an offending value or of a helper's words that is shown, in characters. Enough to recognise it on a terminal.
const SHOWN: usize = 200;

/// Why the configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value breaks a rule.
    Value {
        /// Where it came from: a variable, a flag, a context.
        origin: String,
        /// The value; `None` when it may hold a secret.
        value: Option<String>,
        /// The rule it breaks.
        rule: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// A file cannot be read or used.
    File {
        /// The file.
        path: PathBuf,
        /// Line and column of the fault, both from 1.
        position: Option<(usize, usize)>,
        /// What is wrong with it.
        rule: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A registry's credential helper failed.
    Helper {
        /// The program, such as `docker-credential-pass`.
        helper: String,
        /// The registry it was asked for.
        registry: String,
        /// What went wrong.
        rule: String,
        /// What it said on standard error, shortened.
        stderr: String,
    },
}

impl ConfigError {
    /// `value` from `origin` breaks `rule`.
    pub(crate) fn value(origin: impl Into<String>, value: &str, rule: impl Into<String>) -> Self {
        Self::Value {
            origin: origin.into(),
            value: Some(shorten(value)),
            rule: rule.into(),
            hint: None,
        }
    }

    /// A value from `origin`, that may be a secret, breaks `rule`.
    pub(crate) fn hidden(origin: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Value {
            origin: origin.into(),
            value: None,
            rule: rule.into(),
            hint: None,
        }
    }

    /// `path` cannot be used.
    pub(crate) fn file(path: &Path, rule: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            position: None,
            rule: rule.into(),
            hint: None,
        }
    }

    /// TLS cannot be set up with what `origin` (a file, or the system's certificates) gives.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(origin: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::hidden(origin, rule)
    }

    /// `helper` failed when asked for `registry`.
    pub(crate) fn helper(
        helper: &str,
        registry: &str,
        rule: impl Into<String>,
        stderr: &str,
    ) -> Self {
        Self::Helper {
            helper: helper.to_owned(),
            registry: registry.to_owned(),
            rule: rule.into(),
            stderr: shorten(stderr.trim()),
        }
    }

    /// Says what to do.
    pub(crate) fn with_hint(mut self, text: impl Into<String>) -> Self {
        match &mut self {
            Self::Value { hint, .. } | Self::File { hint, .. } => *hint = Some(text.into()),
            Self::Helper { .. } => {}
        }
        self
    }

    /// Names where the value came from, once that is known.
    pub(crate) fn with_origin(mut self, name: impl Into<String>) -> Self {
        if let Self::Value { origin, .. } = &mut self {
            *origin = name.into();
        }
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = match self {
            Self::Value {
                origin,
                value,
                rule,
                hint,
            } => {
                f.write_str(origin)?;
                if let Some(value) = value {
                    write!(f, " {value:?}")?;
                }
                write!(f, ": {rule}")?;
                hint
            }
            Self::File {
                path,
                position,
                rule,
                hint,
            } => {
                write!(f, "{}", path.display())?;
                if let Some((line, column)) = position {
                    write!(f, ":{line}:{column}")?;
                }
                write!(f, ": {rule}")?;
                hint
            }
            Self::Helper {
                helper,
                registry,
                rule,
                stderr,
            } => {
                write!(f, "{helper}, asked for {registry}, {rule}")?;
                if !stderr.is_empty() {
                    write!(f, ": {}", stderr.escape_debug())?;
                }
                &None
            }
        };
        match hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_and_control_characters_are_escaped() {
        let error = ConfigError::value("DOCKER_HOST", &format!("\n{}", "é".repeat(1000)), "is bad")
            .with_hint("write less");
        assert_eq!(
            error.to_string(),
            format!(
                "DOCKER_HOST \"\\n{}…\": is bad; write less",
                "é".repeat(199)
            )
        );
    }

    #[test]
    fn a_position_reads_like_a_compilers() {
        let error = ConfigError::File {
            path: "/c/config.json".into(),
            position: Some((3, 7)),
            rule: "expected `,`".into(),
            hint: None,
        };
        assert_eq!(error.to_string(), "/c/config.json:3:7: expected `,`");
    }
}
