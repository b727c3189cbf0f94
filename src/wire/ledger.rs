//! What is asked of the ledger as such.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Filters of `GET /v1/ledger/consistency`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyQuery {
    /// The size that is known.
    pub old: u64,
    /// The size that is new.
    pub new: u64,
}

/// `GET /v1/ledger/consistency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consistency {
    /// The size that was known.
    pub old: u64,
    /// The size that is new.
    pub new: u64,
    /// The proof (RFC 9162, section 2.1.4.1).
    pub hashes: Vec<Digest>,
}
