//! Whatever is changed in a ledger's file behind the daemon's back, `audit verify --against` finds it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use psfca::enrollment::RequestAction;
use psfca::host::HostAction;
use psfca::ledger::checkpoint::Checkpoint;
use psfca::store::LedgerCopy;
use psfca::verification::{Finding, Summary, Wanted, verify};
use rusqlite::Connection;
use rusqlite::types::Value;
use support::stored_ledger::Books;
use support::tools::say;

/// The least number of entries.
const ENTRIES: u64 = 2_000;

/// A closed ledger, and what is known of it.
struct Closed {
    file: PathBuf,
    state: PathBuf,
    /// The newest checkpoint, as a signed note.
    note: String,
    /// An earlier one.
    earlier: String,
    key: String,
    head: Checkpoint,
    _books: Books,
}

/// Hosts, of which some were disabled or removed, three declarations of which the first returns, certificates with and without signatures.
fn ledger() -> &'static Closed {
    static LEDGER: OnceLock<Closed> = OnceLock::new();
    LEDGER.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
            let books = Books::open().await;
            let mut hosts = Vec::new();
            for n in 0..22 {
                books.clock.set(n);
                hosts.push(books.enroll(&format!("pg{n}.iad1.psf.io")).await);
            }
            for (n, action, enrolls) in [
                (30, None, false),
                (31, Some(RequestAction::Approve), false),
                (32, Some(RequestAction::Reject), false),
                (33, Some(RequestAction::Approve), true),
            ] {
                books.ask_to_be(&format!("pg{n}.iad1.psf.io"), action, enrolls).await;
            }
            books.import_salt_keys(&["pg40.iad1.psf.io", "pg41.iad1.psf.io", "pg42.iad1.psf.io"]).await;
            books.import_salt_keys(&["pg41.iad1.psf.io", "pg42.iad1.psf.io", "pg43.iad1.psf.io"]).await;
            for host in &mut hosts[5..12] {
                let renewed = books.renew(host).await;
                if host.host.as_str() == "pg11.iad1.psf.io" {
                    books.fork(host).await;
                }
                *host = renewed;
            }
            hosts.truncate(20);
            hosts.remove(11);
            for (n, action) in
                [(0, HostAction::Disable), (0, HostAction::Enable), (20, HostAction::Remove), (21, HostAction::Disable)]
            {
                books.clock.set(20 + n);
                books.change(&format!("pg{n}.iad1.psf.io"), action).await;
            }
            books.issue(&hosts, 900).await;
            let earlier = books.checkpoint();
            books.declare("# another\n").await;
            books.clock.set(3_000);
            books.issue(&hosts, 600).await;
            books.declare("# and another\n").await;
            books.clock.set(2_000); // set back
            books.issue(&hosts, 500).await;
            books.declare("").await;
            books.record_only(5).await;
            let note = books.checkpoint();
            let verifier = books.ca.checkpoints.verifier();
            let head = Checkpoint::open(&note, verifier).unwrap();
            assert!(head.size >= ENTRIES, "{head:?}");
            Closed {
                file: books.close(),
                state: books.state(),
                note,
                earlier,
                key: verifier.to_string(),
                head,
                _books: books,
            }
        })
    })
}

/// What `audit verify --against` does with `file`; an error is something found, too.
fn findings(file: &Path, signatures: bool) -> (Vec<Finding>, Option<Summary>) {
    let wanted = Wanted { against: Some(&ledger().head), signature_threads: usize::from(signatures) };
    let mut found = Vec::new();
    let outcome =
        LedgerCopy::open(file).and_then(|copy| verify(&copy, wanted, &mut |finding| found.push(finding), &mut |_| {}));
    match outcome {
        Ok(summary) => (found, Some(summary)),
        Err(error) => (vec![Finding { index: None, what: error.to_string() }], None),
    }
}

/// A copy of the ledger in a directory of its own, to be tampered with again and again.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("ledger.sqlite3")
    }

    /// A fresh copy, changed by `tamper`, which says how many rows it changed.
    fn tampered(&self, tamper: &dyn Fn(&Connection) -> usize) -> PathBuf {
        std::fs::copy(&ledger().file, self.file()).unwrap();
        let sql = Connection::open(self.file()).unwrap();
        sql.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").unwrap();
        assert!(tamper(&sql) > 0, "nothing was changed");
        drop(sql);
        self.file()
    }
}

/// Runs each job on as many threads as there are cores.
fn in_parallel<J: Sync>(jobs: &[J], work: impl Fn(&Scratch, &J) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                let scratch = Scratch::new();
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(&scratch, job);
                }
            });
        }
    });
}

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
            ("tbs", &flipped("tbs")),
            ("tbs", "substr(tbs, 1, length(tbs) - 1)"),
        ],
    );
    certificate.push(change("deleted", "DELETE FROM certificate WHERE idx = ?1"));
    certificate.push(swap("certificate", &["name", "host", "role", "recorded", "not_after", "tbs", "signature"]));
    let signature = flipped("signature");
    for (what, value) in [
        ("signature", format!("coalesce({signature}, x'00')")),
        ("another's signature", "coalesce((SELECT o.signature FROM certificate o WHERE o.idx <> ?1 AND o.signature IS NOT NULL LIMIT 1), x'00')".to_owned()),
    ] {
        let sql = format!("UPDATE certificate SET signature = {value} WHERE idx = ?1");
        certificate.push(Change { what, sql, by_signature: true });
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
        ("event", "idx", event),
        with_delete(
            "tile_hash",
            "level * 1000000 + idx",
            &[("hash", &flipped("hash")), ("idx", "idx + 100"), ("level", "level + 1")],
        ),
        with_delete(
            "tile_time",
            "idx",
            &[("idx", "idx + 100"), ("earliest", "earliest - 1"), ("latest", "latest + 1")],
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

#[test]
fn an_untouched_ledger_has_no_finding() {
    let (found, summary) = findings(&ledger().file, true);
    assert_eq!(found, []);
    let (summary, head) = (summary.unwrap(), &ledger().head);
    assert_eq!((summary.entries, summary.root, summary.unreleased), (head.size, head.root, 5));
    assert_eq!(summary.signatures, summary.certificates - 5);
}

/// Whether there is time for more than samples (`.ci/long`, with an optimised build).
fn thoroughly() -> bool {
    std::env::var_os("PSFCA_THOROUGHLY").is_some_and(|value| value == "1")
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

/// The one thing in the tables that no entry says: whether a signature was stored. It is counted.
#[test]
fn a_dropped_signature_shows_as_unreleased_as_after_a_crash() {
    let scratch = Scratch::new();
    let drop = "UPDATE certificate SET signature = NULL WHERE idx = 500";
    let file = scratch.tampered(&|sql| sql.execute(drop, []).unwrap());
    let (found, summary) = findings(&file, true);
    assert_eq!((found.len(), summary.unwrap().unreleased), (0, 6));
    // Not so for a CA: without its certificate nothing else can be checked.
    let drop = "UPDATE certificate SET signature = NULL WHERE idx = 1";
    let file = scratch.tampered(&|sql| sql.execute(drop, []).unwrap());
    assert!(!findings(&file, true).0.is_empty());
}

#[test]
fn rows_that_no_entry_made_and_definitions_that_are_not_ours_are_found() {
    let copied = |table: &str, columns: &str, values: &str| {
        format!("INSERT INTO {table} ({columns}) SELECT {values} FROM {table} LIMIT 1")
    };
    let all = [
        copied("entry", "idx, bytes, leaf_hash", "1000000, bytes, leaf_hash"),
        copied("entry", "idx, bytes, leaf_hash", "-1, bytes, leaf_hash"),
        copied(
            "certificate",
            "idx, serial, name, recorded, not_after, tbs",
            "1000000, x'77', name, recorded, not_after, tbs",
        ),
        copied(
            "certificate",
            "idx, serial, name, recorded, not_after, tbs",
            "-5, x'77', name, recorded, not_after, tbs",
        ),
        "INSERT INTO certificate (idx, serial, name, recorded, not_after, tbs)
         SELECT idx, x'77', 'a', 1, 2, x'' FROM event LIMIT 1"
            .to_owned(),
        "INSERT INTO event (idx, event, recorded) VALUES (1000000, 'declaration', 1)".to_owned(),
        "INSERT INTO event (idx, event, recorded) VALUES (0, 'declaration', 1)".to_owned(),
        "INSERT INTO host VALUES ('evil.psf.io', 'enabled', 1, 1, 5)".to_owned(),
        "INSERT INTO enrollment_request VALUES ('pg9.psf.io', zeroblob(32), '192.0.2.1', 'approved', 1795255200, 0)"
            .to_owned(),
        "INSERT INTO salt_key VALUES ('pg9.psf.io', zeroblob(32), x'00')".to_owned(),
        "INSERT INTO renewal VALUES (x'00', 'pg0.iad1.psf.io', zeroblob(32), 5)".to_owned(),
        "INSERT INTO token VALUES (x'00', 'evil.psf.io', 9999999999, 1, NULL)".to_owned(),
        "INSERT INTO declaration VALUES (x'00', 1000000, 1, '[]')".to_owned(),
        "INSERT INTO tile_hash VALUES (1, 1000, zeroblob(32))".to_owned(),
        "INSERT INTO tile_hash VALUES (0, 0, zeroblob(32))".to_owned(),
        "INSERT INTO tile_time VALUES (1000, 1, 1)".to_owned(),
        format!("INSERT INTO backup VALUES ('{}')", ledger().earlier),
    ];
    let definitions = [
        "DROP INDEX certificate_by_host",
        "CREATE TABLE mine (a)",
        "CREATE TRIGGER mine AFTER INSERT ON entry BEGIN DELETE FROM token; END",
        "DROP TABLE event",
        "ALTER TABLE host RENAME TO hosts",
        "PRAGMA user_version = 7",
    ];
    let scratch = Scratch::new();
    for sql in all.iter().map(String::as_str).chain(definitions) {
        let file = scratch.tampered(&|connection| {
            connection.execute_batch(sql).unwrap();
            1
        });
        assert!(!findings(&file, false).0.is_empty(), "not found: {sql}");
    }
}

/// A ledger that is right in itself and yet another one: only a checkpoint kept elsewhere shows it.
#[test]
fn a_ledger_that_was_cut_back_or_made_anew_is_found_by_the_checkpoint() {
    let scratch = Scratch::new();
    let cut = |to: u64| {
        let file = scratch.tampered(&|sql| {
            let tables = ["entry", "certificate", "event"];
            let cut = |table: &&str| sql.execute(&format!("DELETE FROM {table} WHERE idx >= ?1"), [to]).unwrap();
            tables.iter().map(cut).sum()
        });
        findings(&file, false).0
    };
    let size = ledger().head.size;
    // The last entries are certificates that nothing else depends on.
    let found = cut(size - 2);
    assert!(found.len() == 1 && found[0].what.contains("this ledger is older, or was cut"), "{found:?}");
    assert!(!cut(ledger().head.size / 2).is_empty());

    let other = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        let books = Books::open().await;
        books.record_only(usize::try_from(size).unwrap()).await;
        books.close();
        books
    });
    let (found, summary) = findings(&psfca::init::ledger_path(&other.state()), true);
    assert!(summary.unwrap().entries >= size);
    assert!(found.len() == 1 && found[0].what.contains("are not those of the checkpoint"), "{found:?}");
}

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
        for table in ["entry", "tile_hash", "tile_time", "certificate", "event", "host", "token", "declaration"] {
            read(format!("SELECT * FROM {table} NOT INDEXED"))?;
        }
        read("SELECT * FROM sqlite_schema".to_owned())?;
        for (table, index, over) in [
            ("certificate", "certificate_by_serial", "serial"),
            ("certificate", "certificate_by_name", "name"),
            ("certificate", "certificate_by_host", "host"),
            ("certificate", "certificate_by_role", "role"),
            ("certificate", "certificate_by_end", "not_after"),
            ("certificate", "certificate_by_state", "signature IS NULL"),
            ("event", "event_by_kind", "event"),
            ("event", "event_by_host", "host"),
            ("token", "sqlite_autoindex_token_1", "hash"),
            ("host", "sqlite_autoindex_host_1", "name"),
            ("declaration", "sqlite_autoindex_declaration_1", "sha256"),
        ] {
            read(format!(
                "SELECT {over}, rowid FROM {table} INDEXED BY {index} WHERE ({over}) IS NOT NULL ORDER BY {over}, rowid"
            ))?;
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
            let found = content(&scratch.file()).unwrap_or_default();
            let other = expected.iter().find(|(query, rows)| found.get(*query) != Some(rows)).map(|(query, _)| query);
            assert_eq!(other, None, "octet {place} was changed and not found");
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

/// The command itself: exit codes, where the key comes from, and that it leaves no trace.
#[test]
fn audit_verify_says_what_it_found_and_changes_nothing() {
    let closed = ledger();
    let scratch = Scratch::new();
    let dir = scratch.0.path();
    let note = dir.join("checkpoint");
    std::fs::write(&note, &closed.note).unwrap();
    let run = |args: &[&str]| {
        let out = support::psfca().args(["audit", "verify"]).args(args).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let before: Vec<_> = std::fs::read_dir(&closed.state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let (code, out, error) = run(&["--state", closed.state.to_str().unwrap(), "--against", note.to_str().unwrap()]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.ends_with("Everything holds.\n") && out.contains(&closed.head.root.to_string()), "{out}");
    let after: Vec<_> = std::fs::read_dir(&closed.state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(before, after);

    // A copy on a medium that cannot be written: its directory is closed.
    let copy =
        scratch.tampered(&|sql| sql.execute("UPDATE certificate SET name = 'other' WHERE idx = 150", []).unwrap());
    std::fs::write(&note, &closed.earlier).unwrap();
    let args = [copy.to_str().unwrap(), "--against", note.to_str().unwrap(), "--key", &closed.key];
    let (code, out, _) = run(&args);
    assert_eq!(code, Some(1));
    assert!(out.starts_with("entry 150: certificate.name is \"other\", by the entry it is "), "{out}");
    assert!(out.ends_with("\n1 difference.\n"), "{out}");
    let (code, out, _) = run(&[&args[..], &["--json"]].concat());
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, &lines[0]["index"], &lines[1]["differences"]), (Some(1), &150.into(), &1.into()));

    let (code, _, error) = run(&args[..3]);
    assert!(code == Some(1) && error.contains("give that with --key"), "{error}");
    std::fs::write(&note, closed.note.replace("\n2", "\n3")).unwrap();
    let (code, _, error) = run(&args);
    assert!(code == Some(1) && error.contains("is not to be believed"), "{error}");
}
