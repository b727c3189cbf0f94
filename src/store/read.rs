//! What can be read: by the writer inside its transaction, and by listings beside it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rusqlite::types::Type;
use rusqlite::{Connection, InterruptHandle, OptionalExtension as _, Row, params};

use super::tiles::StoredNodes;
use super::{Host, RecordError, Store, StoreError, StoredDeclaration, lock};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::host::HostState;
use crate::ledger::tile::TilePath;
use crate::ledger::tree::{consistency_proof, inclusion_proof};
use crate::name::HostName;

/// A row of `token`.
#[derive(Debug, Clone)]
pub(super) struct TokenRow {
    pub(super) host: HostName,
    pub(super) expires: Timestamp,
    pub(super) replaces: bool,
    pub(super) spent_by: Option<Digest>,
}

impl TokenRow {
    /// Whether `key` may use the token at `now`. The key that spent it may come again until the
    /// token expires, since its answer may have been lost on the way.
    pub(super) fn check(&self, now: Timestamp, key: Digest) -> Result<(), RecordError> {
        if now >= self.expires {
            return Err(RecordError::TokenExpired { host: self.host.clone(), at: self.expires });
        }
        match self.spent_by {
            Some(spent_by) if spent_by != key => Err(RecordError::TokenSpent(self.host.clone())),
            _ => Ok(()),
        }
    }
}

impl Store {
    /// Which host a token is for, if `key` may use it at `now`. The record verb checks again.
    ///
    /// # Errors
    /// The token is unknown, expired or spent by another key; or the store failed.
    pub async fn token_host(&self, hash: Digest, key: Digest, now: Timestamp) -> Result<HostName, RecordError> {
        let row = self.read(move |connection| token(connection, hash)).await?.ok_or(RecordError::TokenUnknown)?;
        row.check(now, key)?;
        Ok(row.host)
    }

    /// The declaration in force, whole.
    ///
    /// # Errors
    /// When the store fails or its row does not parse.
    pub async fn declaration(&self) -> Result<Option<StoredDeclaration>, StoreError> {
        self.read(|connection| match declaration_in_force(connection)? {
            Some(sha256) => declaration(connection, sha256),
            None => Ok(None),
        })
        .await
    }

    /// A declaration that is or was in force, and whether it is.
    ///
    /// # Errors
    /// When the store fails or its row does not parse.
    pub async fn declaration_by_hash(&self, sha256: Digest) -> Result<Option<(StoredDeclaration, bool)>, StoreError> {
        self.read_at_leisure(move |connection| {
            let in_force = declaration_in_force(connection)? == Some(sha256);
            Ok(declaration(connection, sha256)?.map(|found| (found, in_force)))
        })
        .await
    }

    /// The proof that the first `old` entries are the beginning of the first `new` ones; none where
    /// the ledger never had such sizes.
    ///
    /// # Errors
    /// When the store fails or a hash is missing.
    pub async fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Digest>>, StoreError> {
        if new > self.head().size {
            return Ok(None);
        }
        self.read(move |connection| consistency_proof(&mut StoredNodes::new(connection, None, new), old, new)).await
    }

    /// The hashes that lead from entry `index` to the head of `size` entries; none where there is no such.
    ///
    /// # Errors
    /// When the store fails or a hash is missing.
    pub async fn inclusion(&self, index: u64, size: u64) -> Result<Option<Vec<Digest>>, StoreError> {
        self.read(move |connection| inclusion_proof(&mut StoredNodes::new(connection, None, size), index, size)).await
    }

    /// A tile's octets; none where the ledger is not that large.
    ///
    /// # Errors
    /// When the store fails or something is missing in the tile.
    pub async fn tile(&self, path: TilePath) -> Result<Option<Vec<u8>>, StoreError> {
        let size = self.head().size;
        self.read_at_leisure(move |connection| super::tiles::octets(connection, path, size)).await
    }

    /// Runs `query` on the connection of listings, off the async threads and after those that came before
    /// it. A caller that goes away ends its query.
    pub(super) async fn read_at_leisure<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // Waited for here and not on a thread, of which there are only so many for all reads.
        let connection = Arc::clone(&self.leisurely).lock_owned().await;
        let progress = Arc::new(Mutex::new(Progress::Wanted));
        let _waiting = Waiting { interrupt: connection.get_interrupt_handle(), progress: Arc::clone(&progress) };
        let run = move || {
            if *lock(&progress) == Progress::Unwanted {
                return Err(StoreError::Closed);
            }
            let outcome = read_as_of_now(&connection, query);
            *lock(&progress) = Progress::Done;
            outcome
        };
        tokio::task::spawn_blocking(run).await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `query` on the reading connection, off the async threads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = Arc::clone(&self.reader);
        tokio::task::spawn_blocking(move || query(&lock(&reader))).await.map_err(|_| StoreError::Closed)?
    }
}

/// Runs `query` beside a statement that stays open. Everything that it reads is the ledger of one moment, and an interrupt
/// that comes between two of its own statements is not lost: SQLite forgets one as soon as no statement is open.
fn read_as_of_now<T>(
    connection: &Connection,
    query: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut open = connection.prepare_cached("SELECT 1 FROM sqlite_schema")?;
    let mut rows = open.query([])?;
    rows.next()?;
    query(connection)
}

/// How a query stands for the caller who waits for it.
#[derive(PartialEq)]
enum Progress {
    Wanted,
    Unwanted,
    Done,
}

/// A caller who waits for a query; one who goes away before it is done interrupts it.
struct Waiting {
    interrupt: InterruptHandle,
    progress: Arc<Mutex<Progress>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut progress = lock(&self.progress);
        // Under the lock, so that it is this query and not the next one.
        if *progress == Progress::Wanted {
            *progress = Progress::Unwanted;
            self.interrupt.interrupt();
        }
    }
}

/// A state of a host that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no state of a host")]
struct UnknownState(String);

/// The hosts that were enrolled once.
pub(super) fn hosts(connection: &Connection) -> Result<HashMap<HostName, Host>, StoreError> {
    let mut statement = connection.prepare("SELECT name, state, since, enrolled, idx FROM host")?;
    let rows = statement.query_map([], host_row)?;
    Ok(rows.map(|row| row.map(|host| (host.name.clone(), host))).collect::<Result<_, _>>()?)
}

/// At most `limit` of them by name, from `first` on.
pub(super) fn hosts_from(connection: &Connection, first: &str, limit: i64) -> Result<Vec<Host>, StoreError> {
    let sql = "SELECT name, state, since, enrolled, idx FROM host WHERE name >= ?1 ORDER BY name LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![first, limit], host_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Entries in the ledger: indices are dense, so it is the last one plus one.
pub(super) fn size(connection: &Connection) -> Result<u64, StoreError> {
    Ok(connection.prepare_cached("SELECT coalesce(max(idx) + 1, 0) FROM entry")?.query_row([], |row| row.get(0))?)
}

pub(super) fn host(connection: &Connection, name: &HostName) -> Result<Option<Host>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT name, state, since, enrolled, idx FROM host WHERE name = ?1")?
        .query_row([name.as_str()], host_row)
        .optional()?)
}

pub(super) fn token(connection: &Connection, hash: Digest) -> Result<Option<TokenRow>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT host, expires, replaces, spent_by FROM token WHERE hash = ?1")?
        .query_row(params![hash.as_bytes()], |row| {
            Ok(TokenRow {
                host: host_name(row, 0)?,
                expires: Timestamp::from_unix(row.get(1)?),
                replaces: row.get(2)?,
                spent_by: match row.get_ref(3)? {
                    rusqlite::types::ValueRef::Null => None,
                    _ => Some(digest(row, 3)?),
                },
            })
        })
        .optional()?)
}

pub(super) fn declaration_in_force(connection: &Connection) -> Result<Option<Digest>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT sha256 FROM declaration ORDER BY idx DESC LIMIT 1")?
        .query_row([], |row| digest(row, 0))
        .optional()?)
}

fn declaration(connection: &Connection, sha256: Digest) -> Result<Option<StoredDeclaration>, StoreError> {
    let row = connection
        .prepare_cached("SELECT since, files FROM declaration WHERE sha256 = ?1")?
        .query_row(params![sha256.as_bytes()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    let Some((since, files)) = row else { return Ok(None) };
    let files = serde_json::from_str(&files).map_err(|error| StoreError::Damaged(error.to_string()))?;
    Ok(Some(StoredDeclaration { sha256, since: Timestamp::from_unix(since), files }))
}

fn host_row(row: &Row<'_>) -> rusqlite::Result<Host> {
    let state: String = row.get(1)?;
    Ok(Host {
        name: host_name(row, 0)?,
        state: HostState::parse(&state).ok_or_else(|| conversion(1, Type::Text, UnknownState(state)))?,
        since: Timestamp::from_unix(row.get(2)?),
        enrolled: Timestamp::from_unix(row.get(3)?),
        enrollment: row.get(4)?,
    })
}

pub(super) fn host_name(row: &Row<'_>, column: usize) -> rusqlite::Result<HostName> {
    let text: String = row.get(column)?;
    HostName::parse(&text).map_err(|error| conversion(column, Type::Text, error))
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get(column).map(Digest::from_bytes)
}

fn conversion(column: usize, of: Type, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, of, Box::new(error))
}
