//! A store that fails in every way that we know how to make: while it lasts nothing is released and whoever asks is
//! told to come again; when it ends the same daemon goes on without a person. What a failed write left on the disk
//! may be nothing, a part, or all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};

use rusqlite::Connection;
use support::disk::{mountable, serve_on};
use support::ledger::{entries, listing, settle, verify};
use support::strace::{Call, Strace, usable};
use support::tools::{said, say};
use support::{Ca, Host, psfca, wait_until};

const NAME: &str = "postgresql.psf.io";
const NO_SYNC: &[&str] = &["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"];
const NO_SPACE: &[&str] = &["-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC"];

/// A daemon that has served pg0 and has nothing left to write.
fn served() -> (Ca, Host) {
    let ca = Ca::start();
    let pg = serve_pg0(&ca);
    (ca, pg)
}

fn serve_pg0(ca: &Ca) -> Host {
    let pg = Host::enroll(ca, "pg0.iad1.psf.io");
    pg.ok(&["issue", NAME]);
    settle(ca);
    pg
}

/// The serial in what `psfca issue` says.
fn serial(said: &str) -> &str {
    said.split("serial ").nth(1).unwrap().split(',').next().unwrap()
}

/// While `fault` lasts nothing is released and both hosts are told; when it has ended the same
/// daemon goes on by itself.
fn fails_safe<T>(ca: &mut Ca, pg: &Host, fault: impl FnOnce(&Ca) -> T, end: impl FnOnce(T)) {
    let (before, bundle, pid) = (entries(ca), std::fs::read(pg.bundle(NAME)).unwrap(), ca.pid());
    let (certificates, checkpoint) = (listing(ca), ca.ok(&["audit", "checkpoint"]));
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
    verify(ca, &ca.state(), &checkpoint);
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
fn r1_while_no_write_finds_room_nothing_leaves_and_afterwards_the_daemon_goes_on() {
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
fn r1_while_a_disk_of_64_kib_is_full_nothing_leaves_and_afterwards_the_daemon_goes_on() {
    if !mountable() {
        return;
    }
    let mut ca = Ca::made_with("");
    let disk = serve_on(&mut ca);
    let pg = serve_pg0(&ca);
    disk.leave_kib(64);
    fails_safe(&mut ca, &pg, |_| disk.fill(), |()| disk.free());
}

#[test]
fn r9_a_ledger_that_fills_its_disk_goes_on_when_the_disk_is_larger_and_has_lost_nothing() {
    if !mountable() {
        return;
    }
    let mut ca = Ca::made_with("");
    let disk = serve_on(&mut ca);
    let pg = serve_pg0(&ca);
    disk.leave_kib(64);
    let pid = ca.pid();
    let mut received = Vec::new();
    let mut failed_in_a_row = 0;
    while failed_in_a_row < 5 {
        let out = pg.psfca(&["issue", NAME]);
        if out.status.success() {
            received.push(serial(&said(&out)).to_owned());
            failed_in_a_row = 0;
        } else {
            told(&out);
            failed_in_a_row += 1;
        }
        assert!(received.len() < 1_000, "the disk never fills");
    }
    assert!(!received.is_empty());
    say(&format!("{} certificates until 64 KiB were full", received.len()));
    let checkpoint = ca.ok(&["audit", "checkpoint"]);
    disk.leave_kib(1_024);
    received.push(serial(&pg.ok(&["issue", NAME])).to_owned());
    assert_eq!(ca.pid(), pid, "the same daemon");
    settle(&ca);
    let listed = listing(&ca);
    assert!(received.iter().all(|serial| listed.contains_key(serial)), "released, and not in the ledger");
    verify(&ca, &ca.state(), &checkpoint);
}

/// The kernel remounts no file system read-only while a file of it is open for writing, unless it has found
/// damage itself. So this is what is left of that: whatever is opened from now on is on a read-only file system, and
/// writes to what is open already fail as they do then.
#[test]
fn r1_while_the_file_system_is_read_only_nothing_leaves_and_afterwards_the_daemon_goes_on() {
    if !mountable() || !usable() {
        return;
    }
    let mut ca = Ca::made_with("");
    let disk = serve_on(&mut ca);
    let pg = serve_pg0(&ca);
    let place = ca.dir().join("disk");
    let place = place.to_str().unwrap();
    let (remounted, said) = disk.run(&["mount", "-o", "remount,ro", place]);
    assert!(!remounted && said.contains("busy"), "{said}");

    let read_only = |ca: &Ca| {
        let (done, said) = disk.run(&["mount", "--bind", place, place]);
        assert!(done, "{said}");
        let (done, said) = disk.run(&["mount", "-o", "remount,bind,ro", place]);
        assert!(done, "{said}");
        let calls = "pwrite64,ftruncate,fsync,fdatasync";
        let arguments = ["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:error=EROFS")];
        Strace::attach(ca.pid(), &arguments)
    };
    fails_safe(&mut ca, &pg, read_only, |strace| {
        assert!(strace.detach().iter().any(|call| call.writes_log() && call.result.contains("EROFS")));
        let (done, said) = disk.run(&["umount", place]);
        assert!(done, "{said}");
    });
}

/// What the disk has in the end of a commit that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Lost,
    /// The first half of what was written.
    Torn,
    /// All that was written, secretly.
    Kept,
}

/// What is read after a power cut, where `before` was durable and `after` was written.
fn fated(fate: Fate, before: &[u8], after: &[u8]) -> Vec<u8> {
    let same = before.iter().zip(after).take_while(|(one, other)| one == other).count();
    let end = match fate {
        Fate::Lost => same,
        Fate::Torn => (same + after.len()) / 2,
        Fate::Kept => after.len(),
    };
    [&after[..end], before.get(end..).unwrap_or_default()].concat()
}

/// Lets an enrolment fail by `inject`, and the daemon and its disk with it; then all begins again. A commit counts
/// where its last write reached the disk, so it counts whole, or not at all.
fn power_cut(inject: &str, fate: Fate, counts: bool) {
    let (mut ca, pg) = served();
    ca.keep_address();
    let host = Host::new("pg1.iad1.psf.io");
    let token = ca.token(&host.name);
    let (known, checkpoint) = (entries(&ca), ca.ok(&["audit", "checkpoint"]));
    let log: PathBuf = ca.state().join("ledger.sqlite3-wal");
    let before = std::fs::read(&log).unwrap();
    let strace = Strace::attach(ca.pid(), &["-e", "trace=fsync,fdatasync,pwrite64", "-e", inject]);
    told(&host.enroll_with(&token));
    ca.stop();
    assert!(strace.detach().iter().any(|call| call.result.contains("(INJECTED)")));
    let after = std::fs::read(&log).unwrap();
    std::fs::write(&log, fated(fate, &before, &after)).unwrap();

    ca.serve();
    let what = format!("{inject}, {fate:?}");
    assert!(entries(&ca).starts_with(&known), "{what}");
    assert_eq!(enrolments_of_pg1(&ca), usize::from(counts), "{what}");
    let unsigned = || listing(&ca).values().filter(|state| *state == "recorded").count();
    wait_until("all but the identity that never left has a signature", || unsigned() == usize::from(counts));
    verify(&ca, &ca.state(), &checkpoint);
    if counts {
        assert!(thief(&token).contains("the token was spent already, by another key"), "{what}");
    }
    let again = host.enroll_with(&token);
    assert!(again.status.success(), "{what}: {}", said(&again));
    assert!(thief(&token).contains("the token was spent already, by another key"), "{what}");
    assert_eq!(enrolments_of_pg1(&ca), 1, "{what}");
    host.ok(&["issue", NAME]);
    pg.ok(&["issue", NAME]);
    // The identity was given again, and this time it left.
    wait_until("everything has a signature", || unsigned() == 0);
    verify(&ca, &ca.state(), &checkpoint);
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
fn r9_a_commit_whose_fsync_failed_was_lost_or_torn_or_secretly_kept_and_all_three_are_right() {
    if !usable() {
        return;
    }
    for inject in ["inject=fsync,fdatasync:error=EIO", "inject=fsync,fdatasync:error=ENOSPC"] {
        power_cut(inject, Fate::Lost, false);
        power_cut(inject, Fate::Torn, false);
        power_cut(inject, Fate::Kept, true);
    }
}

#[test]
fn r9_a_commit_of_which_a_write_failed_never_counts_whatever_the_disk_kept_of_it() {
    if !usable() {
        return;
    }
    for inject in ["inject=pwrite64:error=ENOSPC", "inject=pwrite64:error=EIO:when=4+"] {
        for fate in [Fate::Lost, Fate::Torn, Fate::Kept] {
            power_cut(inject, fate, false);
        }
    }
}

#[test]
fn a_daemon_that_finds_its_ledger_damaged_does_not_start_and_says_what_to_do() {
    use std::os::unix::fs::FileExt as _;
    let (mut ca, _pg) = served();
    ca.terminate();
    // The file's name for itself, and its table of tables.
    for at in [0, 100] {
        let file = std::fs::OpenOptions::new().write(true).open(ca.state().join("ledger.sqlite3")).unwrap();
        file.write_all_at(&[0x55; 16], at).unwrap();
        let out = ca.psfca(&["serve"]);
        assert_eq!(out.status.code(), Some(1), "{at}");
        let said = support::tools::said(&out);
        let verify = format!("psfca audit verify --state {}", ca.state().display());
        for part in [verify.as_str(), "psfca restore makes the CA anew from a backup", "the ledger is damaged: "] {
            assert!(said.contains(part), "{at}: {part}: {said}");
        }
    }
}
