//! The daemon's own certificate: it renews itself while running, and nobody notices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use support::{Ca, clock, psfca, wait_until};

/// The serial of the certificate that is served now.
fn served(address: &str) -> String {
    let script = "openssl s_client -connect \"$1\" </dev/null 2>/dev/null | openssl x509 -noout -serial";
    let out = Command::new("sh").args(["-c", script, "sh", address]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn the_daemon_renews_its_own_certificate_while_it_serves_and_open_connections_live_on() {
    let mut ca = Ca::made_with("limits: {header_seconds: 60}\n");
    let time = ca.dir().join("time");
    std::fs::write(&time, "+0").unwrap();
    let mut command = psfca();
    command.arg("serve").env("PSFCA_CONFIG", ca.config());
    let Some(command) = clock::by_file(&time, command) else { return };
    ca.serve_by(command);
    let first = served(ca.address());
    assert!(first.starts_with("serial="), "{first}");

    // A connection from before, to be used again afterwards.
    let mut open = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", ca.address()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut input, output) = (open.stdin.take().unwrap(), open.stdout.take().unwrap());
    let mut answers = BufReader::new(output).lines();
    let mut ask = || {
        input.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        answers.find(|line| line.as_ref().unwrap().contains("HTTP/1.1")).unwrap().unwrap()
    };
    assert!(ask().contains("200"));

    // Its time comes within 0.60 of its seven days.
    std::fs::write(&time, "+5d").unwrap();
    wait_until("another certificate is served", || served(ca.address()) != first);
    assert!(ask().contains("200"), "the old connection was cut");
    assert!(ca.log().contains("the daemon's own certificate was renewed"), "{}", ca.log());
    let listed = ca.ok(&["audit", "list", "--name", "localhost", "--json"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let _ = open.kill();
    let _ = open.wait();
}
