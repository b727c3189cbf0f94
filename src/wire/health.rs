//! What `GET /healthz` says.

use serde::{Deserialize, Serialize};

use super::restoration::ClosedHealth;
use crate::clock::Timestamp;
use crate::digest::Digest;

/// One CA certificate in [`Health`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaHealth {
    /// `root`, `issuing` or `identity`.
    pub ca: String,
    /// Its end.
    pub not_after: Timestamp,
    /// Set when less than 180 days remain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// The declaration in force, in [`Health`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclarationHealth {
    /// Its hash.
    pub sha256: Digest,
    /// Since when it is in force.
    pub since: Timestamp,
    /// How many names it has.
    pub names: usize,
    /// Why what lies in the files now is not in force; over the network only that it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Since when what lies in the files has not been in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem_since: Option<Timestamp>,
}

/// The witness, in [`Health`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessHealth {
    /// Its name.
    pub name: String,
    /// The size that it cosigned last, as far as this daemon knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Why the newest head is not cosigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// `GET /healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`; `warning` when something below carries one; `closed` when [`Health::closed`] is set.
    pub status: String,
    /// The daemon's version.
    pub version: String,
    /// The declaration in force.
    pub declaration: DeclarationHealth,
    /// Each CA certificate.
    pub ca: Vec<CaHealth>,
    /// Entries in the ledger.
    pub ledger_size: u64,
    /// The witness that cosigns the ledger, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<WitnessHealth>,
    /// Set while nothing is issued to hosts, because the ledger was restored from a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<ClosedHealth>,
}
