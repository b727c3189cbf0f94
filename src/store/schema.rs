//! The tables, and how the file is opened.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{StoreError, migration};

/// Pages in the log from which on it is written back: 32 MiB. One commit after another changes the same pages at the
/// ends of tables and indexes; the longer the log, the more seldom each of them is written back.
const LOG_PAGES: u32 = 8_192;
/// What the writer keeps of the file in memory, in KiB.
const WRITER_CACHE: i64 = 16 * 1_024;

/// Statements that each connection keeps compiled; there are fewer.
const STATEMENTS: usize = 128;

/// What `PRAGMA user_version` says of the tables below. Every older version has a step in `migration`.
pub(super) const VERSION: i64 = 7;
/// What `PRAGMA application_id` says: `psfc` in ASCII. Other programs count their versions too.
const APPLICATION: i64 = 0x7073_6663;

/// `entry` is the ledger; every other table is a projection of it or lies beside it.
pub(super) const TABLES: &str = "
CREATE TABLE entry (
    idx       INTEGER PRIMARY KEY,
    bytes     BLOB NOT NULL,
    leaf_hash BLOB NOT NULL
) STRICT;

-- Hashes of whole tiles of the Merkle tree: `level` tiles above the leaves.
CREATE TABLE tile_hash (
    level INTEGER NOT NULL,
    idx   INTEGER NOT NULL,
    hash  BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

-- The range of the times in each whole tile of 256 entries, and the last end of its certificates: where a listing
-- by time, or of what expires, has to look.
CREATE TABLE tile_time (
    idx      INTEGER PRIMARY KEY,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL,
    last_end INTEGER
) STRICT;

-- What the listing needs of a certificate's entry; released once its signature was stored, dropped
-- once its body was. Every index ends in the row's number, which is idx, so each of them gives what it is
-- asked for in order. Those by name, host and role begin with the number of the segment, 4,096 entries
-- long: what is appended changes the few pages of the newest segment, however long the ledger is, and a search
-- goes from segment to segment. The one by the end has what still has a body, since that is what retention
-- looks for, and the one by the state what was not released, since nearly everything else was.
CREATE TABLE certificate (
    idx       INTEGER PRIMARY KEY REFERENCES entry (idx),
    serial    BLOB NOT NULL,
    name      TEXT NOT NULL,
    host      TEXT,
    role      TEXT,
    recorded  INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    released  INTEGER NOT NULL,
    dropped   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX certificate_by_serial ON certificate (serial);
CREATE INDEX certificate_by_name ON certificate (idx >> 12, name);
CREATE INDEX certificate_by_host ON certificate (idx >> 12, host) WHERE host IS NOT NULL;
CREATE INDEX certificate_by_role ON certificate (idx >> 12, role) WHERE role IS NOT NULL;
CREATE INDEX certificate_by_end ON certificate (not_after) WHERE dropped = 0;
CREATE INDEX certificate_by_state ON certificate (released) WHERE released = 0;

-- The newest service certificate of each name on each host.
CREATE TABLE holder (
    host TEXT NOT NULL,
    name TEXT NOT NULL,
    idx  INTEGER NOT NULL REFERENCES certificate (idx),
    PRIMARY KEY (host, name)
) STRICT, WITHOUT ROWID;

-- What a certificate's entry is the record of, for as long as it is kept. The signature comes after
-- the entry, or never.
CREATE TABLE body (
    idx       INTEGER PRIMARY KEY REFERENCES certificate (idx),
    tbs       BLOB NOT NULL,
    signature BLOB
) STRICT;

-- Every entry that is not a certificate's.
CREATE TABLE event (
    idx      INTEGER PRIMARY KEY REFERENCES entry (idx),
    event    TEXT NOT NULL,
    host     TEXT,
    recorded INTEGER NOT NULL
) STRICT;
CREATE INDEX event_by_kind ON event (event);
CREATE INDEX event_by_host ON event (host) WHERE host IS NOT NULL;

-- A host that was removed keeps its row: only an operator lets it come back. Since when it is in that
-- state, and when it was last enrolled.
CREATE TABLE host (
    name     TEXT NOT NULL PRIMARY KEY,
    state    TEXT NOT NULL,
    since    INTEGER NOT NULL,
    enrolled INTEGER NOT NULL,
    idx      INTEGER NOT NULL REFERENCES entry (idx)
) STRICT;

-- The key that renewed an identity, since the host last enrolled, and the entry of what it got. Another
-- key that shows the same identity is somebody else.
CREATE TABLE renewal (
    serial     BLOB NOT NULL PRIMARY KEY,
    host       TEXT NOT NULL,
    key_sha256 BLOB NOT NULL,
    idx        INTEGER NOT NULL REFERENCES entry (idx)
) STRICT;
CREATE INDEX renewal_by_host ON renewal (host);

-- Keys that ask to be a host and wait for an operator, and what became of them, for a day.
CREATE TABLE enrollment_request (
    host         TEXT NOT NULL,
    key_sha256   BLOB NOT NULL,
    address      TEXT NOT NULL,
    state        TEXT NOT NULL,
    since        INTEGER NOT NULL,
    operator_uid INTEGER,
    PRIMARY KEY (host, key_sha256)
) STRICT;

-- The keys of Salt minions that Salt's master has accepted, as they were imported last.
CREATE TABLE salt_key (
    host       TEXT NOT NULL PRIMARY KEY,
    key_sha256 BLOB NOT NULL,
    public_key BLOB NOT NULL
) STRICT;

CREATE TABLE token (
    hash     BLOB NOT NULL PRIMARY KEY,
    host     TEXT NOT NULL,
    expires  INTEGER NOT NULL,
    replaces INTEGER NOT NULL,
    spent_by BLOB
) STRICT;
CREATE INDEX token_by_host ON token (host);

-- Every declaration that ever was in force, whole, so that neither a restart nor an audit depends on
-- the files. `idx` is the entry that put it in force last; the one with the highest is in force.
CREATE TABLE declaration (
    sha256 BLOB NOT NULL PRIMARY KEY,
    idx    INTEGER NOT NULL UNIQUE REFERENCES entry (idx),
    since  INTEGER NOT NULL,
    files  TEXT NOT NULL
) STRICT;

-- What hosts said last of what they have, each of itself: hearsay, which follows from no entry. `since` is of
-- the state.
CREATE TABLE report (
    host      TEXT NOT NULL,
    name      TEXT NOT NULL,
    serial    BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    state     TEXT NOT NULL,
    since     INTEGER,
    attempts  INTEGER,
    error     TEXT,
    PRIMARY KEY (host, name)
) STRICT, WITHOUT ROWID;

-- In a backup its one row is the signed checkpoint of all its entries; a ledger in use has none.
CREATE TABLE backup (
    note TEXT NOT NULL
) STRICT;
";

/// Makes the file with its tables, mode 0600.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let io = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    // SQLite gives its write-ahead log the mode of the database, so this one call settles both.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let mut connection = connect(path)?;
    // This has to be said before there is any page.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    prepare(&connection)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
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

/// The file that SQLite keeps beside `path` under the same name and `ending`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Refuses a rollback journal beside the file, which SQLite would play back into it when it opens it. A ledger has a
/// write-ahead log from its first moment on and never such a journal, so somebody else has put it there.
pub(super) fn require_no_journal(path: &Path) -> Result<(), StoreError> {
    // SQLite looks beside the file that a link leads to. One that is missing is found when it is opened.
    let journal = beside(&path.canonicalize().unwrap_or_else(|_| path.to_owned()), "-journal");
    match journal.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(StoreError::Damaged(format!(
            "{} lies beside it, which would change it and is none of its own; find out who put it there, and move it \
             away",
            journal.display()
        ))),
    }
}

/// Opens the file for the writer, which holds the lock. That it is ours is checked before anything
/// changes it; an older version becomes this one.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = connect(path)?;
    let found = version(&connection, path)?;
    prepare(&connection)?;
    // SQLite takes a negative number for KiB.
    connection.pragma_update(None, "cache_size", -WRITER_CACHE)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    empty_log(&connection)?;
    if found < VERSION {
        migration::migrate(&mut connection, found, &migration::STEPS)?;
    }
    if migration::allow_giving_back(&connection)? {
        empty_log(&connection)?;
    }
    Ok(connection)
}

/// The version of the tables; a file that is no ledger, or a newer one, is refused.
pub(super) fn version(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let foreign = || StoreError::Damaged(format!("{} is not a psfca ledger", path.display()));
    match pragma("application_id") {
        Ok(APPLICATION) => {}
        Ok(_) => return Err(foreign()),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => return Err(foreign()),
        Err(error) => return Err(error.into()),
    }
    match pragma("user_version")? {
        found @ 1..=VERSION => Ok(found),
        found if found > VERSION => Err(StoreError::Newer { found, known: VERSION }),
        _ => Err(foreign()),
    }
}

/// Refuses a ledger of another version, and what is none.
pub(super) fn check_current(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    match version(connection, path)? {
        VERSION => Ok(()),
        found => Err(StoreError::Older { found, known: VERSION }),
    }
}

/// The definitions of everything in the file.
pub(super) fn described(connection: &Connection) -> Result<Vec<[Option<String>; 4]>, StoreError> {
    let mut statement =
        connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")?;
    let rows = statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What [`described`] says of a file that this version made.
pub(super) fn expected() -> Result<Vec<[Option<String>; 4]>, StoreError> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(TABLES)?;
    described(&connection)
}

/// Opens the file for listings.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path)?;
    prepare(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    require_no_journal(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(1))?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> Result<(), StoreError> {
    // A write-ahead log with FULL means: a commit returns after fsync of the log (rule R1).
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A damaged or hostile file must not run code of its own.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Otherwise each new value for a statement about a table with a partial index has it planned anew.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Writes what the log holds into the database, durably, and begins the log again.
///
/// After a failed fsync the kernel may go on showing log pages that never reached the disk, and it
/// will not write them a second time. A commit behind them would be lost with them at a power cut,
/// although its own fsync returned; so nothing is ever appended to a log that was found.
fn empty_log(connection: &Connection) -> Result<(), StoreError> {
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        return Err(StoreError::Unavailable("another program holds it locked".to_owned()));
    }
    Ok(())
}
