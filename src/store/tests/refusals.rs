//! A refusal writes nothing.

use super::hosts::change;
use super::*;

/// Asserts the refusal, and that neither the ledger nor what lies beside it changed.
async fn refused(ledger: &Ledger, store: &Store, draft: Draft, expected: &str) {
    let before = (ledger.entries(), store.head().size, store.hosts());
    assert_eq!(store.record(draft).await.unwrap_err().to_string(), expected);
    assert_eq!((ledger.entries(), store.head().size, store.hosts()), before, "{expected}");
}

#[tokio::test]
async fn r2_a_host_that_is_not_enrolled_gets_nothing() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    let host = HostName::parse("pg1.iad1.psf.io").unwrap();
    let service =
        Condition::Service { identity: ShownIdentity { host: host.clone(), ..shown() }, declaration: DECLARATION };
    for condition in [service, Condition::Renewal { identity: ShownIdentity { host, ..shown() } }] {
        refused(&ledger, &store, draft(0, condition), "pg1.iad1.psf.io is not enrolled").await;
    }
}

#[tokio::test]
async fn r2_a_host_that_was_disabled_meanwhile_gets_nothing() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    change(&store, HostAction::Disable).await.unwrap();
    let service = Condition::Service { identity: shown(), declaration: DECLARATION };
    for condition in [service, Condition::Renewal { identity: shown() }] {
        refused(&ledger, &store, draft(0, condition), "pg0.iad1.psf.io is disabled").await;
    }
}

#[tokio::test]
async fn r2_what_was_judged_by_a_declaration_that_is_no_longer_in_force_is_refused() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    let judged_by = |declaration| Condition::Service { identity: shown(), declaration };
    let newer = Digest::of(b"newer");
    let changed = "the declaration changed while the request was handled";
    refused(&ledger, &store, draft(0, judged_by(newer)), changed).await;
    let _ = store.record(draft(1, judged_by(DECLARATION))).await.unwrap();

    store.put_in_force(declaration(newer)).await.unwrap();
    refused(&ledger, &store, draft(2, judged_by(DECLARATION)), changed).await;
    let _ = store.record(draft(3, judged_by(newer))).await.unwrap();
}

#[tokio::test]
async fn r2_without_a_declaration_in_force_no_service_certificate_is_recorded() {
    let ledger = Ledger::new();
    let store = ledger.open();
    store.make_token(token(TOKEN, false)).await.unwrap();
    let _ = store.record(enrolment(0, TOKEN, b"key")).await.unwrap();
    let service = Condition::Service { identity: shown(), declaration: DECLARATION };
    refused(&ledger, &store, draft(1, service), "the declaration changed while the request was handled").await;
}

#[tokio::test]
async fn r3_putting_the_same_declaration_in_force_again_adds_no_entry() {
    let ledger = Ledger::new();
    let store = ledger.open();
    for _ in 0..2 {
        store.put_in_force(declaration(DECLARATION)).await.unwrap();
    }
    store.put_in_force(NewDeclaration { at: at(60), ..declaration(DECLARATION) }).await.unwrap();
    assert_eq!(ledger.count(|event| matches!(event, Event::Declaration { .. })), 1);
    assert_eq!(store.declaration().await.unwrap().unwrap().since, NOW, "in force since the first time");

    let newer = Digest::of(b"newer");
    store.put_in_force(declaration(newer)).await.unwrap();
    store.put_in_force(declaration(DECLARATION)).await.unwrap();
    assert_eq!(ledger.count(|event| matches!(event, Event::Declaration { .. })), 3, "a return is a change");
}

#[tokio::test]
async fn a_probe_writes_nothing() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    store.probe().await.unwrap();
    assert_eq!((ledger.entries().len(), store.head().size), (4, 4));
}

#[tokio::test]
async fn a_serial_is_recorded_once_and_the_rest_of_the_ledger_goes_on() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let _ = store.record(draft(0, Condition::Always)).await.unwrap();
    let twice = store.record(draft(0, Condition::Always)).await.unwrap_err();
    assert!(matches!(&twice, RecordError::Store(StoreError::Unavailable(_))), "{twice}");
    assert_eq!(store.record(draft(1, Condition::Always)).await.unwrap().index(), 1);
    assert_eq!(ledger.entries().len(), 2);
}
