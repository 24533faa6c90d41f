//! Points in time as engines write them: RFC 3339 text or Unix seconds.
//!
//! Owns parsing, printing and the rule that Go's zero time (`0001-01-01T00:00:00Z`) means *never*. Refuses to know the
//! clock: nothing here asks what time it is.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

use super::lenient::Lenient;

/// A point in time with nanoseconds, as the Engine reports it.
///
/// In models it appears as `Option<Timestamp>`: `None` means that it never happened (Go's zero time), that the Engine
/// did not say, or that it wrote something that is not a time.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

impl Timestamp {
    /// The point `seconds` and `nanos` after 1970-01-01T00:00:00Z. Nanoseconds beyond one second carry over.
    #[must_use]
    pub const fn new(seconds: i64, nanos: u32) -> Self {
        Self {
            seconds: seconds.saturating_add((nanos / 1_000_000_000) as i64),
            nanos: nanos % 1_000_000_000,
        }
    }

    /// The point `nanos` nanoseconds after 1970-01-01T00:00:00Z, as in `timeNano` of an event.
    #[must_use]
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a remainder of a second fits u32"
        )]
        Self {
            seconds: nanos.div_euclid(1_000_000_000),
            nanos: nanos.rem_euclid(1_000_000_000) as u32,
        }
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded towards the past.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second.
    #[must_use]
    pub const fn subsec_nanos(self) -> u32 {
        self.nanos
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z; at the ends of what 64 bits hold (years 1677 and 2262) it stays there.
    #[must_use]
    pub const fn unix_nanos(self) -> i64 {
        let nanos = self.seconds as i128 * 1_000_000_000 + self.nanos as i128;
        if nanos > i64::MAX as i128 {
            i64::MAX
        } else if nanos < i64::MIN as i128 {
            i64::MIN
        } else {
            #[allow(clippy::cast_possible_truncation, reason = "it is in between")]
            let nanos = nanos as i64;
            nanos
        }
    }

    /// Reads RFC 3339 (`2026-11-23T22:25:00.123456789Z`, `…+01:00`). Digits beyond the nanosecond are dropped.
    ///
    /// `None` when the text is not such a time.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() < 20 || !text.is_ascii() {
            return None;
        }
        let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
        if separators.iter().any(|&(at, byte)| bytes[at] != byte)
            || !matches!(bytes[10], b'T' | b't' | b' ')
        {
            return None;
        }
        let [year, month, day] = [
            digits(&text[..4])?,
            digits(&text[5..7])?,
            digits(&text[8..10])?,
        ];
        let [hour, minute, second] = [
            digits(&text[11..13])?,
            digits(&text[14..16])?,
            digits(&text[17..19])?,
        ];
        // 60 is a leap second.
        if !(1..=12).contains(&month)
            || day < 1
            || day > days_in_month(year, month)
            || hour > 23
            || minute > 59
            || second > 60
        {
            return None;
        }

        let mut rest = &text[19..];
        let mut nanos = 0;
        if let Some(fraction) = rest.strip_prefix('.') {
            let len = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if len == 0 {
                return None;
            }
            let kept = len.min(9);
            nanos = u32::try_from(digits(&fraction[..kept])?).ok()?
                * 10_u32.pow(9 - u32::try_from(kept).ok()?);
            rest = &fraction[len..];
        }
        let offset = match rest.as_bytes() {
            b"Z" | b"z" => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let (hours, minutes) = (digits(&rest[1..3])?, digits(&rest[4..6])?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
            }
            _ => return None,
        };
        let seconds =
            days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
                - offset;
        Some(Self { seconds, nanos })
    }

    /// The form that `since` and `until` of logs and events take: seconds, a dot and nine digits of nanoseconds.
    ///
    /// Times before 1970 are written as 0, because Docker's parser splits the sign from the fraction.
    #[must_use]
    pub fn to_query(self) -> String {
        if self.seconds < 0 {
            "0".to_owned()
        } else {
            format!("{}.{:09}", self.seconds, self.nanos)
        }
    }
}

/// The number that `text` spells in decimal digits, nothing else.
fn digits(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + is_leap(year) as i64,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March so that the leap day
/// is the last.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

/// The inverse of [`days_from_civil`].
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = year_of_era + era * 400 + if month >= 10 { 1 } else { 0 };
    (year, if month < 10 { month + 3 } else { month - 9 }, day)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC; the fraction is left out when it is zero and has nine digits otherwise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.seconds.div_euclid(86_400));
        let second = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        if self.nanos != 0 {
            write!(f, ".{:09}", self.nanos)?;
        }
        f.write_str("Z")
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self::new(
                i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                after.subsec_nanos(),
            ),
            Err(error) => {
                let before = error.duration();
                let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Self::new(-seconds, 0),
                    nanos => Self::new(-seconds - 1, 1_000_000_000 - nanos),
                }
            }
        }
    }
}

impl From<Timestamp> for SystemTime {
    /// A time that the system cannot represent becomes 1970-01-01T00:00:00Z.
    fn from(time: Timestamp) -> Self {
        let whole = Duration::from_secs(time.seconds.unsigned_abs());
        let base = if time.seconds < 0 {
            Self::UNIX_EPOCH.checked_sub(whole)
        } else {
            Self::UNIX_EPOCH.checked_add(whole)
        };
        base.and_then(|base| base.checked_add(Duration::from_nanos(time.nanos.into())))
            .unwrap_or(Self::UNIX_EPOCH)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    /// Strict, for types of your own: what is not a time is an error, and so is Go's zero time.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<Self>::lenient(deserializer)?
            .ok_or_else(|| D::Error::custom("expected an RFC 3339 time or Unix seconds"))
    }
}

// Not `Lenient for Timestamp`: a time that the Engine did not give is `None`, never 1970.
impl Lenient for Option<Timestamp> {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Time;

        impl Visitor<'_> for Time {
            type Value = Option<Timestamp>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time, Unix seconds or null")
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
                // Any time of Go's year 1 is a zero time, be it printed in another zone.
                Ok(Timestamp::parse(v).filter(|time| time.seconds > -62_135_500_000))
            }

            fn visit_i64<E: Error>(self, v: i64) -> Result<Self::Value, E> {
                // -62135596800 is Go's zero time in Unix seconds.
                Ok((v > -62_135_500_000).then(|| Timestamp::new(v, 0)))
            }

            fn visit_u64<E: Error>(self, v: u64) -> Result<Self::Value, E> {
                Ok(i64::try_from(v)
                    .ok()
                    .map(|seconds| Timestamp::new(seconds, 0)))
            }

            fn visit_f64<E: Error>(self, v: f64) -> Result<Self::Value, E> {
                let since = Duration::try_from_secs_f64(v).ok();
                Ok(since
                    .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
                    .map(Timestamp::from))
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
        }

        deserializer.deserialize_any(Time)
    }
}
