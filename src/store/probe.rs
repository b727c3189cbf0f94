//! Whether the ledger could be written now.

use rusqlite::Transaction;
use tokio::sync::oneshot::Sender;

use super::tiles::Edge;
use super::verbs::Verb;
use super::{Projection, StoreError};

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
