//! Who waits for whom among those that read.

use super::*;
use crate::wire::AuditQuery;

#[tokio::test]
async fn what_is_issued_never_waits_for_a_listing() {
    let ledger = Ledger::new();
    let store = ledger.open();
    store.make_token(token(TOKEN, false)).await.unwrap();
    let held = std::sync::Arc::clone(&store.leisurely).lock_owned().await;
    // Each of these is asked on the way to a certificate.
    store.token_host(TOKEN, Digest::of(b"key"), NOW).await.unwrap();
    let _ = store.record(enrolment(0, TOKEN, b"key")).await.unwrap();
    store.consistency(1, 2).await.unwrap().unwrap();
    store.declaration().await.unwrap();
    // And each of these waits.
    let mut listing = Box::pin(store.entries(AuditQuery::default(), NOW));
    let waker = std::task::Waker::noop();
    assert!(listing.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    drop(held);
    assert!(!listing.await.unwrap().0.is_empty());
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_any_more_ends() {
    let ledger = Ledger::new();
    let store = std::sync::Arc::new(ledger.open());
    store.make_token(token(TOKEN, false)).await.unwrap();
    let (began, begun) = tokio::sync::oneshot::channel();
    let asking = std::sync::Arc::clone(&store);
    let endless = tokio::spawn(async move {
        let query = move |connection: &Connection| -> Result<(), StoreError> {
            let sql = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n";
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            let mut began = Some(began);
            while rows.next()?.is_some() {
                began.take().map(|began| began.send(()));
            }
            Ok(())
        };
        asking.read_at_leisure(query).await
    });
    begun.await.unwrap();
    endless.abort();
    // The connection is free again, and the next query on it is not the one that is interrupted.
    assert!(!store.entries(AuditQuery::default(), NOW).await.unwrap().0.is_empty());
}
