//! The outage budget: for how long the CA may be gone, and the floor that an operator sets for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use serde_json::Value;
use support::ask::ask_admin;
use support::tools::said;
use support::{Ca, TLS_YAML, wait_until};

fn checked(ca: &Ca) -> Value {
    serde_json::from_str(&ca.ok(&["check", "--json"])).unwrap()
}

#[test]
fn check_says_for_how_long_the_ca_may_be_gone_and_what_ends_first() {
    let ca = Ca::unmade("");
    let table = ca.ok(&["check"]);
    // A day has 9.6 hours left when it is renewed last; the timer comes round once before, and once after the outage.
    let line = "The CA may be gone for 9h 5m before a certificate ends (app.psf.io, 1 day).";
    assert!(table.lines().any(|found| found == line), "{table}");
    assert_eq!(checked(&ca)["outage"], serde_json::json!({ "seconds": 32_700, "name": "app.psf.io" }));

    // Where every name outlives them, it is the hosts' identities that end first.
    let long = TLS_YAML.replace("roles:", "days: 90\n      roles:").replace("      days: 30\n", "");
    std::fs::write(ca.dir().join("tls.yaml"), long).unwrap();
    assert_eq!(checked(&ca)["outage"], serde_json::json!({ "seconds": 16 * 86_400 - 31 * 60 }));
    assert!(ca.ok(&["check"]).contains("gone for 15d 23h 29m before a certificate ends (the hosts' identities)"));
}

#[test]
fn a_declaration_that_breaks_the_floor_is_a_mistake_at_the_days_of_the_name() {
    let ca = Ca::unmade("min_outage: 9h\n");
    assert_eq!(checked(&ca)["ok"], true);
    let short = TLS_YAML.replace("days: 30", "days: 0.9");
    std::fs::write(ca.dir().join("tls.yaml"), &short).unwrap();
    let out = ca.psfca(&["check"]);
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    let text = said(&out);
    let message = "lb.psf.io with 21 h 36 min stands an outage of the CA of 8h 7m, and min_outage in ca.yaml is 9h";
    assert!(text.contains(message) && text.contains("tls.yaml:8:13"), "{text}");

    // A name without days is found at its own line, and what no identity stands is ca.yaml's mistake.
    let config = std::fs::read_to_string(ca.config()).unwrap();
    for (floor, place) in [("min_outage: 10h", "tls.yaml:5:5"), ("min_outage: 17d", "ca.yaml:16:13")] {
        std::fs::write(ca.config(), config.replace("min_outage: 9h", floor)).unwrap();
        let out = ca.psfca(&["check"]);
        assert!(out.status.code() == Some(1) && said(&out).contains(place), "{floor}: {}", said(&out));
    }
}

#[test]
fn r3_a_declaration_that_breaks_the_floor_never_comes_in_force() {
    let mut ca = Ca::made_with("min_outage: 9h\n");
    ca.serve();
    let health = || ask_admin(&ca, &[], "/healthz").json();
    let before = health()["declaration"]["sha256"].clone();
    std::fs::write(ca.dir().join("tls.yaml"), TLS_YAML.replace("days: 30", "days: 0.5")).unwrap();
    ca.signal("HUP");
    wait_until("the mistake is told", || health()["declaration"]["problem"].is_string());
    let declaration = health()["declaration"].clone();
    assert!(declaration["problem"].as_str().unwrap().contains("min_outage in ca.yaml is 9h"), "{declaration}");
    assert_eq!(declaration["sha256"], before);
}
