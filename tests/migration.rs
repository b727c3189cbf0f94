//! A ledger that an older psfca made becomes one of this version, and everything in it still holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use support::Ca;
use support::stored_ledger::Books;

const VERSION_1: &str = include_str!("../src/store/migration/version-1.sql");

/// The same ledger as version 1 would have written it.
fn as_version_1(file: &Path, directory: &Path) -> PathBuf {
    let old = directory.join("ledger.sqlite3");
    let sql = Connection::open(&old).unwrap();
    sql.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    sql.execute_batch(VERSION_1).unwrap();
    sql.execute("ATTACH ?1 AS newer", [file.to_str().unwrap()]).unwrap();
    for table in ["entry", "tile_hash", "event", "token", "declaration"] {
        sql.execute(&format!("INSERT INTO main.{table} SELECT * FROM newer.{table}"), []).unwrap();
    }
    sql.execute("INSERT INTO main.tile_time SELECT idx, earliest, latest FROM newer.tile_time", []).unwrap();
    sql.execute("INSERT INTO main.host SELECT name, state = 'enabled', enrolled FROM newer.host", []).unwrap();
    let certificates = "INSERT INTO main.certificate
        SELECT idx, serial, name, host, role, recorded, not_after, tbs, signature
        FROM newer.certificate JOIN newer.body USING (idx)";
    assert!(sql.execute(certificates, []).unwrap() > 3);
    old
}

fn verify(file: &Path) -> (Option<i32>, String) {
    let out = support::psfca().args(["audit", "verify"]).arg(file).output().unwrap();
    (out.status.code(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
}

/// Signed certificates, some without a signature, more than one tile of entries.
async fn ledger() -> Books {
    let books = Books::open().await;
    let hosts = [books.enroll("pg0.iad1.psf.io").await, books.enroll("pg1.iad1.psf.io").await];
    books.issue(&hosts, 300).await;
    books.record_only(5).await;
    books
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_version_1_is_opened_and_then_verifies_with_every_signature() {
    let books = ledger().await;
    let (head, directory) = (books.ca.store.head(), tempfile::tempdir().unwrap());
    let old = as_version_1(&books.close(), directory.path());
    let before = std::fs::read(&old).unwrap();
    let (code, said) = verify(&old);
    assert_eq!(code, Some(1));
    assert_eq!(
        said,
        "psfca: the ledger has schema version 1, this psfca reads version 7; starting psfca serve of this \
         version once upgrades it, for good; until then the psfca that wrote it can read it\n"
    );
    assert_eq!(std::fs::read(&old).unwrap(), before, "reading changes nothing");

    let store = psfca::store::Store::open(&old).unwrap();
    assert_eq!(store.head(), head);
    drop(store);
    let (code, said) = verify(&old);
    assert_eq!(code, Some(0), "{said}");
    let expected = format!("entries       {}\nroot          {}\n", head.size, head.root);
    assert!(said.starts_with(&expected), "{said}");
    assert!(
        said.contains("5 of them without a signature") && said.contains("\nsignatures    305 verified\n"),
        "{said}"
    );
}

/// The daemon does it by itself at its start, and goes on.
#[test]
fn a_daemon_starts_on_the_ledger_of_the_version_before_it() {
    let mut ca = Ca::start();
    let host = support::Host::enroll(&ca, "pg0.iad1.psf.io");
    host.ok(&["issue", "postgresql.psf.io"]);
    support::wait_until("every signature is stored", || {
        !ca.ok(&["audit", "list", "--event", "certificate"]).contains("recorded")
    });
    let before = ca.ok(&["audit", "list", "--csv"]);
    assert!(ca.terminate().success());

    let (ledger, directory) = (ca.state().join("ledger.sqlite3"), tempfile::tempdir().unwrap());
    let old = as_version_1(&ledger, directory.path());
    std::fs::copy(&old, &ledger).unwrap();

    ca.serve();
    assert!(ca.log().contains("bringing the ledger to a newer schema version"), "{}", ca.log());
    assert!(ca.ok(&["host", "list", "--pending"]).starts_with("No host waits."));
    let after = ca.ok(&["audit", "list", "--csv"]);
    assert!(after.ends_with(before.split_once('\n').unwrap().1), "{after}\n{before}");
    assert!(ca.terminate().success());
    let (code, said) = verify(&ledger);
    assert_eq!(code, Some(0), "{said}");
}
