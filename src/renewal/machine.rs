//! Renewal of one certificate as a pure machine: what was and what happened, in; what is remembered and what is to
//! be done, out. The agent performs actions and the simulation (tests/simulation.rs) performs them under a
//! virtual clock; neither decides anything.
//!
//! **The state that [`step`] returns is made durable before its actions are performed.** So a crash at any moment
//! loses no debt (rule R9): at worst something is done again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Installed, Reason, Verdict, judge};
use crate::clock::Timestamp;
use crate::serial::Serial;

/// The first wait is at most this long; each further one at most twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// No wait is longer than this part of the life that is left.
const LONGEST_WAIT: u32 = 20;

/// What is remembered of one certificate from one run to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The CA was asked in vain, and when it may be asked again.
    pub retry: Option<Retry>,
    /// The services of this host have yet to be told of the certificate with this serial number.
    pub owed: Option<Serial>,
}

/// That the CA was asked in vain.
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

/// What lies where the bundle belongs.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    /// How good it is.
    pub installed: &'a Installed,
    /// Its serial number, where it has one.
    pub serial: Option<&'a Serial>,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A run looks at the certificate. A person's `--force` renews at once.
    Looked {
        /// What lies there.
        present: Present<'a>,
        /// Whether a person wants it renewed in any case.
        force: bool,
    },
    /// The CA was asked, and nothing was installed.
    Failed {
        /// What lies there.
        present: Present<'a>,
        /// How long the CA asks to be left alone (`Retry-After`, RFC 9110, section 10.2.3).
        retry_after: Option<Duration>,
        /// A random number, uniform over all values.
        draw: u32,
    },
    /// A certificate came and was found good; it is not in place yet.
    Obtained {
        /// Its serial number.
        serial: &'a Serial,
    },
    /// The services were told of this certificate, and that is proven.
    HooksDone {
        /// Its serial number.
        serial: &'a Serial,
    },
    /// A hook failed, or the proof did; the next run tries again.
    HooksFailed,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the CA for a new certificate, for this reason; then tell [`Event::Obtained`] or [`Event::Failed`].
    Ask(Reason),
    /// Nothing before this moment: the certificate is good.
    Rest(Timestamp),
    /// Nothing before this moment: it is due for this reason, and the CA was asked in vain a short while ago.
    Wait(Reason, Timestamp),
    /// Put the certificate that was obtained in place.
    Install,
    /// Tell the services of the certificate with this serial number, which is in place; then tell
    /// [`Event::HooksDone`] or [`Event::HooksFailed`].
    RunHooks(Serial),
}

/// One step.
#[must_use]
pub fn step(mut state: State, event: Event<'_>, now: Timestamp) -> (State, Vec<Action>) {
    let mut actions = Vec::new();
    match event {
        Event::Looked { present, force } => {
            state.settle(present.serial);
            match judge(present.installed, now) {
                Verdict::Later(due) => {
                    // Whatever went wrong before, somebody has made it good.
                    state.retry = None;
                    actions.push(if force { Action::Ask(Reason::Forced) } else { Action::Rest(due) });
                }
                Verdict::Due(reason) => match state.retry.and_then(|retry| retry.holds(present.installed, now)) {
                    Some(until) if !force => actions.push(Action::Wait(reason, until)),
                    _ => actions.push(Action::Ask(reason)),
                },
            }
            // Where the CA is asked first, the debt is for what comes of that.
            if !matches!(actions[..], [Action::Ask(_)]) {
                actions.extend(state.owed.clone().map(Action::RunHooks));
            }
        }
        Event::Failed { present, retry_after, draw } => {
            let failures = state.retry.map_or(0, |retry| retry.failures);
            state.retry = Some(Retry::after(failures, present.installed, retry_after, draw, now));
            state.settle(present.serial);
            actions.extend(state.owed.clone().map(Action::RunHooks));
        }
        Event::Obtained { serial } => {
            state = State { retry: None, owed: Some(serial.clone()) };
            actions.extend([Action::Install, Action::RunHooks(serial.clone())]);
        }
        Event::HooksDone { serial } => {
            state.owed = state.owed.filter(|owed| owed != serial);
        }
        Event::HooksFailed => {}
    }
    (state, actions)
}

impl State {
    /// A debt is for what lies there: after a crash between the note and the rename that is still the old one, and
    /// to tell of that once more does no harm.
    fn settle(&mut self, installed: Option<&Serial>) {
        if let (Some(owed), Some(installed)) = (&mut self.owed, installed) {
            owed.clone_from(installed);
        }
    }
}

impl Retry {
    /// After one more failure. Full jitter: any wait from none to the longest is equally likely, so hosts that failed
    /// together do not come back together. What the CA asks for is a lower bound. No wait is longer than a
    /// twentieth of the life that was left, so at least that many tries fit in, whatever the CA says.
    fn after(failures: u32, installed: &Installed, retry_after: Option<Duration>, draw: u32, now: Timestamp) -> Self {
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
        Installed::Missing | Installed::Damaged(_) | Installed::Foreign => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
