//! The way on after the CA lost a part of its ledger (rule R10): one statement by the root's key, obeyed
//! once, and nothing that a daemon could say by itself. Real daemons, real rollbacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use psfca::ca::authorities::{CaCertificates, CaFiles};
use psfca::ca::signer::Authority;
use psfca::root_statement::SignedRecovery;
use serde_json::Value;
use support::rollback::{copy_ledger, next_second};
use support::tools::{said, succeed};
use support::{Ca, Host};

const NAME: &str = "postgresql.psf.io";
const NEWS: &str = "psfca: LEDGER RECOVERED: ";

fn status(host: &Host) -> Value {
    // Without trouble the exit code is 0, and with it 5; the document is there in both cases.
    serde_json::from_slice(&host.psfca(&["status", "--json"]).stdout).unwrap()
}

fn seen(host: &Host) -> u64 {
    status(host)["ledger"]["size"].as_u64().unwrap()
}

/// The newest checkpoint that `host` has seen, in a file, as an operator gets it from there.
fn checkpoint(host: &Host) -> PathBuf {
    let file = host.dir().join("checkpoint");
    fs::write(&file, status(host)["ledger"]["checkpoint"].as_str().unwrap()).unwrap();
    file
}

fn refused(host: &Host, why: &str) {
    let old = fs::read(host.bundle(NAME)).unwrap();
    for args in [&["issue", NAME][..], &["renew", "--force"], &["renew"]] {
        let output = host.psfca(args);
        assert_eq!(output.status.code(), Some(6), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(why), "{why:?} in {}", said(&output));
        assert!(!said(&output).contains(NEWS), "{}", said(&output));
    }
    assert!(fs::read(host.bundle(NAME)).unwrap() == old, "{why}");
}

/// It goes on, and says so this once.
fn goes_on(host: &Host, from: u64, to: u64) {
    let output = host.psfca(&["renew", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let news = format!("this host had seen {from} entries and holds the CA to those from {to} on");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains(NEWS) && stderr.contains(&news), "{news:?} in {stderr}");
    let again = host.psfca(&["renew", "--force"]);
    assert!(again.status.success() && !said(&again).contains(NEWS), "{}", said(&again));
    let status = host.ok(&["status"]);
    assert!(status.contains(&format!("{from} entries had been seen, and {to} took their place")), "{status}");
}

fn recover(ca: &Ca, args: &[&str]) -> Output {
    ca.psfca(&[&["recover", "--yes"], args].concat())
}

/// A CA that went back to a backup, a host that had seen more, and one that had not.
struct Disaster {
    ca: Ca,
    ahead: Host,
    behind: Host,
}

fn disaster(config: &str, ca: Option<Ca>) -> Disaster {
    let mut ca = ca.unwrap_or_else(|| Ca::made_with(config));
    ca.serve();
    ca.keep_address();
    let [ahead, behind] = ["pg0.iad1.psf.io", "pg1.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    behind.ok(&["renew"]);
    let backup = tempfile::tempdir().unwrap();
    ca.terminate();
    copy_ledger(&ca.state(), backup.path());
    ca.serve();
    // More than the daemon makes for itself when it starts.
    for _ in 0..5 {
        ahead.ok(&["renew", "--force"]);
    }
    ca.terminate();
    copy_ledger(backup.path(), &ca.state());
    ca.serve();
    Disaster { ca, ahead, behind }
}

/// The statement as the daemon serves it to this host.
fn served(ca: &Ca, host: &Host) -> String {
    let (code, text) = ca.curl(&["--cert", host.identity().to_str().unwrap()], "/v1/ledger/recovery");
    assert_eq!(code, 200, "{text}");
    text
}

#[test]
fn after_an_honest_disaster_hosts_go_on_by_one_statement_of_the_root() {
    let Disaster { mut ca, ahead, behind } = disaster("", None);
    let lost = seen(&ahead);
    // What the host says is what the operator types.
    let command = format!("after an honest loss its operator ends this with: psfca recover --seen {lost}");
    refused(&ahead, &command);
    behind.ok(&["renew", "--force"]);

    let running = recover(&ca, &["--seen", &lost.to_string()]);
    assert!(said(&running).contains("is in use by the daemon; stop it first: systemctl stop psfca"));
    ca.terminate();
    let unasked = ca.psfca(&["recover", "--seen", &lost.to_string()]);
    assert_eq!(unasked.status.code(), Some(1));
    assert!(said(&unasked).contains("nobody is there to be asked; --yes goes on without asking"), "{}", said(&unasked));
    assert!(said(&unasked).contains("If you do not know why the ledger is shorter"), "{}", said(&unasked));
    next_second();
    let kept = ca_size(&ca);
    let done = recover(&ca, &["--seen", checkpoint(&ahead).to_str().unwrap()]);
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains(&format!("a head of {kept} entries stands in the place of up to {lost}")));
    let verified = ca.psfca(&["audit", "verify", "--state", ca.state().to_str().unwrap()]);
    assert!(verified.status.success(), "{}", said(&verified));
    ca.serve();

    goes_on(&ahead, lost, kept);
    let behind = behind.psfca(&["renew", "--force"]);
    assert!(behind.status.success() && !said(&behind).contains(NEWS), "{}", said(&behind));

    // The audit shows it to everybody who reads it.
    let listed = ca.ok(&["audit", "list", "--event", "recovered"]);
    assert!(listed.contains(&format!("({lost} given up for {kept})")), "{listed}");
    let shown = ca.ok(&["audit", "show", "--entry", &kept.to_string()]);
    assert!(
        shown.contains("\noperator_uid ")
            && shown.contains("event       recovered")
            && shown.ends_with(&served(&ca, &ahead)),
        "{shown}"
    );
    let json: Value = serde_json::from_str(&ca.ok(&["audit", "list", "--event", "recovered", "--json"])).unwrap();
    assert_eq!(json["statement"], served(&ca, &ahead));
    assert_eq!(
        (json["index"].as_u64(), json["operator_uid"].as_u64()),
        (Some(kept), Some(rustix::process::getuid().as_raw().into()))
    );
}

fn ca_size(ca: &Ca) -> u64 {
    support::ledger::entries(ca).len() as u64
}

#[test]
fn openssl_verifies_a_statement_by_the_root_certificate_alone() {
    for kind in ["ecdsa-p256", "ecdsa-p384"] {
        let mut ca = Ca::made_with(&format!("ca_key: {kind}\n"));
        let done = recover(&ca, &["--seen", "99"]);
        assert!(done.status.success(), "{}", said(&done));
        ca.serve();
        let host = Host::enroll(&ca, "pg0.iad1.psf.io");
        let statement = served(&ca, &host);
        let (text, below) = statement.split_once("\n\n").unwrap();
        let blob = STANDARD.decode(below.trim().rsplit_once(' ').unwrap().1).unwrap();
        let [text_file, signature, key] = ["text", "signature", "key"].map(|name| ca.dir().join(name));
        fs::write(&text_file, format!("{text}\n")).unwrap();
        fs::write(&signature, &blob[4..]).unwrap();
        let public = succeed("openssl", &["x509", "-in", ca.trust_bundle().to_str().unwrap(), "-noout", "-pubkey"]);
        fs::write(&key, public).unwrap();
        let hash = if kind == "ecdsa-p256" { "-sha256" } else { "-sha384" };
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let args = ["dgst", hash, "-verify", &path(&key), "-signature", &path(&signature), &path(&text_file)];
        assert_eq!(succeed("openssl", &args).trim(), "Verified OK");
    }
}

#[test]
fn the_same_statement_takes_nobody_back_a_second_time() {
    let Disaster { mut ca, ahead, behind } = disaster("", None);
    refused(&ahead, "it went back");
    let lost = seen(&ahead);
    ca.terminate();
    next_second();
    // Far more than anybody saw, as an operator may say who does not know.
    assert!(recover(&ca, &["--seen", "1000000"]).status.success());
    ca.serve();
    let fresh = Host::enroll(&ca, "pg2.iad1.psf.io");
    ca.terminate();
    let backup = tempfile::tempdir().unwrap();
    copy_ledger(&ca.state(), backup.path());
    ca.serve();
    assert!(seen(&fresh) < lost);
    fresh.ok(&["renew", "--force"]);
    ahead.ok(&["renew", "--force"]);
    // This one is never told of the recovery: what it had seen was never lost.
    assert!(!said(&behind.psfca(&["renew", "--force"])).contains(NEWS));

    ca.terminate();
    copy_ledger(backup.path(), &ca.state());
    ca.serve();
    refused(&ahead, "this host obeyed one of ");
    for host in [&behind, &fresh] {
        refused(host, "this host saw its head after that, at ");
    }

    // A new loss needs a new statement, and then all of them go on.
    ca.terminate();
    next_second();
    let size = [&ahead, &behind, &fresh].map(seen).into_iter().max().unwrap();
    assert!(recover(&ca, &["--seen", &size.to_string()]).status.success());
    ca.serve();
    for host in [&ahead, &behind, &fresh] {
        assert!(said(&host.psfca(&["renew", "--force"])).contains(NEWS));
    }
}

/// Whoever has the daemon can make it serve what they like.
fn serve_instead(ca: &mut Ca, statement: &str) {
    ca.terminate();
    let store = rusqlite::Connection::open(ca.state().join("ledger.sqlite3")).unwrap();
    let (index, bytes): (u64, Vec<u8>) = store
        .query_row(
            "SELECT idx, bytes FROM entry WHERE idx IN (SELECT idx FROM event WHERE event = 'recovered')",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let mut entry: Value = serde_json::from_slice(&bytes).unwrap();
    entry["statement"] = statement.into();
    let bytes = serde_json::to_vec(&entry).unwrap();
    store.execute("UPDATE entry SET bytes = ?2 WHERE idx = ?1", rusqlite::params![index, bytes]).unwrap();
    drop(store);
    ca.serve();
}

#[test]
fn a_stolen_daemon_makes_no_statement_that_a_host_obeys() {
    let Disaster { mut ca, ahead, .. } = disaster("", None);
    refused(&ahead, "it went back");
    ca.terminate();
    next_second();
    assert!(recover(&ca, &["--seen", &seen(&ahead).to_string()]).status.success());
    ca.serve();
    let good = served(&ca, &ahead);
    let claim = SignedRecovery::parse(&good).unwrap().claim().clone();

    // By the other keys that the daemon's machine has, and by another CA's root of the same name.
    let files = CaFiles::in_state(&ca.state());
    let certificates = CaCertificates::load(&files).unwrap();
    let issuing = Authority::load(certificates.issuing, &files.issuing_key()).unwrap();
    let identity = Authority::load(certificates.identity, &files.identity_key()).unwrap();
    let other = Ca::made_with("");
    let others = CaFiles::in_state(&other.state());
    let other = Authority::load(CaCertificates::load(&others).unwrap().root, &others.root_key()).unwrap();
    for by in [issuing, identity, other] {
        let statement = by.state(claim.clone()).unwrap().to_text();
        serve_instead(&mut ca, &statement);
        refused(&ahead, "which is not obeyed: it is not signed by a root that is trusted here");
    }
    // The good one with other words.
    let (given_up, origin) = (format!("given-up {}", claim.given_up), "PSF_CA");
    for (from, to) in
        [(given_up.as_str(), "given-up 9999"), (origin, "PSF_CB"), ("time 2", "time 3"), ("head ", "head 1")]
    {
        serve_instead(&mut ca, &good.replacen(from, to, 1));
        refused(&ahead, "which is not obeyed: ");
    }
    serve_instead(&mut ca, &good);
    goes_on(&ahead, claim.given_up, claim.size);
}

#[test]
fn audit_verify_finds_a_recovery_that_was_changed() {
    let mut ca = Ca::made_with("");
    assert!(recover(&ca, &["--seen", "99"]).status.success());
    let verify = |ca: &Ca| ca.psfca(&["audit", "verify", "--state", ca.state().to_str().unwrap()]);
    assert!(verify(&ca).status.success());
    ca.serve();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let good = served(&ca, &host);
    for (changed, what) in [
        (good.replacen("given-up 99", "given-up 98", 1), "it is not signed by a root"),
        (good.replacen("\nhead 3 ", "\nhead 4 ", 1), "the recovery is not of the entries before it"),
        ("no statement".to_owned(), "the recovery's statement cannot be read"),
    ] {
        assert_ne!(changed, good);
        serve_instead(&mut ca, &changed);
        ca.terminate();
        let found = verify(&ca);
        assert!(!found.status.success() && said(&found).contains(what), "{what:?} in {}", said(&found));
        ca.serve();
    }
}

#[test]
fn a_ledger_key_that_was_lost_is_replaced_by_the_root_s_word() {
    let Disaster { mut ca, ahead, behind } = disaster("", None);
    let lost = seen(&ahead);
    ca.terminate();
    fs::remove_file(ca.state().join("ca/ledger.key")).unwrap();
    let without = recover(&ca, &["--seen", &lost.to_string()]);
    assert!(!without.status.success() && said(&without).contains("ledger.key: No such file"), "{}", said(&without));
    next_second();
    let done = recover(&ca, &["--seen", &lost.to_string(), "--new-ledger-key"]);
    assert!(done.status.success() && said(&done).contains("The key that signs the ledger's checkpoints is replaced"));
    let printed = said(&done).lines().find_map(|line| Some(line.strip_prefix("  ")?.to_owned())).unwrap();
    assert!(said(&done).contains("witness.yaml") && said(&done).contains("ledger.pub"), "{}", said(&done));
    let kept = ca_size(&ca) - 1;
    ca.serve();
    goes_on(&ahead, lost, kept);
    // The other has lost nothing but the key, and hears of that.
    let news = behind.psfca(&["renew", "--force"]);
    assert!(
        news.status.success() && said(&news).contains(", and by another key; if nobody told you"),
        "{}",
        said(&news)
    );
    let key = ca.ok(&["audit", "checkpoint", "--key"]);
    assert_eq!(printed, key.trim(), "what the operator has to hand on");
    for host in [&ahead, &behind, &Host::enroll(&ca, "pg2.iad1.psf.io")] {
        host.ok(&["renew", "--force"]);
        let enrolment: Value =
            serde_json::from_slice(&fs::read(host.dir().join("state/enrolment.json")).unwrap()).unwrap();
        assert_eq!(enrolment["ledger"]["key"], key.trim());
    }
}

#[test]
fn a_root_key_that_is_kept_elsewhere_is_given_with_its_passphrase() {
    let ca = Ca::unmade("");
    let [key, passphrase, wrong] =
        ["root.key", "passphrase", "wrong"].map(|name| ca.dir().join(name).to_str().unwrap().to_owned());
    fs::write(&passphrase, "correct horse battery\n").unwrap();
    fs::write(&wrong, "correct horse battery staple\n").unwrap();
    ca.ok(&["init", "--root-key", &key, "--passphrase-file", &passphrase]);
    let Disaster { mut ca, ahead, .. } = disaster("", Some(ca));
    let lost = seen(&ahead).to_string();
    ca.terminate();
    next_second();
    let before = ca_size(&ca);
    for (args, text) in [
        (&[][..], "if it was put elsewhere, name its file with --root-key"),
        (&["--root-key", &key, "--passphrase-file", &wrong], "cannot be opened with this passphrase"),
    ] {
        let output = recover(&ca, &[&["--seen", &lost], args].concat());
        assert!(!output.status.success() && said(&output).contains(text), "{}", said(&output));
    }
    let other = Ca::made_with("");
    let foreign = other.state().join("ca/root.key");
    let output = recover(&ca, &["--seen", &lost, "--root-key", foreign.to_str().unwrap(), "--passphrase-file", &wrong]);
    assert!(!output.status.success(), "{}", said(&output));
    assert_eq!(ca_size(&ca), before, "nothing is recorded without a statement");
    let done = recover(&ca, &["--seen", &lost, "--root-key", &key, "--passphrase-file", &passphrase]);
    assert!(done.status.success(), "{}", said(&done));
    ca.serve();
    assert!(said(&ahead.psfca(&["renew", "--force"])).contains(NEWS));
}

#[test]
fn what_was_not_lost_is_not_given_up() {
    let mut ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let checkpoint = checkpoint(&host);
    ca.terminate();
    let before = ca_size(&ca);
    let output = recover(&ca, &["--seen", checkpoint.to_str().unwrap()]);
    assert!(!output.status.success() && said(&output).contains("nothing was lost: the first "), "{}", said(&output));
    fs::write(&checkpoint, fs::read_to_string(&checkpoint).unwrap().replacen("PSF_CA\n", "PSF_CA\n1", 1)).unwrap();
    let output = recover(&ca, &["--seen", checkpoint.to_str().unwrap()]);
    assert!(!output.status.success() && said(&output).contains("is not to be believed"), "{}", said(&output));
    let output = recover(&ca, &["--seen", "the last one"]);
    assert!(!output.status.success() && said(&output).contains("--seen takes a number of entries or a file"));
    assert_eq!(ca_size(&ca), before);
}
