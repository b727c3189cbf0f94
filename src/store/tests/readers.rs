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
