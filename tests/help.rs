//! What people read: the help of every command, and what the operator's and the host's commands say.
//! Values that differ from run to run are masked: [DIR], [TOKEN], [SERIAL....], …

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::path::Path;
use std::process::Output;

use clap::CommandFactory as _;
use insta::assert_snapshot;
use psfca::cli::Cli;
use regex::Regex;
use support::{Ca, Host, psfca, wait_until};

/// Both outputs and the exit code, with what is unstable masked; what stands in columns keeps its width.
fn seen(out: &Output, dir: &Path) -> String {
    let [stdout, stderr] = [&out.stdout, &out.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap());
    let mut text = format!("exit code {}\n{stdout}", out.status.code().unwrap());
    if !stderr.is_empty() {
        text = format!("{text}--- standard error\n{stderr}");
    }
    text = text.replace(dir.to_str().unwrap(), "[DIR]");
    for (pattern, mask) in [
        (r"psfca1\.[A-Za-z0-9._-]+", "[TOKEN]"),
        (r"(?s)-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----", "[PEM]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "YYYY-MM-DDThh:mm:ssZ"),
        (r"\((\d+ [a-z]+ ago|now)\)", "(… ago)"),
        (r"\b[0-9a-f]{64}\b", "[SHA-256]"),
        (r"\b[0-9a-f]{36}\b", "[SERIAL............................]"),
        (r"localhost:\d+", "localhost:[PORT]"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, mask).into_owned();
    }
    // A unit may have gone since: in 30 days, in 29 days. And certificates draw when they are renewed.
    Regex::new(r"\(in \d+ ([a-z]+)\)").unwrap().replace_all(&text, "(in N $1)").into_owned()
}

/// The words that lead to each command, from the command line's own definition.
fn commands(of: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
    found.push(words.to_vec());
    for inner in of.get_subcommands() {
        commands(inner, &[words, &[inner.get_name().to_owned()]].concat(), found);
    }
}

#[test]
fn every_command_explains_itself() {
    let mut all = Vec::new();
    commands(&Cli::command(), &[], &mut all);
    for words in all {
        let out = psfca().args(&words).arg("--help").env("COLUMNS", "100").output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{words:?}");
        let name = std::iter::once("help").chain(words.iter().map(String::as_str)).collect::<Vec<_>>().join("_");
        assert_snapshot!(name, String::from_utf8(out.stdout).unwrap());
    }
}

#[test]
fn init_says_what_was_made_and_what_comes_next() {
    let ca = Ca::unmade("");
    assert_snapshot!(seen(&ca.psfca(&["init"]), ca.dir()));
}

#[test]
fn init_with_the_root_key_elsewhere_says_to_carry_it_away() {
    let ca = Ca::unmade("");
    let [key, passphrase] = ["root.key", "passphrase"].map(|name| ca.dir().join(name).to_str().unwrap().to_owned());
    std::fs::write(&passphrase, "correct horse battery\n").unwrap();
    assert_snapshot!(seen(&ca.psfca(&["init", "--root-key", &key, "--passphrase-file", &passphrase]), ca.dir()));
}

#[test]
fn token_gives_the_token_alone_on_standard_output() {
    let ca = Ca::start();
    assert_snapshot!(seen(&ca.psfca(&["token", "pg0.iad1.psf.io"]), ca.dir()));
    let _enrolled = Host::enroll(&ca, "pg1.iad1.psf.io");
    assert_snapshot!("token_for_an_enrolled_host", seen(&ca.psfca(&["token", "pg1.iad1.psf.io"]), ca.dir()));
}

#[test]
fn audit_list_and_show_tell_what_was_issued_to_whom_and_why() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    host.ok(&["issue", "postgresql.psf.io"]);
    wait_until("every signature is stored", || !ca.ok(&["audit", "list"]).contains("recorded"));
    assert_snapshot!("audit_list", seen(&ca.psfca(&["audit", "list"]), ca.dir()));
    assert_snapshot!("audit_list_limited", seen(&ca.psfca(&["audit", "list", "--limit", "1"]), ca.dir()));
    assert_snapshot!("audit_list_none", seen(&ca.psfca(&["audit", "list", "--name", "x.psf.io"]), ca.dir()));
    let entry = ca.ok(&["audit", "list", "--name", "postgresql.psf.io", "--json"]);
    let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
    let serial = entry["serial"].as_str().unwrap();
    assert_snapshot!("audit_show", seen(&ca.psfca(&["audit", "show", serial]), ca.dir()));
    assert_snapshot!("audit_show_unknown", seen(&ca.psfca(&["audit", "show", "1234"]), ca.dir()));
}

#[test]
fn an_operator_command_without_a_daemon_says_so() {
    let ca = Ca::made_with("");
    assert_snapshot!(seen(&ca.psfca(&["audit", "list"]), ca.dir()));
}

#[test]
fn a_host_sees_how_things_stand_and_what_would_be_renewed() {
    let ca = Ca::start();
    let host = Host::new("pg0.iad1.psf.io");
    assert_snapshot!("status_before_enrolment", seen(&host.psfca(&["status"]), host.dir()));
    let enrolled = host.enroll_with(&ca.token("pg0.iad1.psf.io"));
    assert_snapshot!("enroll", seen(&enrolled, host.dir()));
    assert_snapshot!("renew_dry_run_at_first", seen(&host.psfca(&["renew", "--dry-run"]), host.dir()));
    // Without root the command says besides that it leaves ownership alone, so it is not shown here.
    host.ok(&["issue", "postgresql.psf.io"]);
    assert_snapshot!("renew_dry_run", seen(&host.psfca(&["renew", "--dry-run"]), host.dir()));
    assert_snapshot!("status", seen(&host.psfca(&["status"]), host.dir()));
}

#[test]
fn settings_that_somebody_named_and_that_are_not_there_are_an_error() {
    let host = Host::new("pg0.iad1.psf.io");
    let missing = host.dir().join("missing.yaml");
    for command in [&["status"][..], &["renew"], &["issue", "postgresql.psf.io"]] {
        let by_option = host.psfca(&[command, &["--config", missing.to_str().unwrap()]].concat());
        let by_variable = psfca().args(command).env("PSFCA_HOST_CONFIG", &missing).output().unwrap();
        for out in [by_option, by_variable] {
            assert_eq!(out.status.code(), Some(1), "{command:?}");
            let said = String::from_utf8(out.stderr).unwrap();
            assert!(said.contains("missing.yaml cannot be read: No such file"), "{said}");
        }
    }
}
