//! Whether the file is sound in itself: its pages, its definitions, and its indexes, by which the
//! listing finds what it shows. SQLite's own `integrity_check` looks up every row in every index,
//! which takes longer than everything else together; for the large table this compares the contents
//! of table and index as sets, and the order of the index, which comes to the same. The table's are
//! added up by the pass, which reads its rows anyhow. So does the type of each of their cells: SQLite
//! would read all rows once more for it.

use rusqlite::{Connection, ErrorCode, Statement, StatementStatus};

use super::super::{StoreError, schema};
use super::CopiedCertificate;
use super::content::{Content, Key, Keyed, content_of_index, numbered, pair};

/// Most faults that are told for each table, as many as SQLite looks for.
const MAX_FAULTS: usize = 100;
/// More instructions than SQLite asks without a page: for each fault, and for each page that two others lead to.
const SPARE: i64 = 1_000;

/// All tables but the large ones, whose cells and indexes the pass looks at.
const SMALL: [&str; 12] = [
    "sqlite_schema",
    "tile_hash",
    "tile_time",
    "event",
    "host",
    "renewal",
    "enrollment_request",
    "salt_key",
    "token",
    "declaration",
    "report",
    "backup",
];

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
    keyed: Keyed,
    /// In the order of [`INDEXES`]; none where an index is wrong anyhow.
    contents: [Option<Content>; INDEXES.len()],
}

/// Nothing yet. Two can be compared when both began as clones of one.
impl Default for Indexed {
    fn default() -> Self {
        Self { keyed: Keyed::new(), contents: [Some(Content::NONE); INDEXES.len()] }
    }
}

impl Indexed {
    /// Adds a row of the table.
    pub(super) fn add(&mut self, index: i64, row: &CopiedCertificate<'_>) {
        // What has another index is beside no entry, and found as such.
        let Some(index) = numbered(index) else { return };
        let CopiedCertificate { serial, name, host, role, recorded: _, not_after, released, dropped } = *row;
        let number = |key| self.keyed.number(key);
        let (name, host) = (name.map(Key::Text).map(number), host.map(Key::Text).map(number));
        let keys = [
            serial.map(Key::Octets).map(number),
            name,
            host,
            role.map(Key::Text).map(number),
            not_after.filter(|_| dropped == Some(0)).map(Key::Number).map(number),
            released.filter(|released| *released == 0).map(Key::Number).map(number),
            host.zip(name).map(|(host, name)| pair(host, name)),
        ];
        for (key, content) in keys.into_iter().zip(&mut self.contents) {
            if let (Some(key), Some(content)) = (key, content) {
                content.add(key, index);
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
pub(super) fn faults(connection: &mut Connection, indexed: &mut Indexed) -> Result<Vec<String>, StoreError> {
    let mut faults = Vec::new();
    let ours = schema::described(connection)? == schema::expected()?;
    if !ours {
        faults.push("the tables, indexes or their definitions are not those of this version".to_owned());
    }
    pages(connection, &mut faults)?;
    for table in SMALL {
        pragma(&mut connection.prepare(&format!("PRAGMA integrity_check('{table}')"))?, &mut faults)?;
    }
    for ((name, over, rows), content) in INDEXES.iter().zip(&mut indexed.contents) {
        *content = None;
        if ours {
            let sql =
                format!("SELECT {over}, idx FROM certificate INDEXED BY {name} WHERE {rows} ORDER BY {over}, idx");
            *content = content_of_index(connection, &sql, &indexed.keyed)?;
            if content.is_none() {
                faults.push(format!("the index {name} is out of order, or has rows of no entry"));
            }
        }
    }
    Ok(faults)
}

/// The pages alone. `quick_check` looks at all of them first and says what it found, and then at the type of each
/// cell of each table, before which it is stopped: after more instructions than there are pages and faults, because
/// SQLite asks at each of those, too, whether to go on. That it was stopped there, its instructions tell: the look
/// at all pages is one.
fn pages(connection: &mut Connection, faults: &mut Vec<String>) -> Result<(), StoreError> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let enough = i32::try_from(pages + SPARE).ok();
    if let Some(enough) = enough {
        connection.progress_handler(enough, Some(|| true))?;
    }
    let mut statement = connection.prepare("PRAGMA quick_check")?;
    let outcome = pragma(&mut statement, faults);
    let stopped = enough.is_some_and(|enough| statement.get_status(StatementStatus::VmStep) >= enough);
    drop(statement);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match outcome {
        Err(error) if stopped && error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(()),
        outcome => Ok(outcome?),
    }
}

fn pragma(statement: &mut Statement<'_>, faults: &mut Vec<String>) -> Result<(), rusqlite::Error> {
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let fault: String = row.get(0)?;
        if fault != "ok" && faults.len() < MAX_FAULTS {
            faults.push(format!("SQLite says: {}", fault.trim().replace('\n', "; ")));
        }
    }
    Ok(())
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

    #[test]
    fn only_the_pages_are_looked_at_and_faults_in_them_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (a NOT NULL); CREATE TABLE u (a); INSERT INTO u VALUES (1)").unwrap();
        connection
            .execute_batch(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                 INSERT INTO t SELECT printf('%0100d', i) FROM n",
            )
            .unwrap();
        drop(connection);
        let found = || {
            let mut faults = Vec::new();
            let mut connection = Connection::open(&path).unwrap();
            connection.execute_batch("BEGIN").unwrap();
            pages(&mut connection, &mut faults).unwrap();
            // What is read next is of the same moment.
            assert!(!connection.is_autocommit());
            faults
        };
        assert_eq!(found(), [""; 0]);
        // A row count that is not that of the rows, on the last page.
        let mut octets = std::fs::read(&path).unwrap();
        let last = octets.len() - 4_096;
        octets[last + 4] -= 1;
        std::fs::write(&path, &octets).unwrap();
        assert!(found().iter().any(|fault| fault.starts_with("SQLite says: ")), "{:?}", found());
    }
}
