//! What stable Rust can do of `cargo fuzz run`, for each crate with fuzz targets: its `tests/fuzz_corpus.rs` has this as a module.

use std::path::Path;

/// Mutations tried of each input.
const ROUNDS: u32 = 300;

/// A small generator (xorshift), so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).unwrap()
    }
}

fn mutate(input: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(5) {
            0 => bytes.insert(at, u8::try_from(random.below(256)).unwrap()),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => {
                let other = &others[random.below(others.len())];
                bytes.splice(at.., other[random.below(other.len() + 1)..].iter().copied());
            }
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}

/// Runs a target over the corpus in `fuzz/corpus/<name>` of the crate that this file is compiled into, and over mutations of it.
pub(crate) fn replay(name: &str, target: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    let inputs: Vec<Vec<u8>> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for input in &inputs {
        target(input);
        for _ in 0..ROUNDS {
            target(&mutate(input, &inputs, &mut random));
        }
    }
}

/// A test for each target of the module `targets` beside this one.
macro_rules! targets {
    ($($name:ident,)*) => {
        $(#[test]
        fn $name() {
            replay::replay(stringify!($name), targets::$name);
        })*
    };
}

pub(crate) use targets;
