//! Each row of each table, changed in every way.

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::closed::{findings, in_parallel, ledger, thoroughly};
use crate::support::tools::say;

/// A way to change one row of a table; `?1` is the row.
struct Change {
    what: &'static str,
    sql: String,
    /// Only the signatures themselves show it.
    by_signature: bool,
}

fn change(what: &'static str, sql: impl Into<String>) -> Change {
    Change { what, sql: sql.into(), by_signature: false }
}

/// Other values for a column of this table.
fn other_values(table: &str, row: &str, columns: &[(&'static str, &str)]) -> Vec<Change> {
    let set = |&(column, value): &(&'static str, &str)| {
        change(column, format!("UPDATE {table} SET {column} = {value} WHERE {row} = ?1"))
    };
    columns.iter().map(set).collect()
}

/// The same octets but for the lowest bit of one of them: the first in the last fifth, to miss what
/// is compared anyhow.
fn flipped(column: &str) -> String {
    let at = format!("(length({column}) * 4 / 5 + 1)");
    let octet =
        format!("unhex(printf('%02x', instr('0123456789ABCDEF', substr(hex(substr({column}, {at}, 1)), 2, 1)) % 16))");
    format!("CAST(substr({column}, 1, {at} - 1) || {octet} || substr({column}, {at} + 1) AS BLOB)")
}

/// Table, the expression that names a row, and the ways to change one.
fn changes() -> Vec<(&'static str, &'static str, Vec<Change>)> {
    let swap = |table: &str, columns: &[&str]| {
        // With the next row that differs in one of them.
        let differs = columns.iter().map(|c| format!("b.{c} IS NOT a.{c}")).collect::<Vec<_>>().join(" OR ");
        let values =
            columns.iter().map(|c| format!("(SELECT {c} FROM temp.pair WHERE idx <> {table}.idx)")).collect::<Vec<_>>();
        change(
            "swapped",
            format!(
                "CREATE TEMP TABLE pair AS SELECT * FROM {table} WHERE idx = ?1 OR idx = coalesce(
                    (SELECT min(b.idx) FROM {table} a JOIN {table} b ON b.idx > a.idx AND ({differs}) WHERE a.idx = ?1),
                    (SELECT max(b.idx) FROM {table} a JOIN {table} b ON b.idx < a.idx AND ({differs}) WHERE a.idx = ?1));
                 UPDATE {table} SET ({}) = ({}) WHERE idx IN (SELECT idx FROM temp.pair)",
                columns.join(", "),
                values.join(", "),
            ),
        )
    };
    let mut entry = other_values("entry", "idx", &[("bytes", &flipped("bytes")), ("leaf_hash", &flipped("leaf_hash"))]);
    entry.push(change("cut", "UPDATE entry SET bytes = substr(bytes, 1, length(bytes) - 1) WHERE idx = ?1"));
    entry.push(change("deleted", "DELETE FROM entry WHERE idx = ?1"));
    entry.push(swap("entry", &["bytes", "leaf_hash"]));

    let mut certificate = other_values(
        "certificate",
        "idx",
        &[
            ("serial", &flipped("serial")),
            ("name", "name || 'x'"),
            ("host", "CASE WHEN host IS NULL THEN 'pg0.iad1.psf.io' ELSE NULL END"),
            ("role", "CASE WHEN role IS NULL THEN 'postgresql' ELSE NULL END"),
            ("recorded", "recorded + 1"),
            ("not_after", "not_after - 1"),
            // Where the body was dropped, nothing else says whether there was a signature.
            ("released", "CASE WHEN dropped THEN 7 ELSE 1 - released END"),
            ("dropped", "1 - dropped"),
        ],
    );
    certificate.push(change("deleted", "DELETE FROM certificate WHERE idx = ?1"));
    certificate.push(swap("certificate", &["name", "host", "role", "recorded", "not_after", "released", "dropped"]));

    let mut body = other_values(
        "body",
        "idx",
        &[("tbs", &flipped("tbs")), ("tbs", "substr(tbs, 1, length(tbs) - 1)"), ("idx", "idx + 1000000")],
    );
    body.push(change("deleted", "DELETE FROM body WHERE idx = ?1"));
    body.push(swap("body", &["tbs", "signature"]));
    let signature = flipped("signature");
    for (what, value) in [
        ("signature", format!("coalesce({signature}, x'00')")),
        (
            "another's signature",
            "coalesce((SELECT o.signature FROM body o WHERE o.idx <> ?1 AND o.signature IS NOT NULL LIMIT 1), x'00')"
                .to_owned(),
        ),
    ] {
        let sql = format!("UPDATE body SET signature = {value} WHERE idx = ?1");
        body.push(Change { what, sql, by_signature: true });
    }

    let mut event = other_values(
        "event",
        "idx",
        &[
            ("event", "CASE event WHEN 'declaration' THEN 'token_made' ELSE 'declaration' END"),
            ("host", "CASE WHEN host IS NULL THEN 'pg0.iad1.psf.io' ELSE NULL END"),
            ("recorded", "recorded + 1"),
        ],
    );
    event.push(change("deleted", "DELETE FROM event WHERE idx = ?1"));
    event.push(swap("event", &["event", "host", "recorded"]));

    let with_delete = |table: &'static str, row: &'static str, columns: &[(&'static str, &str)]| {
        let mut changes = other_values(table, row, columns);
        changes.push(change("deleted", format!("DELETE FROM {table} WHERE {row} = ?1")));
        (table, row, changes)
    };
    vec![
        ("entry", "idx", entry),
        ("certificate", "idx", certificate),
        ("body", "idx", body),
        ("event", "idx", event),
        with_delete(
            "tile_hash",
            "level * 1000000 + idx",
            &[("hash", &flipped("hash")), ("idx", "idx + 100"), ("level", "level + 1")],
        ),
        with_delete(
            "tile_time",
            "idx",
            &[
                ("idx", "idx + 100"),
                ("earliest", "earliest - 1"),
                ("latest", "latest + 1"),
                ("last_end", "last_end - 1"),
                ("last_end", "NULL"),
            ],
        ),
        with_delete(
            "holder",
            "host || ' ' || name",
            &[("host", "host || 'x'"), ("name", "name || 'x'"), ("idx", "idx - 1")],
        ),
        with_delete(
            "host",
            "name",
            &[
                ("name", "name || 'x'"),
                ("state", "CASE state WHEN 'enabled' THEN 'disabled' ELSE 'enabled' END"),
                ("since", "since + 1"),
                ("enrolled", "enrolled + 1"),
                ("idx", "idx - 1"),
            ],
        ),
        with_delete(
            "renewal",
            "serial",
            &[
                ("serial", &flipped("serial")),
                ("host", "host || 'x'"),
                ("key_sha256", &flipped("key_sha256")),
                ("idx", "idx - 1"),
            ],
        ),
        with_delete(
            "enrollment_request",
            "host",
            &[
                ("host", "host || 'x'"),
                ("key_sha256", &flipped("key_sha256")),
                ("address", "'192.0.2.1'"),
                ("state", "CASE state WHEN 'approved' THEN 'waiting' ELSE 'approved' END"),
                ("since", "since + 1"),
                ("operator_uid", "coalesce(operator_uid, 0) + 1"),
            ],
        ),
        with_delete(
            "salt_key",
            "host",
            &[("host", "host || 'x'"), ("key_sha256", &flipped("key_sha256")), ("public_key", &flipped("public_key"))],
        ),
        with_delete(
            "token",
            "hash",
            &[
                ("hash", &flipped("hash")),
                ("host", "host || 'x'"),
                ("expires", "expires + 3600"),
                ("replaces", "1 - replaces"),
                ("spent_by", "NULL"),
                ("spent_by", &flipped("spent_by")),
            ],
        ),
        with_delete(
            "declaration",
            "sha256",
            &[
                ("sha256", &flipped("sha256")),
                ("idx", "idx + 1"),
                ("since", "since + 1"),
                ("files", "replace(files, 'postgresql', 'loadbalancer')"),
                ("files", "replace(files, ',', ', ')"),
            ],
        ),
    ]
}

fn rows(table: &str, row: &str) -> Vec<Value> {
    let sql = Connection::open(&ledger().file).unwrap();
    let mut statement = sql.prepare(&format!("SELECT {row} FROM {table}")).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

/// Each row of a small table is changed in every way. Of the large ones it is one way for each row,
/// going round; and where there is not much time, every eighth row.
#[test]
fn every_row_that_is_changed_swapped_or_deleted_is_found() {
    let changes = changes();
    let mut jobs = Vec::new();
    for (table, row, ways) in &changes {
        let rows = rows(table, row);
        // Small tables have each way tried on each row.
        let (ways_for_each, step) = match rows.len() {
            0..=20 => (ways.len(), 1),
            21..=500 => (1, 1),
            _ => (1, if thoroughly() { 1 } else { 8 }),
        };
        for (n, row) in rows.into_iter().step_by(step).enumerate() {
            for k in 0..ways_for_each {
                jobs.push((*table, row.clone(), &ways[(n + k) % ways.len()]));
            }
        }
    }
    assert!(jobs.len() > if thoroughly() { 4_000 } else { 700 });
    in_parallel(&jobs, |scratch, (table, row, change)| {
        let file = scratch.tampered(&|sql| {
            sql.execute_batch("PRAGMA temp_store = MEMORY").unwrap();
            let statements: Vec<_> = change.sql.split(";\n").collect();
            let run = |part: &&str| {
                let mut statement = sql.prepare(part).unwrap();
                let parameters = vec![row; statement.parameter_count()];
                statement.execute(rusqlite::params_from_iter(parameters)).unwrap()
            };
            statements.iter().map(run).last().unwrap()
        });
        let (found, _) = findings(&file, change.by_signature);
        assert!(!found.is_empty(), "{table} {row:?}: {} was not found", change.what);
    });
    say(&format!("{} changes of rows, each found", jobs.len()));
}
