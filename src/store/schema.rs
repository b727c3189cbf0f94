//! The tables, and how the file is opened.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;

/// What `PRAGMA user_version` says of the tables below.
const VERSION: i64 = 1;

/// `entry` is the ledger; every other table is a projection of it or lies beside it.
const TABLES: &str = "
CREATE TABLE entry (
    idx       INTEGER PRIMARY KEY,
    bytes     BLOB NOT NULL,
    leaf_hash BLOB NOT NULL
) STRICT;

-- What a certificate entry's bytes stand for. The signature comes after the entry, or never.
CREATE TABLE certificate (
    idx       INTEGER PRIMARY KEY REFERENCES entry (idx),
    serial    BLOB NOT NULL UNIQUE,
    name      TEXT NOT NULL,
    host      TEXT,
    recorded  INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    tbs       BLOB NOT NULL,
    signature BLOB
) STRICT;
CREATE INDEX certificate_by_name ON certificate (name, idx);
CREATE INDEX certificate_by_host ON certificate (host, idx);
CREATE INDEX certificate_by_end ON certificate (not_after, idx);

CREATE TABLE host (
    name     TEXT PRIMARY KEY,
    enabled  INTEGER NOT NULL,
    enrolled INTEGER NOT NULL
) STRICT;

CREATE TABLE token (
    hash     BLOB PRIMARY KEY,
    host     TEXT NOT NULL,
    expires  INTEGER NOT NULL,
    replaces INTEGER NOT NULL,
    spent_by BLOB
) STRICT;

-- One row: the declaration in force, whole, so that a restart never depends on the files.
CREATE TABLE declaration (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    sha256 BLOB NOT NULL,
    since  INTEGER NOT NULL,
    files  TEXT NOT NULL
) STRICT;
";

/// Makes the file with its tables, mode 0600.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let io = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    // SQLite gives its write-ahead log the mode of the database, so this one call settles both.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// Takes the one lock that keeps a second daemon away from this ledger.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let io = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    let beside = path.with_extension("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&beside).map_err(io)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse(path.to_owned())),
        Err(error) => Err(io(error.into())),
    }
}

/// Opens the file for the writer and checks that it is ours to read.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        VERSION => Ok(connection),
        newer if newer > VERSION => Err(StoreError::Newer { found, known: VERSION }),
        _ => Err(StoreError::Damaged(format!("{} is not a psfca ledger", path.display()))),
    }
}

/// Opens the file for listings.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::from_secs(1))?;
    // A write-ahead log with FULL means: a commit returns after fsync of the log (rule R1).
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A damaged or hostile file must not run code of its own.
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}
