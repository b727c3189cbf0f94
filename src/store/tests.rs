//! What the store promises, on real files.

use std::path::PathBuf;

use rusqlite::Connection;

use super::*;
use crate::enrollment::{EnrolledBy, KeyDecision, RequestAction};
use crate::grant::{CertificateKind, Rule};
use crate::host::{HostAction, HostChange};
use crate::ledger::{CertificateRecord, Entry, Event, leaf_hash};
use crate::serial::Serial;
use crate::wire::AuditQuery;

const NOW: Timestamp = Timestamp::from_unix(1_795_255_200);
const DECLARATION: Digest = Digest::from_bytes([7; 32]);
const TOKEN: Digest = Digest::from_bytes([9; 32]);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOW.unix() + seconds)
}

fn pg0() -> HostName {
    HostName::parse("pg0.iad1.psf.io").unwrap()
}

/// A ledger in a directory of its own.
struct Ledger(tempfile::TempDir);

impl Ledger {
    fn new() -> Self {
        let ledger = Self(tempfile::tempdir().unwrap());
        Store::create(&ledger.path()).unwrap();
        ledger
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("ledger.sqlite3")
    }

    fn open(&self) -> Store {
        Store::open(&self.path()).unwrap()
    }

    /// A store in which `pg0` is enrolled and a declaration in force: four entries.
    async fn with_host(&self) -> Store {
        let store = self.open();
        store.make_token(token(TOKEN, false)).await.unwrap();
        let _ = store.record(enrolment(1_000, TOKEN, b"pg0")).await.unwrap();
        store.put_in_force(declaration(DECLARATION)).await.unwrap();
        assert_eq!(store.head().size, 4);
        store
    }

    fn sql(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    /// Every entry in its order, after checking what holds for every ledger: indices are dense and
    /// each leaf hash is that of the stored bytes.
    fn entries(&self) -> Vec<Entry> {
        let sql = self.sql();
        let mut statement = sql.prepare("SELECT idx, bytes, leaf_hash FROM entry ORDER BY idx").unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut entries = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let (index, bytes): (usize, Vec<u8>) = (row.get(0).unwrap(), row.get(1).unwrap());
            assert_eq!(index, entries.len(), "a gap in the indices");
            assert_eq!(Digest::from_bytes(row.get(2).unwrap()), leaf_hash(&bytes));
            entries.push(Entry::decode(&bytes).unwrap());
        }
        entries
    }

    fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.entries().iter().filter(|entry| wanted(&entry.event)).count()
    }
}

fn record(number: u32) -> CertificateRecord {
    CertificateRecord {
        kind: CertificateKind::Service,
        serial: Serial::from_octets(&(number + 1).to_be_bytes()).unwrap(),
        name: "postgresql.psf.io".to_owned(),
        host: Some(pg0()),
        not_before: at(-3_600),
        not_after: at(86_400),
        key_sha256: Digest::of(b"key"),
        ca_made_key: false,
        tbs_sha256: Digest::of(&tbs(number)),
        rule: Rule::ServerNames,
    }
}

fn tbs(number: u32) -> Vec<u8> {
    format!("to be signed {number}").into_bytes()
}

fn draft(number: u32, condition: Condition) -> Draft {
    Draft::new(NOW, record(number), tbs(number).into(), condition).unwrap()
}

fn enrolment(number: u32, token: Digest, key: &[u8]) -> Draft {
    let record = CertificateRecord {
        kind: CertificateKind::Identity,
        name: pg0().to_string(),
        key_sha256: Digest::of(key),
        ..record(number)
    };
    Draft::new(NOW, record, tbs(number).into(), Condition::Enrollment { by: EnrolledBy::Token { token } }).unwrap()
}

/// The identity of `pg0` in [`Ledger::with_host`].
fn shown() -> ShownIdentity {
    ShownIdentity { host: pg0(), serial: record(1_000).serial, issued: NOW }
}

fn token(hash: Digest, replaces: bool) -> NewToken {
    NewToken { at: NOW, hash, host: pg0(), expires: at(3_600), replaces, operator_uid: 0 }
}

fn declaration(sha256: Digest) -> NewDeclaration {
    NewDeclaration { at: NOW, sha256, names: 1, files: vec![("tls.yaml".to_owned(), "tls:".to_owned())] }
}

/// The indices of a whole listing.
async fn listed(store: &Store, query: AuditQuery) -> Vec<u64> {
    let (page, next) = store.entries(query, NOW).await.unwrap();
    assert_eq!(next, None);
    page.iter().map(|entry| entry.index).collect()
}

mod files;
mod hosts;
mod identities;
mod listing;
mod queue;
mod readers;
mod refusals;
mod reports;
mod requests;
mod restoration;
mod retention;
mod salt_keys;
mod tokens;
