//! The ledger and its projections in one SQLite file: domain verbs, not transactions.
//!
//! One thread owns the writing connection. It takes whatever verbs are waiting, applies them in
//! one transaction, commits durably (write-ahead log, `synchronous=FULL`: fsync has returned) and
//! only then answers. A verb's conditions are checked inside that transaction, so nothing can
//! change between the check and the append. After any error the connection is thrown away and the
//! file is read again: what a failed fsync left behind is never guessed.

mod backup;
mod copy;
mod error;
mod hosts;
mod identities;
mod listing;
mod migration;
mod newest;
mod probe;
mod read;
mod record;
mod recovery;
mod refusals;
mod reports;
mod requests;
mod restoration;
mod retention;
mod salt_keys;
mod schema;
mod segments;
mod selection;
#[cfg(test)]
mod tests;
mod tiles;
mod times;
mod verbs;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::host::HostState;
use crate::name::HostName;
use crate::serial::Serial;

pub use backup::{note_of, write_backup};
pub use copy::{
    Cell, Copied, CopiedBody, CopiedCertificate, CopiedEntry, CopiedEvent, LedgerCopy, Octets, Reading, page_faults,
};
pub use error::{RecordError, StoreError};
pub use hosts::{HostError, NewHostState, StillValid};
pub use identities::ShownIdentity;
pub use listing::{StoredBody, StoredEntry, StoredState};
pub use newest::Newest;
pub use record::{Condition, Draft, Recorded};
pub use recovery::NewRecovery;
pub use reports::NewReport;
pub use requests::{Asked, EnrollmentRequest, NewDecision, NewRequest, REQUEST_LIFETIME};
pub use restoration::{Closed, NewConfirmation, NewRestoration, ReopenError};
pub use retention::Sweep;
pub use salt_keys::{NewSaltKeys, SaltKeysImported};
pub use tiles::Head;
pub use verbs::{NewDeclaration, NewToken};

/// Verbs that may wait for the writer; the next ones wait for their turn, in order, and whoever gives up is not recorded.
const QUEUE: usize = 4_096;

/// A host that was enrolled once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// Whether it is served.
    pub state: HostState,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// When it was last enrolled.
    pub enrolled: Timestamp,
    /// The entry that says so. Only what was recorded after it counts.
    pub enrollment: u64,
}

/// The declaration in force, as the store keeps it across restarts (rule R3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeclaration {
    /// Its hash.
    pub sha256: Digest,
    /// Since when it is in force.
    pub since: Timestamp,
    /// Path as the operator named it, and text, of each file.
    pub files: Vec<(String, String)>,
}

/// What is kept in memory because every request asks for it; always what is committed.
#[derive(Debug)]
struct Projection {
    closed: Option<Closed>,
    hosts: HashMap<HostName, Host>,
    head: Head,
}

/// A handle on the store; the writer ends when it is dropped or closed.
#[derive(Debug)]
pub struct Store {
    /// Verbs are bounded by `turns`, and so are signatures: each follows a verb that was committed.
    jobs: Sender<writer::Job>,
    turns: Arc<Semaphore>,
    reader: Arc<Mutex<Connection>>,
    /// Another, for listings and tiles: what is issued never waits for them.
    leisurely: Arc<tokio::sync::Mutex<Connection>>,
    projection: Arc<RwLock<Projection>>,
    commits: Arc<AtomicU64>,
    refusals: Arc<Mutex<refusals::RefusalLimit>>,
    /// The entries of identities that were shown.
    entries: Mutex<HashMap<Serial, u64>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Store {
    /// Makes an empty ledger at `path`.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub fn create(path: &Path) -> Result<(), StoreError> {
        if path.exists() {
            return Err(StoreError::Damaged(format!("{} exists already", path.display())));
        }
        schema::create(path)
    }

    /// Opens the ledger at `path`, for this process alone; one of an older schema version becomes one of this.
    ///
    /// # Errors
    /// [`StoreError::Absent`], [`StoreError::InUse`], [`StoreError::Newer`], or what SQLite says.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Absent(path.to_owned()));
        }
        let lock = schema::lock(path)?;
        let connection = schema::open_writer(path)?;
        let reader = Arc::new(Mutex::new(schema::open_reader(path)?));
        let leisurely = Arc::new(tokio::sync::Mutex::new(schema::open_reader(path)?));
        let opened = writer::Opened::new(connection)?;
        let projection = Arc::new(RwLock::new(opened.projection()?));
        let commits = Arc::<AtomicU64>::default();
        let (jobs, waiting) = channel();
        let writer = writer::Writer::new(path.to_owned(), opened, lock, Arc::clone(&projection), Arc::clone(&commits));
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self {
            jobs,
            turns: Arc::new(Semaphore::new(QUEUE)),
            reader,
            leisurely,
            projection,
            commits,
            refusals: Arc::default(),
            entries: Mutex::default(),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Records a certificate durably, if its condition holds at that moment.
    ///
    /// # Errors
    /// [`RecordError`]; nothing was written then, or nothing that counts: an entry that a failing
    /// disk kept secretly shows as recorded and never released.
    pub async fn record(&self, draft: Draft) -> Result<Recorded, RecordError> {
        self.ask(|reply| Box::new(record::Record::new(draft, reply))).await?
    }

    /// Stores a signature beside its entry with the next batch; does not wait for it.
    pub fn release(&self, recorded: &Recorded, signature: Vec<u8>) {
        // A stopped writer costs the audit the word "issued" for this entry and nothing else.
        let _ = self.jobs.send(writer::Job::Release { index: recorded.index(), signature });
    }

    /// Stores the hash of a new token.
    ///
    /// # Errors
    /// [`RecordError::AlreadyEnrolled`] unless the token may replace; or the store failed.
    pub async fn make_token(&self, token: NewToken) -> Result<(), RecordError> {
        self.ask(|reply| Box::new(verbs::MakeToken::new(token, reply))).await?
    }

    /// Puts a declaration in force; from its commit on, records judged by another are refused.
    ///
    /// # Errors
    /// When the store failed; the previous declaration is then still in force.
    pub async fn put_in_force(&self, declaration: NewDeclaration) -> Result<(), StoreError> {
        self.ask(|reply| Box::new(verbs::PutInForce::new(declaration, reply))).await?
    }

    /// Whether a record could be written now, as far as can be told without writing.
    ///
    /// # Errors
    /// What [`Store::record`] would fail with.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.ask(|reply| Box::new(probe::Probe::new(reply))).await?
    }

    /// Writes out what is waiting and stops the writer. Later verbs get [`StoreError::Closed`].
    pub fn close(&self) {
        let _ = self.jobs.send(writer::Job::Stop);
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }

    /// A host that was enrolled once, by what is committed now.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<Host> {
        self.projection.read().unwrap_or_else(PoisonError::into_inner).hosts.get(name).cloned()
    }

    /// Every host that was enrolled once, by name.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        let projection = self.projection.read().unwrap_or_else(PoisonError::into_inner);
        let mut hosts: Vec<Host> = projection.hosts.values().cloned().collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts
    }

    /// Since when nothing is recorded for hosts, by what is committed now; none when the CA is open.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        self.projection.read().unwrap_or_else(PoisonError::into_inner).closed.clone()
    }

    /// The ledger's head: what is committed now.
    #[must_use]
    pub fn head(&self) -> Head {
        self.projection.read().unwrap_or_else(PoisonError::into_inner).head
    }

    /// How often something was committed durably since this handle was opened: once for each batch.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Box<dyn verbs::Verb>) -> Result<T, StoreError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(writer::Job::Verb { verb: job(reply), turn }).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// A panic elsewhere does not make committed data wrong, so a poisoned lock is taken all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
