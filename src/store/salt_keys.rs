//! The accepted keys of Salt minions, as an operator imports them: always the whole set.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::sync::oneshot::Sender;

use super::tiles::Edge;
use super::verbs::{Verb, append_event};
use super::{Projection, RecordError, Store, StoreError, read};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::SaltKeyChange;
use crate::ledger::Event;
use crate::name::HostName;

/// A set of accepted keys on its way into the store.
#[derive(Debug, Clone)]
pub struct NewSaltKeys {
    /// Now.
    pub at: Timestamp,
    /// Every host whose key is accepted, with its SubjectPublicKeyInfo, DER.
    pub keys: BTreeMap<HostName, Vec<u8>>,
    /// Who imports.
    pub operator_uid: u32,
}

/// What an import changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SaltKeysImported {
    /// Keys that are new, or other than before.
    pub imported: u64,
    /// Keys that are accepted no longer.
    pub removed: u64,
    /// Keys that were known.
    pub unchanged: u64,
}

impl Store {
    /// Makes `keys` the accepted keys, with one event for each host where that is a change.
    ///
    /// # Errors
    /// When the store failed; nothing was changed then.
    pub async fn import_salt_keys(&self, new: NewSaltKeys) -> Result<SaltKeysImported, StoreError> {
        let outcome = SaltKeysImported::default();
        self.ask(|reply| Box::new(Import { new, outcome, reply })).await?
    }

    /// The accepted key of `host`: its SubjectPublicKeyInfo, DER.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn salt_key(&self, host: &HostName) -> Result<Option<Vec<u8>>, StoreError> {
        let host = host.clone();
        self.read(move |connection| {
            let sql = "SELECT public_key FROM salt_key WHERE host = ?1";
            Ok(connection.prepare_cached(sql)?.query_row([host.as_str()], |row| row.get(0)).optional()?)
        })
        .await
    }
}

fn hash_of(connection: &Connection, host: &HostName) -> Result<Option<Digest>, StoreError> {
    let sql = "SELECT key_sha256 FROM salt_key WHERE host = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([host.as_str()], |row| read::digest(row, 0)).optional()?)
}

/// The host's accepted key is still the one whose signature was verified.
pub(super) fn require(transaction: &Transaction<'_>, host: &HostName, salt_key: Digest) -> Result<(), RecordError> {
    match hash_of(transaction, host)? {
        Some(accepted) if accepted == salt_key => Ok(()),
        _ => Err(RecordError::SaltKeyNotAccepted(host.clone())),
    }
}

/// [`Store::import_salt_keys`].
struct Import {
    new: NewSaltKeys,
    outcome: SaltKeysImported,
    reply: Sender<Result<SaltKeysImported, StoreError>>,
}

impl Verb for Import {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        let NewSaltKeys { at, keys, operator_uid } = &self.new;
        let change =
            |host: &HostName, salt_key| SaltKeyChange { host: host.clone(), salt_key, operator_uid: *operator_uid };
        self.outcome = SaltKeysImported::default();
        for (host, salt_key) in known(transaction)? {
            if !keys.contains_key(&host) {
                append_event(transaction, edge, *at, Event::SaltKeyRemoved(change(&host, salt_key)))?;
                transaction.prepare_cached("DELETE FROM salt_key WHERE host = ?1")?.execute([host.as_str()])?;
                self.outcome.removed += 1;
            }
        }
        for (host, public_key) in keys {
            let salt_key = Digest::of(public_key);
            if hash_of(transaction, host)? == Some(salt_key) {
                self.outcome.unchanged += 1;
                continue;
            }
            append_event(transaction, edge, *at, Event::SaltKeyImported(change(host, salt_key)))?;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO salt_key (host, key_sha256, public_key) VALUES (?1, ?2, ?3)")?
                .execute(params![host.as_str(), salt_key.as_bytes(), public_key])?;
            self.outcome.imported += 1;
        }
        Ok(())
    }

    fn committed(self: Box<Self>, _: &mut Projection) {
        let _ = self.reply.send(Ok(self.outcome));
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

fn known(connection: &Connection) -> Result<Vec<(HostName, Digest)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT host, key_sha256 FROM salt_key ORDER BY host")?;
    let rows = statement.query_map([], |row| Ok((read::host_name(row, 0)?, read::digest(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
