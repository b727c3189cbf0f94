//! Tokens and hosts, on the admin socket.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::IdentityFork;
use crate::grant::{CertificateKind, Rule};
use crate::host::{HostAction, HostState, OperatorName, Remark};
use crate::name::HostName;
use crate::profile::{KeyKind, Usages};
use crate::serial::Serial;
use crate::wire::CertificateState;

/// `POST /v1/tokens` on the admin socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The host that may enrol with it.
    pub host: HostName,
    /// Whether it may replace the identity of a host that is known already.
    #[serde(default)]
    pub replace: bool,
}

/// Answer to [`TokenRequest`]. Not `Debug`: it holds the secret.
#[derive(Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The whole token.
    pub token: String,
    /// When it stops working.
    pub expires: Timestamp,
    /// How many names the declaration in force gives the host; none at all may be a slip of the pen.
    pub names: usize,
}

/// One known host: an element of `GET /v1/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSummary {
    /// The host.
    pub host: HostName,
    /// Whether it is served.
    pub state: HostState,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// When it was last enrolled.
    pub enrolled: Timestamp,
}

/// `GET /v1/hosts/{host}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDetails {
    /// The host and its state.
    #[serde(flatten)]
    pub summary: HostSummary,
    /// Who put it in that state, where an operator did and it is not served since.
    #[serde(flatten)]
    pub operator: Option<OperatorName>,
    /// Why, in that operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<Remark>,
    /// Which two keys claimed to be it, where it is frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<HostFork>,
    /// What the declaration in force gives a host of this name, by name.
    pub may_have: Vec<HostGrant>,
    /// Every certificate that is still valid, identities among them; of more than a hundred the newest. By name, and
    /// of each name the newest first.
    pub has: Vec<HostCertificate>,
    /// How many others are still valid.
    #[serde(default)]
    pub has_more: u64,
    /// When the last of all that are still valid ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<Timestamp>,
}

/// Why a host is frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFork {
    /// The serial of the identity that both keys asked to renew.
    pub serial: Serial,
    /// SHA-256 of the public key that came first; it has the next identity.
    pub key_sha256: Digest,
    /// SHA-256 of the public key that came second.
    pub other_key_sha256: Digest,
}

impl From<IdentityFork> for HostFork {
    fn from(IdentityFork { host: _, serial, key_sha256, other_key_sha256 }: IdentityFork) -> Self {
        Self { serial, key_sha256, other_key_sha256 }
    }
}

/// A name that a host may have, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostGrant {
    /// The service name.
    pub name: String,
    /// How long a certificate will live.
    pub lifetime_seconds: u64,
    /// What it may be used for.
    pub usages: Usages,
    /// The kind of its key.
    pub key: KeyKind,
    /// The lines that say so.
    pub rule: Rule,
}

/// A certificate of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCertificate {
    /// `service` or `identity`.
    pub kind: CertificateKind,
    /// The service name, or the host's.
    pub name: String,
    /// Its serial number.
    pub serial: Serial,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
    /// Whether its signature is stored.
    pub state: CertificateState,
    /// An identity from before the host last enrolled: this CA gives nothing for it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub void: bool,
}

/// `POST /v1/hosts/{host}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRequest {
    /// What to do.
    pub action: HostAction,
    /// Why; it goes into the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<Remark>,
}

/// Answer to [`HostRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAnswer {
    /// The host as it is now.
    #[serde(flatten)]
    pub summary: HostSummary,
    /// Whether that is a change; if not, nothing was recorded.
    pub changed: bool,
}
