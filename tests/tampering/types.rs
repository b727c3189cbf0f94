//! Cells of another type than their column's, which SQLite itself would not write.

use rusqlite::Connection;

use crate::closed::{findings, in_parallel, ledger};

/// Tables with a row of each and its columns; of the other tables SQLite's `integrity_check` is asked.
const TABLES: [(&str, &str, &[&str]); 4] = [
    ("entry", CERTIFICATE, &["bytes", "leaf_hash"]),
    ("certificate", CERTIFICATE, &["serial", "name", "host", "role", "recorded", "not_after", "released", "dropped"]),
    ("body", CERTIFICATE, &["tbs", "signature"]),
    ("tile_time", "1", &["earliest", "latest", "last_end"]),
];
/// One with everything that a certificate can have.
const CERTIFICATE: &str = "(SELECT idx FROM certificate JOIN body USING (idx)
    WHERE host IS NOT NULL AND role IS NOT NULL AND signature IS NOT NULL AND idx > 300 LIMIT 1)";

/// Sets a cell while the table's definition says nothing of types.
fn set(sql: &Connection, table: &str, row: &str, column: &str, value: &str) -> usize {
    let define = |definition: &str| {
        sql.execute_batch("PRAGMA writable_schema = ON").unwrap();
        sql.execute("UPDATE sqlite_schema SET sql = ?1 WHERE name = ?2", [definition, table]).unwrap();
        sql.execute_batch("PRAGMA writable_schema = RESET").unwrap();
    };
    let strict: String =
        sql.query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0)).unwrap();
    let words = [" STRICT", " NOT NULL", " TEXT", " BLOB", " INTEGER"];
    let loose = words.iter().fold(strict.clone(), |definition, word| definition.replace(word, ""));
    define(&loose.replace(" PRIMARY KEY", " INTEGER PRIMARY KEY"));
    let changed = sql.execute(&format!("UPDATE {table} SET {column} = {value} WHERE idx = {row}"), []).unwrap();
    define(&strict);
    changed
}

#[test]
fn a_cell_that_is_not_of_its_columns_type_is_found() {
    let mut jobs = Vec::new();
    for (table, row, columns) in TABLES {
        for column in columns {
            for value in ["CAST({} AS BLOB)", "CAST({} AS TEXT)", "x'31'", "'1'", "1", "1.5", "NULL"] {
                jobs.push((table, row, *column, value.replace("{}", column)));
            }
        }
    }
    let sql = Connection::open(&ledger().file).unwrap();
    jobs.retain(|(table, row, column, value)| {
        let differs = format!("SELECT typeof({column}) <> typeof({value}) FROM {table} WHERE idx = {row}");
        sql.query_row(&differs, [], |row| row.get(0)).unwrap()
    });
    drop(sql);
    assert!(jobs.len() > 60, "{}", jobs.len());
    in_parallel(&jobs, |scratch, (table, row, column, value)| {
        let file = scratch.tampered(&|sql| set(sql, table, row, column, value));
        let (found, _) = findings(&file, false);
        assert!(!found.is_empty(), "{table}.{column} = {value} was not found");
        let definitions = found.iter().any(|finding| finding.what.contains("definitions are not those"));
        assert!(!definitions, "{table}.{column} = {value}: {found:?}");
    });
}
