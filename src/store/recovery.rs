//! Recoveries: the entry that gives up what was lost, and how the newest is found again.

use rusqlite::{OptionalExtension as _, Transaction};
use tokio::sync::oneshot::Sender;

use super::tiles::{Edge, Head, StoredNodes};
use super::verbs::{Verb, append_event};
use super::{Projection, Store, StoreError};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ledger::tree::root;
use crate::ledger::{Entry, Event};
use crate::wire::EventKind;

/// A recovery on its way into the ledger.
#[derive(Debug, Clone)]
pub struct NewRecovery {
    /// Now.
    pub at: Timestamp,
    /// The signed root statement, whole.
    pub statement: String,
    /// The head that it names, which the ledger must still have.
    pub head: Head,
    /// Who ran the command.
    pub operator_uid: u32,
}

/// [`Store::recover`].
struct Recover {
    recovery: NewRecovery,
    reply: Sender<Result<(), StoreError>>,
}

impl Verb for Recover {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        let NewRecovery { at, statement, head, operator_uid } = &self.recovery;
        if edge.head(transaction)? != *head {
            return Err(StoreError::Damaged("it is not what the recovery names".to_owned()));
        }
        let event = Event::Recovered { statement: statement.clone(), operator_uid: *operator_uid };
        append_event(transaction, edge, *at, event).map(drop)
    }

    fn committed(self: Box<Self>, _: &mut Projection) {
        let _ = self.reply.send(Ok(()));
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

impl Store {
    /// Appends a recovery, durably.
    ///
    /// # Errors
    /// When the ledger is not what the recovery names, or the store failed.
    pub async fn recover(&self, recovery: NewRecovery) -> Result<(), StoreError> {
        self.ask(|reply| Box::new(Recover { recovery, reply })).await?
    }

    /// The newest recovery's statement, whole, as it was signed.
    ///
    /// # Errors
    /// When the store fails or the entry does not parse.
    pub async fn recovery(&self) -> Result<Option<String>, StoreError> {
        self.read(|connection| {
            let bytes: Option<Vec<u8>> = connection
                .prepare_cached(
                    "SELECT entry.bytes FROM event AS listed INDEXED BY event_by_kind
                     CROSS JOIN entry ON entry.idx = listed.idx
                     WHERE listed.event = ?1 ORDER BY listed.idx DESC LIMIT 1",
                )?
                .query_row([EventKind::Recovered.as_str()], |row| row.get(0))
                .optional()?;
            match bytes.map(|bytes| Entry::decode(&bytes)).transpose()?.map(|entry| entry.event) {
                None => Ok(None),
                Some(Event::Recovered { statement, .. }) => Ok(Some(statement)),
                Some(_) => Err(StoreError::Damaged("a recovery's entry is another's".to_owned())),
            }
        })
        .await
    }

    /// The root over the first `size` entries; none where there are not so many.
    ///
    /// # Errors
    /// When the store fails or a hash is missing.
    pub async fn root_of(&self, size: u64) -> Result<Option<Digest>, StoreError> {
        if size > self.head().size {
            return Ok(None);
        }
        self.read(move |connection| Ok(Some(root(&mut StoredNodes::new(connection, None, size), size)?))).await
    }
}
