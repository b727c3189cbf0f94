//! How a host came to be one, and how it can be seen that two claim to be the same.

use std::fmt;
use std::net::IpAddr;

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
    /// An operator, who has compared the fingerprint of its key.
    Approval {
        /// Who.
        operator_uid: u32,
    },
    /// The key of its Salt minion, which Salt's master has accepted.
    SaltKey {
        /// SHA-256 of that public key.
        salt_key: Digest,
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

/// A key asks to be a host, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRequest {
    /// The host that it would be.
    pub host: HostName,
    /// SHA-256 of the public key.
    pub key_sha256: Digest,
    /// The network that it came from: an address, or the /64 of one.
    pub address: IpAddr,
}

/// An operator decided on a [`KeyRequest`], as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDecision {
    /// The host.
    pub host: HostName,
    /// SHA-256 of the public key.
    pub key_sha256: Digest,
    /// Who decided: the uid at the other end of the admin socket.
    pub operator_uid: u32,
}

/// The accepted key of a Salt minion came, or went, with an import, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaltKeyChange {
    /// The host, which is the minion's id.
    pub host: HostName,
    /// SHA-256 of the minion's public key (SubjectPublicKeyInfo, DER).
    pub salt_key: Digest,
    /// Who imported: the uid at the other end of the admin socket.
    pub operator_uid: u32,
}

/// What an operator does with a [`KeyRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestAction {
    /// The key is the host's.
    Approve,
    /// It is not.
    Reject,
}

impl RequestAction {
    /// As it is written on the command line and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

/// What became of a [`KeyRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Nobody has decided.
    Waiting,
    /// The key may enrol.
    Approved,
    /// It may not.
    Rejected,
}

impl RequestState {
    /// As it is written in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
        }
    }

    /// Reads what [`RequestState::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Waiting, Self::Approved, Self::Rejected].into_iter().find(|state| state.as_str() == text)
    }

    /// What a decision makes of a request, also of one that was decided otherwise.
    #[must_use]
    pub const fn after(action: RequestAction) -> Self {
        match action {
            RequestAction::Approve => Self::Approved,
            RequestAction::Reject => Self::Rejected,
        }
    }
}

impl fmt::Display for RequestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
