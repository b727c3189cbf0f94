//! A restored ledger is closed for hosts until they were counted.

use super::*;
use crate::restoration::{Confirmation, Restoration};

async fn restore(store: &Store) {
    let head = store.head();
    let restoration = Restoration { size: head.size, root: head.root, operator_uid: 0, remark: None };
    store.mark_restored(NewRestoration { at: at(9), restoration }).await.unwrap();
}

async fn reopen(store: &Store, hosts: u64) -> Result<(), ReopenError> {
    store.reopen(NewConfirmation { at: at(10), confirmation: Confirmation { hosts, operator_uid: 0 } }).await
}

#[tokio::test]
async fn r2_a_restored_ledger_records_nothing_for_hosts_also_after_reopening_the_file() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    let unspent = Digest::of(b"unspent");
    store.make_token(token(unspent, true)).await.unwrap();
    restore(&store).await;
    drop(store);
    let store = ledger.open();
    assert_eq!(store.closed().unwrap().since, at(9));
    let service = Condition::Service { identity: shown(), declaration: DECLARATION };
    let for_hosts =
        [draft(1, service), draft(2, Condition::Renewal { identity: shown() }), enrolment(3, unspent, b"k")];
    let entries = ledger.entries();
    for draft in for_hosts.clone() {
        assert!(matches!(store.record(draft).await, Err(RecordError::Closed)));
    }
    assert!(matches!(store.make_token(token(Digest::of(b"new"), true)).await, Err(RecordError::Closed)));
    assert_eq!(ledger.entries(), entries);
    // The daemon's own certificate, without which no host could talk to it; and what operators do.
    let _ = store.record(draft(4, Condition::Always)).await.unwrap();
    let _ = hosts::change(&store, HostAction::Disable).await.unwrap();
    let _ = hosts::change(&store, HostAction::Enable).await.unwrap();

    reopen(&store, 1).await.unwrap();
    assert_eq!(store.closed(), None);
    let [service, identity, enrolment] = for_hosts;
    let _ = store.record(service).await.unwrap();
    let _ = store.record(identity).await.unwrap();
    let void = store.record(enrolment).await.unwrap_err();
    assert!(matches!(void, RecordError::TokenUnknown), "{void}");
    drop(store);
    assert_eq!(ledger.open().closed(), None);
}

#[tokio::test]
async fn only_the_number_of_hosts_that_are_enabled_at_that_moment_opens() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    assert!(matches!(reopen(&store, 1).await, Err(ReopenError::NotClosed)));
    restore(&store).await;
    let entries = ledger.entries();
    for wrong in [0, 2, u64::MAX] {
        let refused = reopen(&store, wrong).await.unwrap_err();
        assert!(matches!(refused, ReopenError::WrongNumber { given, enabled: 1 } if given == wrong), "{refused}");
    }
    assert_eq!(ledger.entries(), entries);
    let _ = hosts::change(&store, HostAction::Disable).await.unwrap();
    assert!(matches!(reopen(&store, 1).await, Err(ReopenError::WrongNumber { enabled: 0, .. })));
    reopen(&store, 0).await.unwrap();
    // Restored once more, it is closed once more.
    restore(&store).await;
    assert!(store.closed().is_some());
}
