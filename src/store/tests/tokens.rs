//! A token is for one host, one hour and one key.

use super::*;

fn enrolled(event: &Event) -> bool {
    matches!(event, Event::HostEnrolled(_))
}

/// Asserts that `draft` is refused, at the look before and at the append, and changes nothing.
async fn refused(ledger: &Ledger, store: &Store, draft: Draft, expected: &str) {
    let before = ledger.entries();
    assert_eq!(store.record(draft).await.unwrap_err().to_string(), expected);
    assert_eq!(ledger.entries(), before, "{expected}");
}

#[tokio::test]
async fn r2_an_unknown_token_enrols_nobody() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let unknown = "the token is unknown: another CA made it, nobody did, or it was voided since";
    refused(&ledger, &store, enrolment(0, TOKEN, b"key"), unknown).await;
    let looked = store.token_host(TOKEN, Digest::of(b"key"), NOW).await;
    assert_eq!(looked.unwrap_err().to_string(), unknown);
    assert!(store.hosts().is_empty());
}

#[tokio::test]
async fn r2_a_token_of_one_host_enrols_no_other() {
    let ledger = Ledger::new();
    let store = ledger.open();
    store.make_token(token(TOKEN, false)).await.unwrap();
    let mut foreign = record(0);
    foreign.host = Some(HostName::parse("lb0.iad1.psf.io").unwrap());
    let foreign =
        Draft::new(NOW, foreign, tbs(0).into(), Condition::Enrollment { by: EnrolledBy::Token { token: TOKEN } })
            .unwrap();
    refused(&ledger, &store, foreign, "the token is unknown: another CA made it, nobody did, or it was voided since")
        .await;
    assert!(store.hosts().is_empty());
    let _ = store.record(enrolment(1, TOKEN, b"key")).await.unwrap();
}

#[tokio::test]
async fn r2_a_token_works_until_its_last_second_and_not_in_it() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let expired = format!("the token expired at {NOW}");
    store.make_token(NewToken { expires: NOW, ..token(TOKEN, false) }).await.unwrap();
    refused(&ledger, &store, enrolment(0, TOKEN, b"key"), &expired).await;
    let looked = store.token_host(TOKEN, Digest::of(b"key"), NOW).await;
    assert_eq!(looked.unwrap_err().to_string(), expired);
    assert_eq!(store.token_host(TOKEN, Digest::of(b"key"), at(-1)).await.unwrap(), pg0());
}

#[tokio::test]
async fn a_spent_token_answers_its_own_key_again_and_no_other_even_after_reopening() {
    let ledger = Ledger::new();
    let store = ledger.open();
    store.make_token(token(TOKEN, false)).await.unwrap();
    let _ = store.record(enrolment(0, TOKEN, b"mine")).await.unwrap();
    drop(store);

    let store = ledger.open();
    let spent = "the token was spent already, by another key";
    refused(&ledger, &store, enrolment(1, TOKEN, b"yours"), spent).await;
    let looked = store.token_host(TOKEN, Digest::of(b"yours"), NOW).await;
    assert_eq!(looked.unwrap_err().to_string(), spent);

    // The answer may have been lost on its way.
    assert_eq!(store.token_host(TOKEN, Digest::of(b"mine"), NOW).await.unwrap(), pg0());
    let before = ledger.entries();
    let again = store.record(enrolment(2, TOKEN, b"mine")).await.unwrap();
    assert!(again.is_repeated() && again.tbs() == tbs(0), "the same answer");
    assert_eq!((again.index(), ledger.entries()), (2, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_of_fifty_keys_that_use_one_token_at_once_exactly_one_wins() {
    let ledger = Ledger::new();
    let store = Arc::new(ledger.open());
    store.make_token(token(TOKEN, false)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.record(enrolment(number, TOKEN, &number.to_be_bytes())).await });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let spent = outcomes.iter().filter(|outcome| matches!(outcome, Err(RecordError::TokenSpent(_)))).count();
    assert_eq!(spent, 49);
    assert_eq!(ledger.count(enrolled), 1);
    assert_eq!(ledger.entries().len(), 3, "made, enrolled, certified");
}

#[tokio::test]
async fn an_enrolled_host_needs_a_token_that_replaces() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let [first, plain, replacing] = [b"1", b"2", b"3"].map(|secret| Digest::of(secret));
    // Both are made before the host is enrolled; only one can enrol it.
    store.make_token(token(first, false)).await.unwrap();
    store.make_token(token(plain, false)).await.unwrap();
    let _ = store.record(enrolment(0, first, b"old")).await.unwrap();

    let already = "pg0.iad1.psf.io is enrolled already; an operator can make a replacing token: \
                   psfca token pg0.iad1.psf.io --replace";
    refused(&ledger, &store, enrolment(1, plain, b"thief"), already).await;
    let before = ledger.entries();
    let made = store.make_token(token(Digest::of(b"4"), false)).await;
    assert_eq!(made.unwrap_err().to_string(), already);
    assert_eq!(ledger.entries(), before);

    store.make_token(token(replacing, true)).await.unwrap();
    let _ = store.record(enrolment(2, replacing, b"new")).await.unwrap();
    assert_eq!(ledger.count(enrolled), 2);
    refused(&ledger, &store, enrolment(3, replacing, b"thief"), "the token was spent already, by another key").await;
}
