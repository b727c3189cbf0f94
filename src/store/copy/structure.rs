//! Whether the file is sound in itself: its pages, its definitions, and its indexes, by which the
//! listing finds what it shows. SQLite's own `integrity_check` looks up every row in every index,
//! which takes longer than everything else together; for the large table this compares the contents
//! of table and index as sets, and the order of the index, which comes to the same. The table's are
//! added up by the pass, which reads its rows anyhow.

use std::cmp::Ordering;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::super::{StoreError, schema};
use super::CopiedCertificate;

/// Most faults that are told for each table.
const MAX_FAULTS: usize = 100;

/// The indexes of `certificate`: name, what it is over, and which rows it has.
const INDEXES: [(&str, &str, &str); 7] = [
    ("certificate_by_serial", "serial", "1"),
    ("certificate_by_name", "name", "1"),
    ("certificate_by_host", "host", "host IS NOT NULL"),
    ("certificate_by_role", "role", "role IS NOT NULL"),
    ("certificate_by_end", "not_after", "dropped = 0"),
    ("certificate_by_state", "released", "released = 0"),
    ("certificate_by_holder", "host, name", "host IS NOT NULL"),
];

/// What is in the indexes of `certificate`, or what has to be by the rows of the table.
#[derive(Debug, Clone)]
pub struct Indexed {
    keyed: RandomState,
    /// In the order of [`INDEXES`]; none where an index is wrong anyhow.
    contents: [Option<Content>; INDEXES.len()],
}

/// Nothing yet. Two can be compared when both began as clones of one.
impl Default for Indexed {
    fn default() -> Self {
        Self { keyed: RandomState::new(), contents: [Some(Content::default()); INDEXES.len()] }
    }
}

impl Indexed {
    /// Adds a row of the table.
    pub(super) fn add(&mut self, index: i64, row: &CopiedCertificate<'_>) {
        let CopiedCertificate { serial, name, host, role, recorded: _, not_after, released, dropped } = *row;
        let mut holder = Vec::new();
        let holder = host.zip(name).map(|pair| joined(&mut holder, pair));
        let keys = [
            serial.map(Key::Octets),
            name.map(Key::Text),
            host.map(Key::Text),
            role.map(Key::Text),
            not_after.filter(|_| dropped == Some(0)).map(Key::Number),
            released.filter(|released| *released == 0).map(Key::Number),
            holder.map(Key::Text),
        ];
        for (key, content) in keys.into_iter().zip(&mut self.contents) {
            if let (Some(key), Some(content)) = (key, content) {
                content.add(&self.keyed, key, index);
            }
        }
    }

    /// The indexes that do not have what the rows of the table ask for.
    #[must_use]
    pub fn faults(&self, indexes: &Self) -> Vec<String> {
        let pairs = INDEXES.iter().zip(self.contents.iter().zip(&indexes.contents));
        let wrong = pairs.filter(|(_, (table, index))| index.is_some() && table != index);
        wrong.map(|((name, ..), _)| format!("the index {name} does not have what the table certificate has")).collect()
    }
}

/// Everything that is wrong, one text for each; what the indexes hold is added to `indexed`.
pub(super) fn faults(connection: &Connection, indexed: &mut Indexed) -> Result<Vec<String>, StoreError> {
    let mut faults = Vec::new();
    let ours = schema::described(connection)? == schema::expected()?;
    if !ours {
        faults.push("the tables, indexes or their definitions are not those of this version".to_owned());
    }
    pragma(connection, "quick_check", &mut faults)?;
    for table in [
        "tile_hash",
        "event",
        "host",
        "renewal",
        "enrollment_request",
        "salt_key",
        "token",
        "declaration",
        "report",
        "backup",
    ] {
        pragma(connection, &format!("integrity_check('{table}')"), &mut faults)?;
    }
    for ((name, over, rows), content) in INDEXES.iter().zip(&mut indexed.contents) {
        *content = None;
        if ours {
            let sql =
                format!("SELECT {over}, idx FROM certificate INDEXED BY {name} WHERE {rows} ORDER BY {over}, idx");
            *content = content_of_index(connection, &sql, &indexed.keyed)?;
            if content.is_none() {
                faults.push(format!("the index {name} is out of order"));
            }
        }
    }
    Ok(faults)
}

fn pragma(connection: &Connection, name: &str, faults: &mut Vec<String>) -> Result<(), StoreError> {
    let mut statement = connection.prepare(&format!("PRAGMA {name}"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let fault: String = row.get(0)?;
        if fault != "ok" && faults.len() < MAX_FAULTS {
            faults.push(format!("SQLite says: {}", fault.trim().replace('\n', "; ")));
        }
    }
    Ok(())
}

/// Keys and indices as a set: how many, and the sum of their hashes under a key that nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Content {
    rows: u64,
    sum: u64,
}

impl Content {
    fn add(&mut self, keyed: &RandomState, key: Key<'_>, index: i64) {
        let mut hasher = keyed.build_hasher();
        // What follows the key always has 16 octets, so that nothing else is written alike.
        let kind = match key {
            Key::Number(number) => {
                hasher.write_i64(number);
                0
            }
            Key::Text(octets) => {
                hasher.write(octets);
                1
            }
            Key::Octets(octets) => {
                hasher.write(octets);
                2
            }
        };
        hasher.write_i128(i128::from(index) << 8 | kind);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

/// In SQLite's order of types: a search for a text does not find the same octets as a BLOB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'r> {
    Number(i64),
    Text(&'r [u8]),
    Octets(&'r [u8]),
}

impl<'r> Key<'r> {
    /// The key of a row of an index over one column or two; `pair` is for the octets of two. None for what no
    /// index has: NULL, and pairs of anything but names.
    fn of(row: &'r Row<'_>, columns: usize, pair: &'r mut Vec<u8>) -> Result<Option<Self>, rusqlite::Error> {
        if columns == 2 {
            return Ok(match (row.get_ref(0)?, row.get_ref(1)?) {
                (ValueRef::Text(first), ValueRef::Text(second)) if !first.contains(&0) => {
                    Some(Self::Text(joined(pair, (first, second))))
                }
                _ => None,
            });
        }
        Ok(match row.get_ref(0)? {
            ValueRef::Integer(number) => Some(Self::Number(number)),
            ValueRef::Text(octets) => Some(Self::Text(octets)),
            ValueRef::Blob(octets) => Some(Self::Octets(octets)),
            ValueRef::Null | ValueRef::Real(_) => None,
        })
    }
}

/// Two texts as one, in which a NUL, which no name has, comes before everything: so it sorts as they do.
fn joined<'p>(pair: &'p mut Vec<u8>, (first, second): (&[u8], &[u8])) -> &'p [u8] {
    pair.clear();
    for part in [first, b"\0", second] {
        pair.extend_from_slice(part);
    }
    pair
}

/// None when the index is out of order: a search in it would then miss what it has.
fn content_of_index(connection: &Connection, sql: &str, keyed: &RandomState) -> Result<Option<Content>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count() - 1;
    let mut rows = statement.query([])?;
    let mut pair = Vec::new();
    let (mut content, mut number, mut octets, mut last) = (Content::default(), i64::MIN, Vec::new(), i64::MIN);
    while let Some(row) = rows.next()? {
        let index = row.get(columns)?;
        let Some(key) = Key::of(row, columns, &mut pair)? else { return Ok(None) };
        let before = match key {
            Key::Number(_) => Key::Number(number),
            Key::Text(_) => Key::Text(&octets),
            Key::Octets(_) => Key::Octets(&octets),
        };
        let order = if content.rows == 0 { Ordering::Less } else { before.cmp(&key) };
        if order == Ordering::Greater || order == Ordering::Equal && last >= index {
            return Ok(None);
        }
        content.add(keyed, key, index);
        last = index;
        if order == Ordering::Less {
            match key {
                Key::Number(new) => number = new,
                Key::Text(new) | Key::Octets(new) => {
                    octets.clear();
                    octets.extend_from_slice(new);
                }
            }
        }
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_of_the_large_table_is_compared_and_read_without_the_table() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(schema::TABLES).unwrap();
        let mut statement =
            connection.prepare("SELECT name FROM pragma_index_list('certificate') ORDER BY name").unwrap();
        let found: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(|name| name.unwrap()).collect();
        let mut known: Vec<_> = INDEXES.iter().map(|(name, ..)| (*name).to_owned()).collect();
        known.sort();
        assert_eq!(found, known);
        for (name, over, rows) in INDEXES {
            let sql =
                format!("SELECT {over}, idx FROM certificate INDEXED BY {name} WHERE {rows} ORDER BY {over}, idx");
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let plan: Vec<String> =
                statement.query_map([], |row| row.get(3)).unwrap().map(|step| step.unwrap()).collect();
            assert!(plan.len() == 1 && plan[0].contains("COVERING INDEX"), "{name}: {plan:?}");
        }
    }
}
