//! How a host is let in without a token: by an operator who compares fingerprints.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::ask::{P256, ask_to_be, csr, key_hash, openssl, post_csr};
use support::minion::started_ca;
use support::tools::said;
use support::{Ca, Host, clock, psfca, wait_until};

const HOST: &str = "pg0.iad1.psf.io";
const NAME: &str = "postgresql.psf.io";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn pending(ca: &Ca) -> Vec<Value> {
    lines(&ca.ok(&["host", "list", "--pending", "--json"]))
}

fn events(ca: &Ca, kind: &str) -> usize {
    ca.ok(&["audit", "list", "--event", kind, "--limit", "1000", "--json"]).lines().count()
}

fn holds(ca: &Ca) {
    let said = ca.ok(&["audit", "verify", ca.state().to_str().unwrap()]);
    assert!(said.contains("Everything holds."), "{said}");
}

/// SHA-256 of a CA's root, as openssl says.
fn root(ca: &Ca) -> String {
    let text = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", ca.trust_bundle().to_str().unwrap()]);
    text.trim().split('=').nth(1).unwrap().to_owned()
}

/// `psfca enroll --request` on `host`, to be run.
fn request(ca: &Ca, host: &Host, wait: &str) -> Command {
    let root = root(ca);
    let trust = ["--server", ca.address(), "--ca-fingerprint", &root];
    host.command(&[&["enroll", "--request", "--host", &host.name, "--wait", wait], &trust[..]].concat())
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

/// The fingerprint that the host shows.
fn shown(out: &Output) -> String {
    let text = String::from_utf8(out.stderr.clone()).unwrap();
    text.lines().find(|line| line.starts_with("  ") && line.len() == 73).unwrap().trim().to_owned()
}

#[test]
fn a_host_that_asks_is_let_in_by_the_operator_who_compares_its_fingerprint() {
    let ca = started_ca();
    let host = Host::new(HOST);
    // At first nobody decides; the key is made and stays.
    let out = run(request(&ca, &host, "0s"));
    assert_eq!(out.status.code(), Some(8), "{}", said(&out));
    let fingerprint = shown(&out);
    let [waiting] = &pending(&ca)[..] else { panic!("one host waits") };
    assert_eq!((&waiting["host"], &waiting["state"]), (&HOST.into(), &"waiting".into()));
    assert_eq!(waiting["key_sha256"].as_str().unwrap(), fingerprint.replace('-', ""));
    let text = ca.ok(&["host", "list", "--pending"]);
    let plain = root(&ca).replace(':', "").to_lowercase();
    assert!(text.contains(&fingerprint) && text.replace('-', "").contains(&plain), "{text}");

    let waits = request(&ca, &host, "50s").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The whole fingerprint and nothing less; how it is written does not matter.
    let other = format!("{}0", &fingerprint[..fingerprint.len() - 1]);
    let other = if other == fingerprint { fingerprint.replacen(&fingerprint[..1], "x", 1) } else { other };
    for wrong in [&fingerprint[..8], &fingerprint[..fingerprint.len() - 1], other.as_str(), "yes"] {
        let out = ca.psfca(&["host", "approve", HOST, wrong]);
        assert_eq!(out.status.code(), Some(1), "{wrong}: {}", said(&out));
    }
    assert!(
        said(&ca.psfca(&["host", "approve", "pg1.iad1.psf.io", &fingerprint])).contains("no key of pg1.iad1.psf.io")
    );
    assert_eq!(events(&ca, "host_approved"), 0);
    let words = fingerprint.to_uppercase().replace('-', " ");
    let words: Vec<&str> = ["host", "approve", HOST].into_iter().chain(words.split(' ')).collect();
    assert!(ca.ok(&words).contains("is let in when it asks next"));
    assert!(ca.ok(&words).contains("nothing changed"));
    let out = waits.wait_with_output().unwrap();
    assert!(out.status.success() && said(&out).contains("pg0.iad1.psf.io is enrolled at"), "{}", said(&out));
    assert_eq!(shown(&out), fingerprint, "the same key");
    host.ok(&["issue", NAME]);
    assert!(pending(&ca).is_empty());

    let me = rustix::process::getuid().as_raw();
    let identity = lines(&ca.ok(&["audit", "list", "--name", HOST, "--json"]));
    assert_eq!(identity[0]["rule"], json!({ "by": "approval", "operator_uid": me }));
    let enrolled = lines(&ca.ok(&["audit", "list", "--event", "host_enrolled", "--json"]));
    assert_eq!((&enrolled[0]["operator_uid"], &enrolled[0]["token"]), (&me.into(), &Value::Null));
    assert_eq!([events(&ca, "host_requested"), events(&ca, "host_approved")], [1, 1]);
    holds(&ca);
}

#[test]
fn without_a_fingerprint_of_the_ca_nobody_is_asked_and_another_ca_gets_nothing() {
    let (ca, other) = (started_ca(), started_ca());
    let host = Host::new(HOST);
    let out = host.psfca(&["enroll", "--request", "--host", HOST, "--server", ca.address()]);
    assert_eq!(out.status.code(), Some(1));
    for part in ["--ca-fingerprint", "psfca inspect PSF_CA.pem", "psfca host list --pending"] {
        assert!(said(&out).contains(part), "{part}: {}", said(&out));
    }
    let elsewhere =
        ["enroll", "--request", "--host", HOST, "--server", other.address(), "--ca-fingerprint", &root(&ca)];
    let out = host.psfca(&elsewhere);
    assert_eq!(out.status.code(), Some(4), "{}", said(&out));
    assert!(said(&out).contains("is not trusted"), "{}", said(&out));
    // It speaks of what was given, and there was no token.
    assert!(
        said(&out).contains("the root that --ca-fingerprint (or") && !said(&out).contains("token"),
        "{}",
        said(&out)
    );
    assert!(pending(&other).is_empty() && pending(&ca).is_empty());

    // From the settings, with the machine's own name where nobody says another.
    let settings = std::fs::read_to_string(host.config()).unwrap();
    let more = format!("server: ['{}']\nca_fingerprint: '{}'\n", ca.address(), root(&ca));
    std::fs::write(host.config(), settings + &more).unwrap();
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let out = host.psfca(&["enroll", "--request", "--wait", "0s"]);
    match psfca::name::HostName::parse(own.trim()) {
        Ok(own) => assert_eq!(pending(&ca)[0]["host"], own.as_str(), "{}", said(&out)),
        Err(_) => assert!(said(&out).contains("say --host NAME"), "{}", said(&out)),
    }
}

#[test]
fn a_machine_that_is_enrolled_asks_to_be_another_host_only_when_that_is_meant() {
    let ca = started_ca();
    let host = Host::enroll(&ca, HOST);
    let root = root(&ca);
    let other = ["--host", "lb0.iad1.psf.io", "--server", ca.address(), "--ca-fingerprint", &root];
    for way in [&["--request", "--wait", "0s"][..], &["--salt-key", "/nonexistent"]] {
        let out = host.psfca(&[&["enroll"], way, &other].concat());
        assert_eq!(out.status.code(), Some(1), "{}", said(&out));
        assert!(said(&out).contains("this machine is enrolled as pg0.iad1.psf.io; nobody was asked"), "{}", said(&out));
    }
    assert!(pending(&ca).is_empty());
    let out = host.psfca(&[&["enroll", "--request", "--wait", "0s", "--replace"], &other[..]].concat());
    assert_eq!(out.status.code(), Some(8), "{}", said(&out));
    assert_eq!(pending(&ca)[0]["host"], "lb0.iad1.psf.io");
}

#[test]
fn an_approval_is_for_one_key_and_its_answer_can_be_lost() {
    let mut ca = started_ca();
    let dir = ca.dir().to_owned();
    let [mine, thief] = [csr(&dir, &P256), csr(&dir, &P256)];
    for (request, status) in [(&mine, 202), (&thief, 202), (&mine, 202)] {
        assert_eq!(ask_to_be(&ca, HOST, request).status, status);
    }
    assert_eq!((pending(&ca).len(), events(&ca, "host_requested")), (2, 2));
    ca.ok(&["host", "reject", HOST, &key_hash(&thief)]);
    ca.ok(&["host", "approve", HOST, &key_hash(&mine)]);
    assert_eq!(ask_to_be(&ca, HOST, &thief).refusal(), (403, "rejected".to_owned()));
    assert_eq!(ask_to_be(&ca, "pg1.iad1.psf.io", &mine).status, 202, "the key was approved for another host");

    let first = ask_to_be(&ca, HOST, &mine);
    assert_eq!(first.status, 200, "{first:?}");
    ca.stop();
    ca.serve();
    let again = ask_to_be(&ca, HOST, &mine);
    assert_eq!((again.status, again.header("psfca-serial")), (200, first.header("psfca-serial")));
    assert_eq!(events(&ca, "host_enrolled"), 1);
    assert_eq!(ask_to_be(&ca, HOST, &thief).refusal(), (409, "already-enrolled".to_owned()));
    let out = ca.psfca(&["host", "approve", HOST, &key_hash(&thief)]);
    assert!(said(&out).contains("is enrolled already"), "{}", said(&out));

    // Neither the lost answer nor a new request lets in who was shut out.
    for action in ["disable", "enable", "remove"] {
        ca.ok(&["host", action, HOST]);
        assert_eq!(ask_to_be(&ca, HOST, &mine).refusal(), (409, "already-enrolled".to_owned()), "{action}");
        assert_eq!(ask_to_be(&ca, HOST, &thief).refusal(), (409, "already-enrolled".to_owned()), "{action}");
    }
    let token = ca.ok(&["token", HOST, "--replace"]);
    assert_eq!(support::ask::enroll(&ca, &support::ask::secret(token.trim()), &thief).status, 200);
    assert_eq!(ask_to_be(&ca, HOST, &mine).refusal(), (409, "already-enrolled".to_owned()));
    holds(&ca);
}

#[test]
fn a_request_that_nobody_decides_is_dropped_after_a_day_and_so_is_an_approval() {
    let mut ca = started_ca();
    let time = ca.dir().join("time");
    std::fs::write(&time, "+0").unwrap();
    let mut command = psfca();
    command.arg("serve").env("PSFCA_CONFIG", ca.config());
    let Some(command) = clock::by_file(&time, command) else { return };
    ca.serve_by(command);
    let dir = ca.dir().to_owned();
    let [waiting, approved] = [csr(&dir, &P256), csr(&dir, &P256)];
    assert_eq!(ask_to_be(&ca, HOST, &waiting).status, 202);
    assert_eq!(ask_to_be(&ca, "pg1.iad1.psf.io", &approved).status, 202);
    ca.ok(&["host", "approve", "pg1.iad1.psf.io", &key_hash(&approved)]);
    std::fs::write(&time, format!("+{}s", 86_400 - 60)).unwrap();
    assert_eq!(pending(&ca).len(), 2);
    std::fs::write(&time, format!("+{}s", 86_400 + 60)).unwrap();
    assert!(pending(&ca).is_empty());
    let out = ca.psfca(&["host", "approve", HOST, &key_hash(&waiting)]);
    assert!(said(&out).contains("a request is dropped after a day"), "{}", said(&out));
    // Who asks again waits again.
    assert_eq!(ask_to_be(&ca, "pg1.iad1.psf.io", &approved).status, 202);
    assert_eq!(pending(&ca)[0]["state"], "waiting");
    assert_eq!(events(&ca, "host_requested"), 3);
    holds(&ca);
}

#[test]
fn a_flood_of_requests_fills_neither_the_table_nor_the_ledger() {
    let ca = started_ca();
    let request = csr(ca.dir(), &P256);
    let statuses: Vec<u16> = (0..20).map(|n| ask_to_be(&ca, &format!("pg{n}.iad1.psf.io"), &request).status).collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 202).count(), 8, "{statuses:?}");
    let refused = ask_to_be(&ca, "pg20.iad1.psf.io", &request);
    assert_eq!(refused.refusal(), (429, "requests-full".to_owned()));
    assert!(!refused.header("retry-after").is_empty() && refused.body.contains("use a token"), "{refused:?}");
    assert_eq!((pending(&ca).len(), events(&ca, "host_requested")), (8, 8));
    // To reject makes no room for more of the same; to approve does. What waits is not forgotten.
    ca.ok(&["host", "reject", "pg0.iad1.psf.io", &key_hash(&request)]);
    assert_eq!(ask_to_be(&ca, "pg20.iad1.psf.io", &request).status, 429);
    assert_eq!(ask_to_be(&ca, "pg7.iad1.psf.io", &request).status, 202);
    ca.ok(&["host", "approve", "pg1.iad1.psf.io", &key_hash(&request)]);
    assert_eq!(ask_to_be(&ca, "pg20.iad1.psf.io", &request).status, 202);
    // A token is no matter of all that.
    let host = Host::enroll(&ca, "lb0.iad1.psf.io");
    assert_eq!(post_csr(&ca, &host, &request, "/v1/identity").status, 200);
    for (host, status) in [("PG0.iad1.psf.io", 400), ("../pg", 400), ("", 400), ("*.psf.io", 400)] {
        assert_eq!(ask_to_be(&ca, host, &request).status, status, "{host}");
    }
    wait_until("every signature is stored", || !ca.ok(&["audit", "list"]).contains(" recorded "));
    holds(&ca);
}
