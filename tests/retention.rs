//! What a daemon drops after its retention, what stays, and what operators see of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::path::Path;
use std::time::Duration;

use psfca::clock::Clock as _;
use psfca::name::HostName;
use psfca::store::{LedgerCopy, Store, Sweep};
use psfca::verification::{Summary, Wanted, verify};
use support::stored_ledger::Books;
use support::{Ca, Host, clock, psfca, wait_until};

const NAME: &str = "postgresql.psf.io";

/// A CA with one certificate of a day, which all have their signatures; its serial.
fn with_certificate(config: &str) -> (Ca, Host, String) {
    let mut ca = Ca::made_with(config);
    ca.serve();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    host.ok(&["issue", NAME]);
    let listed = || ca.ok(&["audit", "list", "--json", "--event", "certificate"]);
    wait_until("every signature is stored", || !listed().contains(r#""state":"recorded""#));
    let newest: serde_json::Value = serde_json::from_str(listed().lines().next().unwrap()).unwrap();
    let serial = newest["serial"].as_str().unwrap().to_owned();
    (ca, host, serial)
}

/// Starts the daemon so many days later.
fn serve_later(ca: &mut Ca, days: u32) -> bool {
    let mut command = psfca();
    command.arg("serve").env("PSFCA_CONFIG", ca.config());
    let Some(command) = clock::at(&format!("+{days}d"), command) else { return false };
    ca.serve_by(command);
    true
}

fn events(ca: &Ca) -> usize {
    ca.ok(&["audit", "list", "--json", "--event", "bodies_dropped"]).lines().count()
}

#[test]
fn a_year_and_more_later_the_daemon_has_dropped_the_body_and_says_so_with_its_hash() {
    let (mut ca, _host, serial) = with_certificate("");
    assert!(ca.ok(&["audit", "show", &serial]).contains("BEGIN CERTIFICATE"));
    if !serve_later(&mut ca, 500) {
        return;
    }
    wait_until("the body is dropped", || events(&ca) == 1);
    wait_until("all are", || ca.log().contains("bodies of certificates were dropped"));
    let shown = ca.ok(&["audit", "show", &serial]);
    assert!(!shown.contains("BEGIN CERTIFICATE"), "{shown}");
    assert!(shown.contains("\nstate       issued\n"), "{shown}");
    let entry: serde_json::Value = serde_json::from_str(&ca.ok(&["audit", "show", &serial, "--json"])).unwrap();
    let hash = entry["tbs_sha256"].as_str().unwrap();
    assert_eq!(entry["body_dropped"], true);
    let says = format!(
        "\ncertificate dropped, since it ended longer ago than ca.yaml's retention; the entry keeps the SHA-256 of what \
         was signed, {hash}\n"
    );
    assert!(shown.contains(&says), "{shown}");
    assert!(ca.ok(&["audit", "why", &serial]).contains(NAME));

    // The CA certificates are still there, so every signature that is left can be verified.
    let verified = ca.ok(&["audit", "verify", "--state", ca.state().to_str().unwrap()]);
    assert!(verified.ends_with("Everything holds.\n"), "{verified}");
    // The host's identity, its certificate, and the daemon's own.
    assert!(
        verified.contains("\ndropped       3 bodies, after their retention; their hashes are in the entries\n"),
        "{verified}"
    );
}

#[test]
fn bodies_are_kept_for_ever_where_the_configuration_says_so() {
    let (mut ca, _host, serial) = with_certificate("retention: forever\n");
    if !serve_later(&mut ca, 900) {
        return;
    }
    // The sweep would have been the first thing that the daemon did.
    ca.ok(&["token", "pg1.iad1.psf.io"]);
    assert_eq!(events(&ca), 0);
    assert!(ca.ok(&["audit", "show", &serial]).contains("BEGIN CERTIFICATE"));
}

fn holds(file: &Path) -> Summary {
    let copy = LedgerCopy::open(file).unwrap();
    let mut found = Vec::new();
    let wanted = Wanted { against: None, signature_threads: 1 };
    let summary = verify(&copy, wanted, &mut |finding| found.push(finding), &mut |_| {}).unwrap();
    assert_eq!(found, []);
    summary
}

/// What lies on the disk after each step of a sweep is what a kill at that moment leaves.
#[tokio::test(flavor = "multi_thread")]
async fn r9_after_every_step_of_a_sweep_the_ledger_holds_and_the_next_start_goes_on() {
    let books = Books::open().await;
    let hosts = [books.enroll("pg0.iad1.psf.io").await, books.enroll("pg1.iad1.psf.io").await];
    books.issue(&hosts, 700).await;
    let (store, now) = (&books.ca.store, books.clock.now());
    // After the end of the certificates, and before that of the identities.
    let end = now.plus(Duration::from_secs(10 * 86_400));
    let mut sweep = Sweep::new(end);
    let mut left = Vec::new();
    while store.sweep(&mut sweep, now).await.unwrap() {
        let killed = tempfile::tempdir().unwrap();
        for file in ["ledger.sqlite3", "ledger.sqlite3-wal"] {
            std::fs::copy(books.state().join(file), killed.path().join(file)).unwrap();
        }
        let file = killed.path().join("ledger.sqlite3");
        let before = holds(&file);
        left.push(before.dropped);
        let again = Store::open(&file).unwrap();
        let mut rest = Sweep::new(end);
        while again.sweep(&mut rest, now).await.unwrap() {}
        drop(again);
        assert_eq!((before.dropped + rest.dropped(), holds(&file).dropped), (700, 700));
    }
    assert_eq!(left[..4], [256, 512, 700, 700], "three steps of bodies, then pages");
}

/// A daemon whose clock was ahead for a while has dropped bodies of what has not ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_identity_lost_its_body_gets_a_new_one_and_holds_up_nobody() {
    let books = Books::open().await;
    let host = HostName::parse("pg0.iad1.psf.io").unwrap();
    let (token, _) = books.ca.make_token(&host, false, 0).await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let first = books.ca.enroll(&token, request.der()).await.unwrap().0.serial;
    let other = books.enroll("pg1.iad1.psf.io").await;
    let renewed = books.renew(&other).await;
    assert!(books.drop_bodies(40 * 86_400).await >= 3);

    let again = books.renew(&other).await;
    assert_ne!(again.serial, renewed.serial);
    assert_eq!(books.renew(&other).await.serial, again.serial, "it is the one that is given again");
    let enrolled = books.ca.enroll(&token, request.der()).await.unwrap().0.serial;
    assert_ne!(enrolled, first);
    books.issue(&[again], 10).await;
    holds(&psfca::init::ledger_path(&books.state()));
}
