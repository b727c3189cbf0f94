//! What the writer can be asked for. Each verb checks its condition, writes, and answers after
//! the commit; a refusal writes nothing.

use rusqlite::{Transaction, params};
use tokio::sync::oneshot::Sender;

use super::tiles::{Edge, Head, StoredNodes};
use super::{Projection, RecordError, StoreError};
use super::{hosts, read, restoration, times};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ledger::{EncodedEntry, Entry, Event};
use crate::name::HostName;

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

/// Appends an entry to the ledger; the only place that hands out indices. `end` is that of a certificate.
pub(super) fn append(
    transaction: &Transaction<'_>,
    edge: &mut Edge,
    entry: &EncodedEntry,
    at: Timestamp,
    end: Option<Timestamp>,
) -> Result<u64, StoreError> {
    let index = edge.size();
    transaction.prepare_cached("INSERT INTO entry (idx, bytes, leaf_hash) VALUES (?1, ?2, ?3)")?.execute(params![
        index,
        entry.bytes(),
        entry.leaf_hash().as_bytes()
    ])?;
    edge.push(transaction, entry.leaf_hash())?;
    times::note_times(transaction, index, at, end)?;
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
    let index = append(transaction, edge, &Entry::new(at, event).encode()?, at, None)?;
    transaction
        .prepare_cached("INSERT INTO event (idx, event, host, recorded) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![index, kind.as_str(), host.as_ref().map(HostName::as_str), at.unix()])?;
    Ok(index)
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
