//! The one thread that writes: collect what waits, apply, commit, then answer.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::OwnedSemaphorePermit;

use super::tiles::{Edge, Head, StoredNodes};
use super::verbs::Verb;
use super::{Projection, StoreError, read, restoration, schema, times};

/// Most verbs in one commit.
const BATCH: usize = 256;
/// How often the thread gives way for nothing before it commits fewer verbs than it did last.
const PATIENCE: u32 = 8;
/// How long a signature waits for a batch to ride with before it gets a commit of its own.
const RELEASE_WAIT: Duration = Duration::from_millis(250);

/// What the thread is sent.
pub(super) enum Job {
    /// Something that waits for its answer, and its place in the queue.
    Verb { verb: Box<dyn Verb>, turn: OwnedSemaphorePermit },
    /// A signature for an entry; nobody waits.
    Release { index: u64, signature: Vec<u8> },
    /// Write out what is left and end.
    Stop,
}

/// The thread's state.
pub(super) struct Writer {
    path: PathBuf,
    /// Absent after an error, until the file has been opened and read again.
    opened: Option<Opened>,
    /// Signatures that are not committed yet.
    releases: Vec<(u64, Vec<u8>)>,
    /// How many verbs the last commit had that had any.
    before: usize,
    projection: Arc<RwLock<Projection>>,
    /// Batches that became durable.
    commits: Arc<AtomicU64>,
    /// Held for as long as the thread lives.
    _lock: File,
}

impl Writer {
    pub(super) const fn new(
        path: PathBuf,
        opened: Opened,
        lock: File,
        projection: Arc<RwLock<Projection>>,
        commits: Arc<AtomicU64>,
    ) -> Self {
        Self { path, opened: Some(opened), releases: Vec::new(), before: 0, projection, commits, _lock: lock }
    }

    /// Works until [`Job::Stop`] or until every sender is gone.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut stop = false;
        while !stop {
            let mut verbs = Vec::new();
            let first = if self.releases.is_empty() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(RELEASE_WAIT)
            };
            let alone = first.is_err();
            match first {
                Ok(job) => stop = self.sort(job, &mut verbs),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => stop = true,
            }
            // No fixed linger: a batch is what has gathered while the last one was being written, and what others
            // bring who have work to do on this core. Where there are none, giving way takes no time. Somebody else's
            // work takes a slice of time for each, so that is done often only where more verbs are likely to come.
            let (mut had, mut in_vain) = (0, 0);
            while !stop && verbs.len() < BATCH {
                if let Ok(job) = jobs.try_recv() {
                    stop = self.sort(job, &mut verbs);
                    continue;
                }
                if verbs.len() == had {
                    in_vain += 1;
                }
                if verbs.is_empty() || in_vain >= self.patience(verbs.len()) {
                    break;
                }
                had = verbs.len();
                std::thread::yield_now();
            }
            if !verbs.is_empty() {
                self.before = verbs.len();
            }
            if !verbs.is_empty() || alone || stop || self.releases.len() >= BATCH {
                self.write(verbs);
            }
        }
    }

    /// How often the thread gives way for nothing with so many verbs in hand.
    const fn patience(&self, verbs: usize) -> u32 {
        if verbs < self.before { PATIENCE } else { 1 }
    }

    /// Puts a job where it belongs; true when it was the last one.
    fn sort(&mut self, job: Job, verbs: &mut Vec<Box<dyn Verb>>) -> bool {
        match job {
            Job::Verb { verb, turn } => {
                verbs.push(verb);
                drop(turn);
            }
            Job::Release { index, signature } => self.releases.push((index, signature)),
            Job::Stop => return true,
        }
        false
    }

    fn write(&mut self, mut verbs: Vec<Box<dyn Verb>>) {
        match self.commit(&mut verbs) {
            Ok(head) => {
                self.releases.clear();
                let mut projection = self.projection.write().unwrap_or_else(PoisonError::into_inner);
                projection.head = head;
                for verb in verbs {
                    verb.committed(&mut projection);
                }
            }
            Err(error) => {
                tracing::error!(%error, waiting = verbs.len(), "the ledger could not be written; nothing was released");
                // What the disk kept of the failed commit is found out by reading it again, when the
                // next batch comes. Whoever waits is told now.
                self.opened = None;
                for verb in verbs {
                    verb.failed(error.clone());
                }
            }
        }
    }

    /// One transaction for all of it; returns the ledger's new head once it is durable.
    fn commit(&mut self, verbs: &mut [Box<dyn Verb>]) -> Result<Head, StoreError> {
        self.reopen()?;
        let Some(Opened { connection, edge }) = self.opened.as_mut() else { return Err(StoreError::Closed) };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for verb in verbs.iter_mut() {
            verb.apply(&transaction, edge)?;
        }
        for (index, signature) in &self.releases {
            transaction
                .prepare_cached("UPDATE body SET signature = ?2 WHERE idx = ?1 AND signature IS NULL")?
                .execute(rusqlite::params![index, signature])?;
            transaction.prepare_cached("UPDATE certificate SET released = 1 WHERE idx = ?1")?.execute([index])?;
        }
        transaction.commit()?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        let head = edge.head(connection)?;
        let mut nodes = StoredNodes::new(connection, Some(edge), head.size);
        for verb in verbs {
            verb.prove(&mut nodes, head)?;
        }
        Ok(head)
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.opened.is_none() {
            let opened = Opened::new(schema::open_writer(&self.path)?)?;
            *self.projection.write().unwrap_or_else(PoisonError::into_inner) = opened.projection()?;
            self.opened = Some(opened);
        }
        Ok(())
    }
}

/// The file as it was read: nothing in it is known that was not committed.
pub(super) struct Opened {
    connection: Connection,
    edge: Edge,
}

impl Opened {
    pub(super) fn new(connection: Connection) -> Result<Self, StoreError> {
        let edge = Edge::load(&connection)?;
        times::require_whole(&connection, edge.size())?;
        Ok(Self { connection, edge })
    }

    pub(super) fn projection(&self) -> Result<Projection, StoreError> {
        Ok(Projection {
            closed: restoration::closed(&self.connection)?,
            hosts: read::hosts(&self.connection)?,
            head: self.edge.head(&self.connection)?,
        })
    }
}
