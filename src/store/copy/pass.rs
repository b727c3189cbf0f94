//! The pass over `entry` and the tables that have a row for some of its rows: four walks side by side.

use rusqlite::Connection;

use super::pages::{Cursor, Pages, Source, SqlitePages, Tree};
use super::reading::Reading;
use super::structure::{Indexed, PASSED, roots};
use super::{Copied, CopiedEntry, row};
use crate::store::StoreError;

/// Hands every entry over with what lies beside it, in the order of their indices.
pub(super) fn pass(
    connection: &Connection,
    reading: &mut Reading,
    visit: impl FnMut(Copied<'_>),
) -> Result<(), StoreError> {
    let roots = roots(connection)?;
    let cursor = |table| {
        let found = roots.iter().find(|(name, _)| name == table).map(|(_, root)| *root);
        let root = found.ok_or_else(|| StoreError::Damaged(format!("there is no table {table}")))?;
        Ok::<_, StoreError>(Cursor::new(table, root, Some(Tree::Table)))
    };
    let [entries, certificates, bodies, events] = PASSED;
    let entries = cursor(entries)?;
    let beside = [(certificates, cursor(certificates)?), (bodies, cursor(bodies)?), (events, cursor(events)?)]
        .map(|(table, cursor)| Beside { table, cursor, index: None, met: false });
    let source = SqlitePages::new(connection)?;
    reading.of(source, |pages, indexed| side_by_side(pages, entries, beside, indexed, visit))
}

fn side_by_side<S: Source>(
    pages: &mut Pages<S>,
    mut entries: Cursor,
    beside: [Beside; 3],
    indexed: &mut Indexed,
    mut visit: impl FnMut(Copied<'_>),
) -> Result<(), StoreError> {
    let [mut certificates, mut bodies, mut events] = beside;
    for table in [&mut certificates, &mut bodies, &mut events] {
        table.advance(pages)?;
    }
    while entries.advance(pages)? {
        let index = entries.rowid();
        for table in [&mut certificates, &mut events, &mut bodies] {
            table.step_over(Some(index), pages, &mut visit)?;
        }
        let (bytes, leaf_hash) = row::entry(index, entries.payload(), &mut visit);
        let certificate = certificates.at(index).map(|record| row::certificate(index, record, &mut visit));
        let body = bodies.at(index).map(|record| row::body(index, record, &mut visit));
        let event = events.at(index).map(|record| row::event(index, record, &mut visit));
        if let Some(certificate) = &certificate {
            indexed.add_certificate(index, certificate);
        }
        if let Some(event) = &event {
            indexed.add_event(index, event);
        }
        visit(Copied::Entry(&CopiedEntry { index, bytes, leaf_hash, certificate, event, body }));
    }
    [certificates, events, bodies].iter_mut().try_for_each(|table| table.step_over(None, pages, &mut visit))
}

/// A table beside `entry` with the same indices, some of which it leaves out.
struct Beside {
    table: &'static str,
    cursor: Cursor,
    /// The index of the row at which the cursor stands.
    index: Option<i64>,
    /// Whether that row was met at its entry.
    met: bool,
}

impl Beside {
    fn advance<S: Source>(&mut self, pages: &mut Pages<S>) -> Result<(), StoreError> {
        self.index = self.cursor.advance(pages)?.then(|| self.cursor.rowid());
        self.met = false;
        Ok(())
    }

    /// Steps over the rows below `end`, or over all of them; tells those that stood at no entry.
    fn step_over<S: Source>(
        &mut self,
        end: Option<i64>,
        pages: &mut Pages<S>,
        visit: &mut impl FnMut(Copied<'_>),
    ) -> Result<(), StoreError> {
        while let Some(index) = self.index.filter(|index| end.is_none_or(|end| *index < end)) {
            if !self.met {
                visit(Copied::Stray(self.table, index));
            }
            self.advance(pages)?;
        }
        Ok(())
    }

    /// The record of the row with this index, below which everything was stepped over.
    fn at(&mut self, index: i64) -> Option<&[u8]> {
        let found = self.index == Some(index);
        self.met |= found;
        found.then(|| self.cursor.payload())
    }
}
