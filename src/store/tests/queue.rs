//! Who waits for the writer, and for how much it has room.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::task::unconstrained;

use super::*;
use crate::store::QUEUE;

/// Begins each of them; none is answered.
async fn all_wait<F: Future + Unpin>(waiting: &mut [F]) {
    let begin = poll_fn(|context| {
        assert!(waiting.iter_mut().all(|future| Pin::new(future).poll(context).is_pending()));
        Poll::Ready(())
    });
    unconstrained(begin).await;
}

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
    all_wait(&mut waiting).await;
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

#[tokio::test]
async fn who_gives_up_takes_no_place_and_a_store_that_closes_answers_everybody() {
    let (ledger, count) = (Ledger::new(), u32::try_from(2 * QUEUE + 500).unwrap());
    let store = ledger.open();
    let lock = ledger.sql();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting: Vec<_> =
        (0..count).map(|number| Box::pin(store.record(draft(number, Condition::Always)))).collect();
    all_wait(&mut waiting).await;
    // Some have a place in the queue, and some of the others wait for one.
    let staying: Vec<_> =
        waiting.into_iter().enumerate().filter(|(number, _)| number % 3 == 0).map(|(_, record)| record).collect();
    let turns = Arc::clone(&store.turns);
    lock.execute_batch("ROLLBACK").unwrap();
    store.close();
    let (mut recorded, mut closed) = (0, 0);
    for record in staying {
        match record.await {
            Ok(_) => recorded += 1,
            Err(RecordError::Store(StoreError::Closed)) => closed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(recorded >= QUEUE / 3 && closed > 0, "{recorded} {closed}");
    assert_eq!(turns.available_permits(), QUEUE);
    assert!(matches!(store.probe().await, Err(StoreError::Closed)));
}
