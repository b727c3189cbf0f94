//! Whether the services of a name use the certificate that is installed for it (rule R8): a pure record of
//! what was owed, tried and proven, for each serial number.
//!
//! What is written down is that a certificate was *loaded*; one of which nothing is written is owed. So no
//! record that is missing, old or damaged can lose a debt: at worst a service reloads once more.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::serial::Serial;

/// Longest error that is kept, in characters.
pub const MAX_ERROR: usize = 3_000;

/// What a host's settings ask for after a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// There are hooks to run.
    pub hooks: bool,
    /// There are services that have to prove what they serve.
    pub probe: bool,
}

/// How far the certificate that is installed has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Loaded {
    /// There is no hook and no probe, so nobody knows.
    NoneConfigured,
    /// Nothing of this CA that is whole is installed, so there is nothing to load.
    NotInstalled,
    /// Services have to be told, or have not proven yet that they serve it.
    Owed {
        /// Since when; none where no run has come to it yet.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
        /// How many runs tried, counted before each try.
        attempts: u32,
        /// What was wrong at the last one.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Every hook succeeded; there is no probe.
    Hooked {
        /// When.
        at: Timestamp,
    },
    /// Every hook succeeded, and each service that is probed proved to serve it.
    Served {
        /// When.
        at: Timestamp,
    },
}

impl Loaded {
    /// Whether a hook or a proof is outstanding.
    #[must_use]
    pub const fn is_owed(&self) -> bool {
        matches!(self, Self::Owed { .. })
    }
}

/// What became of one certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Which.
    pub serial: Serial,
    /// Since when services have to load it.
    pub since: Timestamp,
    /// How many runs tried.
    pub attempts: u32,
    /// What was wrong at the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When every hook had succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooked: Option<Timestamp>,
    /// When every probe had proven it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Timestamp>,
}

impl Record {
    const fn new(serial: Serial, since: Timestamp) -> Self {
        Self { serial, since, attempts: 0, error: None, hooked: None, served: None }
    }

    /// Whether the hooks have to run, and whether the probes have to.
    #[must_use]
    pub const fn outstanding(&self, wanted: Wanted) -> Wanted {
        Wanted { hooks: wanted.hooks && self.hooked.is_none(), probe: wanted.probe && self.served.is_none() }
    }

    /// Every hook and probe that is wanted was content.
    pub fn paid(&mut self, wanted: Wanted, now: Timestamp) {
        self.hooked = self.hooked.or(wanted.hooks.then_some(now));
        self.served = wanted.probe.then_some(now);
        self.error = None;
    }

    /// It did not work: the next try begins with the hooks again, which are what repairs a service.
    pub fn failed(&mut self, error: String) {
        (self.hooked, self.served, self.error) = (None, None, Some(crate::terminal::cut_owned(error, MAX_ERROR)));
    }
}

/// What became of one hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// Its path.
    pub hook: PathBuf,
    /// The end of what it said, standard output and error as they came.
    pub output: String,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl HookRun {
    /// What went wrong, in one text with what it said; none when it succeeded.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        let said = if self.output.is_empty() { String::new() } else { format!("; it said: {}", self.output) };
        Some(format!("the hook {} {error}{said}", self.hook.display()))
    }
}

/// The records of one name: of what is installed, and of what is about to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Records(Vec<Record>);

impl Records {
    /// A new certificate is about to take the place of `installed`. Whether it gets there or not, the
    /// record of the one that is then installed is true.
    pub fn expect(&mut self, new: &Serial, installed: Option<&Serial>, now: Timestamp) {
        self.0.retain(|record| Some(&record.serial) == installed && record.serial != *new);
        self.0.push(Record::new(new.clone(), now));
    }

    /// The record of what is installed, made where there is none; all others are forgotten.
    pub fn of_installed(&mut self, installed: &Serial, now: Timestamp) -> &mut Record {
        self.0.retain(|record| record.serial == *installed);
        if self.0.is_empty() {
            self.0.push(Record::new(installed.clone(), now));
        }
        &mut self.0[0]
    }

    /// Owes again what is installed, because services read something else of it that changed. Says whether
    /// that is news.
    pub fn reopen(&mut self, installed: &Serial, now: Timestamp) -> bool {
        match self.0.iter_mut().find(|record| record.serial == *installed) {
            Some(record) if record.hooked.is_some() || record.served.is_some() => {
                *record = Record::new(installed.clone(), now);
                true
            }
            _ => false,
        }
    }

    /// How far the certificate with this serial number has come.
    #[must_use]
    pub fn loaded(&self, installed: &Serial, wanted: Wanted) -> Loaded {
        if !wanted.hooks && !wanted.probe {
            return Loaded::NoneConfigured;
        }
        let Some(record) = self.0.iter().find(|record| record.serial == *installed) else {
            return Loaded::Owed { since: None, attempts: 0, error: None };
        };
        let outstanding = record.outstanding(wanted);
        match (record.hooked, record.served) {
            _ if outstanding.hooks || outstanding.probe => {
                Loaded::Owed { since: Some(record.since), attempts: record.attempts, error: record.error.clone() }
            }
            (_, Some(at)) if wanted.probe => Loaded::Served { at },
            (Some(at), _) => Loaded::Hooked { at },
            // Unreachable, and a debt is the safe side.
            (None, _) => Loaded::Owed { since: Some(record.since), attempts: record.attempts, error: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOKS: Wanted = Wanted { hooks: true, probe: false };
    const PROBE: Wanted = Wanted { hooks: false, probe: true };
    const BOTH: Wanted = Wanted { hooks: true, probe: true };
    const NOTHING: Wanted = Wanted { hooks: false, probe: false };

    fn serial(number: u8) -> Serial {
        Serial::from_octets(&[number]).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds)
    }

    #[test]
    fn what_nothing_is_known_of_is_owed_unless_nobody_wants_to_know() {
        let records = Records::default();
        assert_eq!(records.loaded(&serial(1), BOTH), Loaded::Owed { since: None, attempts: 0, error: None });
        assert_eq!(records.loaded(&serial(1), NOTHING), Loaded::NoneConfigured);
    }

    #[test]
    fn a_debt_is_always_for_what_is_installed_whether_the_new_one_came_or_not() {
        let mut records = Records::default();
        records.of_installed(&serial(1), at(1)).hooked = Some(at(2));
        records.expect(&serial(2), Some(&serial(1)), at(3));
        assert_eq!(records.loaded(&serial(1), HOOKS), Loaded::Hooked { at: at(2) });
        assert_eq!(records.loaded(&serial(2), HOOKS), Loaded::Owed { since: Some(at(3)), attempts: 0, error: None });
        // The next one replaces the one that never came, and nothing piles up.
        records.expect(&serial(3), Some(&serial(1)), at(4));
        assert_eq!(records.0.len(), 2);
        // A debt that was open stays open, with its history, when its successor does not come.
        let mut records = Records::default();
        records.of_installed(&serial(1), at(1)).attempts = 4;
        records.expect(&serial(2), Some(&serial(1)), at(3));
        assert_eq!(records.loaded(&serial(1), HOOKS), Loaded::Owed { since: Some(at(1)), attempts: 4, error: None });
    }

    #[test]
    fn only_what_is_asked_for_has_to_be_paid_and_a_new_probe_asks_for_a_proof() {
        let mut records = Records::default();
        let record = records.of_installed(&serial(1), at(1));
        record.hooked = Some(at(2));
        assert_eq!(record.outstanding(BOTH), PROBE);
        assert!(records.loaded(&serial(1), BOTH).is_owed());
        records.of_installed(&serial(1), at(9)).served = Some(at(5));
        assert_eq!(records.loaded(&serial(1), BOTH), Loaded::Served { at: at(5) });
        assert_eq!(records.loaded(&serial(1), HOOKS), Loaded::Hooked { at: at(2) });
        // What failed in the end begins with the hooks again.
        records.of_installed(&serial(1), at(9)).failed("x".to_owned());
        assert_eq!(records.of_installed(&serial(1), at(9)).outstanding(BOTH), BOTH);
    }

    #[test]
    fn a_copy_that_changed_is_owed_again_once() {
        let mut records = Records::default();
        records.of_installed(&serial(1), at(1)).hooked = Some(at(2));
        assert!(records.reopen(&serial(1), at(3)) && !records.reopen(&serial(1), at(4)));
        assert_eq!(records.loaded(&serial(1), HOOKS), Loaded::Owed { since: Some(at(3)), attempts: 0, error: None });
    }
}
