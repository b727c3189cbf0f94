//! What the agent has to say, as plain data: printed by `cli`, written as JSON, and the source of
//! the exit codes.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::loading::{HookRun, Loaded};
use crate::name::{DnsName, HostName};
use crate::renewal::Validity;
use crate::serial::Serial;
use crate::token::ServerAddress;

/// The exit code for a ledger that is not what it must be, whatever the policy.
pub const LEDGER: u8 = 6;

/// The exit code for a hook or a proof that is owed.
pub const OWED: u8 = 7;

/// What became of one certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// A new one is in place.
    Renewed {
        /// Its serial number.
        serial: Serial,
        /// Its end.
        not_after: Timestamp,
        /// Why it was renewed.
        reason: String,
    },
    /// It would be renewed, were this not a dry run.
    WouldRenew {
        /// Why.
        reason: String,
    },
    /// It is good for now.
    NotDue {
        /// From when on it will be renewed.
        due: Timestamp,
        /// Its end.
        not_after: Timestamp,
    },
    /// It was due and could not be renewed; what was there still is.
    Failed {
        /// Why.
        error: String,
        /// The exit code for this error alone.
        code: u8,
        /// Whether the service fails, or will soon.
        critical: bool,
    },
    /// What lies there is somebody else's, and nobody has looked whether it is any good. No copies are made of it.
    LeftAlone {
        /// What it is, and how to go on.
        error: String,
    },
    /// There is none, and psfca cannot make one: its key has to be made by a person.
    ByHand,
    /// The host may no longer have the name. What is there is kept until somebody removes it.
    NotEntitled {
        /// Its end.
        not_after: Timestamp,
    },
    /// The host may no longer have the name, and its bundle would be removed, were this not a dry run.
    WouldPrune {
        /// Its end.
        not_after: Timestamp,
    },
    /// The host may no longer have the name, and its bundle was removed, with its copies.
    Pruned {
        /// What was removed.
        removed: Vec<PathBuf>,
    },
    /// The host may no longer have the name, and its bundle was to be removed and is still there.
    NotPruned {
        /// Why.
        error: String,
        /// The exit code for this error alone.
        code: u8,
    },
}

/// One line of the report.
#[derive(Debug, Serialize)]
pub struct Line {
    /// The service name.
    pub name: DnsName,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The copies that were written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies_written: Vec<PathBuf>,
    /// Why a copy is not what it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_problem: Option<String>,
    /// Whether services use what is installed.
    pub loaded: Loaded,
    /// What the hooks did that ran.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRun>,
}

impl Line {
    /// What became of a certificate; nothing is said of copies and services yet.
    #[must_use]
    pub const fn new(name: DnsName, outcome: Outcome) -> Self {
        let loaded = Loaded::NoneConfigured;
        Self { name, outcome, copies_written: Vec::new(), copy_problem: None, loaded, hooks: Vec::new() }
    }
}

/// Why the CA did not say which names this host may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unasked {
    /// When it was asked last.
    pub at: Timestamp,
    /// It said no, as against: it was not reached, or gave no usable answer.
    pub refused: bool,
    /// Its reason, or what happened.
    pub error: String,
}

impl fmt::Display for Unasked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at: _, refused, error } = self;
        match refused {
            true => write!(f, "the CA was asked which names this host may have, and refused: {error}"),
            false => write!(f, "the CA could not be asked which names this host may have: {error}"),
        }
    }
}

/// What the CA was asked for in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// How often since the last success.
    pub times: u32,
    /// When it was last asked.
    pub last: Timestamp,
    /// It is not asked again before this moment.
    pub until: Timestamp,
    /// Why it was in vain.
    pub error: String,
}

/// What is wrong with the CA's ledger, as this host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerTrouble {
    /// What is wrong.
    pub problem: String,
    /// Whether nothing is installed until that ends (`ledger_policy: refuse`).
    pub refused: bool,
}

/// A recovery of the CA's ledger that this host obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerRecovery {
    /// When the root's key signed the statement.
    pub statement: Timestamp,
    /// When this host obeyed it.
    pub obeyed: Timestamp,
    /// How many entries this host had seen before.
    pub seen: u64,
    /// How many entries the head had that took their place.
    pub size: u64,
    /// Whether another key signs the ledger since.
    pub new_key: bool,
}

/// What a run did.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The host.
    pub host: HostName,
    /// What became of the identity.
    pub identity: Outcome,
    /// Why the trust bundle is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_problem: Option<String>,
    /// The trust bundle was missing or damaged, and was written.
    pub trust_written: bool,
    /// What is wrong with the CA's ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_trouble: Option<LedgerTrouble>,
    /// The recovery of the CA's ledger that was obeyed in this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_recovered: Option<LedgerRecovery>,
    /// What else a person might want to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Owners and groups in the settings that this machine does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings_problems: Vec<String>,
    /// Settings and hooks for names that this host may not have; they change no exit code.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<String>,
    /// Why the CA did not say which names this host may have; where nothing is due it changes no exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unasked: Option<Unasked>,
    /// Each name.
    pub names: Vec<Line>,
    /// Why the CA could not be told what is installed; it changes nothing here, and no exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
}

impl Report {
    /// How `psfca renew` exits. The first that fits:
    ///
    /// | code | meaning |
    /// |---|---|
    /// | 5 | something expired, is missing or has less than a quarter of its life left, and could not be renewed |
    /// | 6 | the CA's ledger is not what it must be; with `ledger_policy: alarm` everything was installed all the same |
    /// | 1 | a local error: a file, a copy, the settings, the trust bundle |
    /// | 3 | the CA denied something that is due |
    /// | 7 | a service was not told of what is installed, or did not prove to serve it |
    /// | 4 | the CA cannot be reached (or gives unusable answers), and everything is still valid |
    /// | 0 | nothing was due, or all of it was renewed |
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let outcomes = || self.names.iter().map(|line| &line.outcome).chain([&self.identity]);
        let mut codes: Vec<u8> = outcomes()
            .filter_map(|outcome| match outcome {
                Outcome::Failed { critical: true, .. } => Some(5),
                Outcome::Failed { code, .. } | Outcome::NotPruned { code, .. } => Some(*code),
                Outcome::LeftAlone { .. } => Some(1),
                Outcome::Renewed { .. }
                | Outcome::WouldRenew { .. }
                | Outcome::NotDue { .. }
                | Outcome::ByHand
                | Outcome::NotEntitled { .. }
                | Outcome::WouldPrune { .. }
                | Outcome::Pruned { .. } => None,
            })
            .collect();
        codes.extend(self.trust_problem.as_ref().or(self.settings_problems.first()).map(|_| 1));
        codes.extend(self.names.iter().filter_map(|line| line.copy_problem.as_ref()).map(|_| 1));
        codes.extend(self.ledger_trouble.as_ref().map(|_| LEDGER));
        codes.extend(self.names.iter().filter(|line| line.loaded.is_owed()).map(|_| OWED));
        [5, LEDGER, 1, 3, OWED, 4].into_iter().find(|code| codes.contains(code)).unwrap_or(0)
    }
}

/// Everything about this host.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The host, as its identity says.
    pub host: HostName,
    /// The daemons that are asked, in this order.
    pub server: Vec<ServerAddress>,
    /// Why the CA did not say at the last run which names this host may have; it changes no exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unasked: Option<Unasked>,
    /// The identity.
    pub identity: CertificateStatus,
    /// The identity is due, and the CA was asked for the next one in vain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_asked: Option<Asked>,
    /// What is wrong with the trust bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_problem: Option<String>,
    /// Owners and groups in the settings that this machine does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings_problems: Vec<String>,
    /// Settings and hooks for names that this host may not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<String>,
    /// The CA's ledger, as far as this host has seen it.
    pub ledger: LedgerStatus,
    /// Each bundle, by name.
    pub bundles: Vec<BundleStatus>,
}

/// The CA's ledger, as far as a host has seen it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerStatus {
    /// Which ledger.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// When that was seen.
    pub seen: Timestamp,
    /// The checkpoint that says so, as it was signed; `psfca recover --seen` takes it.
    pub checkpoint: String,
    /// The newest recovery that this host obeyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<LedgerRecovery>,
    /// What was wrong with the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One certificate.
#[derive(Debug, Serialize)]
pub struct CertificateStatus {
    /// Its serial number.
    pub serial: Serial,
    /// Its dates.
    #[serde(flatten)]
    pub validity: Validity,
    /// From when on it will be renewed.
    pub due: Timestamp,
}

/// One name.
#[derive(Debug, Serialize)]
pub struct BundleStatus {
    /// The service name.
    pub name: DnsName,
    /// Where its bundle is.
    pub path: PathBuf,
    /// Whether the CA said, when it was last asked, that this host may have the name.
    pub entitled: bool,
    /// Its key is of a kind that psfca does not make, so a person gets it with `--csr`.
    pub by_hand: bool,
    /// The certificate, when there is a whole one.
    #[serde(flatten)]
    pub certificate: Option<CertificateStatus>,
    /// What is wrong with it, now or soon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// It is due, and the CA was asked for it in vain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Whether services use it.
    pub loaded: Loaded,
}

impl CertificateStatus {
    /// A certificate with its dates.
    #[must_use]
    pub fn of(serial: &Serial, validity: Validity) -> Self {
        Self { serial: serial.clone(), validity, due: validity.due() }
    }
}

impl Status {
    /// Whether nothing is expired, damaged, missing or about to expire.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.trust_problem.is_none()
            && self.ledger.problem.is_none()
            && !self.identity.validity.is_critical(now)
            && self.bundles.iter().all(|bundle| bundle.problem.is_none())
    }

    /// How `psfca status` exits: 5 when something [is not good](Self::is_good), else 1 when the settings name an owner
    /// or group that is not there, else 7 when a hook or a proof is owed, else 0.
    #[must_use]
    pub fn exit_code(&self, now: Timestamp) -> u8 {
        match self.is_good(now) {
            false => 5,
            true if !self.settings_problems.is_empty() => 1,
            true if self.bundles.iter().any(|bundle| bundle.loaded.is_owed()) => OWED,
            true => 0,
        }
    }
}

#[cfg(test)]
mod tests;
