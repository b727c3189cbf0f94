//! The ledger that is tampered with, and what `audit verify` says of it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use psfca::enrollment::RequestAction;
use psfca::host::HostAction;
use psfca::ledger::checkpoint::Checkpoint;
use psfca::store::LedgerCopy;
use psfca::verification::{Finding, Summary, Wanted, verify};
use rusqlite::Connection;

use crate::support::stored_ledger::Books;

/// The least number of entries.
const ENTRIES: u64 = 2_000;

/// A closed ledger, and what is known of it.
pub(crate) struct Closed {
    pub(crate) file: PathBuf,
    pub(crate) state: PathBuf,
    /// The newest checkpoint, as a signed note.
    pub(crate) note: String,
    /// An earlier one.
    pub(crate) earlier: String,
    pub(crate) key: String,
    pub(crate) head: Checkpoint,
    /// Bodies that were dropped after their retention.
    pub(crate) dropped: u64,
    _books: Books,
}

/// Hosts, of which some were disabled, removed or frozen and some renewed their identity, three declarations of which the first returns, certificates with and without signatures and bodies.
pub(crate) fn ledger() -> &'static Closed {
    static LEDGER: OnceLock<Closed> = OnceLock::new();
    LEDGER.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
            let books = Books::open().await;
            let mut hosts = Vec::new();
            for n in 0..22 {
                books.clock.set(n);
                hosts.push(books.enroll(&format!("pg{n}.iad1.psf.io")).await);
            }
            for (n, action, enrolls) in [
                (30, None, false),
                (31, Some(RequestAction::Approve), false),
                (32, Some(RequestAction::Reject), false),
                (33, Some(RequestAction::Approve), true),
            ] {
                books.ask_to_be(&format!("pg{n}.iad1.psf.io"), action, enrolls).await;
            }
            books.import_salt_keys(&["pg40.iad1.psf.io", "pg41.iad1.psf.io", "pg42.iad1.psf.io"]).await;
            books.import_salt_keys(&["pg41.iad1.psf.io", "pg42.iad1.psf.io", "pg43.iad1.psf.io"]).await;
            for host in &mut hosts[5..12] {
                let renewed = books.renew(host).await;
                if host.host.as_str() == "pg11.iad1.psf.io" {
                    books.fork(host).await;
                }
                *host = renewed;
            }
            hosts.truncate(20);
            hosts.remove(11);
            for (n, action) in
                [(0, HostAction::Disable), (0, HostAction::Enable), (20, HostAction::Remove), (21, HostAction::Disable)]
            {
                books.clock.set(20 + n);
                books.change(&format!("pg{n}.iad1.psf.io"), action).await;
            }
            books.issue(&hosts, 100).await;
            // As if some weeks had gone by: identities live longer. What comes later by an earlier clock is not meant.
            let dropped = books.drop_bodies(20 * 86_400).await;
            books.issue(&hosts, 800).await;
            let earlier = books.checkpoint();
            books.declare("# another\n").await;
            books.clock.set(3_000);
            books.issue(&hosts, 600).await;
            books.declare("# and another\n").await;
            books.clock.set(2_000); // set back
            books.issue(&hosts, 500).await;
            books.declare("").await;
            books.record_only(5).await;
            let note = books.checkpoint();
            let verifier = books.ca.checkpoints.verifier();
            let head = Checkpoint::open(&note, verifier).unwrap();
            assert!(head.size >= ENTRIES, "{head:?}");
            Closed {
                file: books.close(),
                state: books.state(),
                note,
                earlier,
                key: verifier.to_string(),
                head,
                dropped,
                _books: books,
            }
        })
    })
}

/// What `audit verify --against` does with `file`; an error is something found, too.
pub(crate) fn findings(file: &Path, signatures: bool) -> (Vec<Finding>, Option<Summary>) {
    let wanted = Wanted { against: Some(&ledger().head), signature_threads: usize::from(signatures) };
    let mut found = Vec::new();
    let outcome =
        LedgerCopy::open(file).and_then(|copy| verify(&copy, wanted, &mut |finding| found.push(finding), &mut |_| {}));
    match outcome {
        Ok(summary) => (found, Some(summary)),
        Err(error) => (vec![Finding { index: None, what: error.to_string() }], None),
    }
}

/// A copy of the ledger in a directory of its own, to be tampered with again and again.
pub(crate) struct Scratch(pub(crate) tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("ledger.sqlite3")
    }

    /// A fresh copy, changed by `tamper`, which says how many rows it changed.
    pub(crate) fn tampered(&self, tamper: &dyn Fn(&Connection) -> usize) -> PathBuf {
        std::fs::copy(&ledger().file, self.file()).unwrap();
        let sql = Connection::open(self.file()).unwrap();
        sql.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").unwrap();
        assert!(tamper(&sql) > 0, "nothing was changed");
        drop(sql);
        self.file()
    }
}

/// Runs each job on as many threads as there are cores.
pub(crate) fn in_parallel<J: Sync>(jobs: &[J], work: impl Fn(&Scratch, &J) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                let scratch = Scratch::new();
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(&scratch, job);
                }
            });
        }
    });
}

/// Whether there is time for more than samples (`.ci/long`, with an optimised build).
pub(crate) fn thoroughly() -> bool {
    std::env::var_os("PSFCA_THOROUGHLY").is_some_and(|value| value == "1")
}
