//! R1: nothing is signed, and nothing leaves, before its ledger entry is durable: shown by the system calls
//! of a real daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeMap;

use support::ask::ask;
use support::ledger::settle;
use support::strace::{Call, Strace, usable};
use support::tools::say;
use support::{Ca, Host};

/// Everything that is looked at in a trace.
const WATCH: &str = "trace=fsync,fdatasync,pwrite64,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,getrandom";
const NAME: &str = "postgresql.psf.io";
const NO_SYNC: &[&str] = &["-e", WATCH, "-e", "inject=fsync,fdatasync:error=EIO"];

/// A daemon that has served pg0 and has nothing left to write.
fn served() -> (Ca, Host) {
    let ca = Ca::start();
    let pg = Host::enroll(&ca, "pg0.iad1.psf.io");
    pg.ok(&["issue", NAME]);
    settle(&ca);
    (ca, pg)
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

/// When each of the connections was given its answer: with the first write after the last read before its last
/// long write. After that come only the words by which TLS ends.
fn answers(calls: &[Call]) -> Vec<usize> {
    let mut connections: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.reads_network() || call.writes_network()) {
        connections.entry(call.connection().unwrap()).or_default().push(call);
    }
    let mut answers: Vec<usize> = connections
        .values()
        .map(|calls| {
            let last = calls.iter().rposition(|call| call.writes_network() && call.moved() > 1_000).unwrap();
            let asked = calls[..last].iter().rposition(|call| call.reads_network() && call.moved() > 0).unwrap();
            calls[asked + 1..].iter().find(|call| call.writes_network()).unwrap().start
        })
        .collect();
    answers.sort_unstable();
    answers
}

#[test]
fn r1_where_one_sync_is_for_many_none_of_their_answers_leaves_before_it() {
    const REQUESTS: usize = 24;
    if !usable() {
        return;
    }
    let (ca, pg) = served();
    let identity = pg.identity();
    let made = ["--request", "POST", "--cert", identity.to_str().unwrap()];
    // While a sync takes long, whoever asks meanwhile gathers for the next one.
    let slow = "inject=fsync,fdatasync:delay_enter=100000";
    let strace = Strace::attach(ca.pid(), &["-e", WATCH, "-e", slow]);
    let serials: Vec<String> = std::thread::scope(|scope| {
        let asking = [(); REQUESTS].map(|()| scope.spawn(|| ask(&ca, &made, "/v1/certs/made.psf.io")));
        let answers = asking.map(|answer| answer.join().unwrap());
        answers.iter().map(|answer| answer.header("psfca-serial").to_owned()).collect()
    });
    let calls = strace.detach();
    assert!(serials.iter().all(|serial| !serial.is_empty()), "{serials:?}");

    // By each sync of the log: which of the certificates are durable from then on.
    let mut durable: Vec<(usize, usize)> = Vec::new();
    let mut written: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &calls {
        if call.writes_log() {
            for serial in serials.iter().filter(|serial| call.arguments.contains(serial.as_str())) {
                written.entry(serial).or_insert(call.end);
            }
        } else if call.syncs_log() && call.result.starts_with('0') {
            durable.push((call.end, written.values().filter(|&&end| end < call.start).count()));
        }
    }
    assert_eq!(durable.last().unwrap().1, REQUESTS, "every certificate is written to the log: {durable:?}");
    let sizes: Vec<usize> = std::iter::once(0).chain(durable.iter().map(|&(_, count)| count)).collect();
    let largest = sizes.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    say(&format!("{REQUESTS} certificates, {} syncs, {largest} in one", durable.len()));
    assert!(largest > 1, "no sync was for several: {durable:?}");

    // So many answers, so many certificates are durable: at every moment, and so for each commit.
    let answers = answers(&calls);
    assert_eq!(answers.len(), REQUESTS);
    for (left, start) in (1..).zip(answers) {
        let by_then = durable.iter().filter(|(end, _)| *end < start).map(|&(_, count)| count).max().unwrap_or(0);
        assert!(left <= by_then, "answer {left} left when {by_then} certificates were durable: {durable:?}");
    }
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
    assert!(!pg.psfca(&["issue", NAME]).status.success());
    let calls = strace.detach();
    let failed = calls.iter().find(|call| failed_sync(call)).expect("the sync failed");
    let answered = calls.iter().filter(|call| call.writes_network() && call.start > failed.end).count();
    assert!(answered > 0, "the refusal is written");
    let drawn = calls.iter().filter(|call| call.draws_for_signature());
    let (before, after): (Vec<_>, Vec<_>) = drawn.partition(|call| call.end < failed.start);
    assert!(!before.is_empty(), "the handshake's signature is seen");
    assert!(after.is_empty(), "{after:?}");
}
