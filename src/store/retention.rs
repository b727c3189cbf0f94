//! Bodies of certificates that ended long ago are dropped, a few at a time; their hashes, and with
//! them everything that the ledger proves, stay.
//!
//! The entry that says so comes first, in one transaction with the first bodies that go. So at every
//! moment, also after a crash, a body is there or an entry says until which end bodies need not be.
//! The certificates of the CAs stay for ever: by them all signatures are verified.

use rusqlite::{Connection, Transaction, params};
use tokio::sync::oneshot::Sender;

use super::tiles::Edge;
use super::verbs::{Verb, append_event};
use super::{Projection, Store, StoreError};
use crate::clock::Timestamp;
use crate::ledger::{Entry, Event};

/// Most certificates that one step looks at.
const BATCH: usize = 256;
/// Most pages that one step gives back.
const PAGES: u32 = 256;

/// How far one sweep through the ledger has come.
#[derive(Debug)]
pub struct Sweep {
    ended_before: Timestamp,
    /// End and index of the last certificate that was looked at.
    after: (i64, i64),
    /// The entry that says what is dropped.
    announced: Option<u64>,
    dropped: u64,
}

impl Sweep {
    /// A sweep that drops the bodies of what ended before this moment.
    #[must_use]
    pub const fn new(ended_before: Timestamp) -> Self {
        Self { ended_before, after: (i64::MIN, -1), announced: None, dropped: 0 }
    }

    /// Bodies dropped so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// What one look found.
struct Due {
    indices: Vec<u64>,
    /// Where the next look begins.
    after: (i64, i64),
    looked_at: usize,
}

impl Store {
    /// Takes the next step of a sweep, one short transaction: drops some bodies, or, when all are
    /// dropped, gives some of the file's free pages back. False when nothing is left to do.
    ///
    /// # Errors
    /// When the store fails; the same sweep, or a new one, can go on later.
    pub async fn sweep(&self, sweep: &mut Sweep, now: Timestamp) -> Result<bool, StoreError> {
        loop {
            let (ended_before, after, announced) = (sweep.ended_before, sweep.after, sweep.announced);
            let due = self.read_at_leisure(move |connection| due(connection, ended_before, after, announced)).await?;
            sweep.after = due.after;
            if !due.indices.is_empty() {
                let announce = announced.is_none().then_some((now, ended_before));
                let count = due.indices.len() as u64;
                let announced = self.ask(|reply| Box::new(DropBodies::new(due.indices, announce, reply))).await??;
                sweep.announced = sweep.announced.or(announced);
                sweep.dropped += count;
                return Ok(true);
            }
            if due.looked_at < BATCH {
                break;
            }
        }
        self.ask(|reply| Box::new(GiveBack { given_back: 0, reply })).await?.map(|pages| pages > 0)
    }
}

/// The next certificates whose bodies are to go.
fn due(
    connection: &Connection,
    ended_before: Timestamp,
    mut after: (i64, i64),
    announced: Option<u64>,
) -> Result<Due, StoreError> {
    // What is recorded after the announcement is not meant by it, however early a clock lets it end.
    let before = announced.and_then(|index| i64::try_from(index).ok()).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT listed.not_after, listed.idx, entry.bytes
         FROM certificate AS listed INDEXED BY certificate_by_end CROSS JOIN entry ON entry.idx = listed.idx
         WHERE listed.dropped = 0 AND listed.not_after < ?1 AND (listed.not_after, listed.idx) > (?2, ?3)
             AND listed.idx < ?4
         ORDER BY listed.not_after, listed.idx LIMIT ?5",
    )?;
    let mut rows = statement.query(params![ended_before.unix(), after.0, after.1, before, BATCH])?;
    let (mut indices, mut looked_at) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        after = (row.get(0)?, row.get(1)?);
        looked_at += 1;
        let entry = Entry::decode(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?)?;
        if let Event::Certificate(record) = entry.event
            && !record.kind.is_ca()
        {
            indices.push(row.get(1)?);
        }
    }
    Ok(Due { indices, after, looked_at })
}

/// Drops bodies; announces it first where that was not done yet.
struct DropBodies {
    indices: Vec<u64>,
    /// Now, and the end before which certificates are meant.
    announce: Option<(Timestamp, Timestamp)>,
    announced: Option<u64>,
    reply: Sender<Result<Option<u64>, StoreError>>,
}

impl DropBodies {
    const fn new(
        indices: Vec<u64>,
        announce: Option<(Timestamp, Timestamp)>,
        reply: Sender<Result<Option<u64>, StoreError>>,
    ) -> Self {
        Self { indices, announce, announced: None, reply }
    }
}

impl Verb for DropBodies {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        if let Some((at, ended_before)) = self.announce {
            self.announced = Some(append_event(transaction, edge, at, Event::BodiesDropped { ended_before })?);
        }
        let mut bodies = transaction.prepare_cached("DELETE FROM body WHERE idx = ?1")?;
        let mut certificates = transaction.prepare_cached("UPDATE certificate SET dropped = 1 WHERE idx = ?1")?;
        for index in &self.indices {
            bodies.execute([index])?;
            certificates.execute([index])?;
        }
        Ok(())
    }

    fn committed(self: Box<Self>, _: &mut Projection) {
        let _ = self.reply.send(Ok(self.announced));
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

/// Moves pages from the end of the file to free ones, so that the next checkpoint of the log cuts the file.
struct GiveBack {
    given_back: u64,
    reply: Sender<Result<u64, StoreError>>,
}

impl Verb for GiveBack {
    fn apply(&mut self, transaction: &Transaction<'_>, _: &mut Edge) -> Result<(), StoreError> {
        let free = || transaction.pragma_query_value(None, "freelist_count", |row| row.get::<_, u64>(0));
        let before = free()?;
        if before > 0 {
            // The pragma works a page at a time, for as long as it is asked for rows.
            let mut statement = transaction.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
        }
        self.given_back = before.saturating_sub(free()?);
        Ok(())
    }

    fn committed(self: Box<Self>, _: &mut Projection) {
        let _ = self.reply.send(Ok(self.given_back));
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}
