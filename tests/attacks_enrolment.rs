//! Whoever would be a host without a token: with what was seen on the wire, with a key of their own, or once shut out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::sync::Barrier;

use serde_json::Value;
use support::ask::{Answer, P256, ask_as, ask_to_be, csr, enroll, key_hash, secret};
use support::clock::Stopped;
use support::ledger::entries;
use support::minion::{HOST, Master, OTHER, Request, challenge, started, started_ca};
use support::tools::said;
use support::{Ca, clock, psfca, wait_until};

fn known() -> (u16, String) {
    (409, "already-enrolled".to_owned())
}

fn bad(what: &str) -> (u16, String) {
    (403, format!("bad-{what}"))
}

fn events(ca: &Ca, kind: &str) -> Vec<Value> {
    entries(ca).into_iter().filter(|entry| entry["event"] == kind).collect()
}

/// Signs for [`HOST`] and sends it, with a key of its own.
fn sign_in(ca: &Ca, master: &Master) -> Answer {
    let request = Request::new(ca, master, HOST);
    request.send(ca, HOST, &request.csr, &request.signature())
}

#[test]
fn a_replayed_challenge_lets_nobody_in_also_where_the_host_might_enrol_again() {
    let (ca, master) = started();
    let request = Request::new(&ca, &master, HOST);
    let signature = request.signature();
    let sent = || request.send(&ca, HOST, &request.csr, &signature);
    assert_eq!(sent().status, 200);
    // Everything as it was seen; then after the host was shut out, and after its minion's key was imported anew.
    assert_eq!(sent().refusal(), bad("challenge"));
    ca.ok(&["host", "remove", HOST]);
    assert_eq!(sent().refusal(), bad("challenge"));
    assert!(master.import(&ca).status.success());
    assert_eq!(sent().refusal(), bad("challenge"));
    assert_eq!(events(&ca, "host_enrolled").len(), 1);
}

#[test]
fn a_key_that_is_swapped_for_the_one_that_was_signed_gets_nothing() {
    let (ca, master) = started();
    let (request, thief) = (Request::new(&ca, &master, HOST), csr(ca.dir(), &P256));
    let signature = request.signature();
    assert_eq!(request.send(&ca, HOST, &thief, &signature).refusal(), bad("signature"));
    // Nor does it hold up the one whose request it was.
    assert_eq!(request.send(&ca, HOST, &request.csr, &signature).status, 200);
}

#[test]
fn a_minion_that_its_master_rejects_or_deletes_is_let_in_no_more_from_the_next_import_on() {
    let (ca, master) = started();
    std::fs::rename(master.public(HOST, "minions"), master.public(HOST, "minions_rejected")).unwrap();
    std::fs::remove_file(master.public(OTHER, "minions")).unwrap();
    let signed = [HOST, OTHER].map(|host| (host, Request::new(&ca, &master, host)));
    // None is left, which has to be meant.
    assert_eq!(master.import(&ca).status.code(), Some(1));
    ca.ok(&["host", "import-salt", master.dir(), "--allow-empty"]);
    for (host, request) in signed {
        let answer = request.send(&ca, host, &request.csr, &request.signature());
        assert_eq!(answer.refusal(), bad("signature"), "{host}");
    }
    assert_eq!((events(&ca, "host_enrolled").len(), events(&ca, "salt_key_removed").len()), (0, 2));
}

#[test]
fn no_way_lets_a_host_in_again_that_is_enrolled_disabled_frozen_or_removed() {
    let (ca, master) = started();
    let [first, second, mine] = [(); 3].map(|()| csr(ca.dir(), &P256));
    let host = support::Host::enroll(&ca, HOST);
    let refused = |state: &str| {
        assert_eq!(sign_in(&ca, &master).refusal(), known(), "{state}, by the Salt key");
        assert_eq!(ask_to_be(&ca, HOST, &mine).refusal(), known(), "{state}, by asking");
        let out = ca.psfca(&["host", "approve", HOST, &key_hash(&mine)]);
        assert_eq!(out.status.code(), Some(1), "{state}: {}", said(&out));
    };
    refused("enrolled");
    for request in [&first, &second] {
        support::ask::post_csr(&ca, &host, request, "/v1/identity");
    }
    assert_eq!(events(&ca, "host_frozen").len(), 1);
    refused("frozen");
    ca.ok(&["host", "disable", HOST]);
    refused("disabled");
    ca.ok(&["host", "remove", HOST]);
    refused("removed");
    assert_eq!((events(&ca, "host_enrolled").len(), events(&ca, "host_requested").len()), (1, 0));
    let token = ca.ok(&["token", HOST, "--replace"]);
    assert_eq!(enroll(&ca, &secret(token.trim()), &mine).status, 200);
}

/// By either way: a day after the enrolment, and after the host was shut out, its key is one that it had once.
#[test]
fn the_key_that_was_let_in_gets_its_answer_again_for_a_day_and_not_once_its_host_was_shut_out() {
    let mut ca = started_ca();
    let Some(time) = clock::Stopped::serve(&mut ca) else { return };
    let master = Master::new();
    assert!(master.import(&ca).status.success());
    let asked = csr(ca.dir(), &P256);
    assert_eq!(ask_to_be(&ca, OTHER, &asked).status, 202);
    ca.ok(&["host", "approve", OTHER, &key_hash(&asked)]);
    let signed = csr(ca.dir(), &P256);
    let by_salt = || {
        let request = Request { csr: signed.clone(), ..Request::new(&ca, &master, HOST) };
        request.send(&ca, HOST, &signed, &request.signature())
    };
    let by_approval = || ask_to_be(&ca, OTHER, &asked);
    let first = [by_salt(), by_approval()].map(|answer| (answer.status, answer.header("psfca-serial").to_owned()));
    assert!(first.iter().all(|(status, _)| *status == 200), "{first:?}");
    time.set(86_400 - 60);
    let again = [by_salt(), by_approval()].map(|answer| (answer.status, answer.header("psfca-serial").to_owned()));
    assert_eq!(first, again);
    time.set(86_400 + 60);
    assert_eq!([by_salt(), by_approval()].map(|answer| answer.refusal()), [known(), known()]);
    // The order of the ledger counts: also within the day, and though the host is enabled again.
    time.set(60);
    assert_eq!([by_salt(), by_approval()].map(|answer| answer.status), [200, 200]);
    for host in [HOST, OTHER] {
        ca.ok(&["host", "disable", host]);
        ca.ok(&["host", "enable", host]);
    }
    assert_eq!([by_salt(), by_approval()].map(|answer| answer.refusal()), [known(), known()]);
    assert_eq!(events(&ca, "host_enrolled").len(), 2);
}

#[test]
fn a_token_an_approval_and_a_salt_key_used_at_once_let_in_one_key() {
    let (ca, master) = started();
    for _ in 0..5 {
        let [approved, with_token] = [csr(ca.dir(), &P256), csr(ca.dir(), &P256)];
        // A host that nobody has seen before.
        let host = format!("pg{}.iad1.psf.io", 100 + events(&ca, "host_enrolled").len());
        master.minion(&host, "minions", 2048);
        assert!(master.import(&ca).status.success());
        assert_eq!(ask_to_be(&ca, &host, &approved).status, 202);
        ca.ok(&["host", "approve", &host, &key_hash(&approved)]);
        let token = secret(&ca.token(&host));
        let request = Request::new(&ca, &master, &host);
        let signature = request.signature();
        let barrier = Barrier::new(3);
        let ways: [&(dyn Fn() -> Answer + Sync); 3] =
            [&|| ask_to_be(&ca, &host, &approved), &|| enroll(&ca, &token, &with_token), &|| {
                request.send(&ca, &host, &request.csr, &signature)
            }];
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let going: Vec<_> = ways
                .iter()
                .map(|way| {
                    scope.spawn(|| {
                        barrier.wait();
                        way().status
                    })
                })
                .collect();
            going.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409], "{host}");
    }
    assert_eq!(events(&ca, "host_enrolled").len(), 5);
}

#[test]
fn attempts_by_every_way_in_are_counted_together_for_an_address() {
    let mut ca = Ca::made_with("limits: {enroll_burst: 8, enroll_per_minute: 1}\n");
    // So that the time until the next attempt is a whole minute.
    let Some(_clock) = Stopped::serve(&mut ca) else { return };
    let master = Master::new();
    assert!(master.import(&ca).status.success());
    let request = csr(ca.dir(), &P256);
    for _ in 0..4 {
        assert_eq!(ask_to_be(&ca, HOST, &request).status, 202);
    }
    // Two for the challenges, and two for what is made of them.
    for _ in 0..2 {
        let signed = Request { ca_root: vec![7; 32], ..Request::new(&ca, &master, HOST) };
        assert_eq!(signed.send(&ca, HOST, &signed.csr, &signed.signature()).refusal(), bad("signature"));
    }
    let token = secret(&ca.token(OTHER));
    let answers = [ask_to_be(&ca, HOST, &request), enroll(&ca, &token, &request)];
    for answer in &answers {
        assert_eq!(answer.refusal(), (429, "too-many-enrolments".to_owned()));
        assert_eq!(answer.header("retry-after"), "60");
    }
}

#[test]
fn what_a_stranger_is_refused_is_noted_by_its_reason_and_without_the_host_that_it_says_it_is() {
    let (ca, master) = started();
    let [rejected, other] = [csr(ca.dir(), &P256), csr(ca.dir(), &P256)];
    assert_eq!(ask_to_be(&ca, OTHER, &rejected).status, 202);
    ca.ok(&["host", "reject", OTHER, &key_hash(&rejected)]);
    assert_eq!(ask_to_be(&ca, OTHER, &rejected).refusal(), (403, "rejected".to_owned()));
    let request = Request::new(&ca, &master, HOST);
    assert_eq!(request.send(&ca, HOST, &other, &request.signature()).refusal(), bad("signature"));
    let stale = Request { challenge: "AAAA".to_owned(), ..Request::new(&ca, &master, HOST) };
    assert_eq!(stale.send(&ca, HOST, &stale.csr, &[0; 256]).refusal(), bad("challenge"));
    assert_eq!(sign_in(&ca, &master).status, 200);
    assert_eq!(ask_to_be(&ca, HOST, &other).refusal(), known());
    wait_until("four refusals are in the ledger", || events(&ca, "refused").len() == 4);
    let refused = events(&ca, "refused");
    let reasons: Vec<_> = refused.iter().map(|entry| entry["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["not_approved", "bad_signature", "bad_challenge", "already_enrolled"]);
    for entry in &refused {
        assert_eq!((&entry["host"], &entry["address"]), (&Value::Null, &"127.0.0.1".into()), "{entry}");
    }
}

/// What was approved or accepted after the backup, or taken back after it, is not known to it.
#[test]
fn a_restored_ca_lets_nobody_in_by_an_approval_or_a_salt_key_from_before() {
    let (mut ca, master) = started();
    let request = csr(ca.dir(), &P256);
    assert_eq!(ask_to_be(&ca, OTHER, &request).status, 202);
    ca.ok(&["host", "approve", OTHER, &key_hash(&request)]);
    let dir = tempfile::tempdir().unwrap();
    let [file, keys, passphrase] =
        ["backup", "keys", "passphrase"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    std::fs::write(&passphrase, "correct horse battery staple").unwrap();
    ca.ok(&["backup", &file, "--keys", &keys, "--passphrase-file", &passphrase]);
    ca.ok(&["host", "reject", OTHER, &key_hash(&request)]);
    ca.stop();
    std::fs::remove_dir_all(ca.state()).unwrap();
    std::fs::remove_file(ca.trust_bundle()).unwrap();
    let mut restore = psfca();
    restore.args(["restore", &file, "--keys", &keys, "--passphrase-file", &passphrase]);
    let out = restore.env("PSFCA_CONFIG", ca.config()).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("import-salt"), "{}", said(&out));
    ca.serve();

    let closed = (503, "closed".to_owned());
    assert_eq!(ask_to_be(&ca, OTHER, &request).refusal(), closed);
    let signed = Request::new(&ca, &master, HOST);
    assert_eq!(signed.send(&ca, HOST, &signed.csr, &signed.signature()).refusal(), closed);
    ca.ok(&["reopen", "--hosts", "0"]);
    assert_eq!(ca.ok(&["host", "list", "--pending", "--json"]), "");
    assert_eq!(ask_to_be(&ca, OTHER, &request).status, 202, "it waits anew");
    assert_eq!(sign_in(&ca, &master).refusal(), bad("signature"));
    assert!(said(&master.import(&ca)).starts_with("2 keys imported"));
    assert_eq!(sign_in(&ca, &master).status, 200);
    let verified = ca.ok(&["audit", "verify", ca.state().to_str().unwrap()]);
    assert!(verified.contains("Everything holds."), "{verified}");
}

/// Challenges are for whoever asks; what they are worth is a signature by an accepted key.
#[test]
fn a_challenge_for_one_host_is_good_for_another_only_with_that_ones_signature() {
    let (ca, master) = started();
    let given = challenge(&ca);
    let mine = Request { challenge: given.clone(), ..Request::new(&ca, &master, OTHER) };
    let signature = mine.signature();
    assert_eq!(mine.send(&ca, HOST, &mine.csr, &signature).refusal(), bad("signature"));
    assert_eq!(mine.send(&ca, OTHER, &mine.csr, &signature).status, 200);
}

/// Operators over the network list, show and disable, and let nobody in.
#[test]
fn a_host_that_is_an_operator_approves_no_key_and_imports_none() {
    let mut ca = Ca::made_with(&format!("operators: [{OTHER}]\n"));
    ca.serve();
    let ops = support::Host::enroll(&ca, OTHER);
    let request = csr(ca.dir(), &P256);
    assert_eq!(ask_to_be(&ca, HOST, &request).status, 202);
    let fingerprint = key_hash(&request);
    ops.ok(&["host", "list", "--as-host"]);
    for words in [
        &["host", "list", "--pending"][..],
        &["host", "approve", HOST, &fingerprint],
        &["host", "reject", HOST, &fingerprint],
    ] {
        let out = ops.psfca(&[words, &["--as-host"]].concat());
        assert_eq!(out.status.code(), Some(1), "{}", said(&out));
        assert!(said(&out).contains("on the CA machine only"), "{}", said(&out));
    }
    let kind = ["--header", "Content-Type: application/json", "--data-binary"];
    let approve = format!(r#"{{"action":"approve","key_sha256":"{fingerprint}"}}"#);
    for (path, body) in [("/v1/requests/pg0.iad1.psf.io", approve.as_str()), ("/v1/salt-keys", r#"{"keys":{}}"#)] {
        let answer = ask_as(&ca, &ops, &[&kind[..], &[body]].concat(), path);
        assert_eq!(answer.refusal(), (404, "no-such-path".to_owned()), "{path}");
    }
    assert_eq!(ask_to_be(&ca, HOST, &request).status, 202);
}
