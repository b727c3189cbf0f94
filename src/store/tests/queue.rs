//! Who waits for the writer, and for how much it has room.

use std::future::poll_fn;
use std::task::Poll;

use tokio::task::unconstrained;

use super::*;
use crate::store::QUEUE;

#[tokio::test]
async fn more_requests_than_the_queue_holds_are_all_recorded_and_every_signature_is_stored() {
    let (ledger, count) = (Ledger::new(), u32::try_from(QUEUE).unwrap() + 500);
    let store = ledger.open();
    let lock = ledger.sql();
    let hold = || lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let let_go = || lock.execute_batch("ROLLBACK").unwrap();

    // The writer stands still until all of them wait.
    hold();
    let mut waiting: Vec<_> =
        (0..count).map(|number| Box::pin(store.record(draft(number, Condition::Always)))).collect();
    let all_wait = poll_fn(|context| {
        assert!(waiting.iter_mut().all(|record| record.as_mut().poll(context).is_pending()));
        Poll::Ready(())
    });
    unconstrained(all_wait).await;
    let_go();
    let mut recorded = Vec::new();
    for record in waiting {
        recorded.push(record.await.unwrap());
    }

    hold();
    recorded.iter().for_each(|recorded| store.release(recorded, b"signature".to_vec()));
    let_go();
    store.close();
    assert_eq!(ledger.entries().len(), recorded.len());
    let unreleased = "SELECT count(*) FROM certificate JOIN body USING (idx) WHERE released = 0 OR signature IS NULL";
    assert_eq!(ledger.sql().query_row(unreleased, [], |row| row.get(0)), Ok(0));
}
