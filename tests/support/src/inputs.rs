//! The targets of the fuzzer (`tests/fuzz`) without the fuzzer: a harness gets each seed of its target, and mutations of
//! them that follow from a fixed number, so that every run is the same.
//!
//! The unit test beside each harness calls [`attack`]. To look into one input that the fuzzer found, put it among the
//! seeds: it is then also tested from now on.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mutations of all seeds of a target together.
const MUTATIONS: usize = 6000;
/// A mutation has at most this many bytes.
const BYTES_MAX: usize = 8 << 10;
/// One input takes less than this, also on a busy machine and without optimization.
const PATIENCE: Duration = Duration::from_secs(10);
/// What parsers treat specially.
const SPECIAL: [u8; 16] = [0, 1, 4, 0x0a, 0x0d, 0x1b, b'"', b',', b'-', b'.', b'/', b':', b'=', 0x7f, 0x80, 0xff];

/// Calls the harness with every seed of the target and with mutations. A panic of the harness fails the test, after the
/// input was shown.
pub fn attack(target: &str, harness: impl Fn(&[u8])) {
    let seeds = seeds(target);
    for (name, seed) in &seeds {
        survive(&format!("the seed {target}/{name}"), seed, &harness);
    }
    let mut random = Random(0x6e65_7464);
    for number in 0..MUTATIONS {
        let (name, seed) = &seeds[number % seeds.len()];
        let mut input = seed.clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &seeds, &mut random);
        }
        input.truncate(BYTES_MAX);
        survive(&format!("mutation {number} of the seed {target}/{name}"), &input, &harness);
    }
}

fn survive(what: &str, input: &[u8], harness: &impl Fn(&[u8])) {
    let began = Instant::now();
    let kept = catch_unwind(AssertUnwindSafe(|| harness(input))).is_ok();
    assert!(kept, "{what} breaks the promise that is named above: b\"{}\"", input.escape_ascii());
    let took = began.elapsed();
    assert!(took < PATIENCE, "{what} takes {took:?}: b\"{}\"", input.escape_ascii());
}

/// The seeds of a target, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let read = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    };
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<_> = entries.map(|entry| read(&entry.unwrap().path())).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} has no seeds", folder.display());
    seeds
}

/// Changes the input in one way.
fn mutate(input: &mut Vec<u8>, seeds: &[(String, Vec<u8>)], random: &mut Random) {
    let at = random.below(input.len().max(1));
    let length = random.below(input.len() - at.min(input.len())).min(1 + random.below(64));
    match random.below(9) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = SPECIAL[random.below(SPECIAL.len())],
        2 => input.insert(at, SPECIAL[random.below(SPECIAL.len())]),
        3 => drop(input.drain(at..at + length)),
        4 => {
            let again = input[at..at + length].to_vec();
            drop(input.splice(at..at, again));
        }
        5 => input.truncate(at),
        6 if at < input.len() => {
            // A length field that is a little wrong.
            let change = [1, 2, 3, 4, 8, 16, 255, 252][random.below(8)];
            input[at] = input[at].wrapping_add(change);
        }
        7 => {
            // The beginning of this one, the end of another.
            let other = &seeds[random.below(seeds.len())].1;
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len().max(1)).min(other.len())..]);
        }
        _ => {
            let other = &seeds[random.below(seeds.len())].1;
            let from = random.below(other.len().max(1)).min(other.len());
            let part = other[from..(from + 1 + random.below(32)).min(other.len())].to_vec();
            drop(input.splice(at..at, part));
        }
    }
}

/// A small generator (xorshift64*).
struct Random(u64);

impl Random {
    /// A number below the limit; 0 if that is 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit.max(1)
    }
}
