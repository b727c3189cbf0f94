//! Whether the file is sound in itself: its pages, its definitions, and its indexes, by which the
//! listing finds what it shows. SQLite's own `integrity_check` looks up every row in every index,
//! which takes longer than everything else together; for the large tables this compares the contents
//! of table and index as sets, and the order of the index, which comes to the same. The table's are
//! added up by the pass, which reads its rows anyhow. So does the type of each of their cells: SQLite
//! would read all rows once more for it.

use std::collections::HashMap;

use rusqlite::{Connection, Statement};

use super::super::{StoreError, schema};
use super::content::{Content, InOrder, Key, Keyed, numbered, pair};
use super::pages::{Cursor, Faults, Pages, Source, SqlitePages, Tree};
use super::reading::Reading;
use super::{CopiedCertificate, CopiedEvent};

/// All tables but the large ones, whose cells and indexes the pass looks at.
const SMALL: [&str; 11] = [
    "sqlite_schema",
    "tile_hash",
    "tile_time",
    "host",
    "renewal",
    "enrollment_request",
    "salt_key",
    "token",
    "declaration",
    "report",
    "backup",
];

/// The tables over which the entries are passed.
pub(super) const PASSED: [&str; 4] = ["entry", "certificate", "body", "event"];

/// The indexes of those: the table, the name, and how many columns it is over. The table `holder` is one of the newest
/// rows alone.
const INDEXES: [(&str, &str, usize); 9] = [
    ("certificate", "certificate_by_serial", 1),
    ("certificate", "certificate_by_name", 2),
    ("certificate", "certificate_by_host", 2),
    ("certificate", "certificate_by_role", 2),
    ("certificate", "certificate_by_end", 1),
    ("certificate", "certificate_by_state", 1),
    ("event", "event_by_kind", 1),
    ("event", "event_by_host", 1),
    ("certificate", HOLDER, 2),
];
/// How many of them are indexes of `certificate`, and how many of `event`.
const OF_CERTIFICATES: usize = 6;
const OF_EVENTS: usize = 2;
const HOLDER: &str = "holder";

/// What is in the indexes of the large tables, or what has to be by the rows of those.
#[derive(Debug, Clone)]
pub(super) struct Indexed {
    keyed: Keyed,
    /// In the order of [`INDEXES`], so the last is that of the holders; none where an index is wrong anyhow.
    contents: [Option<Content>; INDEXES.len()],
    /// The newest service certificate of each holder, by its number. Two of n holders have one number, and then their
    /// table seems wrong, with a probability of n² / 2⁶² at most.
    newest: HashMap<u64, u64>,
}

/// Nothing yet. Two can be compared when both began as clones of one.
impl Default for Indexed {
    fn default() -> Self {
        Self { keyed: Keyed::new(), contents: [Some(Content::NONE); INDEXES.len()], newest: HashMap::new() }
    }
}

impl Indexed {
    /// Adds a row of `certificate`.
    pub(super) fn add_certificate(&mut self, index: i64, row: &CopiedCertificate<'_>) {
        let CopiedCertificate { serial, name, host, role, recorded: _, not_after, released, dropped } = *row;
        let number = |key| self.keyed.number(key);
        let [name, host, role] = [name, host, role].map(|text| text.map(Key::Text).map(number));
        let keys: [_; OF_CERTIFICATES] = [
            serial.map(Key::Octets).map(number),
            name,
            host,
            role,
            not_after.filter(|_| dropped == Some(0)).map(Key::Number).map(number),
            released.filter(|released| *released == 0).map(Key::Number).map(number),
        ];
        add(index, keys, &mut self.contents);
        // Of an identity no role is kept.
        if let (Some(name), Some(host), Some(_), Some(index)) = (name, host, role, numbered(index)) {
            self.newest.insert(pair(host, name), index);
        }
    }

    /// Adds a row of `event`.
    pub(super) fn add_event(&mut self, index: i64, row: &CopiedEvent<'_>) {
        let CopiedEvent { event, host, recorded: _ } = *row;
        let keys: [_; OF_EVENTS] = [event, host].map(|text| text.map(|text| self.keyed.number(Key::Text(text))));
        add(index, keys, self.contents.get_mut(OF_CERTIFICATES..).unwrap_or_default());
    }

    /// Tells the indexes that do not have what the rows of the tables ask for.
    pub(super) fn compare(mut self, indexes: &Self, faults: &mut Faults) {
        if let Some(Some(holders)) = self.contents.last_mut() {
            self.newest.iter().for_each(|(holder, index)| holders.add(*holder, *index));
        }
        let pairs = INDEXES.iter().zip(self.contents.iter().zip(&indexes.contents));
        for ((table, name, _), _) in pairs.filter(|(_, (table, index))| index.is_some() && table != index) {
            faults.tell(match *name {
                HOLDER => format!("the table {name} does not have the newest of the table {table}"),
                _ => format!("the index {name} does not have what the table {table} has"),
            });
        }
    }
}

fn add<const N: usize>(index: i64, keys: [Option<u64>; N], contents: &mut [Option<Content>]) {
    // What has another index is beside no entry, and found as such.
    let Some(index) = numbered(index) else { return };
    for (key, content) in keys.into_iter().zip(contents) {
        if let (Some(key), Some(content)) = (key, content) {
            content.add(key, index);
        }
    }
}

/// The B-trees by their names, with the pages at which they begin.
pub(super) fn roots(connection: &Connection) -> Result<Vec<(String, u32)>, StoreError> {
    let mut statement = connection.prepare("SELECT name, rootpage FROM sqlite_schema WHERE rootpage <> 0")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Reads everything but the tables that are passed over.
pub(super) fn read(connection: &Connection, reading: &mut Reading) -> Result<(), StoreError> {
    let ours = schema::described(connection)? == schema::expected()?;
    if !ours {
        reading.faults.tell("the tables, indexes or their definitions are not those of this version");
    }
    for table in SMALL {
        pragma(&mut connection.prepare(&format!("PRAGMA integrity_check('{table}')"))?, &mut reading.faults)?;
    }
    let roots = roots(connection)?;
    reading.of(SqlitePages::new(connection)?, |pages, indexed| {
        pages.walk("sqlite_schema", 1)?;
        let largest = roots.iter().map(|(_, root)| *root).max().unwrap_or(0);
        pages.check_header(largest)?;
        let Indexed { keyed, contents, newest: _ } = indexed;
        if !ours {
            *contents = [None; INDEXES.len()];
        }
        for (name, root) in roots.iter().filter(|(name, _)| !PASSED.contains(&name.as_str())) {
            let known = INDEXES.iter().zip(contents.iter_mut()).find(|((_, index, _), _)| index == name);
            match known.filter(|_| ours) {
                Some(((.., columns), content)) => *content = index(name, *root, *columns, keyed, pages)?,
                None => pages.walk(name, *root)?,
            }
        }
        Ok(())
    })
}

/// Reads an index of a large table.
fn index<S: Source>(
    name: &str,
    root: u32,
    columns: usize,
    keyed: &Keyed,
    pages: &mut Pages<S>,
) -> Result<Option<Content>, StoreError> {
    let (mut cursor, mut content) = (Cursor::new(name, root, Some(Tree::Index)), InOrder::new(keyed));
    while cursor.advance(pages)? {
        content.add(Key::of_row(cursor.payload(), columns));
    }
    let content = content.end();
    if content.is_none() {
        let what = if name == HOLDER { "table" } else { "index" };
        pages.faults().tell(format!("the {what} {name} is out of order, or has rows of no entry"));
    }
    Ok(content)
}

fn pragma(statement: &mut Statement<'_>, faults: &mut Faults) -> Result<(), rusqlite::Error> {
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let fault: String = row.get(0)?;
        if fault != "ok" {
            faults.tell(format!("SQLite says: {}", fault.trim().replace('\n', "; ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_of_a_large_table_is_compared_and_every_other_table_is_looked_at() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(schema::TABLES).unwrap();
        let names = |sql: &str| -> Vec<(String, String, usize)> {
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
            rows.map(|row| row.unwrap()).collect()
        };
        let mut known: Vec<_> =
            INDEXES.iter().map(|(table, name, columns)| ((*table).to_owned(), (*name).to_owned(), *columns)).collect();
        assert!(known[..OF_CERTIFICATES].iter().all(|(table, ..)| table == "certificate"));
        assert!(known.pop().is_some_and(|(_, name, _)| name == HOLDER), "a table");
        known.sort();
        let found = names(
            "SELECT tbl_name, name, (SELECT count(*) FROM pragma_index_info(sqlite_schema.name)) FROM sqlite_schema
             WHERE type = 'index' AND tbl_name IN ('entry', 'certificate', 'body', 'event') ORDER BY tbl_name, name",
        );
        assert_eq!(found, known);
        let mut tables: Vec<_> =
            SMALL.iter().chain(&PASSED).chain(&[HOLDER]).filter(|name| **name != "sqlite_schema").collect();
        tables.sort();
        let found = names("SELECT name, '', 0 FROM sqlite_schema WHERE type = 'table' ORDER BY name");
        assert!(found.iter().map(|(name, ..)| name).eq(tables), "{found:?}");
    }
}
