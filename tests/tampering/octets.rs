//! The file itself: turned bits, cut ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::closed::{findings, in_parallel, ledger, thoroughly};
use crate::support::tools::say;

/// Everything that can be read from the file: each table, and each index in its order.
fn content(file: &Path) -> Option<BTreeMap<String, Vec<Vec<Value>>>> {
    let sql = Connection::open(file).ok()?;
    let mut content = BTreeMap::new();
    let mut read = |query: String| -> rusqlite::Result<()> {
        let mut statement = sql.prepare(&query)?;
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect())?;
        content.insert(query, rows.collect::<rusqlite::Result<_>>()?);
        Ok(())
    };
    let read_all = || -> rusqlite::Result<()> {
        for table in [
            "entry",
            "tile_hash",
            "tile_time",
            "certificate",
            "body",
            "event",
            "host",
            "renewal",
            "enrollment_request",
            "salt_key",
            "token",
            "declaration",
            "report",
            "holder",
        ] {
            read(format!("SELECT * FROM {table} NOT INDEXED"))?;
        }
        read("SELECT * FROM sqlite_schema".to_owned())?;
        for (table, index, over, rows) in [
            ("certificate", "certificate_by_serial", "serial", "serial IS NOT NULL"),
            ("certificate", "certificate_by_name", "idx >> 12, name", "name IS NOT NULL"),
            ("certificate", "certificate_by_host", "idx >> 12, host", "host IS NOT NULL"),
            ("certificate", "certificate_by_role", "idx >> 12, role", "role IS NOT NULL"),
            ("certificate", "certificate_by_end", "not_after", "dropped = 0"),
            ("certificate", "certificate_by_state", "released", "released = 0"),
            ("event", "event_by_kind", "event", "event IS NOT NULL"),
            ("event", "event_by_host", "host", "host IS NOT NULL"),
            ("token", "sqlite_autoindex_token_1", "hash", "hash IS NOT NULL"),
            ("token", "token_by_host", "host", "host IS NOT NULL"),
            ("host", "sqlite_autoindex_host_1", "name", "name IS NOT NULL"),
            ("renewal", "sqlite_autoindex_renewal_1", "serial", "serial IS NOT NULL"),
            ("renewal", "renewal_by_host", "host", "host IS NOT NULL"),
            (
                "enrollment_request",
                "sqlite_autoindex_enrollment_request_1",
                "host, key_sha256",
                "host IS NOT NULL AND key_sha256 IS NOT NULL",
            ),
            ("salt_key", "sqlite_autoindex_salt_key_1", "host", "host IS NOT NULL"),
            ("declaration", "sqlite_autoindex_declaration_1", "sha256", "sha256 IS NOT NULL"),
        ] {
            read(format!("SELECT {over}, rowid FROM {table} INDEXED BY {index} WHERE {rows} ORDER BY {over}, rowid"))?;
        }
        Ok(())
    };
    let mut read_all = read_all;
    read_all().ok()?;
    Some(content)
}

/// Bytes of the file at regular distances, each with one bit turned. What is not found must read the same.
#[test]
fn a_turned_bit_anywhere_in_the_file_is_found_or_changes_nothing_that_is_read() {
    let original = std::fs::read(&ledger().file).unwrap();
    let expected = content(&ledger().file).unwrap();
    let step = original.len() / if thoroughly() { 20_000 } else { 400 };
    // The header whole, then samples; a stride that is odd meets every position within a page.
    let places: Vec<usize> = (0..100).chain((100..original.len()).step_by(step | 1)).collect();
    let same = AtomicUsize::new(0);
    in_parallel(&places, |scratch, &place| {
        let mut octets = original.clone();
        octets[place] ^= 1 << (place % 8);
        std::fs::write(scratch.file(), &octets).unwrap();
        if findings(&scratch.file(), false).0.is_empty() && findings(&scratch.file(), true).0.is_empty() {
            assert!(content(&scratch.file()).as_ref() == Some(&expected), "octet {place} was changed and not found");
            same.fetch_add(1, Ordering::Relaxed);
        }
    });
    let same = same.into_inner();
    say(&format!("{} octets changed, {} found, {same} change nothing that is read", places.len(), places.len() - same));
    assert!(same < places.len() / 2, "too many changes have no effect for this to be a test");
}

#[test]
fn a_file_that_was_cut_is_found_wherever_it_was_cut() {
    let original = std::fs::read(&ledger().file).unwrap();
    let mut cuts: Vec<usize> = (0..60).map(|n| original.len() * n / 60).collect();
    cuts.extend([1, 99, 100, 4_095, 4_096, original.len() - 4_096, original.len() - 4_095, original.len() - 1]);
    in_parallel(&cuts, |scratch, &length| {
        std::fs::write(scratch.file(), &original[..length]).unwrap();
        assert!(!findings(&scratch.file(), false).0.is_empty(), "cut at {length} of {}", original.len());
    });
}

/// SQLite sorts octets behind every text, so a search for the text does not find what says to be octets.
#[test]
fn a_text_in_an_index_that_says_to_be_octets_is_found() {
    let original = std::fs::read(&ledger().file).unwrap();
    let expected = content(&ledger().file).unwrap();
    in_parallel(&["serial", "name", "host", "role"], |scratch, column| {
        let query = format!("SELECT CAST({column} AS BLOB) FROM certificate WHERE {column} IS NOT NULL LIMIT 1");
        let sql = Connection::open(&ledger().file).unwrap();
        let key: Vec<u8> = sql.query_row(&query, [], |row| row.get(0)).unwrap();
        let kind = u8::try_from(key.len() * 2 + if *column == "serial" { 12 } else { 13 }).unwrap();
        // A record of two cells: the length of its header, the kind of the key, that of the row's number. By name, host
        // and role it has a cell more before the key, the segment: nought, which is its kind and takes no octet.
        // The first that is read: others may lie in what a page no longer uses.
        let header = if *column == "serial" { vec![3, kind] } else { vec![4, 8, kind] };
        let records = (0..original.len() - key.len() - 4)
            .filter(|&at| original[at..].starts_with(&header) && original[at + header.len() + 1..].starts_with(&key));
        let changed = records.map(|at| at + header.len() - 1).find(|&place| {
            let mut octets = original.clone();
            octets[place] ^= 1;
            std::fs::write(scratch.file(), &octets).unwrap();
            content(&scratch.file()).as_ref() != Some(&expected)
        });
        assert!(changed.is_some(), "no record of {column} in an index");
        assert!(!findings(&scratch.file(), false).0.is_empty(), "{column} at {changed:?} was changed and not found");
    });
}
