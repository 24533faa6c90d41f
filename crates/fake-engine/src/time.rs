//! Owns the text forms of points in time: RFC 3339 out, and what the API accepts in. Knows no clock.

use std::time::Duration;

use crate::clock::{Nanos, duration_nanos};

const SECOND: u64 = 1_000_000_000;
/// What the engine shows for "never": Go's zero time.
pub(crate) const ZERO: &str = "0001-01-01T00:00:00Z";

/// `2006-01-02T15:04:05.999999999Z`, trailing zeros of the fraction dropped as Go does.
pub(crate) fn rfc3339(time: Nanos) -> String {
    let fixed = rfc3339_fixed(time);
    let trimmed = fixed
        .trim_end_matches('Z')
        .trim_end_matches('0')
        .trim_end_matches('.');
    format!("{trimmed}Z")
}

/// [`rfc3339`], or Go's zero time for `None`.
pub(crate) fn rfc3339_or_zero(time: Option<Nanos>) -> String {
    time.map_or_else(|| ZERO.to_owned(), rfc3339)
}

/// With all nine digits of the fraction, as log timestamps have.
pub(crate) fn rfc3339_fixed(time: Nanos) -> String {
    let (seconds, nanos) = (time / SECOND, time % SECOND);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month, day of a day count since 1970-01-01 (Hinnant's civil_from_days).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a civil date; `None` before 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// A Unix time `SECONDS[.FRACTION]`, as the `since` and `until` parameters carry it.
pub(crate) fn parse_unix(text: &str) -> Option<Nanos> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
    // Beyond what nanoseconds can hold is beyond the end of time.
    let seconds = seconds.parse::<u64>().ok()?.saturating_mul(SECOND);
    Some(seconds.saturating_add(nanos))
}

/// What an `until` filter may hold: Unix time, RFC 3339 with `Z`, or a duration before `now` (`10m`, `1h30m`).
pub(crate) fn parse_moment(text: &str, now: Nanos) -> Option<Nanos> {
    parse_unix(text)
        .or_else(|| parse_duration(text).map(|d| now.saturating_sub(duration_nanos(d))))
        .or_else(|| parse_rfc3339(text))
}

fn parse_rfc3339(text: &str) -> Option<Nanos> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year > 2500 {
        return None;
    }
    let mut time = time.splitn(3, ':');
    let (hour, minute) = (
        time.next()?.parse::<u64>().ok()?,
        time.next()?.parse::<u64>().ok()?,
    );
    let seconds = parse_unix(time.next()?)?;
    if hour > 23 || minute > 59 || seconds > 60 * SECOND {
        return None;
    }
    (days_from_civil(year, month, day)? * 86_400 + hour * 3600 + minute * 60)
        .checked_mul(SECOND)?
        .checked_add(seconds)
}

/// A Go duration: `300ms`, `1.5h`, `1h30m`; no sign.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(value * scale).ok()?)?;
        rest = &rest[unit..];
    }
    Some(total)
}

/// `About a minute`, `3 hours`: how the engine words a span in the `Status` of a container.
pub(crate) fn human(span: Nanos) -> String {
    let seconds = span / SECOND;
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours <= 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_and_read_back() {
        for nanos in [
            0,
            951_782_400 * SECOND,
            1_709_208_000 * SECOND + 120,
            1_700_000_000_123_456_789,
        ] {
            assert_eq!(parse_rfc3339(&rfc3339(nanos)), Some(nanos));
        }
        assert_eq!(rfc3339(951_782_400 * SECOND), "2000-02-29T00:00:00Z");
        assert_eq!(
            rfc3339_fixed(1_700_000_000_100_000_000),
            "2023-11-14T22:13:20.100000000Z"
        );
    }

    #[test]
    fn a_unix_time_keeps_its_nanoseconds() {
        assert_eq!(parse_unix("12.5"), Some(12_500_000_000));
        assert_eq!(parse_unix("12.000000001"), Some(12_000_000_001));
        assert_eq!(parse_unix("12.0000000001"), None);
        assert_eq!(parse_unix("-1"), None);
        assert_eq!(parse_unix("99999999999"), Some(u64::MAX));
        assert_eq!(parse_unix("99999999999999999999"), None);
    }

    #[test]
    fn a_duration_reads_as_go_writes_it() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_duration("10"), None);
        assert_eq!(parse_duration("1x"), None);
    }
}
