//! Every older version becomes this one, whole or not at all.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::super::schema;
use super::*;

const VERSION_1: &str = include_str!("version-1.sql");

/// A file of version 1 with certificates, every third of them not released.
fn version_1(directory: &Path) -> PathBuf {
    let path = directory.join("ledger.sqlite3");
    let sql = Connection::open(&path).unwrap();
    sql.execute_batch(VERSION_1).unwrap();
    sql.execute_batch(
        "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 999)
         INSERT INTO entry SELECT n, CAST('entry ' || n AS BLOB), zeroblob(32) FROM n;
         INSERT INTO certificate
             SELECT idx, CAST('serial ' || idx AS BLOB), 'name', 'host', NULL, idx, idx + 5, randomblob(600),
                 iif(idx % 3 = 0, NULL, CAST('signature ' || idx AS BLOB)) FROM entry;
         DELETE FROM certificate WHERE idx IN (3, 5, 8);
         INSERT INTO event VALUES (3, 'host_enrolled', 'pg0.iad1.psf.io', 6),
             (5, 'host_enrolled', 'pg0.iad1.psf.io', 7), (8, 'host_disabled', 'pg0.iad1.psf.io', 8);
         INSERT INTO host VALUES ('pg0.iad1.psf.io', 1, 7);",
    )
    .unwrap();
    path
}

/// Everything that version 1 knew of its certificates, out of a file of this version.
const AS_BEFORE: &str = "SELECT idx, serial, name, host, role, recorded, not_after, tbs, signature
    FROM certificate JOIN body USING (idx) WHERE released = (signature IS NOT NULL) AND dropped = 0 ORDER BY idx";

fn rows(sql: &Connection, query: &str) -> Vec<Vec<rusqlite::types::Value>> {
    let mut statement = sql.prepare(query).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

fn number(sql: &Connection, pragma: &str) -> i64 {
    sql.pragma_query_value(None, pragma, |row| row.get(0)).unwrap()
}

#[test]
fn version_1_becomes_what_a_new_ledger_is_with_every_row_that_it_had() {
    let directory = tempfile::tempdir().unwrap();
    let path = version_1(directory.path());
    let before = rows(&Connection::open(&path).unwrap(), "SELECT * FROM certificate ORDER BY idx");
    for _ in 0..2 {
        let sql = schema::open_writer(&path).unwrap();
        assert_eq!(schema::described(&sql).unwrap(), schema::expected().unwrap());
        assert_eq!((number(&sql, "user_version"), number(&sql, "auto_vacuum")), (schema::VERSION, 2));
        assert_eq!(rows(&sql, AS_BEFORE), before);
        let host = ["pg0.iad1.psf.io".to_owned().into(), "enabled".to_owned().into(), 7.into(), 7.into(), 5.into()];
        assert_eq!(rows(&sql, "SELECT name, state, since, enrolled, idx FROM host"), [host]);
        assert!(rows(&sql, "SELECT * FROM renewal").is_empty());
        assert_eq!(rows(&sql, "PRAGMA integrity_check"), [["ok".to_owned().into()]]);
        assert!(rows(&sql, "PRAGMA foreign_key_check").is_empty());
    }
}

#[test]
fn steps_lead_to_this_version_one_by_one() {
    let to: Vec<_> = STEPS.iter().map(|step| step.to).collect();
    assert_eq!(to, (2..=schema::VERSION).collect::<Vec<_>>());
}

#[test]
fn a_step_that_fails_leaves_the_version_before_it_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = version_1(directory.path());
    let mut sql = Connection::open(&path).unwrap();
    let before = rows(&sql, "SELECT * FROM sqlite_schema");
    let steps = [Step { to: 2, sql: "CREATE TABLE more (a); DROP TABLE certificate; DROP TABLE not_there;" }];
    assert!(migrate(&mut sql, 1, &steps).is_err());
    drop(sql);
    let sql = Connection::open(&path).unwrap();
    assert_eq!((number(&sql, "user_version"), rows(&sql, "SELECT * FROM sqlite_schema")), (1, before));
}

/// What lies on the disk when the process is killed in the middle of a step.
#[test]
fn r9_a_kill_in_the_middle_leaves_the_old_version_and_the_next_start_goes_on() {
    let (directory, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = version_1(directory.path());
    let mut sql = Connection::open(&path).unwrap();
    let before = rows(&sql, "SELECT * FROM certificate ORDER BY idx");
    // With so little memory, pages of the unfinished transaction are written to the log.
    sql.execute_batch("PRAGMA journal_mode = WAL; PRAGMA cache_size = 5").unwrap();
    let transaction = sql.transaction().unwrap();
    transaction.execute_batch(BODIES).unwrap();
    for file in ["ledger.sqlite3", "ledger.sqlite3-wal"] {
        std::fs::copy(directory.path().join(file), killed.path().join(file)).unwrap();
    }
    drop(transaction);
    let path = killed.path().join("ledger.sqlite3");
    assert!(std::fs::metadata(killed.path().join("ledger.sqlite3-wal")).unwrap().len() > 100_000);
    let sql = Connection::open(&path).unwrap();
    assert_eq!(number(&sql, "user_version"), 1);
    assert_eq!(rows(&sql, "SELECT * FROM certificate ORDER BY idx"), before);
    drop(sql);
    assert_eq!(rows(&schema::open_writer(&path).unwrap(), AS_BEFORE), before);
}
