//! Files that SQLite wrote, as they are and with damage.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::*;

/// A file by SQLite, with these page sizes, reserved octets and kinds of vacuum.
fn written(path: &Path, page_size: u32, vacuum: &str, sql: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(&format!("PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {vacuum}; {sql}")).unwrap();
    connection
}

/// Trees of several depths, records that go on elsewhere, tables without row numbers and indexes.
const SEVERAL: &str = "
CREATE TABLE number (n INTEGER PRIMARY KEY, octets BLOB);
CREATE TABLE apart (first TEXT, second TEXT, third BLOB, PRIMARY KEY (first, second)) WITHOUT ROWID;
CREATE INDEX number_by_octets ON number (octets);
CREATE TABLE empty (a);
CREATE VIEW even AS SELECT n FROM number WHERE n % 2 = 0;
WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 3000)
    INSERT INTO number SELECT n * 7919 % 3001 - 500, CAST(printf('%.*c', n % 50, char(33 + n * 31 % 90)) AS BLOB) FROM i;
INSERT INTO number SELECT n * 10 + 100000, zeroblob((n - 1) * 701) FROM number WHERE n BETWEEN 1 AND 40;
INSERT INTO apart SELECT hex(octets), n, zeroblob(n / 20) FROM number WHERE n BETWEEN 0 AND 2000;
";

/// As [`SEVERAL`], with pages that became free.
const WITH_HOLES: &str = "
DELETE FROM number WHERE n % 3 = 0 OR n BETWEEN 500 AND 1200;
DELETE FROM apart WHERE second > '3';
UPDATE number SET octets = zeroblob(200) WHERE n % 50 = 1;
";

fn octets(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn in_directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    (directory, path)
}

#[test]
fn whatever_sqlite_writes_has_no_fault() {
    for page_size in [512, 1_024, 4_096, 65_536] {
        for vacuum in ["NONE", "FULL", "INCREMENTAL"] {
            let (_directory, path) = in_directory();
            let connection = written(&path, page_size, vacuum, SEVERAL);
            let free = || connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, u32>(0)).unwrap();
            assert_eq!(page_faults(&octets(&path)), [""; 0], "{page_size} {vacuum}");
            connection.execute_batch(WITH_HOLES).unwrap();
            assert!(free() > 0 || vacuum == "FULL" || page_size == 65_536, "{page_size} {vacuum}");
            assert_eq!(page_faults(&octets(&path)), [""; 0], "{page_size} {vacuum}");
            connection.execute_batch("PRAGMA incremental_vacuum(7)").unwrap();
            assert_eq!(page_faults(&octets(&path)), [""; 0], "{page_size} {vacuum}");
            connection.execute_batch("DROP TABLE number; VACUUM").unwrap();
            assert_eq!(page_faults(&octets(&path)), [""; 0], "{page_size} {vacuum}");
        }
    }
}

/// All rows of a table, by a walk and by SQL: numbers and what the blobs beside them are.
fn rows(connection: &Connection, table: &str, sql: &str, tree: Tree) -> [Vec<(i64, Vec<u8>)>; 2] {
    let root =
        connection.query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0)).unwrap();
    let mut pages = Pages::open(SqlitePages::new(connection).unwrap()).unwrap();
    let mut cursor = Cursor::new(table, root, Some(tree));
    let mut walked = Vec::new();
    while cursor.advance(&mut pages).unwrap() {
        walked.push(match (tree, record::read(cursor.payload())) {
            (Tree::Table, Some([_, record::Value::Blob(octets)])) => (cursor.rowid(), octets.to_vec()),
            (Tree::Index, Some([record::Value::Blob(octets), record::Value::Integer(row)])) => (row, octets.to_vec()),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(pages.end().1.into_texts(), [""; 0]);
    let mut statement = connection.prepare(sql).unwrap();
    let read = statement.query_map([], |row| {
        let ValueRef::Blob(octets) = row.get_ref(1)? else { panic!("not octets") };
        Ok((row.get(0)?, octets.to_vec()))
    });
    [walked, read.unwrap().map(|row| row.unwrap()).collect()]
}

#[test]
fn a_walk_meets_the_rows_that_sqlite_reads_in_its_order() {
    for page_size in [512, 4_096] {
        let (_directory, path) = in_directory();
        let connection = written(&path, page_size, "INCREMENTAL", SEVERAL);
        for changes in ["", WITH_HOLES] {
            connection.execute_batch(changes).unwrap();
            let [walked, read] = rows(&connection, "number", "SELECT n, octets FROM number ORDER BY n", Tree::Table);
            assert!(walked == read && walked.len() > 1_000, "{}", walked.len());
            let [walked, read] = rows(
                &connection,
                "number_by_octets",
                "SELECT n, octets FROM number INDEXED BY number_by_octets ORDER BY octets, n",
                Tree::Index,
            );
            assert!(walked == read && walked.len() > 1_000, "{}", walked.len());
        }
    }
}

#[test]
fn what_lies_in_a_log_beside_the_file_is_walked_over() {
    let (_directory, path) = in_directory();
    let writer = written(&path, 4_096, "INCREMENTAL", SEVERAL);
    writer.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0").unwrap();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(&path, flags).unwrap();
    let sql = "SELECT n, octets FROM number ORDER BY n";
    let count = || {
        let [walked, read] = rows(&reader, "number", sql, Tree::Table);
        assert!(walked == read);
        walked.len()
    };
    let before = count();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(), before);
    writer.execute_batch("INSERT INTO number SELECT n + 1000000, octets FROM number").unwrap();
    // Still as of the moment at which the transaction began.
    assert_eq!(count(), before);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(count(), 2 * before);
    writer.execute_batch("DELETE FROM number WHERE n < 900000; PRAGMA incremental_vacuum").unwrap();
    assert_eq!(count(), before);
}

/// A file, and what is wrong with it after `change`.
struct Damaged {
    original: Vec<u8>,
    page_size: usize,
}

impl Damaged {
    fn new(page_size: u32, sql: &str) -> Self {
        let (_directory, path) = in_directory();
        drop(written(&path, page_size, "INCREMENTAL", sql));
        Self { original: octets(&path), page_size: page_size as usize }
    }

    fn after(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        let mut octets = self.original.clone();
        change(&mut octets);
        page_faults(&octets)
    }

    /// The first page of this kind that is used and has some cells, and where it begins.
    fn page(&self, kind: u8) -> (usize, usize) {
        let pages = self.original.chunks(self.page_size).enumerate().skip(2);
        let mut pages = pages.filter(|(_, page)| page[0] == kind && page[4] > 2);
        let used = |before: usize| !self.after(|octets| octets[before * self.page_size] = 0).is_empty();
        let (before, _) = pages.find(|(before, _)| used(*before)).unwrap();
        (before + 1, before * self.page_size)
    }
}

#[track_caller]
fn assert_says(faults: &[String], what: &str) {
    assert!(faults.iter().any(|fault| fault.contains(what)), "{what}: {faults:?}");
}

#[test]
fn each_part_of_a_page_that_is_wrong_is_a_fault() {
    let file = Damaged::new(512, &[SEVERAL, WITH_HOLES].concat());
    assert_eq!(file.after(|_| {}), [""; 0]);
    for kind in [13, 5, 10, 2] {
        let (_, at) = file.page(kind);
        let changed = |place: usize, mask: u8| file.after(|octets| octets[at + place] ^= mask);
        assert_says(&changed(0, 0x40), "it is no page of a B-tree");
        // A leaf for another page and the other way around.
        assert!(!changed(0, 8).is_empty(), "{kind}");
        assert_says(&changed(1, 0x80), "a free block lies where none can");
        assert_says(&changed(3, 0x80), "its cells begin where they cannot");
        assert!(!changed(4, 1).is_empty(), "{kind}");
        assert_says(&changed(7, 1), "not all of it");
        // The first cell where the second is.
        let start = if kind > 8 { 8 } else { 12 };
        assert_says(&file.after(|octets| octets.copy_within(at + start + 2..at + start + 4, at + start)), "overlap");
    }
}

#[test]
fn rows_that_are_not_where_they_are_looked_for_are_a_fault() {
    let file = Damaged::new(512, SEVERAL);
    let (_, leaf) = file.page(13);
    let swapped = |at: usize| {
        file.after(|octets| {
            let (first, second) = octets[at..at + 4].split_at_mut(2);
            first.swap_with_slice(second);
        })
    };
    assert_says(&swapped(leaf + 8), "its rows are not in order");
    let (_, inner) = file.page(5);
    assert!(!swapped(inner + 12).is_empty());
    // The number of an inner cell: the rows before it are at most so large, those behind it larger.
    let cell = usize::from(u16::from_be_bytes([file.original[inner + 12], file.original[inner + 13]]));
    for difference in [0x40, 1] {
        let faults = file.after(|octets| octets[inner + cell + 4] ^= difference);
        assert!(!faults.is_empty());
    }
    // A child from another page: it is used twice, and its own not at all.
    let faults = file.after(|octets| octets.copy_within(inner + cell..inner + cell + 4, inner + 8));
    assert_says(&faults, "it is used twice");
    assert_says(&file.after(|octets| octets[inner + 8] = 0x7f), "there is no such page");
}

#[test]
fn records_that_go_on_elsewhere_have_every_page_once_and_no_more() {
    let sql = "CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(5000)), (zeroblob(5001))";
    let file = Damaged::new(1_024, sql);
    assert_eq!(file.after(|_| {}), [""; 0]);
    // The page after the table's root begins with the number of the next.
    let next = |page: usize| (page - 1) * 1_024;
    let first = 4;
    assert_eq!(file.original[next(first)..next(first) + 4], [0, 0, 0, 5]);
    assert_says(&file.after(|octets| octets[next(first) + 3] = 4), "it is used twice");
    assert_says(&file.after(|octets| octets[next(first) + 3] = 0), "there is no such page");
    assert_says(&file.after(|octets| octets[next(first) + 3] = 6), "page 6: it is not what the pointer map says");
    let last = (first..).find(|page| file.original[next(*page) + 3] == 0).unwrap();
    assert_says(&file.after(|octets| octets[next(last) + 3] = 2), "it is not the last");
}

#[test]
fn the_header_the_free_pages_and_the_pointer_map_are_held_against_the_rest() {
    let file = Damaged::new(512, &[SEVERAL, WITH_HOLES].concat());
    for (place, what) in [
        (31, "the header says that there are"),
        (35, "of the free pages"),
        (39, "pages are free, and the list has"),
        (55, "the highest root is"),
        (59, "not in UTF-8"),
    ] {
        assert_says(&file.after(|octets| octets[place] ^= 2), what);
    }
    assert_says(&file.after(|octets| octets[52..56].fill(0)), "there is no pointer map");
    let trunk = u32::from_be_bytes(file.original[32..36].try_into().unwrap());
    let trunk = (trunk as usize - 1) * 512;
    assert_says(&file.after(|octets| octets[trunk + 4] = 1), "it says that it names");
    assert_says(&file.after(|octets| octets[trunk + 7] ^= 1), "pages are free, and the list has");
    assert_says(&file.after(|octets| octets.copy_within(trunk + 8..trunk + 12, trunk + 12)), "it is used twice");
    assert_says(&file.after(|octets| octets.extend([0; 512])), "the header says that there are");
    let longer = file.after(|octets| {
        octets.extend([0; 512]);
        let pages = u32::try_from(octets.len() / 512).unwrap();
        octets[28..32].copy_from_slice(&pages.to_be_bytes());
    });
    assert_says(&longer, "it is not used");
    // Kind and parent of each page of the first part of the map.
    for at in (512..512 + 510).step_by(5) {
        assert_says(&file.after(|octets| octets[at] ^= 1), "it is not what the pointer map says");
        assert_says(&file.after(|octets| octets[at + 4] ^= 1), "it is not what the pointer map says");
    }
}

#[test]
fn a_tree_that_leads_back_to_itself_ends() {
    let file = Damaged::new(512, SEVERAL);
    let (number, at) = file.page(5);
    let number = u32::try_from(number).unwrap().to_be_bytes();
    assert_says(&file.after(|octets| octets[at + 8..at + 12].copy_from_slice(&number)), "it is used twice");
}

#[test]
fn the_pages_of_the_pointer_map_stand_clear_of_the_one_that_sqlite_locks() {
    let (_directory, path) = in_directory();
    drop(written(&path, 512, "INCREMENTAL", "CREATE TABLE t (a)"));
    let mut header = Header::parse(&octets(&path)[..512], 3_000_000).unwrap();
    assert_eq!((header.locked_page(), header.mapped_by_one()), (2_097_153, 102));
    assert_eq!(header.map_pages().take(3).collect::<Vec<_>>(), [2, 105, 208]);
    assert!(header.map_pages().all(|page| page != header.locked_page()));
    // Where a step leads to the locked page, the one behind it is meant.
    header.size = header::PageSize { whole: 1_024, usable: 1_024 };
    let pages: Vec<_> = header.map_pages().skip_while(|page| *page < 1_048_300).take(3).collect();
    assert_eq!((header.locked_page(), pages), (1_048_577, vec![1_048_372, 1_048_578, 1_048_782]));
    header.size = header::PageSize { whole: 65_536, usable: 65_536 };
    assert_eq!((header.locked_page(), header.mapped_by_one()), (16_385, 13_107));
    assert_eq!(header.map_pages().take(3).collect::<Vec<_>>(), [2, 13_110, 26_218]);
}

#[test]
fn what_is_no_database_is_said_to_be_none() {
    for file in [&b""[..], b"SQLite format 3\0", &[0; 4_096]] {
        assert_says(&page_faults(file), "it is no database");
    }
    let (_directory, path) = in_directory();
    drop(written(&path, 512, "NONE", "CREATE TABLE t (a)"));
    let octets = octets(&path);
    assert_says(&page_faults(&octets[..511]), "there is no page 1");
    assert_says(&page_faults(&octets[..512]), "there is no such page");
}

fn small() -> impl Strategy<Value = (Vec<u8>, Vec<(prop::sample::Index, u8)>)> {
    static FILES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    let files = FILES.get_or_init(|| {
        [(512, SEVERAL.to_owned()), (512, [SEVERAL, WITH_HOLES].concat()), (4_096, [SEVERAL, WITH_HOLES].concat())]
            .map(|(size, sql)| Damaged::new(size, &sql).original)
            .to_vec()
    });
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20);
    (prop::sample::select(files.as_slice()), changes)
}

proptest! {
    /// It ends, and says so much and no more.
    #[test]
    fn no_change_anywhere_makes_a_walk_panic_or_endless((mut file, changes) in small()) {
        for (place, octet) in changes {
            let place = place.index(file.len());
            file[place] = octet;
        }
        prop_assert!(page_faults(&file).len() <= MAX_FAULTS);
    }

    /// Nor where only the parts change by which pages lead to each other.
    #[test]
    fn no_change_of_headers_makes_a_walk_panic_or_endless((mut file, changes) in small()) {
        let size = usize::from(u16::from_be_bytes([file[16], file[17]]));
        for (place, octet) in changes {
            let place = place.index(file.len());
            file[place / size * size + place % 24] = octet;
        }
        prop_assert!(page_faults(&file).len() <= MAX_FAULTS);
    }
}

/// What SQLite itself has against the pages of a file.
fn faults_by_sqlite(file: &[u8]) -> Vec<String> {
    let (_directory, path) = in_directory();
    std::fs::write(&path, file).unwrap();
    let connection = Connection::open(&path).unwrap();
    let checked = connection.prepare("PRAGMA quick_check").and_then(|mut statement| {
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.collect::<Result<Vec<_>, _>>()
    });
    // What it says besides: that it cannot read a definition, and of rows, which it looks at only where they say so.
    let of_pages = |fault: &String| {
        !["ok", "malformed database schema", "row not in PRIMARY KEY order", "NULL value in", "non-unique entry"]
            .iter()
            .any(|other| fault.starts_with(other))
    };
    checked.unwrap_or_else(|error| vec![error.to_string()]).into_iter().filter(of_pages).collect()
}

proptest! {
    /// In headers of pages, where every octet counts, and elsewhere.
    #[test]
    fn whatever_sqlite_has_against_pages_is_a_fault(
        (mut file, _) in small(),
        place in any::<prop::sample::Index>(),
        within in prop_oneof![0..24usize, 0..4_096usize],
        bit in 0..8,
    ) {
        let size = usize::from(u16::from_be_bytes([file[16], file[17]]));
        let place = place.index(file.len()) / size * size + within % size;
        // The file's own header has a test of its own.
        let place = if place < 100 { place + 100 } else { place };
        file[place] ^= 1u8 << bit;
        let expected = faults_by_sqlite(&file);
        prop_assert!(expected.is_empty() || !page_faults(&file).is_empty(), "octet {place}: {expected:?}");
    }
}
