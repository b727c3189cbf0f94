//! The JSON that passes between daemon, hosts and operators, for both ends. Plain data: the edges
//! convert to and from validated types.

mod declaration;
mod enroll;
mod entitlements;
mod fleet;
mod health;
mod hosts;
mod ledger;
mod restoration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::{Enrollment, IdentityFork, KeyDecision, KeyRequest, SaltKeyChange};
use crate::grant::{CertificateKind, Rule};
use crate::host::HostChange;
use crate::name::{HostName, RoleName};
use crate::refusal::RefusalRecord;
use crate::restoration::{Confirmation, Restoration};
use crate::serial::Serial;

pub use declaration::{CipherPolicy, DeclarationFile, DeclarationText};
pub use enroll::{
    ApprovalRequest, ApprovalWaiting, ChallengeAnswer, EnrollRequest, MAX_SALT_KEYS, PendingRequest, PendingRequests,
    RequestAnswer, RequestDecision, SaltEnrollRequest, SaltKeys, SaltKeysAnswer,
};
pub use entitlements::{Entitlement, Entitlements};
pub use fleet::{
    Deployment, FirstEnd, FleetCertificate, FleetEntry, FleetPage, FleetQuery, FleetReport, Holder, HostReport, Lag,
    LagReason, MAX_REPORTED, NameReport, ReportAnswer,
};
pub use health::{CaHealth, DeclarationHealth, Health, WitnessHealth};
pub use hosts::{
    HostAnswer, HostCertificate, HostDetails, HostFork, HostGrant, HostRequest, HostSummary, TokenAnswer, TokenRequest,
};
pub use ledger::{Consistency, ConsistencyQuery};
pub use restoration::{ClosedHealth, ReopenRequest};

/// Media type of a certificate request body (RFC 5967).
pub const PKCS10: &str = "application/pkcs10";
/// Media type of a certificate chain in an answer (RFC 8555, section 9.1).
pub const PEM_CHAIN: &str = "application/pem-certificate-chain";
/// Media type of an error (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";
/// Answer header: the serial number of the certificate in the body.
pub const SERIAL_HEADER: &str = "psfca-serial";
/// Answer header: the index of the ledger entry that recorded the certificate.
pub const INDEX_HEADER: &str = "psfca-ledger-index";
/// Answer header: the proof that the certificate is in the ledger (C2SP tlog-proof, base64).
pub const PROOF_HEADER: &str = "psfca-ledger-proof";
/// Answer header of an enrolment and of a checkpoint: the key that signs the ledger's checkpoints.
pub const LEDGER_KEY_HEADER: &str = "psfca-ledger-key";
/// Answer header: when the host should renew, RFC 3339.
pub const RENEW_HEADER: &str = "psfca-renew-after";

/// Whether a recorded certificate is known to have been signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// Recorded; a crash came before the signature was stored. It may or may not have been released.
    Recorded,
    /// Recorded and signed.
    Issued,
}

impl CertificateState {
    /// As it is written in tables and queries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Issued => "issued",
        }
    }
}

/// What an entry of the ledger is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A certificate was recorded.
    Certificate,
    /// A declaration was put in force.
    Declaration,
    /// An operator made a token.
    TokenMade,
    /// A host was let in.
    HostEnrolled,
    /// Bodies of certificates were dropped after their retention.
    BodiesDropped,
    /// A request was refused.
    Refused,
    /// An operator with the root's key gave up what was lost.
    Recovered,
    /// An operator disabled a host.
    HostDisabled,
    /// An operator enabled a host.
    HostEnabled,
    /// An operator removed a host.
    HostRemoved,
    /// Two keys asked to renew one identity; its host is frozen.
    HostFrozen,
    /// A key asked to be a host.
    HostRequested,
    /// An operator approved the key.
    HostApproved,
    /// An operator rejected the key.
    HostRejected,
    /// The accepted key of a Salt minion was imported.
    SaltKeyImported,
    /// The key of a Salt minion is accepted no longer.
    SaltKeyRemoved,
    /// The ledger was restored from a backup; the CA is closed from here on.
    Restored,
    /// An operator has confirmed the hosts; the CA is open from here on.
    Reopened,
}

impl EventKind {
    /// As it is written in entries, tables and queries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Declaration => "declaration",
            Self::TokenMade => "token_made",
            Self::HostEnrolled => "host_enrolled",
            Self::BodiesDropped => "bodies_dropped",
            Self::Refused => "refused",
            Self::Recovered => "recovered",
            Self::HostDisabled => "host_disabled",
            Self::HostEnabled => "host_enabled",
            Self::HostRemoved => "host_removed",
            Self::HostFrozen => "host_frozen",
            Self::HostRequested => "host_requested",
            Self::HostApproved => "host_approved",
            Self::HostRejected => "host_rejected",
            Self::SaltKeyImported => "salt_key_imported",
            Self::SaltKeyRemoved => "salt_key_removed",
            Self::Restored => "restored",
            Self::Reopened => "reopened",
        }
    }
}

/// One entry of the ledger: an element of `GET /v1/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Index in the ledger.
    pub index: u64,
    /// When it was written.
    pub time: Timestamp,
    /// RFC 6962 leaf hash of the entry.
    pub leaf_hash: Digest,
    /// What happened.
    #[serde(flatten)]
    pub event: AuditEvent,
}

/// What happened, in an [`AuditEntry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AuditEvent {
    /// A certificate was recorded.
    Certificate(Box<AuditCertificate>),
    /// A declaration was put in force.
    Declaration {
        /// Its hash; `GET /v1/declarations/{sha256}` has its text.
        sha256: Digest,
        /// How many names it has.
        names: usize,
    },
    /// An operator made an enrolment token.
    TokenMade {
        /// Hash of its secret.
        token: Digest,
        /// The host it is for.
        host: HostName,
        /// When it stops working.
        expires: Timestamp,
        /// Whether it may replace an identity.
        replace: bool,
        /// Who made it.
        operator_uid: u32,
    },
    /// A host was let in.
    HostEnrolled(Enrollment),
    /// Bodies of certificates were dropped after their retention.
    BodiesDropped {
        /// Only of certificates that ended before this moment.
        ended_before: Timestamp,
    },
    /// A request was refused.
    Refused(RefusalRecord),
    /// An operator with the root's key gave up what was lost.
    Recovered {
        /// The signed root statement, whole.
        statement: String,
        /// Who ran the command.
        operator_uid: u32,
    },
    /// An operator disabled a host.
    HostDisabled(HostChange),
    /// An operator enabled a host.
    HostEnabled(HostChange),
    /// An operator removed a host.
    HostRemoved(HostChange),
    /// Two keys asked to renew one identity; its host is frozen.
    HostFrozen(IdentityFork),
    /// A key asked to be a host.
    HostRequested(KeyRequest),
    /// An operator approved the key.
    HostApproved(KeyDecision),
    /// An operator rejected the key.
    HostRejected(KeyDecision),
    /// The accepted key of a Salt minion was imported.
    SaltKeyImported(SaltKeyChange),
    /// The key of a Salt minion is accepted no longer.
    SaltKeyRemoved(SaltKeyChange),
    /// The ledger was restored from a backup.
    Restored(Restoration),
    /// An operator has confirmed the hosts.
    Reopened(Confirmation),
}

impl AuditEvent {
    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Certificate(_) => EventKind::Certificate,
            Self::Declaration { .. } => EventKind::Declaration,
            Self::TokenMade { .. } => EventKind::TokenMade,
            Self::HostEnrolled(_) => EventKind::HostEnrolled,
            Self::HostDisabled(_) => EventKind::HostDisabled,
            Self::HostEnabled(_) => EventKind::HostEnabled,
            Self::HostRemoved(_) => EventKind::HostRemoved,
            Self::BodiesDropped { .. } => EventKind::BodiesDropped,
            Self::Refused(_) => EventKind::Refused,
            Self::Recovered { .. } => EventKind::Recovered,
            Self::HostFrozen(_) => EventKind::HostFrozen,
            Self::HostRequested(_) => EventKind::HostRequested,
            Self::HostApproved(_) => EventKind::HostApproved,
            Self::HostRejected(_) => EventKind::HostRejected,
            Self::SaltKeyImported(_) => EventKind::SaltKeyImported,
            Self::SaltKeyRemoved(_) => EventKind::SaltKeyRemoved,
            Self::Restored(_) => EventKind::Restored,
            Self::Reopened(_) => EventKind::Reopened,
        }
    }
}

/// A certificate in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCertificate {
    /// What kind of certificate.
    pub kind: CertificateKind,
    /// Serial number.
    pub serial: Serial,
    /// The service name, or the host's name for an identity.
    pub name: String,
    /// The host that received it; none for the daemon's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// First moment of validity.
    pub not_before: Timestamp,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// Whether the signature is stored.
    pub state: CertificateState,
    /// SHA-256 of the subject's public key (SubjectPublicKeyInfo, DER).
    pub key_sha256: Digest,
    /// Whether the CA made the key.
    pub ca_made_key: bool,
    /// SHA-256 of the to-be-signed bytes.
    pub tbs_sha256: Digest,
    /// Whether those bytes and the signature were dropped after their retention.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub body_dropped: bool,
    /// Why it was issued.
    pub rule: Rule,
    /// The certificate in PEM; only when its serial was asked for and its signature is still stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// What its host said of this very certificate; only when its serial was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<FleetReport>,
}

/// `GET /v1/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// Newest first, or, where [`AuditQuery::expiring_before`] was asked for, what ends first first.
    pub entries: Vec<AuditEntry>,
    /// Pass as `before` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Filters of `GET /v1/audit`; all that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Only entries of this kind. The filters by name, role, serial, state and end select certificates alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventKind>,
    /// Only this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Only what this role of a declaration allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// Only this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CertificateState>,
    /// Recorded at or after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Recorded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Still valid and expiring before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiring_before: Option<Timestamp>,
    /// Only this serial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Serial>,
    /// What follows the entry with this index in the listing, from [`AuditPage::next`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// At most so many; 1000 at most, 100 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// An error (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of error, stable: `urn:psfca:problem:denied`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here and what to do.
    pub detail: String,
}
