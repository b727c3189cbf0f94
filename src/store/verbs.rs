//! What the writer can be asked for. Each verb checks its condition, writes, and answers after
//! the commit; a refusal writes nothing.

use std::sync::Arc;

use rusqlite::{Transaction, params};
use tokio::sync::oneshot::Sender;

use super::tiles::{Edge, Head, StoredNodes};
use super::{Host, Projection, RecordError, Recorded, StoreError};
use super::{hosts, listing, read, restoration};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::host::HostState;
use crate::ledger::tree::inclusion_proof;
use crate::ledger::{CertificateRecord, EncodedEntry, Entry, EntryError, Event};
use crate::name::{HostName, RoleName};

/// A piece of work inside a batch.
pub(super) trait Verb: Send {
    /// Checks and writes. An error throws the whole batch away; a refusal is kept for the answer.
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError>;
    /// The batch is durable and the ledger's head is known: find the proof that the answer carries.
    fn prove(&mut self, _: &mut StoredNodes<'_>, _: Head) -> Result<(), StoreError> {
        Ok(())
    }
    /// The batch is durable: update the projection, answer.
    fn committed(self: Box<Self>, projection: &mut Projection);
    /// The batch is gone: answer.
    fn failed(self: Box<Self>, error: StoreError);
}

/// Appends an entry to the ledger; the only place that hands out indices.
fn append(
    transaction: &Transaction<'_>,
    edge: &mut Edge,
    entry: &EncodedEntry,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let index = edge.size();
    transaction.prepare_cached("INSERT INTO entry (idx, bytes, leaf_hash) VALUES (?1, ?2, ?3)")?.execute(params![
        index,
        entry.bytes(),
        entry.leaf_hash().as_bytes()
    ])?;
    edge.push(transaction, entry.leaf_hash())?;
    listing::note_time(transaction, index, at)?;
    Ok(index)
}

/// Appends an entry that is not a certificate's, and what the listing needs of it.
pub(super) fn append_event(
    transaction: &Transaction<'_>,
    edge: &mut Edge,
    at: Timestamp,
    event: Event,
) -> Result<u64, StoreError> {
    let (kind, host) = (event.kind(), event.host().cloned());
    let index = append(transaction, edge, &Entry::new(at, event).encode()?, at)?;
    transaction
        .prepare_cached("INSERT INTO event (idx, event, host, recorded) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![index, kind.as_str(), host.as_ref().map(HostName::as_str), at.unix()])?;
    Ok(index)
}

/// What must hold at the moment a certificate is recorded.
#[derive(Debug, Clone)]
pub enum Condition {
    /// Nothing: the CA's own certificates. All others need a CA that is open.
    Always,
    /// The host is enabled, and the declaration that was judged is still in force.
    Service {
        /// The host that asked.
        host: HostName,
        /// The declaration that allowed it.
        declaration: Digest,
    },
    /// The host is enabled.
    Enabled {
        /// The host that asked.
        host: HostName,
    },
    /// The token is good for this key; it is spent and the host enrolled in the same commit.
    Enrollment {
        /// Hash of the token's secret.
        token: Digest,
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
        Ok(Self { at, entry, record, tbs, condition })
    }
}

/// [`super::Store::record`].
pub(super) struct Record {
    draft: Draft,
    outcome: Result<Recorded, RecordError>,
    enrolled: Option<Host>,
    reply: Sender<Result<Recorded, RecordError>>,
}

impl Record {
    pub(super) const fn new(draft: Draft, reply: Sender<Result<Recorded, RecordError>>) -> Self {
        Self { draft, outcome: Err(RecordError::Store(StoreError::Closed)), enrolled: None, reply }
    }

    /// Checks the condition and writes what goes with it.
    fn admit(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), RecordError> {
        if !matches!(self.draft.condition, Condition::Always) {
            restoration::require_open(transaction)?;
        }
        match &self.draft.condition {
            Condition::Always => Ok(()),
            Condition::Enabled { host } => hosts::require_enabled(transaction, host),
            Condition::Service { host, declaration } => {
                hosts::require_enabled(transaction, host)?;
                match read::declaration_in_force(transaction)? {
                    Some(in_force) if in_force == *declaration => Ok(()),
                    _ => Err(RecordError::DeclarationChanged),
                }
            }
            Condition::Enrollment { token } => {
                let token = *token;
                self.enroll(transaction, edge, token)
            }
        }
    }

    fn enroll(&mut self, transaction: &Transaction<'_>, edge: &mut Edge, token: Digest) -> Result<(), RecordError> {
        let (at, key) = (self.draft.at, self.draft.record.key_sha256);
        let row = read::token(transaction, token)?.ok_or(RecordError::TokenUnknown)?;
        row.check(at, key)?;
        if self.draft.record.host.as_ref() != Some(&row.host) {
            return Err(RecordError::TokenUnknown);
        }
        if row.spent_by.is_none() {
            if !row.replaces {
                hosts::require_unknown(transaction, &row.host)?;
            }
            let event = Event::HostEnrolled { host: row.host.clone(), token, key_sha256: key };
            append_event(transaction, edge, at, event)?;
            let host = Host { name: row.host, state: HostState::Enabled, since: at, enrolled: at };
            spend(transaction, token, key, &host)?;
            self.enrolled = Some(host);
        }
        Ok(())
    }
}

/// Enrols the host. A token that it spent before is good for nothing from now on, or its key could
/// still come for an answer that was lost, and be the host again.
fn spend(transaction: &Transaction<'_>, token: Digest, key: Digest, host: &Host) -> Result<(), StoreError> {
    transaction
        .prepare_cached("DELETE FROM token WHERE host = ?1 AND spent_by IS NOT NULL")?
        .execute([host.name.as_str()])?;
    transaction
        .prepare_cached("UPDATE token SET spent_by = ?2 WHERE hash = ?1")?
        .execute(params![token.as_bytes(), key.as_bytes()])?;
    hosts::write(transaction, host)
}

impl Verb for Record {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        match self.admit(transaction, edge) {
            Ok(()) => {}
            Err(RecordError::Store(error)) => return Err(error),
            Err(refusal) => {
                self.outcome = Err(refusal);
                return Ok(());
            }
        }
        let index = append(transaction, edge, &self.draft.entry, self.draft.at)?;
        let record = &self.draft.record;
        transaction
            .prepare_cached(
                "INSERT INTO certificate (idx, serial, name, host, role, recorded, not_after, tbs)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                index,
                record.serial.octets(),
                record.name,
                record.host.as_ref().map(HostName::as_str),
                record.rule.role().map(RoleName::as_str),
                self.draft.at.unix(),
                record.not_after.unix(),
                &*self.draft.tbs,
            ])?;
        self.outcome = Ok(Recorded {
            index,
            kind: record.kind,
            tbs: Arc::clone(&self.draft.tbs),
            entry: self.draft.entry.bytes().into(),
            head: Head { size: 0, root: Digest::of(b"") },
            hashes: Vec::new(),
        });
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
        if let Some(host) = self.enrolled {
            projection.hosts.insert(host.name.clone(), host);
        }
        // Whoever asked may have gone away; the entry then stays recorded and unreleased.
        let _ = self.reply.send(self.outcome);
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error.into()));
    }
}

/// A token on its way into the store.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Now.
    pub at: Timestamp,
    /// Hash of its secret.
    pub hash: Digest,
    /// The host it is for.
    pub host: HostName,
    /// When it stops working.
    pub expires: Timestamp,
    /// Whether it may replace an identity.
    pub replaces: bool,
    /// Who made it.
    pub operator_uid: u32,
}

impl NewToken {
    fn admit(&self, transaction: &Transaction<'_>) -> Result<(), RecordError> {
        restoration::require_open(transaction)?;
        if self.replaces { Ok(()) } else { hosts::require_unknown(transaction, &self.host) }
    }
}

/// [`super::Store::make_token`].
pub(super) struct MakeToken {
    token: NewToken,
    outcome: Result<(), RecordError>,
    reply: Sender<Result<(), RecordError>>,
}

impl MakeToken {
    pub(super) const fn new(token: NewToken, reply: Sender<Result<(), RecordError>>) -> Self {
        Self { token, outcome: Ok(()), reply }
    }
}

impl Verb for MakeToken {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        let token = &self.token;
        match token.admit(transaction) {
            Ok(()) => {}
            Err(RecordError::Store(error)) => return Err(error),
            Err(refusal) => {
                self.outcome = Err(refusal);
                return Ok(());
            }
        }
        let event = Event::TokenMade {
            token: token.hash,
            host: token.host.clone(),
            expires: token.expires,
            replace: token.replaces,
            operator_uid: token.operator_uid,
        };
        append_event(transaction, edge, token.at, event)?;
        transaction
            .prepare_cached("INSERT INTO token (hash, host, expires, replaces) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![token.hash.as_bytes(), token.host.as_str(), token.expires.unix(), token.replaces])?;
        Ok(())
    }

    fn committed(self: Box<Self>, _: &mut Projection) {
        let _ = self.reply.send(self.outcome);
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error.into()));
    }
}

/// A declaration on its way into force.
#[derive(Debug, Clone)]
pub struct NewDeclaration {
    /// Now.
    pub at: Timestamp,
    /// Its hash.
    pub sha256: Digest,
    /// How many names it has.
    pub names: usize,
    /// Path as the operator named it, and text, of each file.
    pub files: Vec<(String, String)>,
}

/// [`super::Store::put_in_force`].
pub(super) struct PutInForce {
    declaration: NewDeclaration,
    reply: Sender<Result<(), StoreError>>,
}

impl PutInForce {
    pub(super) const fn new(declaration: NewDeclaration, reply: Sender<Result<(), StoreError>>) -> Self {
        Self { declaration, reply }
    }
}

impl Verb for PutInForce {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        let declaration = &self.declaration;
        if read::declaration_in_force(transaction)? == Some(declaration.sha256) {
            return Ok(());
        }
        let event = Event::Declaration { sha256: declaration.sha256, names: declaration.names };
        let index = append_event(transaction, edge, declaration.at, event)?;
        let files =
            serde_json::to_string(&declaration.files).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        transaction
            .prepare_cached("INSERT OR REPLACE INTO declaration (sha256, idx, since, files) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![declaration.sha256.as_bytes(), index, declaration.at.unix(), files])?;
        Ok(())
    }

    fn committed(self: Box<Self>, _: &mut Projection) {
        let _ = self.reply.send(Ok(()));
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

/// [`super::Store::probe`]: a transaction that writes nothing.
pub(super) struct Probe {
    reply: Sender<Result<(), StoreError>>,
}

impl Probe {
    pub(super) const fn new(reply: Sender<Result<(), StoreError>>) -> Self {
        Self { reply }
    }
}

impl Verb for Probe {
    fn apply(&mut self, _: &Transaction<'_>, _: &mut Edge) -> Result<(), StoreError> {
        Ok(())
    }

    fn committed(self: Box<Self>, _: &mut Projection) {
        let _ = self.reply.send(Ok(()));
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}
