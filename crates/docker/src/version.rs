//! Owns the Engine API version as a value: how it is written, ordered, and which versions this client speaks. It knows no negotiation.

use std::fmt;
use std::str::FromStr;

use crate::config_error::ConfigError;

/// A version of the Engine API, such as 1.44.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    /// The oldest version this client speaks: that of Docker 19.03, and the oldest that Docker 29 still serves.
    pub const FLOOR: Self = Self::new(1, 40);

    /// The newest version this client has been tested with: that of Docker 29.7.
    pub const CEILING: Self = Self::new(1, 55);

    /// The version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// The number before the point.
    pub const fn major(self) -> u16 {
        self.major
    }

    /// The number after the point.
    pub const fn minor(self) -> u16 {
        self.minor
    }

    /// One number for an atomic cell. Only 0.0, which no engine speaks, gives 0.
    pub(crate) const fn pack(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }

    /// The version that [`pack`](Self::pack) gave; `None` for 0.
    pub(crate) const fn unpack(packed: u32) -> Option<Self> {
        let [a, b, c, d] = packed.to_be_bytes();
        match packed {
            0 => None,
            _ => Some(Self::new(
                u16::from_be_bytes([a, b]),
                u16::from_be_bytes([c, d]),
            )),
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ConfigError;

    /// Reads `MAJOR.MINOR` in decimal digits.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let number = |digits: &str| {
            if digits.bytes().all(|b| b.is_ascii_digit()) {
                digits.parse::<u16>().ok()
            } else {
                None
            }
        };
        text.split_once('.')
            .and_then(|(major, minor)| Some(Self::new(number(major)?, number(minor)?)))
            .ok_or_else(|| {
                ConfigError::value("API version", text, "must be MAJOR.MINOR, such as 1.44")
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_ordered_by_number_and_not_by_text() {
        assert!(ApiVersion::new(1, 9) < ApiVersion::new(1, 40));
        assert!(ApiVersion::new(1, 52) < ApiVersion::new(2, 0));
        assert!(ApiVersion::FLOOR < ApiVersion::CEILING);
    }

    #[test]
    fn what_is_not_two_numbers_is_refused() {
        for text in [
            "", "1", "1.", ".1", "1.44.0", "v1.44", "1.x", "+1.44", "1.+44", "1.-4", " 1.44",
            "1.44 ", "1.65536", "1,44", "١.٤",
        ] {
            let error = text.parse::<ApiVersion>().expect_err(text);
            assert_eq!(
                error.to_string(),
                format!("API version {text:?}: must be MAJOR.MINOR, such as 1.44")
            );
        }
    }

    #[test]
    fn nothing_packed_is_no_version() {
        assert_eq!(ApiVersion::unpack(0), None);
    }

    proptest! {
        #[test]
        fn a_version_survives_text_and_packing(major: u16, minor: u16) {
            let version = ApiVersion::new(major, minor);
            prop_assert_eq!(version.to_string().parse::<ApiVersion>(), Ok(version));
            if version != ApiVersion::new(0, 0) {
                prop_assert_eq!(ApiVersion::unpack(version.pack()), Some(version));
            }
        }

        #[test]
        fn any_text_is_a_version_or_an_error(text: String) {
            let _ = text.parse::<ApiVersion>();
        }
    }
}
