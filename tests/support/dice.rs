//! Chance that can be repeated.

use std::hash::{BuildHasher as _, Hasher as _};

use super::tools::say;

/// Numbers that look random (SplitMix64); the same seed gives the same ones.
pub struct Dice(u64);

impl Dice {
    /// Seeded by `PSFCA_SEED`, or else by chance; says which.
    pub fn new() -> Self {
        let chosen = std::env::var("PSFCA_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = chosen.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
        say(&format!("PSFCA_SEED={seed}"));
        Self(seed)
    }

    /// From 0 on, and below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
