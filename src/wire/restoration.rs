//! A CA that was restored from a backup.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Why nothing is issued to hosts, in [`super::Health`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedHealth {
    /// When the ledger was restored.
    pub since: Timestamp,
    /// How many entries the backup had.
    pub restored_size: u64,
}

/// `POST /v1/reopen` on the admin socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReopenRequest {
    /// How many hosts are enabled, as the operator has seen them.
    pub hosts: u64,
}
