//! Keys that ask to be hosts, as many as there may be.

use super::*;

fn asked(number: u32, now: Timestamp) -> NewRequest {
    NewRequest {
        at: now,
        host: HostName::parse(&format!("pg{number}.iad1.psf.io")).unwrap(),
        key_sha256: Digest::of(&number.to_be_bytes()),
        from: std::net::IpAddr::from(std::net::Ipv4Addr::from(number / 4)).into(),
    }
}

#[tokio::test]
async fn as_many_keys_wait_as_are_kept_and_those_of_yesterday_make_room() {
    let ledger = Ledger::new();
    let store = ledger.open();
    for number in 0..256 {
        store.ask_enrollment(asked(number, at(i64::from(number)))).await.unwrap();
    }
    let full = store.ask_enrollment(asked(256, at(256))).await.unwrap_err();
    assert!(matches!(full, RecordError::RequestsFull), "{full}");
    // Those that wait are told so, without an entry.
    let Asked::Waiting { expires } = store.ask_enrollment(asked(7, at(300))).await.unwrap() else { panic!("waits") };
    assert_eq!((expires, ledger.entries().len()), (at(86_407), 256));

    store.ask_enrollment(asked(256, at(86_400))).await.unwrap();
    assert_eq!(store.enrollment_requests(at(86_400)).await.unwrap().len(), 256, "one has gone");
    store.ask_enrollment(asked(257, at(200_000))).await.unwrap();
    assert_eq!(store.enrollment_requests(at(200_000)).await.unwrap().len(), 1);
    let rows: u64 = ledger.sql().query_row("SELECT count(*) FROM enrollment_request", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn an_approval_holds_inside_the_append_and_not_after_a_rejection() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let key = b"mine";
    let new = NewRequest { host: pg0(), key_sha256: Digest::of(key), ..asked(0, NOW) };
    store.ask_enrollment(new).await.unwrap();
    let by = |operator_uid| Condition::Enrollment { by: EnrolledBy::Approval { operator_uid } };
    let identity = |number, key: &[u8], operator_uid| {
        let record = CertificateRecord {
            kind: CertificateKind::Identity,
            name: pg0().to_string(),
            key_sha256: Digest::of(key),
            ..record(number)
        };
        Draft::new(NOW, record, tbs(number).into(), by(operator_uid)).unwrap()
    };
    let decide = |action| {
        let decision = KeyDecision { host: pg0(), key_sha256: Digest::of(key), operator_uid: 7 };
        store.decide_request(NewDecision { at: NOW, action, decision })
    };
    // Nobody decided; then somebody did, and took it back; then for good.
    for action in [None, Some(RequestAction::Approve), Some(RequestAction::Reject)] {
        if let Some(action) = action {
            assert!(decide(action).await.unwrap() && !decide(action).await.unwrap());
        }
        let (key, uid) = if action == Some(RequestAction::Approve) { (&b"thief"[..], 7) } else { (&key[..], 7) };
        let refused = store.record(identity(1, key, uid)).await.unwrap_err();
        assert!(matches!(refused, RecordError::NoSuchRequest(_)), "{refused}");
    }
    decide(RequestAction::Approve).await.unwrap();
    let by_another = store.record(identity(2, key, 8)).await.unwrap_err();
    assert!(matches!(by_another, RecordError::NoSuchRequest(_)), "{by_another}");
    let first = store.record(identity(3, key, 7)).await.unwrap();
    let again = store.record(identity(4, key, 7)).await.unwrap();
    assert!(!first.is_repeated() && again.is_repeated() && again.index() == first.index());
}
