//! R1: nothing is signed, and nothing leaves, before its ledger entry is durable. Shown by the
//! system calls of a real daemon, and by disks that fail it in every way that we know how to make.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::process::{Command, Output};

use rusqlite::Connection;
use support::ledger::{entries, listing};
use support::strace::{Call, Strace, usable};
use support::{Ca, Host, psfca, wait_until};

/// Everything that is looked at in a trace.
const WATCH: &str = "trace=fsync,fdatasync,pwrite64,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,getrandom";
const NAME: &str = "postgresql.psf.io";
const NO_SYNC: &[&str] = &["-e", WATCH, "-e", "inject=fsync,fdatasync:error=EIO"];
const NO_SPACE: &[&str] = &["-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC"];

/// A daemon that has served pg0 and has nothing left to write.
fn served() -> (Ca, Host) {
    let ca = Ca::start();
    let pg = Host::enroll(&ca, "pg0.iad1.psf.io");
    pg.ok(&["issue", NAME]);
    settle(&ca);
    (ca, pg)
}

/// Signatures follow their entries with the next batch; waits until the last one is stored.
fn settle(ca: &Ca) {
    wait_until("every signature is stored", || listing(ca).values().all(|state| state == "issued"));
}

/// The serial in what `psfca issue` says.
fn serial(said: &str) -> &str {
    said.split("serial ").nth(1).unwrap().split(',').next().unwrap()
}

#[test]
fn r1_an_entry_is_on_disk_before_its_certificate_is_signed_and_before_a_byte_of_it_leaves() {
    if !usable() {
        return;
    }
    let (ca, pg) = served();
    let strace = Strace::attach(ca.pid(), &["-e", WATCH]);
    let said = pg.ok(&["issue", NAME]);
    let calls = strace.detach();

    let recorded = calls.iter().find(|call| call.writes_log() && call.arguments.contains(serial(&said)));
    let recorded = recorded.expect("the entry is written to the log");
    let mut asked = calls.iter().filter(|call| call.reads_network() && call.result != "0" && call.end < recorded.start);
    let asked = asked.next_back().expect("the request is read");
    let durable = calls.iter().find(|call| call.syncs_log() && call.start > recorded.end && call.result == "0");
    let durable = durable.expect("the log is synced");
    let left = calls.iter().find(|call| call.writes_network() && call.end > asked.end);
    let left = left.expect("the answer is written");
    assert!(left.start > durable.end, "left before its entry was durable: {left:?}");
    let appended = calls.iter().find(|call| call.writes_log() && (durable.start..left.start).contains(&call.end));
    assert!(appended.is_none(), "of the entry a part was written after the sync: {appended:?}");

    let signed = calls.iter().find(|call| call.draws_for_signature() && call.end > asked.end);
    let signed = signed.expect("a signature draws its nonce by a system call");
    assert!(signed.start > durable.end, "signed before its entry was durable: {signed:?}");
    assert!(signed.end < left.start);
}

/// While `fault` lasts nothing is released and both hosts are told; when it has ended the same
/// daemon goes on by itself.
fn fails_safe<T>(ca: &mut Ca, pg: &Host, fault: impl FnOnce(&Ca) -> T, end: impl FnOnce(T)) {
    let (before, bundle, pid) = (entries(ca), std::fs::read(pg.bundle(NAME)).unwrap(), ca.pid());
    let certificates = listing(ca);
    let newcomer = Host::new("pg1.iad1.psf.io");
    let token = ca.token(&newcomer.name);
    let log = ca.log();

    let fault = fault(ca);
    let identity = pg.identity();
    let identity = identity.to_str().unwrap();
    let (status, answer) = ca.curl(&["--include", "--request", "POST", "--cert", identity], "/v1/certs/made.psf.io");
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("\r\nretry-after: 5\r\n"), "{answer}");
    assert!(answer.contains("\r\ncontent-type: application/problem+json\r\n"), "{answer}");
    assert!(answer.contains("urn:psfca:problem:unavailable"), "{answer}");
    assert!(answer.contains("the ledger cannot be read or written: "), "{answer}");
    assert!(!answer.contains("-----BEGIN"), "{answer}");
    told(&pg.psfca(&["issue", NAME]));
    told(&newcomer.enroll_with(&token));
    assert_eq!(std::fs::read(pg.bundle(NAME)).unwrap(), bundle, "R4: the old bundle stays");
    let during = ca.log()[log.len()..].to_owned();
    assert!(!during.contains(" issued "), "{during}");
    // Reading goes on, and shows nothing that was not there.
    assert_eq!(ca.curl(&[], "/healthz").0, 200);
    assert_eq!(listing(ca), certificates);
    end(fault);

    let renewed = pg.ok(&["issue", NAME]);
    let enrolled = newcomer.enroll_with(&token);
    assert!(enrolled.status.success(), "{}", String::from_utf8_lossy(&enrolled.stderr));
    newcomer.ok(&["issue", NAME]);
    assert_eq!(ca.pid(), pid, "the same daemon");
    settle(ca);
    assert!(listing(ca).contains_key(serial(&renewed)));
    // The token; after the fault two certificates, an enrolment, an identity; nothing in between.
    assert_eq!(entries(ca).len(), before.len() + 5);
    assert!(entries(ca).starts_with(&before));
}

/// The agent says what is wrong at the other end, and changes nothing.
fn told(out: &Output) {
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("the ledger cannot be read or written: "), "{said}");
}

#[test]
fn r1_while_fsync_fails_nothing_leaves_and_afterwards_the_daemon_goes_on() {
    if !usable() {
        return;
    }
    let (mut ca, pg) = served();
    let fault = |ca: &Ca| Strace::attach(ca.pid(), NO_SYNC);
    fails_safe(&mut ca, &pg, fault, |strace| assert!(strace.detach().iter().any(failed_sync)));
}

#[test]
fn r1_while_the_disk_is_full_nothing_leaves_and_afterwards_the_daemon_goes_on() {
    if !usable() {
        return;
    }
    let (mut ca, pg) = served();
    let fault = |ca: &Ca| Strace::attach(ca.pid(), NO_SPACE);
    fails_safe(&mut ca, &pg, fault, |strace| assert!(strace.detach().iter().any(Call::writes_log)));
}

/// A daemon whose files may only grow to a limit: no write behind it succeeds, and one across it
/// is cut in the middle, as on a disk that runs full.
fn limited() -> (Ca, Host, impl Fn(&str)) {
    let mut ca = Ca::made_with("");
    let mut command = Command::new("sh");
    // Otherwise the limit's signal would end the daemon.
    command.args(["-c", "trap '' XFSZ; exec \"$0\" serve"]).arg(psfca().get_program());
    command.env("PSFCA_CONFIG", ca.config()).env_remove("NOTIFY_SOCKET");
    ca.serve_by(command);
    let pg = Host::enroll(&ca, "pg0.iad1.psf.io");
    pg.ok(&["issue", NAME]);
    settle(&ca);
    let pid = ca.pid().to_string();
    let limit = move |bytes: &str| {
        let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
        assert!(limited.unwrap().success());
    };
    (ca, pg, limit)
}

#[test]
fn r1_while_no_file_may_grow_nothing_leaves_and_afterwards_the_daemon_goes_on() {
    let (mut ca, pg, limit) = limited();
    fails_safe(&mut ca, &pg, |_| limit("5000"), |()| limit("unlimited"));
}

#[test]
fn r9_a_commit_that_was_cut_in_the_middle_counts_for_nothing_and_the_next_one_is_whole() {
    let (ca, pg, limit) = limited();
    let before = entries(&ca);
    let log = std::fs::metadata(ca.state().join("ledger.sqlite3-wal")).unwrap().len();
    limit(&(log + 5_000).to_string());
    told(&pg.psfca(&["issue", NAME]));
    assert_eq!(entries(&ca), before);
    limit("unlimited");
    pg.ok(&["issue", NAME]);
    assert_eq!(entries(&ca).len(), before.len() + 1);
}

#[test]
fn r1_while_another_program_locks_the_ledger_nothing_leaves_and_afterwards_the_daemon_goes_on() {
    let (mut ca, pg) = served();
    let lock = |ca: &Ca| {
        let other = Connection::open(ca.state().join("ledger.sqlite3")).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let (status, answer) = ca.curl(&["--include"], "/readyz");
        assert!(status == 503 && answer.contains("\r\nretry-after: 5\r\n"), "{answer}");
        other
    };
    fails_safe(&mut ca, &pg, lock, |other| {
        other.execute_batch("ROLLBACK").unwrap();
    });
    assert_eq!(ca.curl(&[], "/readyz"), (200, "ready\n".to_owned()));
}

fn failed_sync(call: &Call) -> bool {
    call.syncs_log() && call.result.contains("EIO")
}

#[test]
fn r1_after_a_failed_fsync_nothing_is_signed() {
    if !usable() {
        return;
    }
    let (ca, pg) = served();
    let strace = Strace::attach(ca.pid(), NO_SYNC);
    told(&pg.psfca(&["issue", NAME]));
    let calls = strace.detach();
    let failed = calls.iter().find(|call| failed_sync(call)).expect("the sync failed");
    let answered = calls.iter().filter(|call| call.writes_network() && call.start > failed.end).count();
    assert!(answered > 0, "the refusal is written");
    let drawn = calls.iter().filter(|call| call.draws_for_signature());
    let (before, after): (Vec<_>, Vec<_>) = drawn.partition(|call| call.end < failed.start);
    assert!(!before.is_empty(), "the handshake's signature is seen");
    assert!(after.is_empty(), "{after:?}");
}

/// Lets an enrolment fail by `fault`, kills the daemon at once and starts it again.
fn enrolment_cut_off(fault: &[&str]) -> (Ca, Host, String) {
    let (mut ca, _) = served();
    ca.keep_address();
    let host = Host::new("pg1.iad1.psf.io");
    let token = ca.token(&host.name);
    let strace = Strace::attach(ca.pid(), fault);
    told(&host.enroll_with(&token));
    ca.stop();
    drop(strace);
    ca.serve();
    (ca, host, token)
}

fn thief(token: &str) -> String {
    let thief = Host::new("pg1.iad1.psf.io");
    let out = thief.enroll_with(token);
    assert!(!out.status.success());
    String::from_utf8(out.stderr).unwrap()
}

fn enrolments_of_pg1(ca: &Ca) -> usize {
    let enrolled = |entry: &&serde_json::Value| entry["event"] == "host_enrolled" && entry["host"] == "pg1.iad1.psf.io";
    entries(ca).iter().filter(enrolled).count()
}

/// The other half of a failed fsync: the disk may have kept what it said it lost.
#[test]
fn r9_a_failed_commit_that_the_disk_kept_shows_as_recorded_and_its_token_as_spent() {
    if !usable() {
        return;
    }
    let (ca, host, token) = enrolment_cut_off(NO_SYNC);
    assert_eq!(enrolments_of_pg1(&ca), 1, "kept");
    let unsigned = || listing(&ca).values().filter(|state| *state == "recorded").count();
    wait_until("all but the identity that never left has a signature", || unsigned() == 1);

    assert!(thief(&token).contains("the token was spent already, by another key"));
    let again = host.enroll_with(&token);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(enrolments_of_pg1(&ca), 1);
    wait_until("and it stays so", || unsigned() == 1);
}

#[test]
fn r9_a_failed_commit_that_the_disk_lost_has_spent_no_token_and_left_no_gap() {
    if !usable() {
        return;
    }
    let (ca, host, token) = enrolment_cut_off(NO_SPACE);
    assert_eq!(enrolments_of_pg1(&ca), 0, "lost");
    settle(&ca);
    let again = host.enroll_with(&token);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(thief(&token).contains("the token was spent already, by another key"));
    assert_eq!(enrolments_of_pg1(&ca), 1);
}
