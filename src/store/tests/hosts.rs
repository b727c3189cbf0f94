//! What an operator does to a host takes its tokens and outlasts the process.

use super::*;
use crate::host::OperatorName;
use crate::store::StillValid;

fn change_by(action: HostAction) -> NewHostState {
    NewHostState {
        at: at(5),
        action,
        change: HostChange { host: pg0(), operator: OperatorName::OperatorUid(7), remark: None },
    }
}

pub(super) async fn change(store: &Store, action: HostAction) -> Result<bool, HostError> {
    store.change_host(change_by(action)).await.map(|(_, changed)| changed)
}

#[tokio::test]
async fn each_change_is_one_event_and_no_change_is_none() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    let state = |store: &Store| store.host(&pg0()).unwrap().state;
    for (action, expected, changed) in [
        (HostAction::Enable, HostState::Enabled, false),
        (HostAction::Disable, HostState::Disabled, true),
        (HostAction::Disable, HostState::Disabled, false),
        (HostAction::Enable, HostState::Enabled, true),
        (HostAction::Remove, HostState::Removed, true),
        (HostAction::Remove, HostState::Removed, false),
    ] {
        let before = ledger.entries().len();
        assert_eq!(change(&store, action).await.unwrap(), changed, "{action:?}");
        assert_eq!((state(&store), ledger.entries().len()), (expected, before + usize::from(changed)), "{action:?}");
    }
    for action in [HostAction::Enable, HostAction::Disable] {
        assert!(matches!(change(&store, action).await, Err(HostError::Removed(_))));
    }
    drop(store);
    let host = ledger.open().host(&pg0()).unwrap();
    assert_eq!((host.state, host.since, host.enrolled), (HostState::Removed, at(5), NOW));
    let unknown = NewHostState {
        change: HostChange {
            host: HostName::parse("pg9.iad1.psf.io").unwrap(),
            operator: OperatorName::OperatorUid(0),
            remark: None,
        },
        ..change_by(HostAction::Disable)
    };
    assert!(matches!(ledger.open().change_host(unknown).await, Err(HostError::Unknown(_))));
}

#[tokio::test]
async fn r2_a_host_that_was_disabled_or_removed_needs_a_new_token_that_replaces() {
    for action in [HostAction::Disable, HostAction::Remove] {
        let ledger = Ledger::new();
        let store = ledger.with_host().await;
        let [before, after] = [b"before", b"after!"].map(|secret| Digest::of(secret));
        store.make_token(token(before, true)).await.unwrap();
        change(&store, action).await.unwrap();
        let refused = store.make_token(token(after, false)).await.unwrap_err();
        assert!(matches!(refused, RecordError::KeptOut(..)), "{refused}");
        // Neither one that was made before nor the one that the host has spent, by the same key.
        for (number, token, key) in [(10, before, &b"new"[..]), (11, TOKEN, b"pg0")] {
            let refused = store.record(enrolment(number, token, key)).await.unwrap_err();
            assert!(matches!(refused, RecordError::TokenUnknown), "{refused}");
        }
        store.make_token(token(after, true)).await.unwrap();
        let _ = store.record(enrolment(12, after, b"new")).await.unwrap();
        assert_eq!(store.host(&pg0()).unwrap().state, HostState::Enabled);
    }
}

#[tokio::test]
async fn r2_a_host_that_was_replaced_cannot_come_again_with_the_token_that_it_spent() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    let second = Digest::of(b"second");
    store.make_token(token(second, true)).await.unwrap();
    let _ = store.record(enrolment(1, TOKEN, b"pg0")).await.unwrap();
    let _ = store.record(enrolment(2, second, b"new")).await.unwrap();
    let refused = store.record(enrolment(3, TOKEN, b"pg0")).await.unwrap_err();
    assert!(matches!(refused, RecordError::TokenUnknown), "{refused}");
    let _ = store.record(enrolment(4, second, b"new")).await.unwrap();
}

#[tokio::test]
async fn what_a_host_has_is_every_certificate_that_is_still_valid() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    for (number, name) in [(20, "a.psf.io"), (21, "b.psf.io"), (22, "a.psf.io")] {
        let record = CertificateRecord { name: name.to_owned(), ..record(number) };
        let draft = Draft::new(NOW, record, tbs(number).into(), Condition::Always).unwrap();
        let _ = store.record(draft).await.unwrap();
    }
    let found = store.certificates_of(&pg0(), NOW).await.unwrap();
    let indices: Vec<_> = found.newest.iter().map(|entry| entry.index).collect();
    assert_eq!((indices, found.more), (vec![6, 4, 5, 2], 0), "a twice, b and the identity");
    let later = store.certificates_of(&pg0(), at(86_401)).await.unwrap();
    assert_eq!(later, StillValid { newest: Vec::new(), more: 0, last_end: None });
}

#[tokio::test]
async fn of_more_than_a_hundred_valid_certificates_the_newest_are_listed_and_the_others_counted() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    for number in 20..120 {
        let draft = Draft::new(NOW, record(number), tbs(number).into(), Condition::Always).unwrap();
        let _ = store.record(draft).await.unwrap();
    }
    let found = store.certificates_of(&pg0(), NOW).await.unwrap();
    assert_eq!((found.newest.len(), found.more), (100, 1), "the identity is the oldest");
    assert!(found.newest.iter().all(|entry| entry.index > 2), "{found:?}");
    assert!(found.last_end.is_some());
}
