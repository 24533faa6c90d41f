//! Cores in use, from two readings of a counter.
//!
//! Owns the earlier readings. Nothing is measured in the background: a reading is compared with the one that the previous caller made, so
//! the first one has no rate, and who wants a rate asks twice. That costs nothing when nobody asks, and those who do ask (the kubelet,
//! metrics-server, `berth top`) ask again and again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Readings closer together than this share a rate: the kernel adds running time to the counter in steps of up to a tick (10 ms at
/// `HZ=100`), so a rate over less is mostly noise. `crictl stats` and `kubectl top` leave a second or more between readings.
const MIN_WINDOW: Duration = Duration::from_millis(900);

/// A rate over more than this would be passed off as the present. metrics-server asks every 15 to 60 s, the kubelet every 10 s.
const MAX_WINDOW: Duration = Duration::from_secs(5 * 60);

/// The last reading of every container and pod that somebody asked about.
#[derive(Debug, Default)]
pub(super) struct Rates {
    known: HashMap<String, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    at: Instant,
    usage: u64,
    rate: Option<u64>,
}

impl Rates {
    /// Takes in a reading of `usage` nanoseconds, and gives billionths of a core. Memory is bounded by what was asked about within
    /// [`MAX_WINDOW`].
    pub(super) fn nano_cores(&mut self, id: &str, at: Instant, usage: u64) -> Option<u64> {
        let Some(known) = self.known.get_mut(id) else {
            self.known
                .retain(|_, known| at.saturating_duration_since(known.at) <= MAX_WINDOW);
            let first = Known {
                at,
                usage,
                rate: None,
            };
            self.known.insert(id.to_owned(), first);
            return None;
        };
        *known = next(*known, at, usage);
        known.rate
    }
}

fn next(known: Known, at: Instant, usage: u64) -> Known {
    let window = at.saturating_duration_since(known.at);
    if usage < known.usage || window > MAX_WINDOW {
        // Another cgroup under the same name (the container was restarted), or too long ago.
        return Known {
            at,
            usage,
            rate: None,
        };
    }
    if window < MIN_WINDOW {
        return known;
    }
    let used = u128::from(usage - known.usage) * 1_000_000_000;
    Known {
        at,
        usage,
        rate: u64::try_from(used / window.as_nanos()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_reading_has_no_rate_and_the_second_has() {
        let mut rates = Rates::default();
        let start = Instant::now();
        assert_eq!(rates.nano_cores("a", start, 5_000_000_000), None);
        assert_eq!(
            rates.nano_cores("a", start + 10 * SECOND, 7_500_000_000),
            Some(250_000_000)
        );
        assert_eq!(rates.nano_cores("b", start + 10 * SECOND, 0), None);
    }

    #[test]
    fn a_reading_too_soon_repeats_the_rate_and_does_not_move_the_window() {
        let mut rates = Rates::default();
        let start = Instant::now();
        rates.nano_cores("a", start, 0);
        assert_eq!(
            rates.nano_cores("a", start + SECOND / 1000, 9_000_000),
            None
        );
        assert_eq!(
            rates.nano_cores("a", start + SECOND, 500_000_000),
            Some(500_000_000)
        );
        assert_eq!(
            rates.nano_cores("a", start + SECOND * 3 / 2, 1_500_000_000),
            Some(500_000_000)
        );
        assert_eq!(
            rates.nano_cores("a", start + 3 * SECOND, 2_500_000_000),
            Some(1_000_000_000)
        );
    }

    #[test]
    fn a_counter_that_starts_anew_has_no_rate_yet() {
        let mut rates = Rates::default();
        let start = Instant::now();
        rates.nano_cores("a", start, 9_000_000_000);
        assert_eq!(rates.nano_cores("a", start + SECOND, 100), None);
        assert_eq!(
            rates.nano_cores("a", start + 2 * SECOND, 1_000_000_100),
            Some(1_000_000_000)
        );
    }

    #[test]
    fn an_old_reading_gives_no_rate_and_is_forgotten() {
        let mut rates = Rates::default();
        let start = Instant::now();
        rates.nano_cores("a", start, 0);
        rates.nano_cores("gone", start, 0);
        let late = start + MAX_WINDOW + SECOND;
        assert_eq!(rates.nano_cores("a", late, 1_000_000_000), None);
        rates.nano_cores("new", late, 0);
        let mut known: Vec<_> = rates.known.keys().map(String::as_str).collect();
        known.sort_unstable();
        assert_eq!(known, ["a", "new"]);
    }
}
