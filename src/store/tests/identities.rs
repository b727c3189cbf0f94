//! Which identities count, and what becomes of two keys that show the same one.

use super::*;
use crate::host::{HostState, OperatorName};

/// A renewal of `identity` at `at` by `key`; its number is that of its serial.
fn renewal(number: u32, now: Timestamp, identity: ShownIdentity, key: &[u8]) -> Draft {
    let record = CertificateRecord {
        kind: CertificateKind::Identity,
        name: pg0().to_string(),
        key_sha256: Digest::of(key),
        not_after: Timestamp::from_unix(now.unix() + 86_400),
        rule: Rule::Identity { renewed: Some(identity.serial.clone()) },
        ..record(number)
    };
    Draft::new(now, record, tbs(number).into(), Condition::Renewal { identity }).unwrap()
}

fn of(number: u32) -> ShownIdentity {
    ShownIdentity { serial: record(number).serial, ..shown() }
}

#[tokio::test]
async fn the_key_that_renewed_an_identity_is_given_the_same_again_until_half_of_its_life() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    let first = store.record(renewal(1, NOW, shown(), b"next")).await.unwrap();
    assert!(!first.is_repeated());
    let entries = ledger.entries();
    for (number, seconds) in [(2, 0), (3, 43_199)] {
        let again = store.record(renewal(number, at(seconds), shown(), b"next")).await.unwrap();
        assert!(again.is_repeated() && again.tbs() == tbs(1) && again.entry() == first.entry());
        assert_eq!((again.index(), again.signature()), (first.index(), None));
    }
    assert_eq!(ledger.entries(), entries, "no entry for what is given again");
    // A signature that was stored comes along, and no later one takes its place.
    for signature in [b"first".to_vec(), b"later".to_vec()] {
        store.release(&first, signature);
    }
    store.close();
    let store = ledger.open();
    let again = store.record(renewal(4, NOW, shown(), b"next")).await.unwrap();
    assert_eq!(again.signature(), Some(&b"first"[..]));

    let after_half = store.record(renewal(5, at(43_200), shown(), b"next")).await.unwrap();
    assert!(!after_half.is_repeated());
    let cannot_be_given = store.record(renewal(6, at(43_200), shown(), b"next").anew()).await.unwrap();
    assert!(!cannot_be_given.is_repeated());
    let newest = store.record(renewal(7, at(43_201), shown(), b"next")).await.unwrap();
    assert_eq!(newest.index(), cannot_be_given.index(), "what was recorded last for the key");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_keys_that_renew_one_identity_at_once_one_wins_and_the_host_is_frozen() {
    let ledger = Ledger::new();
    let store = Arc::new(ledger.with_host().await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50_u32 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.record(renewal(number, NOW, shown(), &number.to_be_bytes())).await });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Err(RecordError::HostFrozen(_)))).count(), 49);
    assert_eq!(store.host(&pg0()).unwrap().state, HostState::Frozen);
    assert_eq!(ledger.count(|event| matches!(event, Event::HostFrozen(_))), 1);
}

#[tokio::test]
async fn a_frozen_host_gets_nothing_by_any_identity_until_an_operator_enables_it_or_it_enrols_again() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    let unspent = Digest::of(b"made before");
    store.make_token(token(unspent, true)).await.unwrap();
    let _ = store.record(renewal(1, NOW, shown(), b"mine")).await.unwrap();
    let frozen = store.record(renewal(2, NOW, shown(), b"thief's")).await.unwrap_err();
    assert!(matches!(frozen, RecordError::HostFrozen(_)), "{frozen}");
    let entries = ledger.entries();
    let service = |identity| Condition::Service { identity, declaration: DECLARATION };
    let refused = [
        renewal(3, NOW, shown(), b"mine"),
        renewal(4, NOW, of(1), b"next"),
        draft(5, service(shown())),
        draft(6, service(of(1))),
        enrolment(7, TOKEN, b"pg0"),
        enrolment(8, unspent, b"anyone"),
    ];
    for draft in refused {
        let error = store.record(draft).await.unwrap_err();
        assert!(matches!(error, RecordError::HostFrozen(_) | RecordError::TokenUnknown), "{error}");
    }
    assert_eq!(ledger.entries(), entries);
    drop(store);

    // Durably; and the key that won is not forgotten when an operator lets the host go on.
    let store = ledger.open();
    assert_eq!(store.host(&pg0()).unwrap().state, HostState::Frozen);
    let change = HostChange { host: pg0(), operator: OperatorName::OperatorUid(0), remark: None };
    store.change_host(NewHostState { at: NOW, action: HostAction::Enable, change }).await.unwrap();
    let _ = store.record(draft(9, service(of(1)))).await.unwrap();
    let again = store.record(renewal(10, NOW, shown(), b"thief's")).await.unwrap_err();
    assert!(matches!(again, RecordError::HostFrozen(_)), "{again}");

    let replacing = Digest::of(b"replacing");
    store.make_token(token(replacing, true)).await.unwrap();
    let _ = store.record(enrolment(11, replacing, b"rebuilt")).await.unwrap();
    let _ = store.record(renewal(12, NOW, of(11), b"next")).await.unwrap();
    for (number, old) in [(13, shown()), (14, of(1))] {
        let error = store.record(renewal(number, NOW, old, b"mine")).await.unwrap_err();
        assert!(matches!(error, RecordError::IdentityReplaced(_)), "{error}");
    }
}

#[tokio::test]
async fn what_counts_is_the_order_of_the_ledger_and_no_clock() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    // In one and the same second: the identity is stolen, the host enrols again.
    let replacing = Digest::of(b"replacing");
    store.make_token(token(replacing, true)).await.unwrap();
    let _ = store.record(enrolment(1, replacing, b"rebuilt")).await.unwrap();
    let error = store.record(renewal(2, NOW, shown(), b"thief's")).await.unwrap_err();
    assert!(matches!(error, RecordError::IdentityReplaced(_)), "{error}");
    let host = store.host(&pg0()).unwrap();
    assert!(!store.is_current(&shown(), &host).await.unwrap());

    // The clock is set back by half an hour, and the host renews.
    let early = at(-1_800);
    let _ = store.record(renewal(3, early, of(1), b"next")).await.unwrap();
    let renewed = ShownIdentity { issued: early, ..of(3) };
    assert!(store.is_current(&renewed, &host).await.unwrap());
    let _ = store.record(renewal(4, early, renewed, b"and next")).await.unwrap();

    // Where the ledger went back to a backup, it does not know what it issued since; time has to do.
    let unknown = |issued| ShownIdentity { issued, ..of(999) };
    assert!(store.is_current(&unknown(NOW), &host).await.unwrap());
    assert!(!store.is_current(&unknown(at(-1)), &host).await.unwrap());
}
