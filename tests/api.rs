//! The API as it is described: `docs/openapi.json`, the route table and the daemon say the same. Who gets what is in
//! callers.rs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeSet;

use psfca::api::{Listener, routes};
use serde_json::Value;
use support::ask::{Answer, P256, ask, ask_admin, ask_as, csr, enroll, post_csr, secret};
use support::tools::said;
use support::{Ca, Host, clock, psfca, wait_until};

const OPENAPI: &str = include_str!("../docs/openapi.json");

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn the_document_and_the_route_table_name_the_same_routes_on_the_same_listeners() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let listeners: Vec<_> =
                operation["x-listeners"].as_array().unwrap().iter().map(ToString::to_string).collect();
            described.insert(format!("{} {path} {}", method.to_uppercase(), listeners.join(" ")));
        }
    }
    let listeners = |listener| match listener {
        Listener::Both => r#""network" "admin""#,
        Listener::Network => r#""network""#,
        Listener::Admin => r#""admin""#,
    };
    let served =
        routes().into_iter().map(|route| format!("{} {} {}", route.method, route.path, listeners(route.listener)));
    assert_eq!(described, served.collect());
}

#[test]
fn the_daemon_serves_that_very_document() {
    let ca = Ca::start();
    for answer in [ask(&ca, &[], "/openapi.json"), ask_admin(&ca, &[], "/openapi.json")] {
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        assert_eq!(answer.body, OPENAPI);
    }
}

#[test]
fn where_nothing_was_given_up_there_is_no_recovery() {
    let ca = Ca::start();
    assert_eq!(ask_admin(&ca, &[], "/v1/ledger/recovery").refusal(), (404, "no-recovery".to_owned()));
}

#[test]
fn what_is_nowhere_and_what_is_done_otherwise_are_problems_too() {
    let ca = Ca::start();
    for path in ["/", "/v1", "/v1/certs/", "/v1/certs/a/b", "/v1/certs/../audit", "/healthz/", "//healthz", "/HEALTHZ"]
    {
        assert_eq!(ask(&ca, &[], path).refusal(), (404, "no-such-path".to_owned()), "{path}");
    }
    for (method, path) in
        [("DELETE", "/v1/certs"), ("GET", "/v1/certs/postgresql.psf.io"), ("PUT", "/v1/enroll"), ("BREW", "/healthz")]
    {
        let answer = ask(&ca, &["--request", method], path);
        assert_eq!(answer.refusal(), (405, "no-such-method".to_owned()), "{method} {path}");
        assert!(!answer.header("allow").is_empty(), "{answer:?}");
    }
}

#[test]
fn a_ledger_that_cannot_be_written_makes_503_with_retry_after_and_releases_nothing() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let answer = ask(&ca, &[], "/readyz");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));
    let request = csr(host.dir(), &P256);

    let lock = rusqlite::Connection::open(ca.state().join("ledger.sqlite3")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answers = [ask(&ca, &[], "/readyz"), post_csr(&ca, &host, &request, "/v1/certs/postgresql.psf.io")];
    for answer in answers {
        assert_eq!(answer.refusal(), (503, "unavailable".to_owned()));
        assert_eq!(answer.header("retry-after"), "5");
    }
    // The daemon lives, and says so.
    assert_eq!(ask(&ca, &[], "/healthz").status, 200);
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    assert_eq!(ask(&ca, &[], "/readyz").status, 200);
    assert_eq!(post_csr(&ca, &host, &request, "/v1/certs/postgresql.psf.io").status, 200);
    assert_eq!(ca.ok(&["audit", "list", "--name", "postgresql.psf.io", "--json"]).lines().count(), 1);
}

#[test]
fn a_host_reads_its_own_part_of_the_audit_and_an_operator_all_of_it() {
    let ca = Ca::start();
    let [pg, lb] = ["pg0.iad1.psf.io", "lb0.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    pg.ok(&["issue", "postgresql.psf.io"]);
    lb.ok(&["issue", "lb.psf.io"]);
    let entries = |answer: Answer| {
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        let entries = page["entries"].as_array().unwrap().iter();
        entries.filter_map(|entry| Some(entry["name"].as_str()?.to_owned())).collect::<Vec<_>>()
    };
    let own = ["postgresql.psf.io", "pg0.iad1.psf.io"];
    for path in ["/v1/audit", "/v1/audit?host=pg0.iad1.psf.io", "/v1/audit?limit=1000"] {
        assert_eq!(entries(ask_as(&ca, &pg, &[], path)), own, "{path}");
    }
    assert_eq!(ask_as(&ca, &pg, &[], "/v1/audit?host=lb0.iad1.psf.io").refusal(), (403, "not-an-operator".into()));
    for event in ["declaration", "token_made", "host_enrolled"] {
        let path = format!("/v1/audit?event={event}");
        assert_eq!(ask_as(&ca, &pg, &[], &path).refusal(), (403, "not-an-operator".into()), "{event}");
    }
    let events = ask_as(&ca, &pg, &[], "/v1/audit").json();
    assert!(events["entries"].as_array().unwrap().iter().all(|entry| entry["event"] == "certificate"), "{events}");
    // Not by name and not by serial either.
    assert!(entries(ask_as(&ca, &pg, &[], "/v1/audit?name=lb.psf.io")).is_empty());
    let of_lb = ask_admin(&ca, &[], "/v1/audit?name=lb.psf.io").json();
    let serial = of_lb["entries"][0]["serial"].as_str().unwrap();
    assert!(entries(ask_as(&ca, &pg, &[], &format!("/v1/audit?serial={serial}"))).is_empty());
    let all = entries(ask_admin(&ca, &[], "/v1/audit"));
    for name in ["postgresql.psf.io", "lb.psf.io", "pg0.iad1.psf.io", "lb0.iad1.psf.io", "PSF_CA"] {
        assert!(all.iter().any(|found| found == name), "{name}: {all:?}");
    }
    assert_eq!(ask_as(&ca, &pg, &[], "/v1/audit?before=soon").refusal(), (400, "malformed".into()));
    // Each page costs more the longer the ledger is.
    wait_until("the rate is used up", || ask_as(&ca, &pg, &[], "/v1/audit").status == 429);
    assert_eq!(ask_as(&ca, &pg, &[], "/v1/audit").refusal(), (429, "too-many-requests".into()));
    assert_eq!(ask_as(&ca, &lb, &[], "/v1/audit").status, 200, "it is that of one host");
    // An index that is not in that listing is no place in it.
    let out = ca.psfca(&["audit", "list", "--expiring-within", "3650d", "--before", "999999"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        said(&out).contains("entry 999999 is not in this listing, so nothing comes after it there"),
        "{}",
        said(&out)
    );
}

#[test]
fn health_and_metrics_tell_what_was_done_and_refused() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let metrics = || ask_admin(&ca, &[], "/metrics").body;
    let before = ask(&ca, &[], "/healthz").json();
    assert_eq!(before["status"], "ok");
    assert_eq!(before["declaration"]["names"], 4);
    let kinds: Vec<_> = before["ca"].as_array().unwrap().iter().map(|ca| ca["ca"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["root", "issuing_ca", "identity_ca"]);

    host.ok(&["issue", "postgresql.psf.io"]);
    host.ok(&["issue", "made.psf.io"]);
    host.psfca(&["issue", "lb.psf.io"]);
    ask(&ca, &[], "/v1/certs");
    // Two certificates, and two refusals, for which no answer waited.
    let all = before["ledger_size"].as_u64().unwrap() + 4;
    wait_until("both refusals are noted", || ask(&ca, &[], "/healthz").json()["ledger_size"] == all);
    let text = metrics();
    for line in [
        "psfca_certificates_issued_total{kind=\"service\"} 2",
        "psfca_certificates_issued_total{kind=\"identity\"} 1",
        "psfca_requests_refused_total{reason=\"denied\"} 1",
        "psfca_requests_refused_total{reason=\"no-identity\"} 1",
        "psfca_declaration_current 1",
        &format!("psfca_ledger_entries {all}"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    // A token, an enrolment and two certificates, none of which could share its commit with another.
    let commits = text.lines().find_map(|line| line.strip_prefix("psfca_ledger_commits_total "));
    assert!(commits.is_some_and(|commits| commits.parse::<u64>().unwrap() >= 4), "{text}");
    wait_until("every connection is closed", || metrics().contains("psfca_connections 0\n"));
}

#[test]
fn a_token_is_good_once_for_one_key_at_its_own_ca_within_the_hour() {
    let mut ca = Ca::made_with("limits: {enroll_burst: 100}\n");
    ca.serve();
    let dir = ca.dir().to_owned();
    let bad_token = || (403, "bad-token".to_owned());
    let [first, second] = [csr(&dir, &P256), csr(&dir, &P256)];
    let token = secret(&ca.token("pg0.iad1.psf.io"));
    // The answer may have been lost, so the same key may ask again; no other may.
    for _ in 0..2 {
        assert_eq!(enroll(&ca, &token, &first).status, 200);
    }
    assert_eq!(enroll(&ca, &token, &second).refusal(), bad_token());

    let other = Ca::start();
    assert_eq!(enroll(&ca, &secret(&other.token("pg0.iad1.psf.io")), &second).refusal(), bad_token());
    for malformed in ["", "short", &"A".repeat(44), &"é".repeat(43)] {
        assert_eq!(enroll(&ca, malformed, &second).refusal(), (400, "bad-token".to_owned()), "{malformed}");
    }
    for body in ["", "{}", "[]", r#"{"secret":1,"csr":"x"}"#, r#"{"secret":"s","csr":"c","host":"pg9"}"#] {
        assert_eq!(ask(&ca, &["--data-binary", body], "/v1/enroll").refusal(), (400, "malformed".into()), "{body}");
    }

    let late = secret(&ca.token("pg1.iad1.psf.io"));
    let mut daemon = psfca();
    daemon.arg("serve").env("PSFCA_CONFIG", ca.config());
    let Some(daemon) = clock::at("+61m", daemon) else { return };
    ca.serve_by(daemon);
    assert_eq!(enroll(&ca, &late, &second).refusal(), bad_token());
}

#[test]
fn one_token_used_by_fifty_keys_at_once_enrols_one() {
    let mut ca = Ca::made_with("limits: {enroll_burst: 100}\n");
    ca.serve();
    let token = secret(&ca.token("pg0.iad1.psf.io"));
    let requests: Vec<_> = (0..50).map(|_| csr(ca.dir(), &P256)).collect();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            requests.iter().map(|request| scope.spawn(|| enroll(&ca, &token, request).status)).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|&&status| status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 403)), "{statuses:?}");
    assert_eq!(
        ca.ok(&["audit", "list", "--event", "certificate", "--host", "pg0.iad1.psf.io", "--json"]).lines().count(),
        1
    );
}
