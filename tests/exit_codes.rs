//! What `psfca issue`, `renew`, `status` and `enroll` tell a timer or a script by how they exit, with a real daemon.
//! Each test is one code; src/report.rs has the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::process::Command;

use support::rollback::copy_ledger;
use support::tools::said;
use support::{Ca, Host, clock};

const NAME: &str = "postgresql.psf.io";
const HOST: &str = "pg0.iad1.psf.io";

fn working() -> (Ca, Host) {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    host.ok(&["renew"]);
    (ca, host)
}

/// That the command exits with `code` and says `text`.
fn exits(mut command: Command, code: i32, text: &str) {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {}", said(&output));
    assert!(said(&output).contains(text), "{text:?} in {}", said(&output));
}

/// The command twenty minutes after so many hours. A certificate of one day is due after 7.2 to 14.4 hours, and urgent after 18.
fn later(hours: u32, command: Command) -> Command {
    clock::at(&format!("+{}m", hours * 60 + 20), command).expect("asked whether the clock can be moved before")
}

#[test]
fn code_0_when_all_is_well_or_was_made_so() {
    let (ca, host) = working();
    exits(host.command(&["issue", NAME]), 0, "postgresql.psf.io is installed at");
    exits(host.command(&["renew"]), 0, "postgresql.psf.io: not due before");
    exits(host.command(&["renew", "--force"]), 0, "postgresql.psf.io: renewed, because --force");
    exits(host.command(&["renew", "--force", "--dry-run"]), 0, "would be renewed");
    exits(host.command(&["status"]), 0, "trust     as enrolled");
    fs::remove_file(host.bundle(NAME)).unwrap();
    exits(host.command(&["renew"]), 0, "renewed, because there is none yet");
    // A host that may have nothing is in good order.
    let idle = Host::enroll(&ca, "web0.iad1.psf.io");
    exits(idle.command(&["renew"]), 0, "This host may have no certificate just now");
    if clock::works() {
        exits(later(15, host.command(&["renew"])), 0, "renewed, because it was due on");
        exits(later(6, host.command(&["renew"])), 0, "postgresql.psf.io: not due before");
    }
}

#[test]
fn code_2_when_the_words_are_wrong() {
    let words = |words: &[&str]| {
        let mut command = support::psfca();
        command.args(words);
        command
    };
    for option in ["--since", "--until"] {
        let text = "neither a time (2026-11-21T00:00:00Z), a date (2026-11-21) nor an age (7d)";
        exits(words(&["audit", "list", option, "yesterday"]), 2, text);
    }
    exits(words(&["audit", "list", "--expiring-within", "soon"]), 2, "no span of time like 36h or 7d");
    exits(words(&["audit", "list", "--limit", "0"]), 2, "--limit");
    exits(words(&["renew", "--sometimes"]), 2, "--sometimes");
    let ca = Ca::start();
    let mut good = words(&["audit", "list", "--since", "2020-01-01"]);
    good.env("PSFCA_CONFIG", ca.config());
    exits(good, 0, "declaration");
}

#[test]
fn code_1_when_something_on_this_host_is_wrong() {
    let (_ca, host) = working();
    let enrolment = host.dir().join("state/enrolment.json");
    let good = fs::read(&enrolment).unwrap();
    let cases: [(Option<&[u8]>, &str); 2] =
        [(None, "this host is not enrolled"), (Some(&good[..good.len() / 2]), "it is damaged (no JSON at line")];
    for (content, text) in cases {
        match content {
            None => fs::remove_file(&enrolment).unwrap(),
            Some(content) => fs::write(&enrolment, content).unwrap(),
        }
        for args in [&["issue", NAME][..], &["renew"], &["status"]] {
            exits(host.command(args), 1, text);
        }
    }
    fs::write(&enrolment, good).unwrap();
    fs::write(host.dir().join("key.pem"), "no request").unwrap();
    let csr = host.dir().join("key.pem").display().to_string();
    exits(host.command(&["issue", NAME, "--csr", &csr]), 1, "is no certificate request: there is no PEM block in it");
    fs::write(host.config(), "state: state\nbundels: bundles\n").unwrap();
    for args in [&["issue", NAME][..], &["renew"], &["status"]] {
        exits(host.command(args), 1, "host.yaml is wrong: unknown field `bundels`");
    }
}

#[test]
fn code_1_while_another_run_is_at_work() {
    let (_ca, host) = working();
    let lock = fs::File::open(host.dir().join("state/lock")).unwrap();
    lock.lock().unwrap();
    for args in [&["issue", NAME][..], &["renew"]] {
        exits(host.command(args), 1, "another psfca is at work on");
    }
    exits(host.command(&["status"]), 0, NAME);
}

#[test]
fn code_3_when_the_ca_says_no() {
    let (ca, host) = working();
    exits(host.command(&["issue", "lb.psf.io"]), 3, "pg0.iad1.psf.io may not have lb.psf.io: its roles are postgresql");
    exits(host.command(&["issue", "nowhere.psf.io"]), 3, "nowhere.psf.io");
    let csr = host.command(&["issue", NAME, "--ca-made-key"]);
    exits(csr, 3, "ca_made_key");

    ca.ok(&["host", "disable", HOST]);
    let old = fs::read(host.bundle(NAME)).unwrap();
    exits(host.command(&["issue", NAME]), 3, "pg0.iad1.psf.io is disabled");
    exits(host.command(&["renew", "--force"]), 3, "pg0.iad1.psf.io is disabled; what is there is still good");
    assert_eq!(fs::read(host.bundle(NAME)).unwrap(), old);
    if clock::works() {
        exits(later(15, host.command(&["renew"])), 3, "postgresql.psf.io: not renewed: pg0.iad1.psf.io is disabled");
        exits(later(19, host.command(&["renew"])), 5, "NOT RENEWED");
    }
}

#[test]
fn code_4_while_the_ca_cannot_be_reached_and_everything_is_still_good() {
    let (mut ca, host) = working();
    let address = ca.address().to_owned();
    let token = ca.token("pg1.iad1.psf.io");
    let old = fs::read(host.bundle(NAME)).unwrap();
    ca.stop();
    let text = format!("{address} cannot be reached: nothing listens there (connection refused)");
    exits(host.command(&["issue", NAME]), 4, &text);
    exits(host.command(&["renew", "--force"]), 4, &format!("not renewed: {text}; what is there is still good"));
    exits(host.command(&["renew"]), 0, "not due before");
    exits(host.command(&["status"]), 0, NAME);
    if clock::works() {
        exits(later(15, host.command(&["renew"])), 4, &text);
        exits(later(15, host.command(&["status"])), 0, NAME);
    }
    assert_eq!(fs::read(host.bundle(NAME)).unwrap(), old);
    let output = Host::new("pg1.iad1.psf.io").enroll_with(&token);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains(&text), "{}", said(&output));
}

#[test]
fn code_5_when_a_service_fails_or_will_soon_and_nothing_helped() {
    let (mut ca, host) = working();
    let idle = Host::enroll(&ca, "web0.iad1.psf.io");
    ca.stop();
    if clock::works() {
        let old = fs::read(host.bundle(NAME)).unwrap();
        exits(later(19, host.command(&["renew"])), 5, "postgresql.psf.io: NOT RENEWED, and it is missing, expired or");
        exits(later(19, host.command(&["status"])), 5, "PROBLEM it expires in 5 hours and was not renewed");
        exits(later(30, host.command(&["renew"])), 5, "postgresql.psf.io: NOT RENEWED");
        exits(later(30, host.command(&["status"])), 5, "PROBLEM it expired");
        assert_eq!(fs::read(host.bundle(NAME)).unwrap(), old, "even one that ended is kept");
        // The identity: 30 days.
        exits(later(24 * 24, host.command(&["renew"])), 5, "NOT RENEWED, and its identity is missing, expired or");
        exits(later(24 * 24, idle.command(&["status"])), 5, "PROBLEM it expires in 6 days and was not renewed");
        exits(later(24 * 31, idle.command(&["status"])), 5, "PROBLEM it expired");
    }
    fs::write(host.bundle(NAME), "torn").unwrap();
    exits(host.command(&["renew"]), 5, "NOT RENEWED");
    exits(host.command(&["status"]), 5, "PROBLEM it is damaged");
    fs::remove_file(host.bundle(NAME)).unwrap();
    exits(host.command(&["renew"]), 5, "NOT RENEWED");
    exits(host.command(&["status"]), 5, "PROBLEM it is missing");
}

#[test]
fn code_6_when_the_ca_s_ledger_is_not_what_it_must_be() {
    let (mut ca, host) = working();
    ca.keep_address();
    let backup = tempfile::tempdir().unwrap();
    ca.terminate();
    copy_ledger(&ca.state(), backup.path());
    ca.serve();
    host.ok(&["renew", "--force"]);
    let fresh = Host::new("pg1.iad1.psf.io");
    let token = ca.token("pg1.iad1.psf.io");
    host.ok(&["renew", "--force"]);
    ca.terminate();
    copy_ledger(backup.path(), &ca.state());
    ca.serve();
    let text = "it went back, perhaps to an old backup";
    for policy in ["refuse", "alarm"] {
        let settings = fs::read_to_string(host.config()).unwrap();
        fs::write(host.config(), settings.replace("ledger_policy: refuse\n", "") + "ledger_policy: " + policy + "\n")
            .unwrap();
        exits(host.command(&["issue", NAME]), 6, text);
        exits(host.command(&["renew"]), 6, text);
        exits(host.command(&["status"]), 5, text);
    }
    // What the CA does not know any more it denies; there is no ledger yet to be wrong.
    assert_eq!(fresh.enroll_with(&token).status.code(), Some(3));
}

#[test]
fn code_7_while_a_service_was_not_told_or_did_not_prove_it_and_all_else_is_well() {
    let (mut ca, host) = working();
    let settings = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), format!("{settings}names: {{{NAME}: {{probe: 'tls://127.0.0.1:1'}}}}\n")).unwrap();
    let text = "tls://127.0.0.1:1 cannot be reached: nothing listens there (connection refused)";
    exits(host.command(&["renew"]), 7, text);
    exits(host.command(&["status"]), 7, text);
    exits(host.command(&["issue", NAME]), 7, text);
    let address = ca.address().to_owned();
    ca.stop();
    // Two troubles: the one that does not end by itself is told.
    exits(host.command(&["renew", "--force"]), 7, &format!("{address} cannot be reached"));
    fs::remove_file(host.bundle(NAME)).unwrap();
    exits(host.command(&["renew"]), 5, "NOT RENEWED");
    exits(host.command(&["status"]), 5, "PROBLEM it is missing");
}

#[test]
fn programs_get_the_same_codes_and_json() {
    let (mut ca, host) = working();
    ca.stop();
    for (args, code) in
        [(&["renew", "--json"][..], 0), (&["renew", "--force", "--json"], 4), (&["status", "--json"], 0)]
    {
        let output = host.psfca(args);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["host"], HOST);
    }
}
