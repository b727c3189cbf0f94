//! How a host came to be one, and how it can be seen that two claim to be the same.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::HostName;
use crate::serial::Serial;

/// What let a host in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnrolledBy {
    /// A one-time token.
    Token {
        /// Hash of its secret.
        token: Digest,
    },
}

/// A host was enrolled, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrollment {
    /// The host.
    pub host: HostName,
    /// What let it in.
    #[serde(flatten)]
    pub by: EnrolledBy,
    /// SHA-256 of the public key that it enrolled with.
    pub key_sha256: Digest,
}

/// Two keys asked to renew one identity: its host was cloned, or the identity was stolen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityFork {
    /// The host.
    pub host: HostName,
    /// The serial of the identity that both showed.
    pub serial: Serial,
    /// SHA-256 of the public key that came first; it has the next identity.
    pub key_sha256: Digest,
    /// SHA-256 of the public key that came second; it has nothing.
    pub other_key_sha256: Digest,
}
