//! Owns randomness: one seeded generator per engine, so that a run with the same seed and the same calls repeats.

/// SplitMix64 (Steele, Lea, Flood 2014): tiny, seedable, good enough for ids and fault dice.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A 64-digit hexadecimal id that depends on `parts` alone: for what has an id but is not worth keeping one.
    pub(crate) fn derived_id(parts: &[&str]) -> String {
        // FNV-1a over the parts, each ended by a byte no text has.
        let seed = parts
            .iter()
            .flat_map(|part| part.bytes().chain([0xff]))
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self(seed).id()
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits: all that an f64 can hold.
        #[allow(clippy::cast_precision_loss)]
        let numerator = (self.next_u64() >> 11) as f64;
        numerator / (1u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.unit()).cos()
    }

    /// A 64-digit hexadecimal id, as the engine gives containers, execs and networks.
    ///
    /// The first digit is a letter: a short id of digits alone would read as a number in YAML and in host names.
    pub(crate) fn id(&mut self) -> String {
        let mut id = String::with_capacity(64);
        for _ in 0..4 {
            for digit in (0..16).rev().scan(self.next_u64(), |bits, shift| {
                Some(*bits >> (shift * 4) & 0xf)
            }) {
                id.push(char::from(
                    b"0123456789abcdef"[usize::try_from(digit).unwrap_or_default()],
                ));
            }
        }
        if !id[..12].bytes().any(|b| b.is_ascii_alphabetic()) {
            id.replace_range(..1, "f");
        }
        id
    }
}
