//! Opening, closing, and what is there again afterwards.

use super::*;
use crate::store::copy::LedgerCopy;

#[tokio::test]
async fn what_was_recorded_is_there_after_reopening_with_signatures_beside_their_entries() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let signed = store.record(draft(0, Condition::Always)).await.unwrap();
    let unsigned = store.record(draft(1, Condition::Always)).await.unwrap();
    assert_eq!((signed.index(), unsigned.index(), signed.tbs()), (0, 1, &*tbs(0)));
    store.release(&signed, b"signature".to_vec());
    store.close();

    let store = ledger.open();
    assert_eq!(store.head().size, 2);
    let (page, _) = store.entries(AuditQuery::default(), NOW).await.unwrap();
    for (stored, (number, signature)) in page.iter().zip([(1, None), (0, Some(b"signature".to_vec()))]) {
        let entry = Entry::new(NOW, Event::Certificate(record(number))).encode().unwrap();
        let expected = StoredEntry {
            index: number.into(),
            time: NOW,
            event: Event::Certificate(record(number)),
            leaf_hash: entry.leaf_hash(),
            state: Some(StoredState { released: signature.is_some(), dropped: false }),
        };
        assert_eq!(*stored, expected);
        let body = store.body(number.into()).await.unwrap();
        assert_eq!(body, Some(StoredBody { tbs: tbs(number), signature }));
        let bytes: Vec<u8> =
            ledger.sql().query_row("SELECT bytes FROM entry WHERE idx = ?1", [number], |row| row.get(0)).unwrap();
        assert_eq!(bytes, entry.bytes());
    }
    assert_eq!(ledger.entries().len(), page.len());
}

#[tokio::test]
async fn hosts_and_the_declaration_in_force_are_there_after_reopening() {
    let ledger = Ledger::new();
    let before = ledger.with_host().await;
    let (hosts, in_force) = (before.hosts(), before.declaration().await.unwrap().unwrap());
    assert_eq!(
        before.host(&pg0()),
        Some(Host { name: pg0(), state: HostState::Enabled, since: NOW, enrolled: NOW, enrollment: 1 })
    );
    drop(before);

    let after = ledger.open();
    assert_eq!(after.hosts(), hosts);
    assert_eq!(after.declaration().await.unwrap().unwrap(), in_force);
    assert_eq!(in_force.files, declaration(DECLARATION).files);
}

/// What is left when the process is killed: the files as they lie there, the log not written back.
#[tokio::test]
async fn r9_what_was_recorded_before_a_kill_is_in_the_log_and_opening_empties_that() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let _ = store.record(draft(0, Condition::Always)).await.unwrap();
    let killed = Ledger(tempfile::tempdir().unwrap());
    let log = |ledger: &Ledger| ledger.0.path().join("ledger.sqlite3-wal");
    std::fs::copy(ledger.path(), killed.path()).unwrap();
    std::fs::copy(log(&ledger), log(&killed)).unwrap();
    assert!(std::fs::metadata(log(&killed)).unwrap().len() > 0);

    let store = killed.open();
    assert_eq!(store.head().size, 1);
    // Nothing is appended behind log pages of which nobody knows whether they reached the disk.
    assert_eq!(std::fs::metadata(log(&killed)).unwrap().len(), 0);
    assert_eq!(store.record(draft(1, Condition::Always)).await.unwrap().index(), 1);
    drop(store);
    assert_eq!(killed.entries().len(), 2);
}

#[tokio::test]
async fn a_ledger_is_open_once_and_the_second_is_told_what_to_do() {
    let ledger = Ledger::new();
    let first = ledger.open();
    let error = Store::open(&ledger.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} is in use by another psfca; stop that one first", ledger.path().display())
    );
    let _ = first.record(draft(0, Condition::Always)).await.unwrap();
    first.close();
    assert_eq!(ledger.open().head().size, 1);
}

#[test]
fn what_is_no_ledger_is_refused_with_its_name_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite3");
    let shown = path.display();
    assert_eq!(
        Store::open(&path).unwrap_err().to_string(),
        format!("there is no ledger at {shown}; run psfca init first")
    );
    assert!(!path.exists());

    let not_ours = format!("the ledger is damaged: {shown} is not a psfca ledger");
    let refused = |what: &str, expected: &str| {
        let before = std::fs::read(&path).unwrap();
        assert_eq!(Store::open(&path).unwrap_err().to_string(), expected, "{what}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{what}: changed");
    };
    std::fs::write(&path, "").unwrap();
    refused("an empty file", &not_ours);
    std::fs::write(&path, "This is a shopping list, and long enough for a header.\n".repeat(40)).unwrap();
    refused("a text", &not_ours);
    std::fs::remove_file(&path).unwrap();
    // Any program may have counted to the same version.
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE entry (a); PRAGMA user_version = 1;").unwrap();
    refused("another program's database", &not_ours);
    std::fs::remove_file(&path).unwrap();
    Store::create(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 1000;").unwrap();
    let known = super::super::schema::VERSION;
    let newer = format!("the ledger has schema version 1000, this psfca knows {known}; use the newer psfca");
    refused("a newer one", &newer);
}

/// Else a listing would look for what lies between.
#[test]
fn a_ledger_whose_last_index_is_beyond_all_entries_is_refused() {
    let ledger = Ledger::new();
    drop(ledger.open());
    // With so many entries no tile at the edge has any, so nothing else is missing.
    let last = (1u64 << 40) - 1;
    ledger.sql().execute("INSERT INTO entry VALUES (?1, x'', zeroblob(32))", [last]).unwrap();
    ledger.sql().execute("INSERT INTO tile_hash VALUES (5, 0, zeroblob(32))", []).unwrap();
    let refused = Store::open(&ledger.path()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the ledger is damaged: by its last entry it has 1099511627776 entries, and it has the times of 0 tiles"
    );
}

#[test]
fn a_ledger_that_cannot_be_looked_at_is_not_called_missing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite3");
    assert!(matches!(LedgerCopy::open(&path), Err(StoreError::NoFile(_))));
    // As for a user who may not enter the directory; root may enter any, but follows no link to itself.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let Err(error) = LedgerCopy::open(&path) else { panic!("there is no ledger") };
    assert!(error.to_string().starts_with(&format!("the ledger cannot be read or written: {}: ", path.display())));
}

#[test]
fn a_copy_and_its_second_see_the_file_as_of_one_moment_whoever_writes_it() {
    let ledger = Ledger::new();
    let writer = ledger.sql();
    writer.execute_batch("PRAGMA synchronous = OFF; INSERT INTO entry VALUES (0, x'', x'')").unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                writer.execute("INSERT INTO entry SELECT max(idx) + 1, x'', x'' FROM entry", []).unwrap();
            }
        });
        let counts: Vec<_> = (0..50)
            .map(|_| {
                let copy = LedgerCopy::open(&ledger.path()).unwrap();
                let second = copy.second().unwrap();
                (second.count().unwrap(), copy.count().unwrap())
            })
            .collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(counts.iter().all(|(here, there)| here == there), "{counts:?}");
        assert!(counts.first() < counts.last(), "nothing was written meanwhile");
    });
}

#[test]
fn a_ledger_is_never_made_over_a_file_and_only_its_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let ledger = Ledger::new();
    assert!(Store::create(&ledger.path()).unwrap_err().to_string().ends_with("ledger.sqlite3 exists already"));
    let _open = ledger.open();
    for file in std::fs::read_dir(ledger.0.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[tokio::test]
async fn after_closing_every_verb_is_told_so() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let recorded = store.record(draft(0, Condition::Always)).await.unwrap();
    store.close();
    store.close();
    assert!(matches!(store.record(draft(1, Condition::Always)).await, Err(RecordError::Store(StoreError::Closed))));
    assert!(matches!(store.make_token(token(TOKEN, false)).await, Err(RecordError::Store(StoreError::Closed))));
    assert!(matches!(store.put_in_force(declaration(DECLARATION)).await, Err(StoreError::Closed)));
    assert!(matches!(store.probe().await, Err(StoreError::Closed)));
    store.release(&recorded, b"too late".to_vec());
    assert_eq!(ledger.entries().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_indices_are_dense_and_everyone_gets_their_own_under_many_concurrent_records() {
    let ledger = Ledger::new();
    let store = Arc::new(ledger.open());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..500 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let recorded = store.record(draft(number, Condition::Always)).await.unwrap();
            assert_eq!(recorded.tbs(), tbs(number));
            store.release(&recorded, tbs(number));
            recorded.index()
        });
    }
    let mut indices = tasks.join_all().await;
    indices.sort_unstable();
    assert_eq!(indices, (0..500).collect::<Vec<_>>());
    store.close();
    assert_eq!(ledger.entries().len(), 500);
    for index in 0..500 {
        let body = store.body(index).await.unwrap().unwrap();
        assert_eq!(body.signature, Some(body.tbs), "a signature beside another");
    }
}
