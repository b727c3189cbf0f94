//! What the ledger says of its own restoration from a backup, and of the operator who opens the CA again.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::host::Remark;

/// The ledger was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoration {
    /// How many entries the backup had.
    pub size: u64,
    /// The Merkle root over them.
    pub root: Digest,
    /// The user who ran `psfca restore`.
    pub operator_uid: u32,
    /// On whose behalf that user says to have run it: the name that `sudo` gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<Remark>,
}

/// An operator has confirmed the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// How many were enabled.
    pub hosts: u64,
    /// Who: the uid at the other end of the admin socket.
    pub operator_uid: u32,
}
