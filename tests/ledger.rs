//! What hosts make of the CA's ledger, with a real daemon whose past is changed under it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::process::Output;

use support::rollback::{copy_ledger, restart};
use support::tools::said;
use support::{Ca, Host};

const NAME: &str = "postgresql.psf.io";

/// A CA and a host that has all its bundles.
fn working() -> (Ca, Host) {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    host.ok(&["renew"]);
    (ca, host)
}

fn set_policy(host: &Host, policy: &str) {
    let settings = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), format!("{settings}ledger_policy: {policy}\n")).unwrap();
}

fn size(host: &Host) -> u64 {
    // Without trouble the exit code is 0, and with it 5; the document is there in both cases.
    let status: serde_json::Value = serde_json::from_slice(&host.psfca(&["status", "--json"]).stdout).unwrap();
    status["ledger"]["size"].as_u64().unwrap()
}

fn installed(host: &Host) -> Vec<Vec<u8>> {
    [NAME, "app.psf.io", "made.psf.io"].map(|name| fs::read(host.bundle(name)).unwrap()).to_vec()
}

/// That `output` is a refusal for this reason and that nothing was installed.
fn refused(host: &Host, old: &[Vec<u8>], output: &Output, text: &str) {
    assert_eq!(output.status.code(), Some(6), "{}", said(output));
    assert!(said(output).contains(text), "{text:?} in {}", said(output));
    assert!(said(output).contains("tell whoever runs the CA"), "{}", said(output));
    assert!(installed(host) == old, "{text}");
}

/// A host whose CA was put back to an old backup, and what it has seen before.
fn gone_back() -> (Ca, Host, u64) {
    let (mut ca, host) = working();
    let backup = tempfile::tempdir().unwrap();
    ca.terminate();
    copy_ledger(&ca.state(), backup.path());
    restart(&mut ca, &host);
    // More than the daemon makes for itself when it starts.
    for _ in 0..15 {
        host.ok(&["issue", NAME]);
    }
    let seen = size(&host);
    ca.terminate();
    copy_ledger(backup.path(), &ca.state());
    restart(&mut ca, &host);
    (ca, host, seen)
}

#[test]
fn a_ca_that_went_back_to_a_backup_is_refused_by_its_hosts() {
    let (ca, host, seen) = gone_back();
    let old = installed(&host);
    let text = format!(" entries and this host has seen {seen} (checkpoint of ");
    refused(&host, &old, &host.psfca(&["issue", NAME]), &text);
    refused(&host, &old, &host.psfca(&["renew", "--force"]), &text);
    refused(&host, &old, &host.psfca(&["issue", NAME, "--stdout"]), "nothing was installed for postgresql.psf.io");
    assert!(host.psfca(&["issue", NAME, "--stdout"]).stdout.is_empty());
    // That one was discovered; the others were not asked for.
    let recorded = || ca.ok(&["audit", "list", "--json", "--name", NAME]).lines().count();
    let before = recorded();
    refused(&host, &old, &host.psfca(&["renew", "--force"]), &text);
    assert_eq!(recorded(), before, "a refusing host fills the ledger");

    let status = host.psfca(&["status"]);
    assert_eq!(status.status.code(), Some(5));
    assert!(said(&status).contains(&format!("ledger    {seen} entries of psf.io/PSF_CA, seen ")), "{}", said(&status));
    assert!(said(&status).contains(&text), "{}", said(&status));

    // A person with a token ends it, and is told.
    let token = ca.ok(&["token", &host.name, "--replace"]);
    let enrolled = host.enroll_with(token.trim());
    assert!(enrolled.status.success() && said(&enrolled).contains(&text), "{}", said(&enrolled));
    host.ok(&["renew", "--force"]);
    host.ok(&["status"]);
}

#[test]
fn a_ca_that_went_back_and_grew_past_what_was_seen_is_refused_too() {
    let (ca, host, seen) = gone_back();
    let old = installed(&host);
    for n in 0..=seen {
        ca.token(&format!("other{n}.iad1.psf.io"));
    }
    let text = format!("does not continue the {seen} that this host has seen");
    refused(&host, &old, &host.psfca(&["issue", NAME]), &text);
    refused(&host, &old, &host.psfca(&["renew", "--force"]), "its proof is wrong");
}

#[test]
fn with_the_alarm_policy_everything_is_installed_and_reported() {
    let (_ca, host, seen) = gone_back();
    set_policy(&host, "alarm");
    let old = installed(&host);
    let text = format!("this host has seen {seen} (checkpoint of ");
    let issued = host.psfca(&["issue", NAME]);
    assert_eq!(issued.status.code(), Some(6), "{}", said(&issued));
    let report = host.psfca(&["renew", "--force", "--json"]);
    assert_eq!(report.status.code(), Some(6), "{}", said(&report));
    let document: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    assert!(document["ledger_trouble"]["problem"].as_str().unwrap().contains(&text), "{document}");
    assert_eq!(document["ledger_trouble"]["refused"], false);
    for output in [&issued, &report] {
        let noted = String::from_utf8_lossy(&output.stderr);
        assert!(noted.contains("psfca: LEDGER: ") && noted.contains(&text), "{noted}");
        assert!(noted.contains("installed all the same (ledger_policy: alarm)"), "{noted}");
    }
    assert!(installed(&host).iter().zip(&old).all(|(new, old)| new != old));
    // Nothing is due any more, and it is still said.
    let idle = host.psfca(&["renew"]);
    assert!(idle.status.code() == Some(6) && said(&idle).contains("LEDGER: "), "{}", said(&idle));
    assert_eq!((host.psfca(&["status"]).status.code(), size(&host)), (Some(5), seen));
}

#[test]
fn another_ledger_key_is_refused_whatever_the_policy() {
    let (mut ca, host) = working();
    let old = installed(&host);
    ca.terminate();
    let other = Ca::made_with("");
    fs::copy(other.state().join("ca/ledger.key"), ca.state().join("ca/ledger.key")).unwrap();
    restart(&mut ca, &host);
    let text = "the ledger's checkpoint is not signed by psf.io/PSF_CA+";
    refused(&host, &old, &host.psfca(&["issue", NAME]), text);
    refused(&host, &old, &host.psfca(&["renew", "--force"]), text);
    set_policy(&host, "alarm");
    refused(&host, &old, &host.psfca(&["issue", NAME]), text);
    let report = host.psfca(&["renew", "--force"]);
    assert_eq!(report.status.code(), Some(6));
    assert!(said(&report).contains(text) && installed(&host) == old, "{}", said(&report));
}

#[test]
fn a_key_that_the_ca_made_is_held_to_the_ledger_too() {
    let (_ca, host) = working();
    let before = size(&host);
    host.ok(&["issue", "made.psf.io", "--ca-made-key"]);
    assert_eq!(size(&host), before + 1);
}

#[test]
fn proofs_hold_across_the_edges_of_tiles() {
    let (ca, host) = working();
    let health = || serde_json::from_str::<serde_json::Value>(&ca.curl(&[], "/healthz").1).unwrap();
    let entries = || health()["ledger_size"].as_u64().unwrap();
    let mut n = 0;
    let mut fill_to = |size: u64| {
        while entries() < size {
            ca.token(&format!("other{n}.iad1.psf.io"));
            n += 1;
        }
    };
    // Up to the last entry of the first tile, then its first neighbours one by one, then well beyond.
    fill_to(254);
    for expected in 255..=259 {
        host.ok(&["issue", NAME]);
        assert_eq!(size(&host), expected);
    }
    fill_to(320);
    host.ok(&["renew", "--force"]);
    assert_eq!(size(&host), 324);
    fill_to(513);
    host.ok(&["issue", NAME]);
    host.ok(&["status"]);
}
