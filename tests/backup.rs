//! A CA that was lost comes back from a backup and its keys; and a backup gives away nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use psfca::ca::bundle::Bundle;
use rusqlite::Connection;
use support::ask::{P256, ask, ask_admin, ask_as, csr, post_csr};
use support::kept::{Kept, PASSPHRASE, lose, text};
use support::ledger::entries;
use support::strace::{under, usable};
use support::tools::{said, works};
use support::{Ca, Host, wait_until};

const NAME: &str = "postgresql.psf.io";
const HOST: &str = "pg0.iad1.psf.io";

fn holds(ca: &Ca, file: &Path) {
    let said = ca.ok(&["audit", "verify", file.to_str().unwrap()]);
    assert!(said.contains("Everything holds."), "{said}");
}

/// That nothing was restored, and nothing is left of the attempt.
fn refused(ca: &Ca, mut restore: Command, text: &str) {
    let out = restore.output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{text}: {}", said(&out));
    assert!(said(&out).contains(text), "{text:?} in {}", said(&out));
    let left: Vec<_> = std::fs::read_dir(ca.state()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{text}: {left:?}");
}

#[test]
fn a_backup_under_load_has_every_certificate_that_was_received_before_it_began() {
    let ca = Ca::start();
    let hosts = ["pg0.iad1.psf.io", "pg1.iad1.psf.io", "pg2.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    let received: Mutex<BTreeSet<String>> = Mutex::default();
    let over = AtomicBool::new(false);
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    host.ok(&["issue", NAME]);
                    let bundle = Bundle::parse(&std::fs::read(host.bundle(NAME)).unwrap()).unwrap();
                    received.lock().unwrap().insert(bundle.leaf().serial.to_string());
                }
            });
        }
        let backed_up = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 0..5 {
                let count = || received.lock().unwrap().len();
                let so_far = count();
                wait_until("hosts are served", || count() >= so_far + 5);
                let before = received.lock().unwrap().clone();
                let file = dir.path().join(format!("{number}"));
                ca.ok(&["backup", file.to_str().unwrap()]);
                holds(&ca, &file);
                let sql = Connection::open(&file).unwrap();
                let mut statement = sql.prepare("SELECT lower(hex(serial)) FROM certificate").unwrap();
                let kept: BTreeSet<String> =
                    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
                let lost: Vec<_> = before.difference(&kept).collect();
                assert!(lost.is_empty(), "received before backup {number} began, and not in it: {lost:?}");
            }
        }));
        over.store(true, Ordering::Relaxed);
        backed_up.unwrap();
    });
    // It stands still as well, and the file is all that there is.
    let mut ca = ca;
    assert!(ca.terminate().success());
    let file = dir.path().join("stopped");
    ca.ok(&["backup", file.to_str().unwrap()]);
    holds(&ca, &file);
    let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["0", "1", "2", "3", "4", "stopped"]);
}

#[test]
fn a_backup_replaces_nothing_is_its_owners_alone_and_has_no_private_key_in_it() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    host.ok(&["issue", "made.psf.io"]);
    let kept = Kept::of(&ca);
    for (file, others) in [(kept.file(), kept.dir.path().join("other")), (kept.keys(), kept.file())] {
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        let before = std::fs::read(&file).unwrap();
        let keys = text(kept.keys());
        let out = ca.psfca(&[
            "backup",
            others.to_str().unwrap(),
            "--keys",
            &keys,
            "--passphrase-file",
            &text(kept.passphrase()),
        ]);
        assert_eq!(out.status.code(), Some(1), "{}", said(&out));
        assert!(said(&out).contains("exists already; a backup replaces nothing"), "{}", said(&out));
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
    assert!(!kept.dir.path().join("other").exists(), "a backup that is refused its keys leaves nothing");

    let (backup, keys) = (std::fs::read(kept.file()).unwrap(), std::fs::read(kept.keys()).unwrap());
    let held = |content: &[u8], what: &[u8]| content.windows(what.len()).any(|found| found == what);
    assert!(!held(&backup, b"PRIVATE"));
    for name in ["root.key", "issuing.key", "identity.key", "ledger.key"] {
        let der = pem::parse(std::fs::read(ca.state().join("ca").join(name)).unwrap()).unwrap().into_contents();
        // RFC 5915 and RFC 8410: the secret itself is the 32 octets behind the last short OCTET STRING.
        let at = der.windows(2).position(|head| head == [0x04, 0x20]).unwrap() + 2;
        for secret in [&der[..], &der[at..at + 32]] {
            assert!(!held(&backup, secret) && !held(&keys, secret), "{name} is readable");
        }
        assert!(held(&keys, name.as_bytes()));
    }
    assert_eq!(String::from_utf8(keys).unwrap().matches("BEGIN ENCRYPTED PRIVATE KEY").count(), 4);
    // Others can read it too.
    let check = Command::new("python3")
        .args(["-c", "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('select count(*) from entry').fetchone()[0])"])
        .arg(kept.file())
        .output()
        .unwrap();
    assert_eq!(said(&check).trim(), entries(&ca).len().to_string());
}

#[test]
fn a_root_key_that_was_carried_away_is_not_in_the_keys_and_not_needed() {
    let mut ca = Ca::unmade("");
    std::fs::write(ca.dir().join("passphrase"), PASSPHRASE).unwrap();
    let [root_key, passphrase] = ["root.key", "passphrase"].map(|name| text(ca.dir().join(name)));
    ca.ok(&["init", "--root-key", &root_key, "--passphrase-file", &passphrase]);
    let kept = Kept::of(&ca);
    assert_eq!(std::fs::read_to_string(kept.keys()).unwrap().matches("BEGIN ENCRYPTED PRIVATE KEY").count(), 3);
    lose(&mut ca);
    let out = kept.restore(&ca).output().unwrap();
    assert!(out.status.success() && said(&out).contains("The root's key was not among the keys"), "{}", said(&out));
    ca.serve();
    ca.ok(&["reopen", "--hosts", "0"]);
}

#[test]
fn what_is_no_whole_backup_of_this_ca_with_its_keys_is_refused_and_leaves_nothing() {
    let mut ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    host.ok(&["issue", NAME]);
    ca.ok(&["host", "disable", HOST]);
    let kept = Kept::of(&ca);
    let refuse = |ca: &Ca, kept: &Kept, text: &str| refused(ca, kept.restore(ca), text);

    // Anything in the way, whatever it is.
    let out = kept.restore(&ca).output().unwrap();
    assert!(
        !out.status.success() && said(&out).contains("exists already; a restore replaces nothing"),
        "{}",
        said(&out)
    );
    assert!(ca.ok(&["audit", "list"]).contains("host_disabled"), "the CA that is there lives on");
    lose(&mut ca);
    std::fs::create_dir(ca.state()).unwrap();
    std::fs::write(ca.state().join("notes.txt"), "mine").unwrap();
    let out = kept.restore(&ca).output().unwrap();
    assert!(!out.status.success() && said(&out).contains("notes.txt exists already"), "{}", said(&out));
    std::fs::remove_file(ca.state().join("notes.txt")).unwrap();

    // Another passphrase, of whatever length: what is advice for a new one opens nothing.
    for wrong in ["correct horse battery stable", "short", ""] {
        let other = kept.copied();
        std::fs::write(other.passphrase(), wrong).unwrap();
        refuse(&ca, &other, "keys.pem cannot be opened with this passphrase");
    }
    let other = kept.copied();
    std::fs::set_permissions(other.keys(), std::fs::Permissions::from_mode(0o644)).unwrap();
    refuse(&ca, &other, "such a key is for its owner alone");

    // Cut anywhere.
    let whole = std::fs::read(kept.file()).unwrap();
    for length in [0, 100, 4_096, whole.len() / 2, whole.len() - 4_096, whole.len() - 1] {
        let other = kept.copied();
        std::fs::write(other.file(), &whole[..length]).unwrap();
        refuse(&ca, &other, "backup");
    }
    // Changed: what is not logged by its hash; and history itself, made anew without what an operator did.
    let by_hand = |sql: &'static str| kept.tampered(|connection| connection.execute_batch(sql).unwrap());
    refuse(
        &ca,
        &by_hand("UPDATE host SET state = 'enabled'"),
        "the row pg0.iad1.psf.io of host is not what the entries",
    );
    refuse(&ca, &by_hand("UPDATE body SET signature = x'00' WHERE idx = 0"), "the backup does not hold");
    refuse(&ca, &by_hand("DELETE FROM backup"), "it has no signed checkpoint");
    let cut = "DELETE FROM event WHERE event = 'host_disabled'; UPDATE host SET state = 'enabled', since = enrolled;
               DELETE FROM entry WHERE idx = (SELECT max(idx) FROM entry)";
    refuse(&ca, &by_hand(cut), "the backup does not hold");

    // A backup of another CA of the same name, and the keys of another.
    let stranger = Ca::start();
    let strange = Kept::of(&stranger);
    let mixed = kept.copied();
    std::fs::copy(strange.keys(), mixed.keys()).unwrap();
    refuse(&ca, &mixed, "the backup's checkpoint is not to be believed");
    let ledger_key = |kept: &Kept| {
        let text = std::fs::read_to_string(kept.keys()).unwrap();
        let at = text.find("ledger.key\n").unwrap();
        (text[..at].to_owned(), text[at..].to_owned())
    };
    // Those of another CA, with the right one for the checkpoint.
    std::fs::write(mixed.keys(), ledger_key(&strange).0 + &ledger_key(&kept).1).unwrap();
    refuse(&ca, &mixed, "does not hold the keys of this CA");
    std::fs::write(mixed.keys(), ledger_key(&kept).1).unwrap();
    refuse(&ca, &mixed, "does not hold the keys of this CA");

    let out = kept.restore(&ca).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
}

#[test]
fn a_restored_ca_is_closed_until_an_operator_has_confirmed_the_hosts() {
    let mut ca = Ca::start();
    ca.keep_address();
    let [pg, stolen] = [HOST, "pg1.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    pg.ok(&["renew"]);
    let token = ca.token("pg2.iad1.psf.io");
    let kept = Kept::of(&ca);
    let size = entries(&ca).len();
    // What happens after the backup is lost.
    ca.ok(&["host", "disable", "pg1.iad1.psf.io", "--reason", "stolen"]);
    lose(&mut ca);
    let out = kept.restore(&ca).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    for part in [
        format!("{size} entries were restored"),
        format!("Entries from index {size} on, if there were any, are lost"),
        "looked at the hosts (2 are enabled)".to_owned(),
    ] {
        assert!(said(&out).contains(&part), "{part:?} in {}", said(&out));
    }
    holds(&ca, &ca.state());
    ca.serve();
    ca.wait_for_log("nothing is issued to hosts until psfca reopen");

    // Nothing leaves; everything that only reads goes on, and hosts keep what they have.
    let closed = || (503, "closed".to_owned());
    let request = csr(pg.dir(), &P256);
    for path in ["/v1/identity", "/v1/certs/postgresql.psf.io"] {
        let answer = post_csr(&ca, &pg, &request, path);
        assert_eq!((answer.refusal(), answer.header("retry-after")), (closed(), "300"), "{path}");
        assert!(answer.body.contains("psfca reopen"), "{answer:?}");
    }
    assert_eq!(ask(&ca, &[], "/readyz").refusal(), closed());
    assert_eq!(support::ask::enroll(&ca, &support::ask::secret(&token), &request).refusal(), closed());
    for path in ["/v1/certs", "/v1/audit", "/v1/ledger/checkpoint"] {
        assert_eq!(ask_as(&ca, &pg, &[], path).status, 200, "{path}");
    }
    assert_eq!(ask(&ca, &[], "/PSF_CA.pem").status, 200);
    let health = ask(&ca, &[], "/healthz").json();
    assert_eq!((&health["status"], &health["closed"]["restored_size"]), (&"closed".into(), &size.into()));
    let bundle = std::fs::read(pg.bundle(NAME)).unwrap();
    let renewed = pg.psfca(&["renew", "--force"]);
    assert_eq!(renewed.status.code(), Some(4), "{}", said(&renewed));
    assert!(said(&renewed).contains("what is there is still good"), "{}", said(&renewed));
    assert_eq!(std::fs::read(pg.bundle(NAME)).unwrap(), bundle);
    let made = ca.psfca(&["token", "pg3.iad1.psf.io"]);
    assert!(!made.status.success() && said(&made).contains("psfca reopen"), "{}", said(&made));

    // The trap: what was disabled after the backup is enabled in it.
    assert!(ca.ok(&["host", "list"]).contains("pg1.iad1.psf.io  enabled"));
    let reopen = |hosts: &str| ca.psfca(&["reopen", "--hosts", hosts]);
    ca.ok(&["host", "disable", "pg1.iad1.psf.io", "--reason", "stolen, and restored"]);
    for wrong in ["0", "2", "3"] {
        let out = reopen(wrong);
        assert_eq!(out.status.code(), Some(1));
        assert!(
            said(&out).contains(&format!("{wrong} is not the number of enabled hosts, which is 1")),
            "{}",
            said(&out)
        );
    }
    let unasked = ca.psfca(&["reopen"]);
    assert!(!unasked.status.success() && said(&unasked).contains("nobody is there to be asked"), "{}", said(&unasked));
    assert!(said(&unasked).contains("1 enabled, 1 disabled, 0 removed."), "{}", said(&unasked));
    assert_eq!(post_csr(&ca, &pg, &request, "/v1/certs/postgresql.psf.io").refusal(), closed());

    // At a terminal it asks.
    if works(&["script", "-qec", "true", "/dev/null"]) {
        for wrong in ["", "yes", "2"] {
            let said = typed(&ca, wrong);
            assert!(
                said.contains("Type the number of enabled hosts") && !said.contains("is open"),
                "{wrong:?}: {said}"
            );
        }
        let said = typed(&ca, "1");
        assert!(said.contains("The CA is open again; enabled hosts: 1."), "{said}");
    } else {
        assert!(reopen("1").status.success());
    }
    assert!(said(&reopen("1")).contains("the CA is open; there is nothing to confirm"));
    pg.ok(&["issue", NAME]);
    assert_eq!(post_csr(&ca, &stolen, &request, "/v1/identity").refusal(), (403, "disabled".to_owned()));
    let late = Host::new("pg2.iad1.psf.io").enroll_with(&token);
    assert_eq!(late.status.code(), Some(3), "tokens are void: {}", said(&late));
    let _new = Host::enroll(&ca, "pg2.iad1.psf.io");
    assert_eq!(ask(&ca, &[], "/readyz").status, 200);
    assert_eq!(ask_admin(&ca, &[], "/healthz").json()["status"], "ok");
    let listed = ca.ok(&["audit", "list"]);
    assert!(listed.contains(&format!("({size} entries)")) && listed.contains("(1 host)"), "{listed}");
    holds(&ca, &ca.state());
}

/// What `psfca reopen` says at a terminal where somebody types this line.
fn typed(ca: &Ca, line: &str) -> String {
    let command = format!("'{}' reopen", env!("CARGO_BIN_EXE_psfca"));
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env("PSFCA_CONFIG", ca.config());
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // The terminal ends with its input, so that stays open until the command has answered.
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{line}").unwrap();
    let out = child.wait_with_output().unwrap();
    drop(input);
    said(&out)
}

/// The system calls by which restore changes the disk, but for writes into files.
const STEPS: [&str; 9] =
    ["?mkdir", "mkdirat", "?unlink", "unlinkat", "?rename", "renameat", "renameat2", "fsync", "fdatasync"];
/// More steps of one kind than restore has, so that a sweep ends.
const MANY: usize = 100;

/// Restores again, after whatever it was that stopped it.
fn again(ca: &Ca, kept: &Kept, entries: usize) {
    let out = kept.restore(ca).output().unwrap();
    let whole = ca.state().join("ca").exists();
    assert!(whole, "{}", said(&out));
    if !out.status.success() {
        // The last step was done, and what it is called by was cleared up.
        assert!(said(&out).contains("exists already; a restore replaces nothing"), "{}", said(&out));
    }
    whole_and_closed(ca, entries);
}

fn whole_and_closed(ca: &Ca, count: usize) {
    holds(ca, &ca.state());
    let entries = entries(ca);
    assert_eq!((entries.len(), &entries[count]["event"]), (count + 1, &"restored".into()));
    for key in ["root.key", "issuing.key", "identity.key", "ledger.key"] {
        assert_eq!(std::fs::metadata(ca.state().join("ca").join(key)).unwrap().mode() & 0o7777, 0o600);
    }
    assert!(!ca.state().join(".restore/ca").exists());
}

#[test]
fn r9_a_restore_that_is_killed_at_any_step_leaves_the_whole_or_nothing_usable() {
    if !usable() {
        return;
    }
    let origin = Ca::made_with("");
    let kept = Kept::of(&origin);
    let count = entries(&origin).len();
    let stops: usize = std::thread::scope(|scope| {
        let sweeps: Vec<_> = STEPS.iter().map(|call| scope.spawn(|| sweep(call, &kept, count))).collect();
        sweeps.into_iter().map(|sweep| sweep.join().unwrap()).sum()
    });
    assert!(stops > 20, "{stops}");
}

/// Kills restores at the first call of this kind, the second, and so on; returns how many were killed.
fn sweep(call: &str, kept: &Kept, count: usize) -> usize {
    let mut ca = Ca::unmade("");
    for step in 1..MANY {
        let fault = format!("inject={call}:signal=SIGKILL:when={step}");
        let trace = ca.dir().join("trace");
        let out: Output = under(&["-e", &fault], &trace, &kept.restore(&ca)).output().unwrap();
        if out.status.success() {
            whole_and_closed(&ca, count);
            ca.serve();
            ca.ok(&["reopen", "--hosts", "0"]);
            let _host = Host::enroll(&ca, HOST);
            return step - 1;
        }
        assert_eq!(out.status.signal(), Some(9), "{}", said(&out));
        if !ca.state().join("ca").exists() {
            let serve = ca.psfca(&["serve"]);
            assert!(said(&serve).contains("there is no CA in"), "{}", said(&serve));
        }
        again(&ca, kept, count);
        let _ = std::fs::remove_file(ca.trust_bundle());
        std::fs::remove_dir_all(ca.state()).unwrap();
    }
    panic!("restore is still stopped at step {MANY} of its kind");
}
