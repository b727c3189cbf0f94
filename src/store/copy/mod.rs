//! A ledger's file as an auditor reads it: without changing it, row by row, believing nothing. What
//! the rows mean is judged by `verification`.

mod content;
mod pages;
mod pass;
mod reading;
mod row;
mod structure;

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::tiles::{Edge, Head, StoredNodes, octets as octets_of_tile};
use super::{StoreError, schema};
use crate::digest::Digest;
use crate::ledger::tile::TilePath;
use crate::ledger::tree::consistency_proof;
use crate::wire::EventKind;

use pages::SqlitePages;

pub use pages::page_faults;
pub(super) use pages::require_pages;
pub use reading::Reading;

/// How much of the file may be mapped into memory, which saves copying each page; SQLite maps 2 GiB.
const MAPPED: i64 = 1 << 40;
/// How often a moment is looked for at which nobody writes.
const MAX_TRIES: usize = 1_000;

/// A ledger's file, opened for reading alone.
#[derive(Debug)]
pub struct LedgerCopy {
    connection: Connection,
    path: PathBuf,
    /// Nothing may write the file while it is read, because no lock is taken.
    unlocked: bool,
}

/// A cell of a table, as its octets.
pub type Octets<'r> = Option<&'r [u8]>;

/// One row of `entry`, with those of the other tables that lie beside it.
#[derive(Debug, Clone, Copy)]
pub struct CopiedEntry<'r> {
    /// Its index.
    pub index: i64,
    /// The entry's bytes.
    pub bytes: &'r [u8],
    /// The stored leaf hash.
    pub leaf_hash: &'r [u8],
    /// The row of `certificate` with the same index.
    pub certificate: Option<CopiedCertificate<'r>>,
    /// The row of `event` with the same index.
    pub event: Option<CopiedEvent<'r>>,
    /// The row of `body` with the same index.
    pub body: Option<CopiedBody<'r>>,
}

/// One row of `certificate`.
#[derive(Debug, Clone, Copy)]
pub struct CopiedCertificate<'r> {
    /// Serial number.
    pub serial: Octets<'r>,
    /// Name.
    pub name: Octets<'r>,
    /// Host.
    pub host: Octets<'r>,
    /// Role.
    pub role: Octets<'r>,
    /// When it was recorded.
    pub recorded: Option<i64>,
    /// Its end.
    pub not_after: Option<i64>,
    /// Whether its signature was stored.
    pub released: Option<i64>,
    /// Whether its body was dropped.
    pub dropped: Option<i64>,
}

/// One row of `body`.
#[derive(Debug, Clone, Copy)]
pub struct CopiedBody<'r> {
    /// The to-be-signed bytes.
    pub tbs: Octets<'r>,
    /// The signature.
    pub signature: Octets<'r>,
}

/// One row of `event`.
#[derive(Debug, Clone, Copy)]
pub struct CopiedEvent<'r> {
    /// What it is.
    pub event: Octets<'r>,
    /// Host.
    pub host: Octets<'r>,
    /// When it was written.
    pub recorded: Option<i64>,
}

/// What a pass over the ledger meets.
#[derive(Debug, Clone, Copy)]
pub enum Copied<'r> {
    /// An entry, with what lies beside it.
    Entry(&'r CopiedEntry<'r>),
    /// A row of another table (its name) with an index that no entry has.
    Stray(&'static str, i64),
    /// The row of this table with this index, told before its entry, has a cell that is not of its column's type.
    Mistyped(&'static str, i64),
    /// The record of the row of this table with this index, told before its entry, cannot be read.
    Unreadable(&'static str, i64),
}

impl LedgerCopy {
    /// Opens the file at `path`. A ledger that a daemon has open is read as of this moment; a file
    /// that lies alone is read without a trace, also from a medium that cannot be written.
    ///
    /// # Errors
    /// When there is none, or it is no ledger that this version knows.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // What this user may not look at is not missing.
        let metadata = path.metadata().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StoreError::NoFile(path.to_owned()),
            _ => StoreError::Unavailable(format!("{}: {error}", path.display())),
        })?;
        if !metadata.is_file() {
            return Err(StoreError::NoFile(path.to_owned()));
        }
        // SQLite has its log beside the file that a link leads to.
        let path = &path.canonicalize().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        schema::require_no_journal(path)?;
        let log = schema::beside(path, "-wal");
        let unlocked = !log.exists();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let uri = format!("file:{}?{}", escape(path)?, if unlocked { "immutable=1" } else { "mode=ro" });
        let connection = Connection::open_with_flags(uri, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(1))?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.query_row(&format!("PRAGMA mmap_size = {MAPPED}"), [], |_| Ok(()))?;
        schema::check_current(&connection, path)?;
        refuse_queries(&connection)?;
        // One view of the ledger for everything that follows, whatever a daemon appends meanwhile.
        connection.execute_batch("BEGIN")?;
        Ok(Self { connection, path: path.to_owned(), unlocked })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a daemon opened the file while it was read without a lock; what was read may then be torn.
    #[must_use]
    pub fn was_disturbed(&self) -> bool {
        self.unlocked && schema::beside(&self.path, "-wal").exists()
    }

    /// How many entries there seem to be, for whoever wants to show how far a pass is.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn count(&self) -> Result<u64, StoreError> {
        let last: Option<i64> = self.connection.query_row("SELECT max(idx) FROM entry", [], |row| row.get(0))?;
        Ok(last.and_then(|last| u64::try_from(last).ok()).map_or(0, |last| last + 1))
    }

    /// How many entries there are, and the root over them, by the stored hashes.
    ///
    /// # Errors
    /// When the file cannot be read, or its hashes have gaps.
    pub fn head(&self) -> Result<Head, StoreError> {
        Edge::load(&self.connection)?.head(&self.connection)
    }

    /// A tile's octets, as the daemon gives them when its ledger has `size` entries.
    ///
    /// # Errors
    /// When the file cannot be read, or something is missing in the tile.
    pub fn tile(&self, path: TilePath, size: u64) -> Result<Option<Vec<u8>>, StoreError> {
        octets_of_tile(&self.connection, path, size)
    }

    /// The proof that the first `old` entries are the beginning of the first `new` ones.
    ///
    /// # Errors
    /// When the file cannot be read, or a hash is missing.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Digest>>, StoreError> {
        consistency_proof(&mut StoredNodes::new(&self.connection, None, new), old, new)
    }

    /// Another copy, for another thread, that sees the file as of the same moment as this one does from then on.
    ///
    /// # Errors
    /// When the file cannot be read, or is written all the time, or not by this build.
    pub fn second(&self) -> Result<Self, StoreError> {
        require_pages(&self.connection)?;
        let second = Self::open(&self.path)?;
        // The pages that are left to it lie apart, and with each that is mapped come its neighbours, for nothing.
        second.connection.query_row("PRAGMA mmap_size = 0", [], |_| Ok(()))?;
        let version = || self.connection.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0));
        for _ in 0..MAX_TRIES {
            self.connection.execute_batch("COMMIT")?;
            let before = version();
            let begun = second
                .connection
                .execute_batch("COMMIT; BEGIN")
                .and_then(|()| second.connection.pragma_query_value(None, "user_version", |_| Ok(())));
            // Whatever comes to an error, this copy stays within a transaction.
            self.connection.execute_batch("BEGIN")?;
            begun?;
            // Nobody wrote before this moment, from which on this copy sees the file, nor since the other one does.
            if version()? == before? {
                return Ok(second);
            }
        }
        Err(StoreError::Unavailable("it is written all the time".to_owned()))
    }

    /// Reads everything but the entries and what lies beside each: tables or indexes that are not those of this
    /// version, pages that are damaged, in small tables also values of a wrong type and indexes that disagree.
    ///
    /// # Errors
    /// When the file cannot be read further.
    pub fn read_rest(&self, reading: &mut Reading) -> Result<(), StoreError> {
        structure::read(&self.connection, reading)?;
        // What is in a log beside the file need not be in the file yet.
        if self.unlocked {
            let pages = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
            let (expected, found) = (pages("page_count")? * pages("page_size")?, std::fs::metadata(&self.path));
            if !found.is_ok_and(|found| found.len() == expected) {
                reading.faults.tell(format!("the file does not have the {expected} octets of its pages"));
            }
        }
        Ok(())
    }

    /// Passes over all entries in the order of their indices, with what lies beside each.
    ///
    /// # Errors
    /// When the file cannot be read further.
    pub fn pass(&self, reading: &mut Reading, visit: impl FnMut(Copied<'_>)) -> Result<(), StoreError> {
        pass::pass(&self.connection, reading, visit)
    }

    /// Everything that two readings show of the file itself, those of [`Self::pass`] and [`Self::read_rest`], one text
    /// for each fault.
    ///
    /// # Errors
    /// When the file cannot be read further.
    pub fn faults(&self, pass: Reading, rest: Reading) -> Result<Vec<String>, StoreError> {
        pass.join(rest, SqlitePages::new(&self.connection)?)
    }

    /// The entries of one kind, by what the table of events says; the bytes of each.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn events(&self, kind: EventKind) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let sql = "SELECT entry.idx, bytes FROM event CROSS JOIN entry ON entry.idx = event.idx WHERE event = ?1";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Reads a small table whole.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn table(&self, sql: &'static str) -> Result<Vec<Vec<Cell>>, StoreError> {
        let mut statement = self.connection.prepare(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let cells = (0..columns).map(|column| Ok(Cell::from(row.get_ref(column)?)));
            found.push(cells.collect::<Result<_, rusqlite::Error>>()?);
        }
        Ok(found)
    }

    /// The stored hash of a whole tile.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tile_hash(&self, level: u32, index: u64) -> Result<Option<Digest>, StoreError> {
        use rusqlite::OptionalExtension as _;
        let mut statement =
            self.connection.prepare_cached("SELECT hash FROM tile_hash WHERE level = ?1 AND idx = ?2")?;
        let hash = statement.query_row((level, index), |row| Ok(row.get_ref(0)?.as_bytes().ok().map(<[u8]>::to_vec)));
        Ok(hash.optional()?.flatten().and_then(|hash| Some(Digest::from_bytes(hash.try_into().ok()?))))
    }
}

/// A cell of a small table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// NULL.
    Nothing,
    /// A whole number.
    Number(i64),
    /// Text or octets.
    Octets(Vec<u8>),
    /// A fraction: nothing here has one.
    Fraction,
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Nothing,
            ValueRef::Integer(number) => Self::Number(number),
            ValueRef::Real(_) => Self::Fraction,
            ValueRef::Text(octets) | ValueRef::Blob(octets) => Self::Octets(octets.to_vec()),
        }
    }
}

/// Refuses what stands for a table and is none: a query of somebody else's, or code that reads what it wants. Either could
/// also have the name of a table that SQLite makes up, such as `sqlite_dbpage`, and need not come to an end.
fn refuse_queries(connection: &Connection) -> Result<(), StoreError> {
    use rusqlite::OptionalExtension as _;
    // SQLite itself refuses what is of another type than it is said to be.
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'view' OR type = 'table' AND sql LIKE '%virtual%' LIMIT 1";
    let name: Option<String> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    name.map_or(Ok(()), |name| {
        Err(StoreError::Damaged(format!("{name:?} in it is a view or a virtual table, and no ledger has any")))
    })
}

/// A path within a URI, as SQLite reads those: everything unusual as %XX.
fn escape(path: &Path) -> Result<String, StoreError> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::path::absolute(path).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    let octets = path.as_os_str().as_bytes().iter();
    Ok(octets.map(|&b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect())
}
