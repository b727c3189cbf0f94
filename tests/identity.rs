//! Identities: a renewal that is asked for twice, an end that has passed, and two who claim to be one host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::ask::{Answer, P256, ask, ask_admin, csr, enroll, openssl, secret};
use support::tools::said;
use support::{Ca, Host, clock, psfca};

const HOST: &str = "pg0.iad1.psf.io";
const NAME: &str = "postgresql.psf.io";
const SERVICE: &str = "/v1/certs/postgresql.psf.io";
const RENEWAL: &str = "/v1/identity";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every identity that was recorded for the host, newest first.
fn identities(ca: &Ca) -> Vec<Value> {
    let listed = lines(&ca.ok(&["audit", "list", "--event", "certificate", "--name", HOST, "--json"]));
    listed.into_iter().filter(|entry| entry["kind"] == "identity").collect()
}

fn events(ca: &Ca, kind: &str) -> Vec<Value> {
    lines(&ca.ok(&["audit", "list", "--event", kind, "--json"]))
}

fn holds(ca: &Ca) {
    let said = ca.ok(&["audit", "verify", ca.state().to_str().unwrap()]);
    assert!(said.contains("Everything holds."), "{said}");
}

/// Posts the request `csr` with the identity in the PEM file `identity`. The daemon's clock may be another than
/// curl's, so curl leaves out the dates of the daemon's certificate, and all else of it.
fn post(ca: &Ca, identity: &Path, csr: &Path, path: &str) -> Answer {
    let body = format!("@{}", csr.display());
    let kind = "Content-Type: application/pkcs10";
    let identity = identity.to_str().unwrap();
    ask(ca, &["--insecure", "--cert", identity, "--header", kind, "--data-binary", &body], path)
}

fn get(ca: &Ca, identity: &Path, path: &str) -> Answer {
    ask(ca, &["--insecure", "--cert", identity.to_str().unwrap()], path)
}

/// The identity in an answer, with the key of the request `csr`, as a file for curl.
fn identity_file(answer: &Answer, csr: &Path) -> PathBuf {
    assert_eq!(answer.status, 200, "{answer:?}");
    let path = csr.with_extension("identity");
    let key = std::fs::read_to_string(csr.with_extension("key")).unwrap();
    std::fs::write(&path, answer.body.clone() + &key).unwrap();
    path
}

/// The serial that openssl reads in the first certificate of an answer.
fn serial(dir: &Path, answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let file = dir.join("answer.pem");
    std::fs::write(&file, &answer.body).unwrap();
    openssl(&["x509", "-noout", "-serial", "-in", file.to_str().unwrap()])
}

fn frozen() -> (u16, String) {
    (403, "frozen".to_owned())
}

#[test]
fn fifty_renewals_with_one_key_at_once_are_one_entry_and_one_identity() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    let (identity, request) = (host.identity(), csr(host.dir(), &P256));
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..50).map(|_| scope.spawn(|| post(&ca, &identity, &request, RENEWAL))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let first = &answers[0];
    for answer in &answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        for header in ["psfca-serial", "psfca-ledger-index", "psfca-renew-after"] {
            assert_eq!(answer.header(header), first.header(header));
        }
    }
    assert_eq!(identities(&ca).len(), 2, "that of the enrolment and its successor");
    // What was given is good, and the host is not frozen.
    assert_eq!(post(&ca, &identity_file(first, &request), &request, SERVICE).status, 200);
    holds(&ca);
}

#[test]
fn r9_the_same_key_gets_the_same_identity_from_a_daemon_that_was_killed_before_it_answered() {
    let mut ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    let (identity, request) = (host.identity(), csr(host.dir(), &P256));
    let lost = serial(host.dir(), &post(&ca, &identity, &request, RENEWAL));
    ca.stop();
    ca.serve();
    assert_eq!(serial(host.dir(), &post(&ca, &identity, &request, RENEWAL)), lost);

    // Killed between record and signature: the bytes that were recorded are signed now.
    ca.stop();
    let ledger = rusqlite::Connection::open(ca.state().join("ledger.sqlite3")).unwrap();
    for forget in ["body SET signature = NULL", "certificate SET released = 0"] {
        let forgotten = ledger.execute(&format!("UPDATE {forget} WHERE idx = (SELECT idx FROM renewal)"), []);
        assert_eq!(forgotten.unwrap(), 1);
    }
    drop(ledger);
    ca.serve();
    let answer = post(&ca, &identity, &request, RENEWAL);
    assert_eq!(serial(host.dir(), &answer), lost);
    assert_eq!(post(&ca, &identity_file(&answer, &request), &request, SERVICE).status, 200);
    assert_eq!(identities(&ca).len(), 2);

    // What was recorded is not what would be certified now: a new one for the same key, and that again.
    let config = std::fs::read_to_string(ca.config()).unwrap();
    std::fs::write(ca.config(), config.replace("Wolfeboro", "Beaverton")).unwrap();
    ca.stop();
    ca.serve();
    let other = serial(host.dir(), &post(&ca, &identity, &request, RENEWAL));
    assert_ne!(other, lost);
    assert_eq!(serial(host.dir(), &post(&ca, &identity, &request, RENEWAL)), other);
    assert_eq!(identities(&ca).len(), 3);
    holds(&ca);
}

#[test]
fn r9_a_host_that_was_killed_before_it_stored_its_new_identity_goes_on_with_the_same_key() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    let state = host.dir().join("state");
    let before = std::fs::read(state.join("enrolment.json")).unwrap();
    let [key, kept] = [state.join("pending-key.pem"), host.dir().join("kept.pem")];
    // The key is on the disk before it is asked with: that of a run whose answer never came.
    let lost = csr(host.dir(), &P256);
    std::fs::copy(lost.with_extension("key"), &key).unwrap();
    std::fs::copy(&key, &kept).unwrap();
    assert_eq!(post(&ca, &host.identity(), &lost, RENEWAL).status, 200);
    assert!(host.ok(&["renew", "--force"]).contains(": renewed, because --force"));
    assert_eq!(identities(&ca).len(), 2);

    // An old copy of the state comes back, without the key that has renewed it: that is a clone.
    std::fs::write(state.join("enrolment.json"), before).unwrap();
    let out = host.psfca(&["renew", "--force"]);
    assert!(said(&out).contains("pg0.iad1.psf.io is frozen: two keys asked to renew one"), "{}", said(&out));
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
}

#[test]
fn two_keys_that_renew_one_identity_freeze_the_host_until_an_operator_decides() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    let identity = host.identity();
    let requests = [csr(host.dir(), &P256), csr(host.dir(), &P256)];
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asking: Vec<_> = requests.iter().map(|csr| scope.spawn(|| post(&ca, &identity, csr, RENEWAL))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (won, lost) = if answers[0].status == 200 { (0, 1) } else { (1, 0) };
    assert_eq!(answers[lost].refusal(), frozen());
    let next = identity_file(&answers[won], &requests[won]);
    for shown in [&identity, &next] {
        for request in &requests {
            assert_eq!(post(&ca, shown, request, RENEWAL).refusal(), frozen());
            assert_eq!(post(&ca, shown, request, SERVICE).refusal(), frozen());
        }
        for path in ["/v1/certs", "/v1/audit", "/v1/ledger/checkpoint", "/v1/ciphers"] {
            assert_eq!(get(&ca, shown, path).refusal(), frozen(), "{path}");
        }
    }
    assert_eq!(identities(&ca).len(), 2);

    let [event] = &events(&ca, "host_frozen")[..] else { panic!("frozen once") };
    assert_eq!(event["key_sha256"], identities(&ca)[0]["key_sha256"], "the first key is the one that won");
    assert_eq!(event["serial"], identities(&ca)[1]["serial"]);
    assert_ne!(event["key_sha256"], event["other_key_sha256"]);
    let shown = ca.ok(&["host", "show", HOST]);
    for part in
        ["state     frozen since", event["other_key_sha256"].as_str().unwrap(), "psfca host enable", "--replace"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let metrics = ask_admin(&ca, &[], "/metrics").body;
    for line in ["psfca_hosts{state=\"frozen\"} 1", "psfca_hosts{state=\"enabled\"} 0"] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    assert!(metrics.contains("psfca_requests_refused_total{reason=\"frozen\"}"), "{metrics}");
    let plain = ca.psfca(&["token", HOST]);
    assert!(
        said(&plain).contains("is frozen; an operator can make a token that lets it come back"),
        "{}",
        said(&plain)
    );

    // The operator takes the first for the host; the second comes again.
    assert!(ca.ok(&["host", "enable", HOST, "--reason", "the clone is gone"]).contains("served again"));
    assert_eq!(post(&ca, &next, &requests[won], SERVICE).status, 200);
    assert_eq!(post(&ca, &identity, &requests[lost], RENEWAL).refusal(), frozen());

    // The operator has the host enrol anew: nothing older counts.
    let rebuilt = Host::new(HOST);
    assert!(rebuilt.enroll_with(ca.ok(&["token", HOST, "--replace"]).trim()).status.success());
    rebuilt.ok(&["issue", NAME]);
    for shown in [&identity, &next] {
        for path in [RENEWAL, SERVICE] {
            assert_eq!(post(&ca, shown, &requests[lost], path).refusal(), (403, "replaced".to_owned()));
        }
    }
    rebuilt.ok(&["renew", "--force"]);
    holds(&ca);
}

#[test]
fn an_identity_that_has_ended_reaches_its_renewal_alone_and_after_the_grace_nothing() {
    let mut ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    let (identity, request) = (host.identity(), csr(host.dir(), &P256));
    let time = ca.dir().join("time");
    let mut command = psfca();
    command.arg("serve").env("PSFCA_CONFIG", ca.config());
    std::fs::write(&time, "+0").unwrap();
    let Some(command) = clock::by_file(&time, command) else { return };
    ca.serve_by(command);
    let expired = || (403, "identity-expired".to_owned());
    const DAY: u32 = 86_400;

    // A minute before the end, and a minute after it: the seconds that this takes are no matter.
    std::fs::write(&time, format!("+{}s", 30 * DAY - 60)).unwrap();
    assert_eq!(get(&ca, &identity, "/v1/certs").status, 200);
    for moment in [30 * DAY + 60, 37 * DAY - 60] {
        std::fs::write(&time, format!("+{moment}s")).unwrap();
        for path in ["/v1/certs", "/v1/audit", "/v1/ciphers", "/v1/ledger/checkpoint", "/healthz", "/PSF_CA.pem", "/no"]
        {
            assert_eq!(get(&ca, &identity, path).refusal(), expired(), "{path}");
        }
        assert_eq!(get(&ca, &identity, RENEWAL).refusal(), expired());
        assert_eq!(post(&ca, &identity, &request, SERVICE).refusal(), expired());
        let renewed = identity_file(&post(&ca, &identity, &request, RENEWAL), &request);
        assert_eq!(post(&ca, &renewed, &request, SERVICE).status, 200);
    }
    std::fs::write(&time, format!("+{}s", 37 * DAY + 60)).unwrap();
    for answer in [get(&ca, &identity, "/healthz"), post(&ca, &identity, &request, RENEWAL)] {
        assert!(answer.status == 0 && answer.body.contains("alert"), "{answer:?}");
    }
    // In grace another key is another key.
    assert!(events(&ca, "host_frozen").is_empty());
    let other = Host::enroll(&Ca::start(), HOST);
    assert_eq!(post(&ca, &other.identity(), &request, RENEWAL).status, 0, "another CA's");
}

#[test]
fn a_host_that_was_away_renews_by_itself_within_the_grace_unless_there_is_none() {
    for (config, renews) in [("", true), ("identity_grace_days: 0\n", false)] {
        let mut ca = Ca::made_with(config);
        ca.serve();
        ca.keep_address();
        let host = Host::enroll(&ca, HOST);
        // The ledger grows meanwhile, so that its continuation has to be proven.
        let _other = Host::enroll(&ca, "pg1.iad1.psf.io");
        let mut command = psfca();
        command.arg("serve").env("PSFCA_CONFIG", ca.config());
        let Some(command) = clock::at("+31d", command) else { return };
        ca.serve_by(command);
        let out = clock::at("+31d", host.command(&["renew"])).unwrap().output().unwrap();
        assert_eq!(out.status.success(), renews, "{}", said(&out));
        assert_eq!(host.bundle(NAME).exists(), renews);
        let text = if renews { "because it expired on" } else { "it says that our identity has expired" };
        assert!(said(&out).contains(text), "{}", said(&out));
    }
}

#[test]
fn a_clock_that_was_set_back_makes_no_identity_older_than_its_enrolment() {
    let mut ca = Ca::start();
    let time = ca.dir().join("time");
    let mut command = psfca();
    command.arg("serve").env("PSFCA_CONFIG", ca.config());
    std::fs::write(&time, "+2h").unwrap();
    let Some(command) = clock::by_file(&time, command) else { return };
    ca.serve_by(command);
    let request = csr(ca.dir(), &P256);
    let identity = identity_file(&enroll(&ca, &secret(&ca.token(HOST)), &request), &request);
    std::fs::write(&time, "+90m").unwrap();
    let request = csr(ca.dir(), &P256);
    let renewed = identity_file(&post(&ca, &identity, &request, RENEWAL), &request);
    assert_eq!(get(&ca, &renewed, "/v1/certs").status, 200);
    assert_eq!(post(&ca, &renewed, &request, SERVICE).status, 200);
    holds(&ca);
}
