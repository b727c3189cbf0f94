//! Who waits for whom among those that read.

use super::*;
use crate::wire::AuditQuery;

/// For what would wait for ever when the promise is broken.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test]
async fn what_is_issued_never_waits_for_a_listing() {
    let ledger = Ledger::new();
    let store = ledger.open();
    store.make_token(token(TOKEN, false)).await.unwrap();
    let _listing = store.leisurely.lock().await;
    // Each of these is asked on the way to a certificate.
    let issuing = async {
        store.token_host(TOKEN, Digest::of(b"key"), NOW).await.unwrap();
        let _ = store.record(enrolment(0, TOKEN, b"key")).await.unwrap();
        store.consistency(1, 2).await.unwrap().unwrap();
        store.declaration().await.unwrap();
    };
    tokio::time::timeout(PATIENCE, issuing).await.expect("it waits for the listing");
}

#[test]
fn a_listing_takes_nothing_that_issuing_reads_with() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let _issuing = store.reader.lock().unwrap();
    let listing = async { tokio::time::timeout(PATIENCE, store.entries(AuditQuery::default(), NOW)).await };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listed = runtime.block_on(listing);
    runtime.shutdown_background();
    listed.expect("it waits for what issuing reads with").unwrap();
}

#[test]
fn a_query_that_nobody_waits_for_any_more_ends() {
    let ledger = Ledger::new();
    let store = std::sync::Arc::new(ledger.open());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let next = runtime.block_on(async {
        store.make_token(token(TOKEN, false)).await.unwrap();
        let (began, begun) = tokio::sync::oneshot::channel();
        let asking = std::sync::Arc::clone(&store);
        let endless =
            tokio::spawn(async move { asking.read_at_leisure(|connection| endless(connection, began)).await });
        begun.await.unwrap();
        endless.abort();
        // The connection is free again, and the next query on it is not the one that is interrupted.
        tokio::time::timeout(PATIENCE, store.entries(AuditQuery::default(), NOW)).await
    });
    runtime.shutdown_background();
    assert!(!next.expect("the query goes on").unwrap().0.is_empty());
}

/// What a listing is that goes from segment to segment.
#[test]
fn many_small_queries_that_nobody_waits_for_any_more_end() {
    let ledger = Ledger::new();
    let store = std::sync::Arc::new(ledger.open());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..200 {
            let (began, begun) = tokio::sync::oneshot::channel();
            let asking = std::sync::Arc::clone(&store);
            let endless = tokio::spawn(async move {
                asking.read_at_leisure(|connection| one_after_the_other(connection, began)).await
            });
            begun.await.unwrap();
            endless.abort();
            let next = store.entries(AuditQuery::default(), NOW);
            tokio::time::timeout(PATIENCE, next).await.expect("the queries go on").unwrap();
        }
    });
    runtime.shutdown_background();
}

#[tokio::test]
async fn all_that_a_query_reads_is_the_ledger_of_one_moment() {
    let ledger = Ledger::new();
    let store = std::sync::Arc::new(ledger.open());
    let appending = std::sync::Arc::clone(&store);
    let handle = tokio::runtime::Handle::current();
    let counts = store.read_at_leisure(move |connection| {
        let count = || -> Result<u64, StoreError> {
            Ok(connection.query_row("SELECT count(*) FROM entry", [], |row| row.get(0))?)
        };
        let before = count()?;
        handle.block_on(appending.make_token(token(TOKEN, false))).unwrap();
        Ok((before, count()?))
    });
    assert_eq!(counts.await.unwrap(), (0, 0));
    assert_eq!(store.head().size, 1);
}

/// The same by one statement after the other, each of which ends.
fn one_after_the_other(connection: &Connection, began: tokio::sync::oneshot::Sender<()>) -> Result<(), StoreError> {
    let _ = began.send(());
    loop {
        connection.prepare_cached("SELECT max(idx) FROM entry")?.query_row([], |_| Ok(()))?;
    }
}

/// Says when it runs, and never ends by itself.
fn endless(connection: &Connection, began: tokio::sync::oneshot::Sender<()>) -> Result<(), StoreError> {
    let sql = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut began = Some(began);
    while rows.next()?.is_some() {
        began.take().map(|began| began.send(()));
    }
    Ok(())
}
