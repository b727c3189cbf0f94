//! The rows of the tables that are passed over, value by value and each by the type of its column. SQLite looks at
//! the types of all other tables.

use super::pages::record::{self, Value};
use super::{Copied, CopiedBody, CopiedCertificate, CopiedEvent, Octets};

/// The bytes and the leaf hash of a row of `entry`. `visit`, here and below, is told where the record cannot be read, and
/// where a value is of another type than its column.
pub(super) fn entry<'r>(index: i64, record: &'r [u8], visit: &mut impl FnMut(Copied<'_>)) -> (&'r [u8], &'r [u8]) {
    let mut cells = Cells::of("entry", index, visit);
    let [idx, bytes, leaf_hash] = cells.read(record);
    cells.is_null(idx);
    (cells.octets(bytes).unwrap_or_default(), cells.octets(leaf_hash).unwrap_or_default())
}

/// A row of `certificate`.
pub(super) fn certificate<'r>(
    index: i64,
    record: &'r [u8],
    visit: &mut impl FnMut(Copied<'_>),
) -> CopiedCertificate<'r> {
    let mut cells = Cells::of("certificate", index, visit);
    let [idx, serial, name, host, role, recorded, not_after, released, dropped] = cells.read(record);
    cells.is_null(idx);
    CopiedCertificate {
        serial: cells.octets(serial),
        name: cells.text(name),
        host: cells.text(host),
        role: cells.text(role),
        recorded: cells.number(recorded),
        not_after: cells.number(not_after),
        released: cells.number(released),
        dropped: cells.number(dropped),
    }
}

/// A row of `body`.
pub(super) fn body<'r>(index: i64, record: &'r [u8], visit: &mut impl FnMut(Copied<'_>)) -> CopiedBody<'r> {
    let mut cells = Cells::of("body", index, visit);
    let [idx, tbs, signature] = cells.read(record);
    cells.is_null(idx);
    CopiedBody { tbs: cells.octets(tbs), signature: cells.octets(signature) }
}

/// A row of `event`.
pub(super) fn event<'r>(index: i64, record: &'r [u8], visit: &mut impl FnMut(Copied<'_>)) -> CopiedEvent<'r> {
    let mut cells = Cells::of("event", index, visit);
    let [idx, event, host, recorded] = cells.read(record);
    cells.is_null(idx);
    CopiedEvent { event: cells.text(event), host: cells.text(host), recorded: cells.number(recorded) }
}

/// Reads a row's cells; one that is NULL, or not of its column's type, holds nothing. Where NULL may not be, nothing is
/// not what the entry says.
struct Cells<'v, V: FnMut(Copied<'_>)> {
    table: &'static str,
    index: i64,
    visit: &'v mut V,
    mistyped: bool,
}

impl<'v, V: FnMut(Copied<'_>)> Cells<'v, V> {
    const fn of(table: &'static str, index: i64, visit: &'v mut V) -> Self {
        Self { table, index, visit, mistyped: false }
    }

    fn read<'r, const N: usize>(&mut self, record: &'r [u8]) -> [Value<'r>; N] {
        record::read(record).unwrap_or_else(|| {
            (self.visit)(Copied::Unreadable(self.table, self.index));
            [Value::Null; N]
        })
    }

    fn text<'r>(&mut self, value: Value<'r>) -> Octets<'r> {
        if let Value::Text(octets) = value { Some(octets) } else { self.nothing(value) }
    }

    fn octets<'r>(&mut self, value: Value<'r>) -> Octets<'r> {
        if let Value::Blob(octets) = value { Some(octets) } else { self.nothing(value) }
    }

    fn number(&mut self, value: Value<'_>) -> Option<i64> {
        if let Value::Integer(number) = value { Some(number) } else { self.nothing(value) }
    }

    /// A row's number does not lie in the record.
    fn is_null(&mut self, value: Value<'_>) {
        let _: Option<()> = self.nothing(value);
    }

    fn nothing<T>(&mut self, value: Value<'_>) -> Option<T> {
        if value != Value::Null && !self.mistyped {
            self.mistyped = true;
            (self.visit)(Copied::Mistyped(self.table, self.index));
        }
        None
    }
}
