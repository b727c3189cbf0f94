//! Whatever is changed in a ledger's file behind the daemon's back, `audit verify --against` finds it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod bodies;
mod closed;
mod octets;
mod pages;
mod rows;
#[path = "../support/mod.rs"]
mod support;
mod types;

use closed::{Scratch, findings, ledger};
use psfca::store::{LedgerCopy, Store};
use psfca::verification::{Wanted, verify};
use rusqlite::Connection;
use support::stored_ledger::Books;

#[test]
fn an_untouched_ledger_has_no_finding() {
    let (found, summary) = findings(&ledger().file, true);
    assert_eq!(found, []);
    let (summary, head) = (summary.unwrap(), &ledger().head);
    assert_eq!((summary.entries, summary.root, summary.unreleased), (head.size, head.root, 5));
    assert_eq!(summary.dropped, ledger().dropped);
    assert_eq!(summary.signatures, summary.certificates - summary.dropped - 5);
}

/// Two threads read the file, each by a connection of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_grows_meanwhile_has_no_finding() {
    let books = Books::open().await;
    let hosts = [books.enroll("pg0.iad1.psf.io").await];
    books.issue(&hosts, 300).await;
    let path = psfca::init::ledger_path(&books.state());
    let verifying = tokio::task::spawn_blocking(move || {
        let wanted = Wanted { against: None, signature_threads: 0 };
        let (mut found, mut sizes) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let copy = LedgerCopy::open(&path).unwrap();
            let summary = verify(&copy, wanted, &mut |finding| found.push(finding), &mut |_| {}).unwrap();
            sizes.push(summary.entries);
        }
        (found, sizes)
    });
    while !verifying.is_finished() {
        books.issue(&hosts, 1).await;
    }
    let (found, sizes) = verifying.await.unwrap();
    assert_eq!(found, []);
    assert!(sizes.first() < sizes.last(), "{sizes:?}");
}

/// The one thing in the tables that no entry says: whether a signature was stored. It is counted.
#[test]
fn a_removed_signature_shows_as_unreleased_as_after_a_crash() {
    let scratch = Scratch::new();
    let removed = |index: u64| {
        scratch.tampered(&|sql| {
            sql.execute("UPDATE certificate SET released = 0 WHERE idx = ?1", [index]).unwrap()
                + sql.execute("UPDATE body SET signature = NULL WHERE idx = ?1", [index]).unwrap()
        })
    };
    let file = removed(500);
    let (found, summary) = findings(&file, true);
    assert_eq!((found.len(), summary.unwrap().unreleased), (0, 6));
    // Not so for a CA: without its certificate nothing else can be checked.
    assert!(!findings(&removed(1), true).0.is_empty());
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
            "idx, serial, name, recorded, not_after, released, dropped",
            "1000000, x'77', name, recorded, not_after, released, dropped",
        ),
        copied(
            "certificate",
            "idx, serial, name, recorded, not_after, released, dropped",
            "-5, x'77', name, recorded, not_after, released, dropped",
        ),
        "INSERT INTO certificate (idx, serial, name, recorded, not_after, released, dropped)
         SELECT idx, x'77', 'a', 1, 2, 0, 0 FROM event LIMIT 1"
            .to_owned(),
        copied("body", "idx, tbs, signature", "1000000, tbs, signature"),
        copied("body", "idx, tbs, signature", "-5, tbs, signature"),
        "INSERT INTO body (idx, tbs) SELECT idx, x'' FROM event LIMIT 1".to_owned(),
        "INSERT INTO body (idx, tbs) SELECT idx, x'' FROM certificate WHERE dropped LIMIT 1".to_owned(),
        "INSERT INTO event (idx, event, recorded) VALUES (1000000, 'declaration', 1)".to_owned(),
        "INSERT INTO event (idx, event, recorded) VALUES (0, 'declaration', 1)".to_owned(),
        "INSERT INTO host VALUES ('evil.psf.io', 'enabled', 1, 1, 5)".to_owned(),
        "INSERT INTO enrollment_request VALUES ('pg9.psf.io', zeroblob(32), '192.0.2.1', 'approved', 1795255200, 0)"
            .to_owned(),
        "INSERT INTO salt_key VALUES ('pg9.psf.io', zeroblob(32), x'00')".to_owned(),
        "INSERT INTO renewal VALUES (x'00', 'pg0.iad1.psf.io', zeroblob(32), 5)".to_owned(),
        format!("INSERT INTO backup VALUES ('{}')", ledger().earlier),
        "INSERT INTO token VALUES (x'00', 'evil.psf.io', 9999999999, 1, NULL)".to_owned(),
        "INSERT INTO declaration VALUES (x'00', 1000000, 1, '[]')".to_owned(),
        "INSERT INTO holder VALUES ('evil.psf.io', 'evil.psf.io', 5)".to_owned(),
        "INSERT INTO tile_hash VALUES (1, 1000, zeroblob(32))".to_owned(),
        "INSERT INTO tile_hash VALUES (0, 0, zeroblob(32))".to_owned(),
        "INSERT INTO tile_time VALUES (1000, 1, 1, 1)".to_owned(),
    ];
    let definitions = [
        "DROP INDEX certificate_by_host",
        "CREATE TABLE mine (a)",
        "CREATE TRIGGER mine AFTER INSERT ON entry BEGIN DELETE FROM token; END",
        "DROP TABLE event",
        "ALTER TABLE host RENAME TO hosts",
        "PRAGMA user_version = 8",
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

/// Either would be read without an end, if it were.
#[test]
fn queries_in_the_place_of_tables_are_found_and_not_read() {
    const ENDLESS: &str = "WITH RECURSIVE row (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM row)";
    let scratch = Scratch::new();
    for sql in [
        format!(
            "DROP TABLE tile_time; CREATE VIEW tile_time (idx, earliest, latest, last_end) AS {ENDLESS} SELECT x, x, x, x FROM row WHERE x < 0"
        ),
        // SQLite lets nobody take such a name who does not write it behind its back.
        format!(
            "CREATE VIEW mine (pgno, data) AS {ENDLESS} SELECT 1, x FROM row WHERE x < 0; PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET name = 'sqlite_dbpage', tbl_name = 'sqlite_dbpage',
             sql = replace(sql, 'VIEW mine', 'VIEW sqlite_dbpage') WHERE name = 'mine'"
        ),
        "CREATE VIRTUAL TABLE mine USING fts5 (a)".to_owned(),
    ] {
        let file = scratch.tampered(&|connection| {
            connection.execute_batch(&sql).unwrap();
            1
        });
        let (found, _) = findings(&file, false);
        assert!(found.iter().any(|finding| finding.what.contains("is a view or a virtual table")), "{sql}: {found:?}");
    }
}

/// A ledger that is right in itself and yet another one: only a checkpoint kept elsewhere shows it.
#[test]
fn a_ledger_that_was_cut_back_or_made_anew_is_found_by_the_checkpoint() {
    let scratch = Scratch::new();
    let cut = |to: u64| {
        let file = scratch.tampered(&|sql| {
            let tables = ["entry", "certificate", "body", "event"];
            let cut = |table: &&str| sql.execute(&format!("DELETE FROM {table} WHERE idx >= ?1"), [to]).unwrap();
            let count = tables.iter().map(cut).sum();
            sql.execute_batch(
                "DELETE FROM holder;
                 INSERT INTO holder SELECT host, name, max(idx) FROM certificate WHERE role IS NOT NULL GROUP BY host, name",
            )
            .unwrap();
            count
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

/// What the daemon would read is what is verified: SQLite looks for a log beside the file that a link leads to.
#[test]
fn what_lies_in_a_log_behind_a_link_is_found() {
    let scratch = Scratch::new();
    let [source, elsewhere] = ["source", "elsewhere"].map(|name| scratch.0.path().join(name));
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::copy(&ledger().file, &source).unwrap();
    let sql = Connection::open(&source).unwrap();
    sql.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    assert_eq!(sql.execute("UPDATE certificate SET name = 'innocent.psf.io' WHERE idx = 150", []).unwrap(), 1);
    for ending in ["", "-wal"] {
        let from = scratch.0.path().join(format!("source{ending}"));
        std::fs::copy(from, elsewhere.join(format!("real{ending}"))).unwrap();
    }
    std::os::unix::fs::symlink("elsewhere/real", scratch.file()).unwrap();
    let found = findings(&scratch.file(), false).0;
    assert!(found.iter().any(|finding| finding.what.contains("innocent.psf.io")), "{found:?}");
}

/// SQLite plays a rollback journal back when it opens the file. The ledger has a log, and never such a journal.
#[test]
fn a_journal_beside_the_file_is_found_and_the_daemon_does_not_play_it_back() {
    let scratch = Scratch::new();
    let file = scratch.tampered(&|sql| {
        sql.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; PRAGMA cache_size = 1").unwrap();
        sql.execute("UPDATE host SET state = 'disabled' WHERE name = 'pg1.iad1.psf.io'", []).unwrap()
    });
    // A transaction that takes the change back was killed: what is left of it makes the change again.
    let sql = Connection::open(&file).unwrap();
    sql.execute_batch(
        "PRAGMA cache_size = 1; BEGIN EXCLUSIVE;
         UPDATE host SET state = 'enabled' WHERE name = 'pg1.iad1.psf.io';
         CREATE TABLE large (a); INSERT INTO large VALUES (zeroblob(3000000));",
    )
    .unwrap();
    let beside = |name: &str| {
        let copy = scratch.0.path().join(name);
        std::fs::create_dir(&copy).unwrap();
        std::fs::copy(&ledger().file, copy.join("ledger.sqlite3")).unwrap();
        std::fs::copy(scratch.0.path().join("ledger.sqlite3-journal"), copy.join("ledger.sqlite3-journal")).unwrap();
        copy.join("ledger.sqlite3")
    };
    let copy = beside("copy");
    let found = findings(&copy, false).0;
    assert!(found.len() == 1 && found[0].what.contains("ledger.sqlite3-journal lies beside it"), "{found:?}");
    let link = scratch.0.path().join("link");
    std::os::unix::fs::symlink(&copy, &link).unwrap();
    assert!(!findings(&link, false).0.is_empty());
    for path in [&copy, &link] {
        let error = Store::open(path).unwrap_err().to_string();
        assert!(error.contains("ledger.sqlite3-journal lies beside it"), "{error}");
    }
    // And this is what it would have done.
    let played = Connection::open(beside("played")).unwrap();
    let state: String =
        played.query_row("SELECT state FROM host WHERE name = 'pg1.iad1.psf.io'", [], |row| row.get(0)).unwrap();
    assert_eq!(state, "disabled");
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
    assert!(out.contains("\nthe table holder does not have the newest of the table certificate\n"), "{out}");
    assert!(out.ends_with("\n2 differences.\n"), "{out}");
    let (code, out, _) = run(&[&args[..], &["--json"]].concat());
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, &lines[0]["index"], &lines[2]["differences"]), (Some(1), &150.into(), &2.into()));

    let (code, _, error) = run(&args[..3]);
    assert!(code == Some(1) && error.contains("give that with --key"), "{error}");
    std::fs::write(&note, closed.note.replace("\n2", "\n3")).unwrap();
    let (code, _, error) = run(&args);
    assert!(code == Some(1) && error.contains("is not to be believed"), "{error}");

    // By another key of the same name: which is asked for, which signed, and where the right one is given.
    let pkcs8 = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    let other = psfca::ledger::note::NoteSigner::from_pkcs8("psf.io/PSF_CA", pkcs8.as_ref()).unwrap();
    let text = closed.note.split("\n\n").next().unwrap().to_owned() + "\n";
    std::fs::write(&note, other.sign(&text)).unwrap();
    let (code, _, error) = run(&args);
    let hash = |key: &str| key.split('+').nth(1).unwrap().to_owned();
    let (wanted, found) = (hash(&closed.key), hash(&other.verifier().to_string()));
    let said = format!("with the key hash {wanted}, but by one of that name with {found}");
    assert!(code == Some(1) && error.contains(&said) && error.contains("is given with --key"), "{error}");

    let (code, out, _) = run(&[closed.file.to_str().unwrap(), "--without-signatures"]);
    assert!(code == Some(0) && out.contains("\nsignatures    left out\n"), "{out}");
}
