//! How a check says what an engine did otherwise, and the macros that checks claim with.

use std::fmt;
use std::panic::Location;

use berth_docker::Error;

/// What an engine did otherwise than a check says, and where the check says it.
#[derive(Clone, Debug)]
pub struct Violation {
    message: String,
    at: &'static Location<'static>,
}

impl Violation {
    #[track_caller]
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            at: Location::caller(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}:{})",
            self.message,
            self.at.file(),
            self.at.line()
        )
    }
}

impl std::error::Error for Violation {}

impl From<Error> for Violation {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<std::io::Error> for Violation {
    #[track_caller]
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// The refusal that a call has to meet, with one of these statuses.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T, Error>, statuses: &[u16]) -> Result<Error, Violation> {
    match result {
        Ok(_) => Err(Violation::new(format!(
            "done, instead of refused with status {statuses:?}"
        ))),
        Err(error) => match error.status() {
            Some(status) if statuses.contains(&status) => {
                if error.message().trim().is_empty() {
                    return Err(Violation::new(format!("refused without a word: {error}")));
                }
                Ok(error)
            }
            _ => Err(Violation::new(format!(
                "should be refused with status {statuses:?}: {error}"
            ))),
        },
    }
}

/// The refusal of the client itself, because the engine is too old for what is named.
#[track_caller]
pub(crate) fn too_old<T>(result: Result<T, Error>, what: &str) -> Result<(), Violation> {
    match result {
        Ok(_) => Err(Violation::new(format!(
            "{what} is sent to an engine that does not know it"
        ))),
        Err(error) if error.status().is_none() && error.to_string().contains(what) => Ok(()),
        Err(error) => Err(Violation::new(format!(
            "should be refused naming {what}: {error}"
        ))),
    }
}

/// Claims that a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(crate::Violation::new(format!($($message)+)));
        }
    };
}

/// Claims that two values are equal; the first is what the engine gave.
macro_rules! equal {
    ($given:expr, $expected:expr, $($message:tt)+) => {
        match (&$given, &$expected) {
            (given, expected) => {
                if given != expected {
                    let what = format!($($message)+);
                    return Err(crate::Violation::new(format!("{what}: {given:?}, not {expected:?}")));
                }
            }
        }
    };
}

pub(crate) use {ensure, equal};
