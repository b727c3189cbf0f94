//! A certificate on its way into the ledger, and what must hold at the moment it is recorded.

use std::sync::Arc;

use rusqlite::{Transaction, params};
use tokio::sync::oneshot::Sender;

use super::identities::{self, ShownIdentity};
use super::tiles::{Edge, Head, StoredNodes};
use super::verbs::{Verb, append, append_event};
use super::{Host, Projection, RecordError, StoreError};
use super::{hosts, read, requests, restoration, salt_keys};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::{EnrolledBy, Enrollment};
use crate::grant::CertificateKind;
use crate::host::HostState;
use crate::ledger::tree::inclusion_proof;
use crate::ledger::{CertificateRecord, EncodedEntry, Entry, EntryError, Event};
use crate::name::{HostName, RoleName};

/// The signature that lies beside an entry; none where a crash came before it was stored.
pub(super) type StoredSignature = Option<Vec<u8>>;

/// Proof that a certificate's entry is durable. Only this module can make one, and the signer
/// takes nothing else (rule R1).
#[must_use]
#[derive(Debug, Clone)]
pub struct Recorded {
    pub(super) index: u64,
    pub(super) kind: CertificateKind,
    pub(super) tbs: Arc<[u8]>,
    pub(super) entry: Arc<[u8]>,
    /// Set where this was recorded before, for the same key.
    pub(super) before: Option<StoredSignature>,
    pub(super) head: Head,
    pub(super) hashes: Vec<Digest>,
}

impl Recorded {
    /// The entry's index in the ledger.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// What kind of certificate was recorded.
    #[must_use]
    pub const fn kind(&self) -> CertificateKind {
        self.kind
    }

    /// The entry's canonical bytes.
    #[must_use]
    pub fn entry(&self) -> &[u8] {
        &self.entry
    }

    /// A head of the ledger that has the entry under it.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// The hashes that lead from the entry to that head, lowest first.
    #[must_use]
    pub fn hashes(&self) -> &[Digest] {
        &self.hashes
    }

    /// Whether this is an earlier entry, which is given again for the same key.
    #[must_use]
    pub const fn is_repeated(&self) -> bool {
        self.before.is_some()
    }

    /// The signature of an earlier entry, where it was stored.
    #[must_use]
    pub fn signature(&self) -> Option<&[u8]> {
        self.before.as_ref()?.as_deref()
    }

    /// Exactly the to-be-signed bytes that were recorded.
    #[must_use]
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }
}

/// What must hold at the moment a certificate is recorded.
#[derive(Debug, Clone)]
pub enum Condition {
    /// Nothing: the CA's own certificates. All others need a CA that is open.
    Always,
    /// The identity is its host's, the host is enabled, and the declaration that was judged is
    /// still in force.
    Service {
        /// What the host showed.
        identity: ShownIdentity,
        /// The declaration that allowed it.
        declaration: Digest,
    },
    /// The identity is its host's, the host is enabled, and no other key has renewed this identity.
    /// The key that has is given what it was given before. Another one freezes the host.
    Renewal {
        /// What the host showed.
        identity: ShownIdentity,
    },
    /// What lets the host in is good for this key; the host is enrolled in the same commit. The key
    /// that was let in by it is given what it was given before.
    Enrollment {
        /// What lets it in.
        by: EnrolledBy,
    },
}

/// A certificate on its way into the ledger.
#[derive(Debug, Clone)]
pub struct Draft {
    at: Timestamp,
    entry: EncodedEntry,
    record: CertificateRecord,
    tbs: Arc<[u8]>,
    condition: Condition,
    anew: bool,
}

impl Draft {
    /// Encodes the entry for `record` at `at`.
    ///
    /// # Errors
    /// When the entry would be over the ledger's limit.
    pub fn new(
        at: Timestamp,
        record: CertificateRecord,
        tbs: Arc<[u8]>,
        condition: Condition,
    ) -> Result<Self, EntryError> {
        let entry = Entry::new(at, Event::Certificate(record.clone())).encode()?;
        Ok(Self { at, entry, record, tbs, condition, anew: false })
    }

    /// The same, to be recorded also where the key was given an identity before: that one cannot be
    /// given again.
    #[must_use]
    pub fn anew(self) -> Self {
        Self { anew: true, ..self }
    }

    /// Whether what was recorded at `index` is to be given again: it is there, and half of its life is not over.
    fn repeats(&self, transaction: &Transaction<'_>, index: u64) -> Result<bool, StoreError> {
        let half = self.at.until(self.record.not_after) / 2;
        Ok(!self.anew && identities::end(transaction, index)?.is_some_and(|end| end > self.at.plus(half)))
    }
}

/// What a condition that holds leads to.
enum Admitted {
    /// A new entry.
    Fresh,
    /// The entry with this index, which has the same key.
    Repeated(u64),
}

/// [`super::Store::record`].
pub(super) struct Record {
    draft: Draft,
    outcome: Result<Recorded, RecordError>,
    /// The host whose row was written.
    host: Option<Host>,
    reply: Sender<Result<Recorded, RecordError>>,
}

impl Record {
    pub(super) const fn new(draft: Draft, reply: Sender<Result<Recorded, RecordError>>) -> Self {
        Self { draft, outcome: Err(RecordError::Store(StoreError::Closed)), host: None, reply }
    }

    /// Checks the condition and writes what goes with it.
    fn admit(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<Admitted, RecordError> {
        if !matches!(self.draft.condition, Condition::Always) {
            restoration::require_open(transaction)?;
        }
        match self.draft.condition.clone() {
            Condition::Always => Ok(Admitted::Fresh),
            Condition::Service { identity, declaration } => {
                identities::require_current(transaction, &identity)?;
                match read::declaration_in_force(transaction)? {
                    Some(in_force) if in_force == declaration => Ok(Admitted::Fresh),
                    _ => Err(RecordError::DeclarationChanged),
                }
            }
            Condition::Renewal { identity } => self.renew(transaction, edge, &identity),
            Condition::Enrollment { by } => self.enroll(transaction, edge, by),
        }
    }

    fn renew(
        &mut self,
        transaction: &Transaction<'_>,
        edge: &mut Edge,
        identity: &ShownIdentity,
    ) -> Result<Admitted, RecordError> {
        let host = identities::require_current(transaction, identity)?;
        let (at, key) = (self.draft.at, self.draft.record.key_sha256);
        match identities::renewal(transaction, &identity.serial)? {
            Some(first) if first.key != key => {
                let name = host.name.clone();
                self.host = Some(identities::freeze(transaction, edge, at, host, &identity.serial, [first.key, key])?);
                Err(RecordError::HostFrozen(name))
            }
            Some(first) if self.draft.repeats(transaction, first.index)? => Ok(Admitted::Repeated(first.index)),
            _ => Ok(Admitted::Fresh),
        }
    }

    fn enroll(
        &mut self,
        transaction: &Transaction<'_>,
        edge: &mut Edge,
        by: EnrolledBy,
    ) -> Result<Admitted, RecordError> {
        let (at, key) = (self.draft.at, self.draft.record.key_sha256);
        let Some(name) = self.draft.record.host.clone() else {
            return Err(StoreError::Damaged("an enrolment names no host".to_owned()).into());
        };
        let (replaces, spent) = match by {
            EnrolledBy::Token { token } => {
                let row = read::token(transaction, token)?.filter(|row| row.host == name);
                let row = row.ok_or(RecordError::TokenUnknown)?;
                row.check(at, key)?;
                (row.replaces, row.spent_by.is_some())
            }
            EnrolledBy::Approval { .. } => (false, false),
            EnrolledBy::SaltKey { salt_key } => {
                salt_keys::require(transaction, &name, salt_key)?;
                (false, false)
            }
        };
        if let Some(index) = identities::answer(transaction, &name, by, key)? {
            let host = hosts::require_enabled(transaction, &name)?;
            // A token has its own end.
            if !matches!(by, EnrolledBy::Token { .. }) && !requests::may_be_lost(transaction, &host, at)? {
                return Err(RecordError::AlreadyEnrolled(name));
            }
            return Ok(if self.draft.repeats(transaction, index)? {
                Admitted::Repeated(index)
            } else {
                Admitted::Fresh
            });
        }
        // The host was enrolled by something else since: what was spent brings nothing back.
        if spent {
            return Err(RecordError::TokenSpent(name));
        }
        if !replaces {
            hosts::require_unknown(transaction, &name)?;
        }
        if let EnrolledBy::Approval { operator_uid } = by {
            requests::require_approved(transaction, &name, key, operator_uid, at)?;
        }
        let event = Event::HostEnrolled(Enrollment { host: name.clone(), by, key_sha256: key });
        let index = append_event(transaction, edge, at, event)?;
        let host = Host { name, state: HostState::Enabled, since: at, enrolled: at, enrollment: index };
        identities::begin(transaction, &host)?;
        match by {
            EnrolledBy::Token { token } => spend(transaction, token, key, &host.name)?,
            EnrolledBy::Approval { .. } | EnrolledBy::SaltKey { .. } => {}
        }
        self.host = Some(host);
        Ok(Admitted::Fresh)
    }

    fn append(&self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<Recorded, StoreError> {
        let draft = &self.draft;
        let index = append(transaction, edge, &draft.entry, draft.at, Some(draft.record.not_after))?;
        let record = &draft.record;
        transaction
            .prepare_cached(
                "INSERT INTO certificate (idx, serial, name, host, role, recorded, not_after, released, dropped)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0)",
            )?
            .execute(params![
                index,
                record.serial.octets(),
                record.name,
                record.host.as_ref().map(HostName::as_str),
                record.rule.role().map(RoleName::as_str),
                draft.at.unix(),
                record.not_after.unix(),
            ])?;
        transaction
            .prepare_cached("INSERT INTO body (idx, tbs) VALUES (?1, ?2)")?
            .execute(params![index, &*draft.tbs])?;
        if let (Some(host), Some(_)) = (&record.host, record.rule.role()) {
            transaction
                .prepare_cached(
                    "INSERT INTO holder (host, name, idx) VALUES (?1, ?2, ?3)
                     ON CONFLICT (host, name) DO UPDATE SET idx = excluded.idx",
                )?
                .execute(params![host.as_str(), record.name, index])?;
        }
        if let Condition::Renewal { identity } = &draft.condition {
            identities::renewed(transaction, identity, record.key_sha256, index)?;
        }
        Ok(Recorded {
            index,
            kind: record.kind,
            tbs: Arc::clone(&draft.tbs),
            entry: draft.entry.bytes().into(),
            before: None,
            head: Head { size: 0, root: Digest::of(b"") },
            hashes: Vec::new(),
        })
    }
}

/// Spends a token. One that the host spent before is good for nothing from now on, or its key could
/// still come for an answer that was lost, and be the host again.
fn spend(transaction: &Transaction<'_>, token: Digest, key: Digest, host: &HostName) -> Result<(), StoreError> {
    transaction
        .prepare_cached("DELETE FROM token WHERE host = ?1 AND spent_by IS NOT NULL")?
        .execute([host.as_str()])?;
    transaction
        .prepare_cached("UPDATE token SET spent_by = ?2 WHERE hash = ?1")?
        .execute(params![token.as_bytes(), key.as_bytes()])?;
    Ok(())
}

impl Verb for Record {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        self.outcome = match self.admit(transaction, edge) {
            Ok(Admitted::Fresh) => Ok(self.append(transaction, edge)?),
            Ok(Admitted::Repeated(index)) => Ok(identities::recorded(transaction, index)?),
            Err(RecordError::Store(error)) => return Err(error),
            Err(refusal) => Err(refusal),
        };
        Ok(())
    }

    fn prove(&mut self, nodes: &mut StoredNodes<'_>, head: Head) -> Result<(), StoreError> {
        if let Ok(recorded) = &mut self.outcome {
            let hashes = inclusion_proof(nodes, recorded.index, head.size)?;
            recorded.hashes = hashes.ok_or_else(|| StoreError::Damaged("a fresh entry is missing".to_owned()))?;
            recorded.head = head;
        }
        Ok(())
    }

    fn committed(self: Box<Self>, projection: &mut Projection) {
        if let Some(host) = self.host {
            projection.hosts.insert(host.name.clone(), host);
        }
        // Whoever asked may have gone away; the entry then stays recorded and unreleased.
        let _ = self.reply.send(self.outcome);
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error.into()));
    }
}
