//! Bodies go after their retention; everything else stays.

use super::*;

/// A certificate with a body of so many octets that ended so long before [`NOW`].
fn ended(number: u32, seconds_ago: i64, kind: CertificateKind) -> Draft {
    let tbs = number.to_be_bytes().repeat(200);
    let record =
        CertificateRecord { kind, not_after: at(-seconds_ago), tbs_sha256: Digest::of(&tbs), ..record(number) };
    Draft::new(at(-seconds_ago - 60), record, tbs.into(), Condition::Always).unwrap()
}

/// So many certificates that ended at different times, with their signatures.
async fn fill(store: &Store, numbers: std::ops::Range<u32>, seconds_ago: impl Fn(u32) -> i64) {
    for number in numbers {
        let recorded = store.record(ended(number, seconds_ago(number), CertificateKind::Service)).await.unwrap();
        store.release(&recorded, number.to_be_bytes().repeat(18));
    }
    store.probe().await.unwrap();
}

/// Sweeps to the end; how many bodies went.
async fn sweep(store: &Store, ended_before: Timestamp) -> u64 {
    let mut sweep = Sweep::new(ended_before);
    while store.sweep(&mut sweep, NOW).await.unwrap() {}
    sweep.dropped()
}

async fn without_body(store: &Store) -> Vec<u64> {
    let mut found = Vec::new();
    for index in 0..store.head().size {
        if store.body(index).await.unwrap().is_none() {
            found.push(index);
        }
    }
    found
}

#[tokio::test]
async fn what_ended_before_the_retention_goes_and_one_entry_says_so() {
    let ledger = Ledger::new();
    let store = ledger.open();
    fill(&store, 0..4, |number| [100, 10, 11, 99][number as usize]).await;
    assert_eq!(sweep(&store, at(-10)).await, 3, "the one that ended at that very moment stays");
    assert_eq!(without_body(&store).await, [0, 2, 3, 4], "and the last one is the entry that says so");
    assert_eq!(ledger.entries()[4], Entry::new(NOW, Event::BodiesDropped { ended_before: at(-10) }));

    let (page, _) = store.entries(AuditQuery::default(), NOW).await.unwrap();
    let states: Vec<_> = page.iter().rev().filter_map(|entry| entry.state).collect();
    assert!(states.iter().all(|state| state.released), "that it was issued is still known");
    assert_eq!(states.iter().map(|state| state.dropped).collect::<Vec<_>>(), [true, false, true, true]);
}

#[tokio::test]
async fn a_sweep_that_finds_nothing_writes_nothing() {
    let ledger = Ledger::new();
    let store = ledger.open();
    fill(&store, 0..3, |_| 100).await;
    assert_eq!((sweep(&store, at(-100)).await, store.head().size), (0, 3));
    assert_eq!((sweep(&store, at(-99)).await, store.head().size), (3, 4));
    assert_eq!((sweep(&store, NOW).await, store.head().size), (0, 4));
}

#[tokio::test]
async fn the_certificates_of_the_cas_stay_for_ever() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let kinds = [
        CertificateKind::Root,
        CertificateKind::Service,
        CertificateKind::IssuingCa,
        CertificateKind::Identity,
        CertificateKind::IdentityCa,
        CertificateKind::Daemon,
    ];
    for (number, kind) in (0..).zip(kinds) {
        let _ = store.record(ended(number, 1_000, kind)).await.unwrap();
    }
    assert_eq!(sweep(&store, NOW).await, 3);
    assert_eq!(without_body(&store).await, [1, 3, 5, 6]);
}

#[tokio::test]
async fn what_is_recorded_after_the_announcement_is_not_meant_by_it() {
    let ledger = Ledger::new();
    let store = ledger.open();
    fill(&store, 0..2, |_| 1_000).await;
    let mut going_on = Sweep::new(NOW);
    assert!(store.sweep(&mut going_on, NOW).await.unwrap());
    // By a clock that was set back.
    fill(&store, 2..3, |_| 900).await;
    while store.sweep(&mut going_on, NOW).await.unwrap() {}
    assert_eq!(without_body(&store).await, [0, 1, 2]);
    assert!(store.body(3).await.unwrap().is_some());
}

#[tokio::test]
async fn bodies_go_in_small_steps_with_requests_in_between_and_the_file_shrinks() {
    let ledger = Ledger::new();
    let store = ledger.open();
    fill(&store, 0..2_000, |number| if number % 10 == 0 { 5 } else { i64::from(number) + 100 }).await;
    let cut = || ledger.sql().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let size = || std::fs::metadata(ledger.path()).unwrap().len();
    cut();
    let before = size();
    let (mut sweep, mut steps) = (Sweep::new(at(-10)), 0);
    loop {
        let dropped = sweep.dropped();
        if !store.sweep(&mut sweep, NOW).await.unwrap() {
            break;
        }
        assert!(sweep.dropped() - dropped <= 256);
        let _ = store.record(draft(10_000 + steps, Condition::Always)).await.unwrap();
        steps += 1;
    }
    assert_eq!(sweep.dropped(), 1_800);
    assert!(steps > 8, "{steps}");
    assert_eq!(ledger.count(|event| matches!(event, Event::BodiesDropped { .. })), 1);
    cut();
    let bodies = sweep.dropped() * (800 + 72);
    assert!(before - size() > bodies, "{} of {before} octets are left after {bodies} octets of bodies went", size());
    let free: i64 = ledger.sql().pragma_query_value(None, "freelist_count", |row| row.get(0)).unwrap();
    assert!(free < 10, "{free} pages are free");
}
