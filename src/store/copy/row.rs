//! The rows of the tables that are passed over, cell by cell and each by the type of its column. SQLite looks at
//! the types of all other tables, and would have to read these once more for it.

use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::{CopiedBody, CopiedCertificate, CopiedEvent, Octets};

/// The bytes and the leaf hash of a row of `entry`. `mistyped`, here and below, is told the table where a cell is of
/// another type than its column.
pub(super) fn entry<'r>(
    row: &'r Row<'_>,
    mistyped: &mut impl FnMut(&'static str),
) -> Result<(&'r [u8], &'r [u8]), rusqlite::Error> {
    let mut cells = Cells { row, mistyped: false };
    let entry = (cells.octets(1)?.unwrap_or_default(), cells.octets(2)?.unwrap_or_default());
    cells.tell("entry", mistyped);
    Ok(entry)
}

/// A row of `certificate`.
pub(super) fn certificate<'r>(
    row: &'r Row<'_>,
    mistyped: &mut impl FnMut(&'static str),
) -> Result<CopiedCertificate<'r>, rusqlite::Error> {
    let mut cells = Cells { row, mistyped: false };
    let certificate = CopiedCertificate {
        serial: cells.octets(1)?,
        name: cells.text(2)?,
        host: cells.text(3)?,
        role: cells.text(4)?,
        recorded: cells.number(5)?,
        not_after: cells.number(6)?,
        released: cells.number(7)?,
        dropped: cells.number(8)?,
    };
    cells.tell("certificate", mistyped);
    Ok(certificate)
}

/// A row of `body`.
pub(super) fn body<'r>(
    row: &'r Row<'_>,
    mistyped: &mut impl FnMut(&'static str),
) -> Result<CopiedBody<'r>, rusqlite::Error> {
    let mut cells = Cells { row, mistyped: false };
    let body = CopiedBody { tbs: cells.octets(1)?, signature: cells.octets(2)? };
    cells.tell("body", mistyped);
    Ok(body)
}

/// A row of `event`.
pub(super) fn event<'r>(row: &'r Row<'_>) -> Result<CopiedEvent<'r>, rusqlite::Error> {
    let mut cells = Cells { row, mistyped: false };
    Ok(CopiedEvent { event: cells.text(1)?, host: cells.text(2)?, recorded: cells.number(3)? })
}

/// Reads a row's cells; one that is NULL, or not of its column's type, holds nothing.
struct Cells<'r, 's> {
    row: &'r Row<'s>,
    /// Whether one was of another type. Where NULL may not be, nothing is not what the entry says.
    mistyped: bool,
}

impl<'r> Cells<'r, '_> {
    fn text(&mut self, column: usize) -> Result<Octets<'r>, rusqlite::Error> {
        Ok(match self.row.get_ref(column)? {
            ValueRef::Text(octets) => Some(octets),
            other => self.nothing(other),
        })
    }

    fn octets(&mut self, column: usize) -> Result<Octets<'r>, rusqlite::Error> {
        Ok(match self.row.get_ref(column)? {
            ValueRef::Blob(octets) => Some(octets),
            other => self.nothing(other),
        })
    }

    fn number(&mut self, column: usize) -> Result<Option<i64>, rusqlite::Error> {
        Ok(match self.row.get_ref(column)? {
            ValueRef::Integer(number) => Some(number),
            other => self.nothing(other),
        })
    }

    fn tell(&self, table: &'static str, mistyped: &mut impl FnMut(&'static str)) {
        if self.mistyped {
            mistyped(table);
        }
    }

    fn nothing<V>(&mut self, cell: ValueRef<'_>) -> Option<V> {
        self.mistyped |= cell != ValueRef::Null;
        None
    }
}
