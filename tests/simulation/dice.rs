//! Seeded randomness: the same seed throws the same numbers, so that whatever failed can be seen again.

use std::sync::atomic::{AtomicU64, Ordering};

use psfca::random::{NoRandomness, Random};

/// SplitMix64 (Steele, Lea, Flood 2014): far from secret, and good enough for a fleet.
#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn word(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut word = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number in `from..to`.
    pub(crate) fn between(&self, from: i64, to: i64) -> i64 {
        let width = u64::try_from(to - from).unwrap().max(1);
        from + i64::try_from(self.word() % width).unwrap()
    }

    /// Whether something happens that happens so many times in a million.
    pub(crate) fn happens(&self, in_a_million: u64) -> bool {
        self.word() % 1_000_000 < in_a_million
    }
}

impl Random for Dice {
    fn fill(&self, out: &mut [u8]) -> Result<(), NoRandomness> {
        for part in out.chunks_mut(8) {
            part.copy_from_slice(&self.word().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}
