//! What the ledger says and how it is hashed. Pure: `store` keeps it.
//!
//! An entry is one JSON object without white space, UTF-8, at most 65,535 bytes (the bound of
//! C2SP tlog-tiles entries). The bytes are written once and never re-encoded, so whoever verifies
//! hashes what is stored. The index is the entry's position and not part of it.

mod canonical;
pub mod checkpoint;
pub mod cosignature;
mod flat;
pub mod frontier;
pub mod note;
pub mod tile;
pub mod tree;
pub mod witness;

pub use canonical::CertificateView;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::{Enrollment, IdentityFork, KeyDecision, KeyRequest, RequestAction, SaltKeyChange};
use crate::grant::{CertificateKind, Rule};
use crate::host::{HostAction, HostChange};
use crate::name::HostName;
use crate::refusal::RefusalRecord;
use crate::restoration::{Confirmation, Restoration};
use crate::serial::Serial;
use crate::wire::EventKind;

/// Most bytes of one entry.
pub const MAX_ENTRY: usize = 65_535;

/// Everything the ledger can say, so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A certificate is about to be signed.
    Certificate(CertificateRecord),
    /// A declaration was put in force.
    Declaration {
        /// Its hash.
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
        /// Who made it: the uid at the other end of the admin socket.
        operator_uid: u32,
    },
    /// A host was let in; the identity's own entry follows.
    HostEnrolled(Enrollment),
    /// Bodies of certificates before this entry are dropped after their retention; those of CAs stay.
    BodiesDropped {
        /// Only of certificates that ended before this moment.
        ended_before: Timestamp,
    },
    /// A request was refused; not every one gets an entry.
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
    /// The ledger was restored from a backup: tokens, requests to enrol and Salt keys are void, and the CA is closed.
    Restored(Restoration),
    /// An operator has confirmed the hosts: the CA is open.
    Reopened(Confirmation),
}

impl Event {
    /// An operator did this to a host.
    #[must_use]
    pub const fn host_changed(action: HostAction, change: HostChange) -> Self {
        match action {
            HostAction::Disable => Self::HostDisabled(change),
            HostAction::Enable => Self::HostEnabled(change),
            HostAction::Remove => Self::HostRemoved(change),
        }
    }

    /// What an operator decided about a key that asks.
    pub(crate) const fn request_decided(action: RequestAction, decision: KeyDecision) -> Self {
        match action {
            RequestAction::Approve => Self::HostApproved(decision),
            RequestAction::Reject => Self::HostRejected(decision),
        }
    }

    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Certificate(_) => EventKind::Certificate,
            Self::Declaration { .. } => EventKind::Declaration,
            Self::TokenMade { .. } => EventKind::TokenMade,
            Self::HostEnrolled(_) => EventKind::HostEnrolled,
            Self::BodiesDropped { .. } => EventKind::BodiesDropped,
            Self::Refused(_) => EventKind::Refused,
            Self::Recovered { .. } => EventKind::Recovered,
            Self::HostDisabled(_) => EventKind::HostDisabled,
            Self::HostEnabled(_) => EventKind::HostEnabled,
            Self::HostRemoved(_) => EventKind::HostRemoved,
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

    /// The host that it is about.
    #[must_use]
    pub const fn host(&self) -> Option<&HostName> {
        match self {
            Self::Certificate(record) => record.host.as_ref(),
            Self::Declaration { .. }
            | Self::BodiesDropped { .. }
            | Self::Recovered { .. }
            | Self::Restored(_)
            | Self::Reopened(_) => None,
            Self::TokenMade { host, .. } => Some(host),
            Self::HostEnrolled(enrollment) => Some(&enrollment.host),
            Self::HostFrozen(fork) => Some(&fork.host),
            Self::HostRequested(request) => Some(&request.host),
            Self::HostApproved(decision) | Self::HostRejected(decision) => Some(&decision.host),
            Self::SaltKeyImported(change) | Self::SaltKeyRemoved(change) => Some(&change.host),
            Self::Refused(record) => record.host.as_ref(),
            Self::HostDisabled(change) | Self::HostEnabled(change) | Self::HostRemoved(change) => Some(&change.host),
        }
    }
}

/// What is recorded of a certificate before it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateRecord {
    /// What kind of certificate.
    pub kind: CertificateKind,
    /// Serial number.
    pub serial: Serial,
    /// The service name, the host's name, or a CA's common name.
    pub name: String,
    /// The host that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// First moment of validity.
    pub not_before: Timestamp,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// SHA-256 of the subject's SubjectPublicKeyInfo, DER.
    pub key_sha256: Digest,
    /// Whether the CA made the key.
    pub ca_made_key: bool,
    /// SHA-256 of the to-be-signed bytes.
    pub tbs_sha256: Digest,
    /// Why it is issued.
    pub rule: Rule,
}

/// An entry before it has a place: when, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "flat::FlatEntry")]
pub struct Entry {
    /// Version of this format.
    v: u8,
    /// When it was written.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Why an entry cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Larger than the format allows.
    #[error("a ledger entry of {0} bytes is over the limit of {MAX_ENTRY}")]
    TooLarge(usize),
    /// Not what this version writes.
    #[error("a ledger entry cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Written by a newer version.
    #[error("a ledger entry has format version {0}; this psfca knows version 1")]
    Version(u8),
}

impl Entry {
    /// An entry for `event` at `time`.
    #[must_use]
    pub const fn new(time: Timestamp, event: Event) -> Self {
        Self { v: 1, time, event }
    }

    /// The canonical bytes.
    ///
    /// # Errors
    /// [`EntryError::TooLarge`] above [`MAX_ENTRY`].
    pub fn encode(&self) -> Result<EncodedEntry, EntryError> {
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() > MAX_ENTRY {
            return Err(EntryError::TooLarge(bytes.len()));
        }
        Ok(EncodedEntry { leaf_hash: leaf_hash(&bytes), bytes })
    }

    /// Reads canonical bytes back.
    ///
    /// # Errors
    /// [`EntryError::Unreadable`] and [`EntryError::Version`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        // All of it is UTF-8 or none is read, so that not every string in it has to be looked at again.
        let text = std::str::from_utf8(bytes).map_err(serde::de::Error::custom).map_err(EntryError::Unreadable)?;
        let entry: Self = serde_json::from_str(text)?;
        if entry.v != 1 {
            return Err(EntryError::Version(entry.v));
        }
        Ok(entry)
    }
}

/// An entry in its final form, ready to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEntry {
    bytes: Vec<u8>,
    leaf_hash: Digest,
}

impl EncodedEntry {
    /// The canonical bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The Merkle leaf hash of the bytes.
    #[must_use]
    pub const fn leaf_hash(&self) -> Digest {
        self.leaf_hash
    }
}

/// The Merkle tree hash of one leaf: SHA-256(0x00 ‖ entry) (RFC 6962, section 2.1).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], entry])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_an_entry_never_changes() {
        let entry = Entry::new(
            Timestamp::from_unix(1_795_255_200),
            Event::Certificate(CertificateRecord {
                kind: CertificateKind::Service,
                serial: Serial::parse("0102").unwrap(),
                name: "postgresql.psf.io".to_owned(),
                host: Some(HostName::parse("pg0.iad1.psf.io").unwrap()),
                not_before: Timestamp::from_unix(1_795_251_600),
                not_after: Timestamp::from_unix(1_795_341_600),
                key_sha256: Digest::of(b"key"),
                ca_made_key: false,
                tbs_sha256: Digest::of(b"tbs"),
                rule: Rule::ServerNames,
            }),
        );
        let encoded = entry.encode().unwrap();
        let text = std::str::from_utf8(encoded.bytes()).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"time":"2026-11-21T10:00:00Z","event":"certificate","kind":"service","serial":"0102","name":"postgresql.psf.io","host":"pg0.iad1.psf.io","not_before":"2026-11-21T09:00:00Z","not_after":"2026-11-22T10:00:00Z","key_sha256":"2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683","ca_made_key":false,"tbs_sha256":"3595d0af0f0ba42721b917ff183f98a4f8208bee7c84efa02badb2d41e22d69f","rule":{"by":"server_names"}}"#
        );
        assert_eq!(Entry::decode(encoded.bytes()).unwrap(), entry);
    }

    #[test]
    fn the_format_of_a_refusal_never_changes() {
        let time = Timestamp::from_unix(1_795_255_200);
        let refused = RefusalRecord {
            reason: crate::refusal::RefusalReason::Denied,
            host: Some(HostName::parse("pg0.iad1.psf.io").unwrap()),
            name: Some(crate::name::DnsName::parse("lb.psf.io").unwrap()),
            address: "2001:db8::1".parse().unwrap(),
            repeated: 2,
            omitted: 0,
        };
        let stranger = RefusalRecord { host: None, name: None, ..refused.clone() };
        for (refused, middle) in
            [(refused, r#""denied","host":"pg0.iad1.psf.io","name":"lb.psf.io""#), (stranger, r#""denied""#)]
        {
            let entry = Entry::new(time, Event::Refused(refused));
            let encoded = entry.encode().unwrap();
            let expected = format!(
                r#"{{"v":1,"time":"2026-11-21T10:00:00Z","event":"refused","reason":{middle},"address":"2001:db8::1","repeated":2,"omitted":0}}"#
            );
            assert_eq!(std::str::from_utf8(encoded.bytes()).unwrap(), expected);
            assert_eq!(Entry::decode(encoded.bytes()).unwrap(), entry);
        }
    }

    #[test]
    fn the_leaf_hash_is_that_of_rfc_6962() {
        // The hash of an empty leaf, as in the test data of transparency-dev/merkle.
        let expected = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(leaf_hash(b"").to_string(), expected);
    }

    #[test]
    fn an_entry_over_the_limit_is_refused() {
        let event = Event::Certificate(CertificateRecord {
            kind: CertificateKind::Service,
            serial: Serial::parse("01").unwrap(),
            name: "a".repeat(MAX_ENTRY),
            host: None,
            not_before: Timestamp::from_unix(0),
            not_after: Timestamp::from_unix(0),
            key_sha256: Digest::of(b""),
            ca_made_key: false,
            tbs_sha256: Digest::of(b""),
            rule: Rule::ServerNames,
        });
        assert!(matches!(Entry::new(Timestamp::from_unix(0), event).encode(), Err(EntryError::TooLarge(_))));
    }
}
