//! What `GET /healthz` says.

use serde::{Deserialize, Serialize};

use super::ClosedHealth;
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
    /// Why what lies in the files now is not in force.
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
    /// Set while nothing is issued to hosts, because the ledger was restored from a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<ClosedHealth>,
}
