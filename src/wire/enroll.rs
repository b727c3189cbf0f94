//! How a host that has no identity comes to one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::{RequestAction, RequestState};
use crate::name::HostName;
use crate::token::ServerAddress;

/// `POST /v1/enroll`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The token's secret, base64url. Held as text only until it is parsed.
    pub secret: String,
    /// The host's PKCS#10 request, PEM.
    pub csr: String,
}

/// `POST /v1/enroll/request`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// The host that the sender says it is.
    pub host: HostName,
    /// Its PKCS#10 request, PEM.
    pub csr: String,
}

/// Answer to [`ApprovalRequest`] with status 202: nobody has decided yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalWaiting {
    /// The host.
    pub host: HostName,
    /// SHA-256 of the public key in the request (SubjectPublicKeyInfo, DER).
    pub key_sha256: Digest,
    /// When the request is dropped.
    pub expires: Timestamp,
}

/// `GET /v1/requests` on the admin socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRequests {
    /// SHA-256 of the root certificate, which hosts that ask have to be told.
    pub ca_fingerprint: Digest,
    /// Where hosts reach this daemon.
    pub server: ServerAddress,
    /// The requests of one day, oldest first.
    pub requests: Vec<PendingRequest>,
}

/// An element of [`PendingRequests`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRequest {
    /// The host that the key would be.
    pub host: HostName,
    /// SHA-256 of the public key.
    pub key_sha256: Digest,
    /// The network that it came from: an address, or the /64 of one.
    pub address: IpAddr,
    /// What became of it.
    pub state: RequestState,
    /// Since when.
    pub since: Timestamp,
    /// When it is dropped.
    pub expires: Timestamp,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_uid: Option<u32>,
    /// How many names the declaration in force gives the host.
    pub names: usize,
}

/// `POST /v1/requests/{host}` on the admin socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestDecision {
    /// What to do.
    pub action: RequestAction,
    /// SHA-256 of the public key, whole.
    pub key_sha256: Digest,
}

/// Answer to [`RequestDecision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAnswer {
    /// Whether that is a change; if not, nothing was recorded.
    pub changed: bool,
}

/// `POST /v1/enroll/challenge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeAnswer {
    /// What the signature has to contain, base64url without padding.
    pub challenge: String,
    /// Until when.
    pub expires: Timestamp,
}

/// `POST /v1/enroll/salt`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaltEnrollRequest {
    /// The host, which is the minion's id.
    pub host: HostName,
    /// Its PKCS#10 request, PEM.
    pub csr: String,
    /// From [`ChallengeAnswer`].
    pub challenge: String,
    /// By the minion's key, over [`crate::salt::message`]: RSASSA-PSS with SHA-256, base64url without padding.
    pub signature: String,
}

/// Most keys in one [`SaltKeys`].
pub const MAX_SALT_KEYS: usize = 20_000;

/// `POST /v1/salt-keys` on the admin socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaltKeys {
    /// The public key, PEM, of every host whose minion is accepted.
    pub keys: BTreeMap<HostName, String>,
}

/// Answer to [`SaltKeys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaltKeysAnswer {
    /// Keys that are new, or other than before.
    pub imported: u64,
    /// Keys that are accepted no longer.
    pub removed: u64,
    /// Keys that were known.
    pub unchanged: u64,
}
