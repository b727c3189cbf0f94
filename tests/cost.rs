//! What a certificate costs in instructions, from the judgement to PEM. Valgrind counts them, so the figure is the
//! same on a busy machine as on a quiet one.

// The figures are of this processor's instructions.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::hint::black_box;
use std::process::Command;

use support::office::{Bare, Office};
use support::tools::{say, works};

/// Instructions for each certificate, in the profile for tests, beside the cryptography. When a change is worth what it
/// costs, or has made certificates cheaper: `cargo test --test cost` prints what to write here.
/// So it does after an update of the toolchain or of a dependency that moved them; look at that one first.
const EXPECTED: [(Part, u64); 2] = [(Part::Request, 655_000), (Part::Bundle, 600_000)];
/// How far a count may lie from what is expected, in percent.
const TOLERANCE: u64 = 5;
/// Certificates of which the mean is taken: signatures, whose nonces are random, take now more and now less.
const CERTIFICATES: u32 = 60;
/// Tells this program to be what is counted.
const COUNTED: &str = "PSFCA_COUNTED";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    /// With a key of the host's own.
    Request,
    /// With a key that is made here.
    Bundle,
}

/// ring takes other instructions for another processor, so the same cryptography without anything else is
/// counted beside it, and does not count.
#[test]
fn a_certificate_costs_no_more_than_it_did() {
    if let Ok(counted) = std::env::var(COUNTED) {
        return be_counted(&counted);
    }
    if !works(&["valgrind", "--version"]) {
        return;
    }
    let found = EXPECTED.map(|(part, _)| {
        let [whole, bare] = ["whole", "bare"].map(|what| count(&format!("{part:?} {what}")));
        say(&format!("{part:?}: {whole} instructions, of which {bare} are cryptography"));
        (part, whole.saturating_sub(bare))
    });
    say(&format!("beside it: {found:?}"));
    for ((part, found), (_, expected)) in found.into_iter().zip(EXPECTED) {
        let (percent, of) = (found * 100 / expected.max(1), "of what is expected, tests/cost.rs says what to do");
        assert!(percent < 100 + TOLERANCE, "{part:?}: {found} instructions for each certificate, {percent} % {of}");
        assert!(percent >= 100 - TOLERANCE, "{part:?}: only {found} instructions, {percent} % {of}");
    }
}

fn be_counted(what: &str) {
    let (office, bare) = (Office::open(), Bare::new());
    match what {
        "Request whole" => each_certificate(|| office.certify(true)),
        "Request bare" => each_certificate(|| bare.certify()),
        "Bundle whole" => each_certificate(|| office.bundle(true)),
        "Bundle bare" => each_certificate(|| bare.bundle()),
        other => panic!("{COUNTED}={other}"),
    }
}

/// Valgrind finds it by its name.
#[inline(never)]
fn each_certificate<T>(certificate: impl Fn() -> T) {
    for _ in 0..CERTIFICATES {
        black_box(certificate());
    }
}

/// Instructions for each certificate within [`each_certificate`].
fn count(what: &str) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*each_certificate*"])
        .arg(format!("--callgrind-out-file={}", dir.path().join("calls").display()))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_certificate_costs_no_more_than_it_did"])
        .env(COUNTED, what)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stdout));
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let collected: u64 = collected.unwrap().1.trim().parse().unwrap();
    assert_ne!(collected, 0, "valgrind did not find what to count: {said}");
    collected / u64::from(CERTIFICATES)
}
