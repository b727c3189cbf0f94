//! R9 for `psfca init`: whatever stops it, nothing is half there, and the next run makes a CA or
//! says exactly what to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

use support::ledger::{entries, listing};
use support::strace::{under, usable};
use support::{Ca, psfca};

/// The system calls by which init changes the disk, but for writes into files: each of these is
/// followed by one of an fsync. (strace counts each call by itself; not every machine has those
/// with a question mark.)
const STEPS: [&str; 9] =
    ["?mkdir", "mkdirat", "?unlink", "unlinkat", "?rename", "renameat", "renameat2", "fchmod", "fsync"];
/// More steps of one kind than init has, so that a sweep ends.
const MANY: usize = 100;

fn init(ca: &Ca, args: &[&str]) -> Command {
    let mut command = psfca();
    command.arg("init").args(args).env("PSFCA_CONFIG", ca.config());
    command
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// The CA is whole: the daemon comes up and issues with it, and the ledger has its certificates.
fn whole(ca: &mut Ca) {
    ca.serve();
    let (entries, states) = (entries(ca), listing(ca));
    for (entry, kind) in entries.iter().zip(["root", "issuing_ca", "identity_ca"]) {
        assert_eq!((entry["kind"].as_str().unwrap(), &*states[entry["serial"].as_str().unwrap()]), (kind, "issued"));
    }
    assert_eq!(std::fs::read(ca.trust_bundle()).unwrap(), std::fs::read(ca.state().join("ca/root.pem")).unwrap());
    // A kill behind the last rename leaves the emptied scratch directory; no key is in it.
    let scratch = std::fs::read_dir(ca.state().join(".init")).into_iter().flatten();
    let left: Vec<_> = scratch.map(|entry| entry.unwrap().file_name()).filter(|name| name != "ledger.lock").collect();
    assert!(left.is_empty(), "{left:?}");
    ca.stop();
}

/// Runs init again, after whatever it was that stopped it, as the operator is told to.
fn again(ca: &mut Ca, args: &[&str]) {
    let out = init(ca, args).current_dir(ca.dir()).output().unwrap();
    assert!(
        out.status.success()
            || said(&out).contains("already; it is never overwritten: start it with psfca serve, or use another"),
        "{}",
        said(&out)
    );
    whole(ca);
}

/// Injects `fault` at the first call of its kind, the second, and so on until init meets it no
/// more; returns how often it was stopped.
fn sweep(fault: &str, args: &[&str], mut stopped: impl FnMut(&mut Ca, &Output)) -> usize {
    let mut stops = 0;
    for step in 1..MANY {
        let mut ca = Ca::unmade("");
        std::fs::write(ca.dir().join("passphrase"), "correct horse battery staple").unwrap();
        let trace = ca.dir().join("trace");
        let fault = fault.replace("STEP", &step.to_string());
        let out = under(&["-e", &fault], &trace, &init(&ca, args)).current_dir(ca.dir()).output().unwrap();
        let met = std::fs::read_to_string(trace).unwrap().contains("INJECTED");
        if out.status.success() {
            whole(&mut ca);
            if !met {
                return stops;
            }
        } else {
            stops += 1;
            stopped(&mut ca, &out);
        }
    }
    panic!("init is still stopped at step {MANY} of its kind");
}

#[test]
fn r9_an_init_that_is_killed_at_any_step_leaves_a_whole_ca_or_none() {
    if !usable() {
        return;
    }
    let stops = STEPS.map(|step| {
        sweep(&format!("inject={step}:signal=SIGKILL:when=STEP"), &[], |ca, out| {
            assert_eq!(out.status.signal(), Some(9), "{}", said(out));
            again(ca, &[]);
        })
    });
    assert!(stops.iter().sum::<usize>() > 20, "{stops:?}");
}

/// The root's key is put outside before the CA is in place. What lies there then belongs to no CA,
/// and only the operator knows that; so the next init says what to do.
#[test]
fn r9_an_init_with_a_root_key_elsewhere_that_is_killed_at_any_step_ends_with_the_key_of_its_root() {
    if !usable() {
        return;
    }
    let args = ["--root-key", "root.key", "--passphrase-file", "passphrase"];
    let stops = sweep("inject=fsync:signal=SIGKILL:when=STEP", &args, |ca, out| {
        assert_eq!(out.status.signal(), Some(9), "{}", said(out));
        let key = ca.dir().join("root.key");
        let next = init(ca, &args).current_dir(ca.dir()).output().unwrap();
        if said(&next).contains("root.key exists already; move it away, or name another file with --root-key") {
            std::fs::rename(&key, ca.dir().join("moved.key")).unwrap();
        }
        again(ca, &args);
        assert_eq!(
            public(ca, &["pkey", "-in", "root.key", "-passin", "file:passphrase", "-pubout"]),
            public(ca, &["x509", "-in", "state/ca/root.pem", "-noout", "-pubkey"])
        );
    });
    assert!(stops > 5, "{stops}");
}

fn public(ca: &Ca, args: &[&str]) -> String {
    let out = Command::new("openssl").args(args).current_dir(ca.dir()).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn r1_an_init_whose_disk_fails_makes_no_ca_that_its_ledger_does_not_know() {
    if !usable() {
        return;
    }
    // Once, and from then on.
    for fault in ["fsync,fdatasync:error=EIO:when=STEP", "fsync,fdatasync:error=EIO:when=STEP+"] {
        let stops = sweep(&format!("inject={fault}"), &[], |ca, out| {
            assert_eq!(out.status.code(), Some(1), "{}", said(out));
            again(ca, &[]);
        });
        assert!(stops > 5, "{fault}: {stops}");
    }
}
