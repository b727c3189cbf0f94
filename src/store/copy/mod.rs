//! A ledger's file as an auditor reads it: without changing it, row by row, believing nothing. What
//! the rows mean is judged by `verification`.

mod content;
mod row;
mod structure;

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row, Rows};

use super::tiles::{Edge, Head, StoredNodes, octets as octets_of_tile};
use super::{StoreError, schema};
use crate::digest::Digest;
use crate::ledger::tile::TilePath;
use crate::ledger::tree::consistency_proof;
use crate::wire::EventKind;

pub use structure::Indexed;

/// How much of the file may be mapped into memory, which saves copying each page; SQLite maps 2 GiB.
const MAPPED: i64 = 1 << 40;

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

    /// Faults of the file itself: tables or indexes that are not those of this version, pages that
    /// are damaged, and of the tables that are not passed over with the entries also values of a wrong
    /// type and indexes that disagree. What the large indexes hold is added to `indexed`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn faults(&mut self, indexed: &mut Indexed) -> Result<Vec<String>, StoreError> {
        let mut faults = structure::faults(&mut self.connection, indexed)?;
        // What is in a log beside the file need not be in the file yet.
        if self.unlocked {
            let pages = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
            let (expected, found) = (pages("page_count")? * pages("page_size")?, std::fs::metadata(&self.path));
            if !found.is_ok_and(|found| found.len() == expected) {
                faults.push(format!("the file does not have the {expected} octets of its pages"));
            }
        }
        Ok(faults)
    }

    /// Passes over all entries in the order of their indices, with what lies beside each. What has to
    /// be in the large indexes is added to `indexed`.
    ///
    /// # Errors
    /// When the file cannot be read further.
    pub fn pass(&self, indexed: &mut Indexed, mut visit: impl FnMut(Copied<'_>)) -> Result<(), StoreError> {
        let mut entries = self.connection.prepare("SELECT idx, bytes, leaf_hash FROM entry ORDER BY idx")?;
        let mut certificates = self.connection.prepare(
            "SELECT idx, serial, name, host, role, recorded, not_after, released, dropped FROM certificate ORDER BY idx",
        )?;
        let mut events = self.connection.prepare("SELECT idx, event, host, recorded FROM event ORDER BY idx")?;
        let mut bodies = self.connection.prepare("SELECT idx, tbs, signature FROM body ORDER BY idx")?;
        let mut entries = entries.query([])?;
        let mut certificates = Beside::new("certificate", certificates.query([])?)?;
        let mut events = Beside::new("event", events.query([])?)?;
        let mut bodies = Beside::new("body", bodies.query([])?)?;
        while let Some(row) = entries.next()? {
            let index = row.get(0)?;
            for table in [&mut certificates, &mut events, &mut bodies] {
                table.step_over(Some(index), &mut visit)?;
            }
            let mut mistyped = |table| visit(Copied::Mistyped(table, index));
            let (bytes, leaf_hash) = row::entry(row, &mut mistyped)?;
            let certificate = certificates.at(index).map(|row| row::certificate(row, &mut mistyped)).transpose()?;
            let body = bodies.at(index).map(|row| row::body(row, &mut mistyped)).transpose()?;
            // SQLite looks at the types of this one.
            let event = events.at(index).map(row::event).transpose()?;
            if let Some(certificate) = &certificate {
                indexed.add(index, certificate);
            }
            visit(Copied::Entry(&CopiedEntry { index, bytes, leaf_hash, certificate, event, body }));
        }
        [certificates, events, bodies].iter_mut().try_for_each(|table| table.step_over(None, &mut visit))
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

/// A table beside `entry` with the same indices, some of which it leaves out.
struct Beside<'s> {
    table: &'static str,
    rows: Rows<'s>,
    /// The index of the row at which `rows` stands.
    index: Option<i64>,
    /// Whether that row was met at its entry.
    met: bool,
}

impl<'s> Beside<'s> {
    fn new(table: &'static str, rows: Rows<'s>) -> Result<Self, StoreError> {
        let mut beside = Self { table, rows, index: None, met: false };
        beside.advance()?;
        Ok(beside)
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        self.index = self.rows.next()?.map(|row| row.get(0)).transpose()?;
        self.met = false;
        Ok(())
    }

    /// Steps over the rows below `end`, or over all of them; tells those that stood at no entry.
    fn step_over(&mut self, end: Option<i64>, visit: &mut impl FnMut(Copied<'_>)) -> Result<(), StoreError> {
        while let Some(index) = self.index.filter(|index| end.is_none_or(|end| *index < end)) {
            if !self.met {
                visit(Copied::Stray(self.table, index));
            }
            self.advance()?;
        }
        Ok(())
    }

    /// The row with this index, below which everything was stepped over.
    fn at(&mut self, index: i64) -> Option<&Row<'s>> {
        let found = self.index == Some(index);
        self.met |= found;
        self.rows.get().filter(|_| found)
    }
}

/// A path within a URI, as SQLite reads those: everything unusual as %XX.
fn escape(path: &Path) -> Result<String, StoreError> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::path::absolute(path).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    let octets = path.as_os_str().as_bytes().iter();
    Ok(octets.map(|&b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect())
}
