//! How long to wait before trying again.
//!
//! Owns the constants and the arithmetic. Refuses to know what is tried.

use std::time::{Duration, SystemTime};

/// The first delay (kubelet: `backOffPeriod`).
pub const FIRST: Duration = Duration::from_secs(10);
/// The longest delay (kubelet: `MaxContainerBackOff`).
pub const LONGEST: Duration = Duration::from_secs(300);
/// A container that ran this long is not crash-looping: its next restart is immediate (kubelet: twice the longest delay).
pub const RESET: Duration = Duration::from_secs(600);

/// The delay after so many failures in a row: none, then 10 s, 20 s, 40 s and so on up to 300 s.
pub fn delay(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else {
        return Duration::ZERO;
    };
    FIRST
        .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
        .min(LONGEST)
}

/// `from` + `delay`. A time beyond what a clock can show becomes `from`.
pub(crate) fn after(from: SystemTime, delay: Duration) -> SystemTime {
    from.checked_add(delay).unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_from_10_seconds_to_5_minutes() {
        let seconds: Vec<u64> = (0..9).map(|failures| delay(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(delay(u32::MAX), LONGEST);
    }
}
