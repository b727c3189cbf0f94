//! A CA that was restored is closed until an operator has confirmed its hosts. There is no table for
//! it: it is closed when the newest `restored` has no `reopened` after it.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::sync::oneshot::Sender;

use super::tiles::Edge;
use super::verbs::{Verb, append_event};
use super::{Projection, RecordError, Store, StoreError, read};
use crate::clock::Timestamp;
use crate::host::HostState;
use crate::ledger::{Entry, Event};
use crate::restoration::{Confirmation, Restoration};

/// Why nothing is recorded for hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// When the ledger was restored.
    pub since: Timestamp,
    /// From what, and by whom.
    pub restoration: Restoration,
}

/// A restoration on its way into the ledger.
#[derive(Debug, Clone)]
pub struct NewRestoration {
    /// Now.
    pub at: Timestamp,
    /// From what, and by whom.
    pub restoration: Restoration,
}

/// A confirmation on its way into the ledger.
#[derive(Debug, Clone)]
pub struct NewConfirmation {
    /// Now.
    pub at: Timestamp,
    /// How many hosts, and by whom.
    pub confirmation: Confirmation,
}

/// Why the CA was not opened. Nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReopenError {
    /// It is open.
    #[error("the CA is open; there is nothing to confirm")]
    NotClosed,
    /// Another number of hosts is enabled.
    #[error("{given} is not the number of enabled hosts, which is {enabled}; look at them again: psfca host list")]
    WrongNumber {
        /// What the operator said.
        given: u64,
        /// What is so.
        enabled: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Makes a ledger that comes from a backup fit for use: appends that it was restored, voids every
    /// token, request to enrol and Salt key, and closes the CA.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn mark_restored(&self, new: NewRestoration) -> Result<(), StoreError> {
        self.ask(|reply| Box::new(MarkRestored { new, reply })).await?
    }

    /// Opens a closed CA, if so many hosts are enabled as the operator has seen.
    ///
    /// # Errors
    /// [`ReopenError`].
    pub async fn reopen(&self, new: NewConfirmation) -> Result<(), ReopenError> {
        self.ask(|reply| Box::new(Reopen { new, outcome: Ok(()), reply })).await?
    }
}

/// The index of the restoration by which the CA is closed.
fn closed_by(connection: &Connection) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT max(idx) FROM event INDEXED BY event_by_kind WHERE event = ?1";
    let newest = |event: &str| -> Result<Option<i64>, StoreError> {
        Ok(connection.prepare_cached(sql)?.query_row([event], |row| row.get(0))?)
    };
    let Some(restored) = newest("restored")? else { return Ok(None) };
    Ok(if newest("reopened")?.is_some_and(|reopened| reopened > restored) { None } else { Some(restored) })
}

/// Why the CA is closed; none when it is open.
pub(super) fn closed(connection: &Connection) -> Result<Option<Closed>, StoreError> {
    let Some(index) = closed_by(connection)? else { return Ok(None) };
    let bytes: Option<Vec<u8>> =
        connection.query_row("SELECT bytes FROM entry WHERE idx = ?1", [index], |row| row.get(0)).optional()?;
    match Entry::decode(&bytes.unwrap_or_default())? {
        Entry { time, event: Event::Restored(restoration), .. } => Ok(Some(Closed { since: time, restoration })),
        _ => Err(StoreError::Damaged(format!("entry {index} is not the restoration that it is listed as"))),
    }
}

/// Refuses while the CA is closed.
pub(super) fn require_open(transaction: &Transaction<'_>) -> Result<(), RecordError> {
    if closed_by(transaction)?.is_some() { Err(RecordError::Closed) } else { Ok(()) }
}

/// [`Store::mark_restored`].
struct MarkRestored {
    new: NewRestoration,
    reply: Sender<Result<(), StoreError>>,
}

impl Verb for MarkRestored {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        append_event(transaction, edge, self.new.at, Event::Restored(self.new.restoration.clone()))?;
        transaction.execute("DELETE FROM token", params![])?;
        transaction.execute("DELETE FROM enrollment_request", params![])?;
        transaction.execute("DELETE FROM salt_key", params![])?;
        // From here on it is no backup.
        transaction.execute("DELETE FROM backup", params![])?;
        Ok(())
    }

    fn committed(self: Box<Self>, projection: &mut Projection) {
        let NewRestoration { at, restoration } = self.new;
        projection.closed = Some(Closed { since: at, restoration });
        let _ = self.reply.send(Ok(()));
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

/// [`Store::reopen`].
struct Reopen {
    new: NewConfirmation,
    outcome: Result<(), ReopenError>,
    reply: Sender<Result<(), ReopenError>>,
}

impl Reopen {
    fn open(&self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), ReopenError> {
        let NewConfirmation { at, confirmation } = self.new.clone();
        if closed_by(transaction)?.is_none() {
            return Err(ReopenError::NotClosed);
        }
        let hosts = read::hosts(transaction)?;
        let enabled = hosts.values().filter(|host| host.state == HostState::Enabled).count() as u64;
        if enabled != confirmation.hosts {
            return Err(ReopenError::WrongNumber { given: confirmation.hosts, enabled });
        }
        append_event(transaction, edge, at, Event::Reopened(confirmation))?;
        Ok(())
    }
}

impl Verb for Reopen {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        self.outcome = match self.open(transaction, edge) {
            Err(ReopenError::Store(error)) => return Err(error),
            outcome => outcome,
        };
        Ok(())
    }

    fn committed(self: Box<Self>, projection: &mut Projection) {
        if self.outcome.is_ok() {
            projection.closed = None;
        }
        let _ = self.reply.send(self.outcome);
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error.into()));
    }
}
