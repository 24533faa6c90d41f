//! Random numbers that can be had again: a failed test prints the seed.

use std::time::{Duration, SystemTime};

/// The seed of this run; `BERTH_TEST_SEED` has it again.
pub(crate) fn seed() -> u64 {
    match std::env::var("BERTH_TEST_SEED") {
        Ok(seed) => seed.parse().expect("BERTH_TEST_SEED is a number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs(),
    }
}

/// Numbers from a seed (SplitMix64).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True once in `of` times.
    pub(crate) fn once_in(&mut self, of: u64) -> bool {
        self.next().is_multiple_of(of)
    }

    /// A time below the limit.
    pub(crate) fn below(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(self.next() as f64 / u64::MAX as f64)
    }
}
