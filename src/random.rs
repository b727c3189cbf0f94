//! Randomness as an argument (rule R7): serial numbers and enrolment secrets take theirs from here.

use ring::rand::SecureRandom;

/// The operating system gave no random bytes; nothing may be issued without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// Where random bytes come from.
pub trait Random: Send + Sync {
    /// Fills all of `out`.
    ///
    /// # Errors
    /// [`NoRandomness`] when the source fails; `out` is then unspecified.
    fn fill(&self, out: &mut [u8]) -> Result<(), NoRandomness>;
}

/// The operating system's generator; only the wiring in `run` makes one.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) -> Result<(), NoRandomness> {
        ring::rand::SystemRandom::new().fill(out).map_err(|_| NoRandomness)
    }
}
