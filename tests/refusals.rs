//! Who was refused what, and why, stands in the ledger; and nobody can fill it by being refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use rusqlite::Connection;
use serde_json::{Value, json};
use support::ask::{P256, ask, ask_as, csr, enroll, post_csr, post_empty, secret};
use support::ledger::entries;
use support::{Ca, Host, wait_until};

/// The refusals in the ledger, oldest first, as soon as there are so many; without what changes.
fn refusals(ca: &Ca, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    wait_until(&format!("{count} refusals are in the ledger"), || {
        found = entries(ca).into_iter().filter(|entry| entry["event"] == "refused").collect();
        found.len() >= count
    });
    for entry in &mut found {
        for constant in ["v", "time", "event"] {
            entry.as_object_mut().unwrap().remove(constant);
        }
    }
    found
}

fn refusal(reason: &str, host: Option<&str>, name: Option<&str>) -> Value {
    let mut entry = json!({ "reason": reason, "address": "127.0.0.1", "repeated": 0, "omitted": 0 });
    for (field, value) in [("host", host), ("name", name)] {
        if let Some(value) = value {
            entry[field] = value.into();
        }
    }
    entry
}

#[test]
fn the_audit_tells_who_was_refused_what_and_why() {
    let ca = Ca::start();
    let pg = Host::enroll(&ca, "pg0.iad1.psf.io");
    let name = Some("lb.psf.io");
    let mut expected = Vec::new();
    let mut expect = |reason: &str, host: Option<&str>, name: Option<&str>| {
        expected.push(refusal(reason, host, name));
        assert_eq!(refusals(&ca, expected.len()), expected);
    };
    assert_eq!(post_empty(&ca, &pg, "/v1/certs/lb.psf.io").refusal(), (403, "denied".into()));
    expect("denied", Some(&pg.name), name);
    assert_eq!(post_empty(&ca, &pg, "/v1/certs/postgresql.psf.io").status, 403);
    expect("no_ca_made_key", Some(&pg.name), Some("postgresql.psf.io"));
    let weak = csr(pg.dir(), &["-newkey", "rsa:1024"]);
    assert_eq!(post_csr(&ca, &pg, &weak, "/v1/certs/app.psf.io").status, 400);
    expect("bad_key", Some(&pg.name), Some("app.psf.io"));
    assert_eq!(ask_as(&ca, &pg, &[], "/v1/audit?host=lb0.iad1.psf.io").status, 403);
    expect("not_an_operator", Some(&pg.name), None);

    // Whoever has seen a token that was spent, and whoever made one up.
    let token = ca.token("pg1.iad1.psf.io");
    let [first, second] = [csr(pg.dir(), &P256), csr(pg.dir(), &P256)];
    assert_eq!(enroll(&ca, &secret(&token), &first).status, 200);
    assert_eq!(enroll(&ca, &secret(&token), &second).refusal(), (403, "bad-token".into()));
    expect("token_spent", Some("pg1.iad1.psf.io"), None);
    assert_eq!(enroll(&ca, &"A".repeat(43), &second).refusal(), (403, "bad-token".into()));
    expect("token_unknown", None, None);
    assert_eq!(ask(&ca, &["--request", "POST"], "/v1/certs/lb.psf.io").status, 401);
    expect("no_identity", None, None);

    // An identity that was replaced is worth nothing, and that it was used is worth an entry.
    let old = Host::enroll(&ca, "pg2.iad1.psf.io");
    // The identity's beginning has a precision of a second.
    wait_until("the host has enrolled again in a later second", || {
        let token = ca.ok(&["token", "--replace", &old.name]);
        assert!(Host::new(&old.name).enroll_with(token.trim()).status.success());
        ask_as(&ca, &old, &[], "/v1/certs").status == 403
    });
    expect("identity_replaced", Some(&old.name), None);

    // What is malformed, or is not there, is a refusal of another kind.
    let before = entries(&ca).len();
    for path in ["/v1/certs/LB.psf.io", "/v1/nothing", "/v1/audit?before=soon"] {
        assert!(ask_as(&ca, &pg, &["--request", "POST"], path).status >= 400, "{path}");
    }
    ca.token("pg9.iad1.psf.io");
    assert_eq!(entries(&ca).len(), before + 1);

    let listed = ca.ok(&["audit", "list", "--event", "refused", "--host", &pg.name, "--json"]);
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reasons: Vec<_> = listed.iter().map(|entry| entry["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["not_an_operator", "bad_key", "no_ca_made_key", "denied"]);
    let table = ca.ok(&["audit", "list", "--event", "refused"]);
    let words = |wanted: &str| {
        let line = table.lines().find(|line| line.contains(wanted)).unwrap_or_else(|| panic!("{wanted}: {table}"));
        line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(words("denied"), "refused denied lb.psf.io pg0.iad1.psf.io - - -");
    assert_eq!(words("no_identity"), "refused no_identity - 127.0.0.1 - - -");
    let csv = ca.ok(&["audit", "list", "--event", "refused", "--csv"]);
    assert!(
        csv.lines().any(|line| line.ends_with(",lb.psf.io,pg0.iad1.psf.io,,,,,,,,,,denied,127.0.0.1,0,0,,,,")),
        "{csv}"
    );
    ca.ok(&["audit", "verify", "--state", ca.state().to_str().unwrap()]);
}

#[test]
fn a_host_that_never_stops_asking_leaves_a_handful_of_entries_and_the_metrics_count_them_all() {
    let ca = Ca::start();
    let [loud, other] = ["pg0.iad1.psf.io", "pg1.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    for n in 0..30 {
        assert_eq!(post_empty(&ca, &loud, &format!("/v1/certs/name{}.psf.io", n % 15)).status, 403);
    }
    for _ in 0..5 {
        assert_eq!(ask(&ca, &[], "/v1/certs").status, 401);
    }
    assert_eq!(post_empty(&ca, &other, "/v1/certs/lb.psf.io").status, 403);
    let found = refusals(&ca, 12);
    let by = |host: Value| found.iter().filter(|entry| entry["host"] == host).count();
    assert_eq!((by(loud.name.as_str().into()), by(Value::Null), by(other.name.as_str().into())), (10, 1, 1));
    // Ten more names were asked for twice; the first ten a second time, which their next entry will tell.
    assert_eq!(found.iter().map(|entry| entry["omitted"].as_u64().unwrap()).sum::<u64>(), 10);
    let metrics = ca.curl_admin(&[], "/metrics").1;
    assert!(metrics.contains("psfca_requests_refused_total{reason=\"denied\"} 31"), "{metrics}");
    assert!(metrics.contains("psfca_requests_refused_total{reason=\"no-identity\"} 5"), "{metrics}");
}

#[test]
fn a_refusal_waits_for_no_disk_and_is_counted_when_its_entry_was_lost() {
    let ca = Ca::start();
    let pg = Host::enroll(&ca, "pg0.iad1.psf.io");
    let other = Connection::open(ca.state().join("ledger.sqlite3")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_eq!(post_empty(&ca, &pg, "/v1/certs/lb.psf.io").refusal(), (403, "denied".into()));
    ca.wait_for_log("the ledger could not be written");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(ask(&ca, &[], "/v1/certs").status, 401);
    let told = json!({ "reason": "no_identity", "address": "127.0.0.1", "repeated": 0, "omitted": 1 });
    assert_eq!(refusals(&ca, 1), [told]);
}

#[test]
fn nothing_in_a_request_passes_for_another_field_of_its_log_line() {
    let ca = Ca::start();
    let long = format!("/{}", "x".repeat(500));
    for path in ["/x\"status=200,reason=\"fine", long.as_str()] {
        assert_eq!(ask(&ca, &["--request", &"M".repeat(40)], path).status, 404);
    }
    let cut = format!("method=\"{}…\" path=\"{}…\" status=404", "M".repeat(20), &long[..120]);
    for line in [r#"path="/x\"status=200,reason=\"fine" status=404 reason="no-such-path""#, cut.as_str()] {
        ca.wait_for_log(line);
    }
}
