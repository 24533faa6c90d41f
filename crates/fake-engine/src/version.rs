//! Owns API versions: how they are written, which engine release speaks which, what this crate serves. Knows no requests.

use std::fmt;
use std::str::FromStr;

/// An Engine API version such as `1.47`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

/// The text is not an API version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an Engine API version: expected MAJOR.MINOR, such as 1.47")]
pub struct VersionError {
    text: String,
}

impl ApiVersion {
    /// The oldest version this engine can claim to speak.
    pub const FLOOR: Self = Self::new(1, 40);
    /// The newest version this engine can claim to speak.
    pub const CEILING: Self = Self::new(1, 55);
    pub(crate) const DEFAULT: Self = Self::new(1, 47);

    /// The version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Whether this is at least API `1.minor`.
    pub(crate) fn at_least(self, minor: u16) -> bool {
        self >= Self::new(1, minor)
    }

    /// The engine release that speaks this version as its newest.
    pub(crate) fn engine_release(self) -> &'static str {
        match self.minor {
            ..=40 => "19.03.15",
            41 => "20.10.24",
            42 => "23.0.6",
            43 => "24.0.9",
            44 => "25.0.5",
            45 => "26.1.5",
            46 => "27.1.2",
            47 => "27.5.1",
            48 => "28.0.4",
            49 => "28.1.1",
            50 => "28.2.2",
            51 => "28.5.2",
            52 => "29.1.5",
            53 => "29.2.1",
            54 => "29.5.3",
            _ => "29.7.2",
        }
    }

    /// The oldest version that release accepts by default.
    pub(crate) fn default_minimum(self) -> Self {
        match self.minor {
            ..=43 => Self::new(1, 12),
            44..=51 => Self::new(1, 24),
            52..=53 => Self::new(1, 44),
            _ => Self::new(1, 40),
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let error = || VersionError {
            text: text.chars().take(40).collect(),
        };
        let (major, minor) = text
            .strip_prefix('v')
            .unwrap_or(text)
            .split_once('.')
            .ok_or_else(error)?;
        let number = |part: &str| match part.bytes().all(|b| b.is_ascii_digit()) {
            true => part.parse::<u16>().map_err(|_| error()),
            false => Err(error()),
        };
        Ok(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}
