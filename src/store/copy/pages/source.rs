//! Where pages come from.

use rusqlite::{Connection, Statement};

use super::header::PageSize;
use crate::store::StoreError;

/// Gives pages by their numbers, from 1 on.
pub(in super::super) trait Source {
    /// How many there are.
    fn count(&self) -> u32;

    /// Puts the octets of one into `octets`, in place of what is there.
    fn read(&mut self, number: u32, octets: &mut Vec<u8>) -> Result<(), StoreError>;
}

/// The pages as a connection sees them in its transaction.
#[derive(Debug)]
pub(in super::super) struct SqlitePages<'c> {
    statement: Statement<'c>,
    count: u32,
}

/// Refuses a build whose SQLite does not give its pages out.
pub(in super::super::super) fn require_pages(connection: &Connection) -> Result<(), StoreError> {
    let sql = "SELECT sqlite_compileoption_used('ENABLE_DBPAGE_VTAB')";
    if connection.query_row(sql, [], |row| row.get(0))? {
        return Ok(());
    }
    Err(StoreError::Unavailable(
        "this psfca was built with an SQLite that does not give out its pages; build it in its own directory, or with \
         LIBSQLITE3_FLAGS as .cargo/config.toml has them"
            .to_owned(),
    ))
}

impl<'c> SqlitePages<'c> {
    pub(in super::super) fn new(connection: &'c Connection) -> Result<Self, StoreError> {
        let count = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let statement = connection.prepare("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        Ok(Self { statement, count })
    }
}

impl Source for SqlitePages<'_> {
    fn count(&self) -> u32 {
        self.count
    }

    fn read(&mut self, number: u32, octets: &mut Vec<u8>) -> Result<(), StoreError> {
        octets.clear();
        let mut rows = self.statement.query([number])?;
        let row = rows.next()?.ok_or_else(|| StoreError::Damaged(format!("there is no page {number}")))?;
        octets.extend_from_slice(row.get_ref(0)?.as_bytes().unwrap_or_default());
        Ok(())
    }
}

/// The pages of a file in memory.
pub(super) struct Octets<'o> {
    file: &'o [u8],
    size: PageSize,
}

impl<'o> Octets<'o> {
    /// None where the file does not begin as a database does.
    pub(super) fn new(file: &'o [u8]) -> Option<Self> {
        Some(Self { file, size: PageSize::parse(file)? })
    }
}

impl Source for Octets<'_> {
    fn count(&self) -> u32 {
        u32::try_from(self.file.len() / self.size.whole).unwrap_or(u32::MAX)
    }

    fn read(&mut self, number: u32, octets: &mut Vec<u8>) -> Result<(), StoreError> {
        octets.clear();
        let page = (number as usize).checked_sub(1).and_then(|before| {
            let start = before.checked_mul(self.size.whole)?;
            self.file.get(start..start.checked_add(self.size.whole)?)
        });
        octets.extend_from_slice(page.ok_or_else(|| StoreError::Damaged(format!("there is no page {number}")))?);
        Ok(())
    }
}
