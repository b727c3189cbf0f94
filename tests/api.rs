//! The API as it is described: `docs/openapi.json`, the route table and the daemon say the same, to
//! each kind of caller.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use psfca::api::{Listener, routes};
use serde_json::Value;
use support::ask::{Answer, P256, ask, ask_admin, ask_as, csr, enroll, post_csr, secret};
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

/// What each caller gets. 0: the handshake fails, so there is no answer at all.
struct Row {
    route: &'static str,
    /// What stands for `{name}` and `{*path}`, or follows the path.
    name: &'static str,
    nobody: u16,
    host: u16,
    service_leaf: u16,
    foreign: u16,
    operator: u16,
}

const fn row(route: &'static str, name: &'static str, answers: [u16; 5]) -> Row {
    let [nobody, host, service_leaf, foreign, operator] = answers;
    Row { route, name, nobody, host, service_leaf, foreign, operator }
}

/// Each POST carries a certificate request; a host is pg0.iad1.psf.io.
//                                                    nobody host leaf foreign operator
const WHO_GETS_WHAT: [Row; 26] = [
    row("GET /PSF_CA.pem", "", /*               */ [200, 200, 0, 0, 200]),
    row("GET /healthz", "", /*                  */ [200, 200, 0, 0, 200]),
    row("GET /readyz", "", /*                   */ [200, 200, 0, 0, 200]),
    row("GET /openapi.json", "", /*             */ [200, 200, 0, 0, 200]),
    row("GET /metrics", "", /*                  */ [404, 404, 0, 0, 200]),
    row("POST /v1/enroll", "", /*               */ [400, 400, 0, 0, 404]),
    row("POST /v1/identity", "", /*             */ [401, 200, 0, 0, 404]),
    row("GET /v1/certs", "", /*                 */ [401, 200, 0, 0, 404]),
    row("POST /v1/certs/{name}", "postgresql.psf.io", [401, 200, 0, 0, 404]),
    row("POST /v1/certs/{name}", "lb.psf.io", /*    */ [401, 403, 0, 0, 404]),
    row("POST /v1/certs/{name}", "unknown.psf.io", /**/ [401, 403, 0, 0, 404]),
    row("POST /v1/report", "", /*               */ [401, 400, 0, 0, 404]),
    row("GET /v1/fleet", "", /*                 */ [401, 403, 0, 0, 200]),
    row("GET /v1/ciphers", "", /*               */ [401, 200, 0, 0, 200]),
    row("GET /v1/ciphers/{name}", "lb.psf.io", /*   */ [401, 200, 0, 0, 200]),
    row("GET /v1/audit", "", /*                 */ [401, 200, 0, 0, 200]),
    row("GET /v1/declarations/{sha256}", "", /*   */ [404, 404, 0, 0, 200]),
    row("GET /v1/ledger/checkpoint", "", /*     */ [401, 200, 0, 0, 200]),
    row("GET /v1/ledger/consistency", "?old=1&new=2", [401, 200, 0, 0, 200]),
    row("GET /v1/ledger/recovery", "", /*       */ [401, 200, 0, 0, 200]),
    row("GET /v1/ledger/tile/{*path}", "0/000.p/2", [404, 404, 0, 0, 200]),
    row("GET /v1/hosts", "", /*                 */ [401, 403, 0, 0, 200]),
    row("GET /v1/hosts/{host}", "pg0.iad1.psf.io", /**/ [401, 403, 0, 0, 200]),
    row("POST /v1/hosts/{host}", "pg0.iad1.psf.io", /**/ [401, 403, 0, 0, 400]),
    row("POST /v1/reopen", "", /*               */ [404, 404, 0, 0, 400]),
    row("POST /v1/tokens", "", /*               */ [404, 404, 0, 0, 400]),
];

#[test]
fn every_caller_gets_what_the_table_says_on_every_route_and_the_document_knows_the_answer() {
    let listed: BTreeSet<_> = WHO_GETS_WHAT.iter().map(|row| row.route.to_owned()).collect();
    assert_eq!(listed, routes().iter().map(|route| format!("{} {}", route.method, route.path)).collect());

    let mut ca = Ca::made_with("");
    // So that there is one to be told of.
    ca.ok(&["recover", "--seen", "99", "--yes"]);
    ca.serve();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    host.ok(&["issue", "app.psf.io"]);
    let other_ca = Ca::start();
    let stranger = Host::enroll(&other_ca, "pg0.iad1.psf.io");
    let [identity, leaf, foreign] = [
        host.identity(),
        // For TLS clients, so only its issuer makes it no identity.
        host.bundle("app.psf.io"),
        stranger.identity(),
    ];
    let document = document();
    let in_force = ask(&ca, &[], "/healthz").json()["declaration"]["sha256"].as_str().unwrap().to_owned();
    let body = format!("@{}", csr(host.dir(), &P256).display());
    for row in &WHO_GETS_WHAT {
        let (method, path) = row.route.split_once(' ').unwrap();
        let operation = &document["paths"][path][method.to_lowercase()];
        let path = if path.contains('{') || row.name.is_empty() {
            path.replace("{name}", row.name)
                .replace("{*path}", row.name)
                .replace("{host}", row.name)
                .replace("{sha256}", &in_force)
        } else {
            path.to_owned() + row.name
        };
        let post = ["--header", "Content-Type: application/pkcs10", "--data-binary", &body];
        let args = if method == "POST" { &post[..] } else { &[] };
        let with = |certificate: &Path| ask(&ca, &[&["--cert", certificate.to_str().unwrap()], args].concat(), &path);
        for (caller, listener, answer, wanted) in [
            ("nobody", "network", ask(&ca, args, &path), row.nobody),
            ("the host", "network", with(&identity), row.host),
            ("a service leaf", "network", with(&leaf), row.service_leaf),
            ("another CA's identity", "network", with(&foreign), row.foreign),
            ("an operator", "admin", ask_admin(&ca, args, &path), row.operator),
        ] {
            assert_eq!(answer.status, wanted, "{} by {caller}: {answer:?}", row.route);
            let described = operation["x-listeners"].as_array().unwrap().contains(&listener.into());
            match answer.status {
                0 => assert!(answer.body.contains("alert"), "not refused by TLS: {answer:?}"),
                404 => assert_eq!((answer.problem().as_str(), described), ("no-such-path", false), "{answer:?}"),
                status => {
                    let content = &operation["responses"][status.to_string()]["content"];
                    let kind = answer.header("content-type").split(';').next().unwrap();
                    let known = content.as_object().is_some_and(|kinds| kinds.keys().any(|k| k.starts_with(kind)));
                    assert!(known, "{} answers {status} with {kind}, which the document does not say", row.route);
                    if status >= 400 {
                        answer.problem();
                    }
                }
            }
        }
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
