//! Renewal of one certificate as a pure machine: what is remembered and what happened, in; what is remembered from then
//! on and what is to be done, out. The agent does it, and the simulation (tests/simulation.rs) does it under a
//! virtual clock; neither decides anything. What services still have to load is the other half: [`crate::loading`].
//!
//! **What is to be remembered is made durable before anything is done.** So a crash at any moment costs at most that
//! something is done again (rule R9).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Installed, Reason, Verdict, judge};
use crate::clock::Timestamp;

/// The first wait is at most this long; each further one at most twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// No wait is longer than this part of the life that is left.
const LONGEST_WAIT: u32 = 20;

/// What is remembered of one certificate from one run to the next: that the CA was asked in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How often since the last success.
    pub failures: u32,
    /// When it was last asked.
    pub asked: Timestamp,
    /// It is not asked again before this moment.
    pub until: Timestamp,
}

/// What a run does about the certificate that it looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the CA for a new one, for this reason. In vain: [`Retry::after`]; once the new one is in place, nothing is remembered.
    Ask(Reason),
    /// Nothing before this moment: the certificate is good.
    Rest(Timestamp),
    /// Nothing before this moment: it is due for this reason, and the CA was asked in vain a short while ago.
    Wait(Reason, Timestamp),
}

/// A run looks at what is installed: what to remember from now on, and what to do. A person's `force` renews at once.
#[must_use]
pub fn look(retry: Option<Retry>, installed: &Installed, force: bool, now: Timestamp) -> (Option<Retry>, Action) {
    match judge(installed, now) {
        // Whatever went wrong before, somebody has made it good.
        Verdict::Later(_) if force => (None, Action::Ask(Reason::Forced)),
        Verdict::Later(due) => (None, Action::Rest(due)),
        Verdict::Due(reason) => match retry.and_then(|retry| retry.holds(installed, now)) {
            Some(until) if !force => (retry, Action::Wait(reason, until)),
            _ => (retry, Action::Ask(reason)),
        },
    }
}

impl Retry {
    /// The CA was asked in vain, after what is remembered. Full jitter (`draw`, uniform over all values): any wait from none
    /// to the longest is equally likely, so hosts that failed together do not come back together. What the CA asks
    /// for (`Retry-After`, RFC 9110, section 10.2.3) is a lower bound. No wait is longer than a twentieth of the life
    /// that was left, so at least that many tries fit in, whatever the CA says.
    #[must_use]
    pub fn after(
        before: Option<Self>,
        installed: &Installed,
        retry_after: Option<Duration>,
        draw: u32,
        now: Timestamp,
    ) -> Self {
        let failures = before.map_or(0, |retry| retry.failures);
        let longest = longest_wait(installed, now);
        let least = retry_after.unwrap_or_default().min(longest);
        let doubled = FIRST_WAIT.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        let window = doubled.min(longest - least);
        let wait = least + window.mul_f64(f64::from(draw) / f64::from(u32::MAX));
        Self { failures: failures.saturating_add(1), asked: now, until: now.plus(wait) }
    }

    /// Until when this holds back a new try; none where it does not. It counts for no longer than it could for what
    /// lies there now: where that went missing since, not at all. Nor where the clock was set back since.
    fn holds(self, installed: &Installed, now: Timestamp) -> Option<Timestamp> {
        let until = self.until.min(self.asked.plus(longest_wait(installed, self.asked)));
        (self.asked <= now && now < until).then_some(until)
    }
}

/// Nothing is left of what is missing or damaged, so nobody waits.
fn longest_wait(installed: &Installed, now: Timestamp) -> Duration {
    match installed {
        Installed::Unfit { validity, .. } | Installed::Fit(validity) => now.until(validity.not_after) / LONGEST_WAIT,
        Installed::Missing | Installed::Damaged(_) | Installed::Foreign(_) => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
