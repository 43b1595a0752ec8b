//! Where the sandbox has its time and its randomness from: from outside, so that a run can be
//! repeated byte for byte.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// Starts at a given time and goes on with tokio's clock, paused or not.
#[derive(Clone, Debug)]
pub struct TokioClock {
    start: Timestamp,
    since: Instant,
}

impl TokioClock {
    /// It is `start` now.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> TokioClock {
        TokioClock { start, since: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.since.elapsed()).unwrap_or(SignedDuration::MAX);
        self.start.checked_add(passed).unwrap_or(Timestamp::MAX)
    }
}

/// Stands still.
impl Clock for Timestamp {
    fn now(&self) -> Timestamp {
        *self
    }
}

/// Pseudo-random numbers of a seed (`SplitMix64`): for uids and generated names.
#[derive(Clone, Debug)]
pub struct Dice(u64);

/// The letters of generated names: none that could spell a word.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Dice {
    /// The numbers of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A uid, in the form of a version 4 UUID.
    pub fn uid(&mut self) -> String {
        let (high, low) = (self.roll(), self.roll());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff
        )
    }

    /// Five letters for a name.
    pub fn suffix(&mut self) -> String {
        let mut number = self.roll();
        let mut suffix = String::new();
        for _ in 0..5 {
            let index = usize::try_from(number % LETTERS.len() as u64).unwrap_or(0);
            suffix.push(char::from(LETTERS[index]));
            number /= LETTERS.len() as u64;
        }
        suffix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_uids_again() {
        let uids = |seed| {
            let mut dice = Dice::new(seed);
            (dice.uid(), dice.suffix(), dice.uid())
        };
        assert_eq!(uids(1), uids(1));
        assert_ne!(uids(1), uids(2));
        let (uid, suffix, other) = uids(1);
        assert_ne!(uid, other);
        assert_eq!((uid.len(), suffix.len()), (36, 5));
        assert_eq!(&uid[14..15], "4");
    }
}
