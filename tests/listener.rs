//! What the network listener does with connections: TLS 1.3 alone, no resumption, and limits that hold
//! against those who send too much, too slowly or ambiguously. Against too many at once: `limits.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use support::Ca;
use support::ask::ask;
use support::connections::{GET, read_all, tcp, tls};

fn serving(limits: &str) -> Ca {
    let mut ca = Ca::made_with(&format!("limits: {{{limits}}}\n"));
    ca.serve();
    ca
}

/// The status line of each answer to `request`, until the daemon closes.
fn statuses(ca: &Ca, request: &str) -> Vec<String> {
    let mut stream = tls(ca);
    // The daemon may have answered and closed before the last byte is sent.
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
    let answer = read_all(&mut stream);
    // An answer's body ends without a line break, so the next answer begins in the middle of a line.
    answer.split("HTTP/1.1 ").skip(1).map(|line| line[..3].to_owned()).collect()
}

fn s_client(ca: &Ca, args: &[&str]) -> String {
    let (address, root) = (ca.address(), ca.trust_bundle());
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", address, "-servername", "localhost", "-ign_eof", "-CAfile"])
        .arg(root)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let _ = child.stdin.take().unwrap().write_all(request.as_bytes());
    let out = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

#[test]
fn tls_1_2_is_refused_and_1_3_spoken() {
    let ca = Ca::start();
    let said = s_client(&ca, &["-tls1_2"]);
    assert!(said.contains("alert protocol version") && !said.contains("HTTP/1.1"), "{said}");
    let said = s_client(&ca, &["-tls1_3"]);
    assert!(said.contains("HTTP/1.1 200 OK") && said.contains("Verification: OK"), "{said}");
}

#[test]
fn no_session_can_be_resumed() {
    let ca = Ca::start();
    let kept = ca.dir().join("session");
    let said = s_client(&ca, &["-tls1_3", "-sess_out", kept.to_str().unwrap()]);
    assert!(said.contains("HTTP/1.1 200 OK"), "{said}");
    // Without a ticket from the daemon openssl has nothing to write or to come back with.
    assert!(!said.contains("New Session Ticket") && !kept.exists(), "{said}");
}

#[test]
fn another_protocol_inside_tls_is_refused() {
    let ca = Ca::start();
    let said = s_client(&ca, &["-alpn", "h2"]);
    assert!(said.contains("alert no application protocol"), "{said}");
}

#[test]
fn a_head_that_is_too_large_or_not_http_is_refused() {
    let ca = Ca::start();
    let with = |headers: &str| GET.replace("\r\n\r\n", &format!("\r\n{headers}\r\n"));
    let long = |size: usize| format!("X: {}\r\n", "x".repeat(size));
    let many = |count: usize| "X: x\r\n".repeat(count);
    for (what, request) in [
        ("a header of 1 MB", with(&long(1_000_000))),
        ("a header of 20 KB", with(&long(20_000))),
        ("65 headers", with(&many(64))),
        ("a target of 1 MB", GET.replace("/healthz", &"/".repeat(1_000_000))),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned()),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("a NUL in a header", with("X: a\0b\r\n")),
    ] {
        let answers = statuses(&ca, &request);
        assert!(answers.iter().all(|status| status.starts_with('4')), "{what}: {answers:?}");
    }
    let close = "Connection: close\r\n";
    let answers = statuses(&ca, &with(&format!("{close}{}{}", long(10_000), many(60))));
    assert_eq!(answers, ["200"], "what is within the limits is served");
}

#[test]
fn a_body_whose_length_is_told_twice_is_never_read_in_two_ways() {
    let ca = Ca::start();
    let post =
        |headers: &str, body: &str| format!("POST /v1/enroll HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}");
    let smuggled = format!("0\r\n\r\n{}", GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    // With one length it is two requests, as it should be.
    assert_eq!(statuses(&ca, &post("Transfer-Encoding: chunked\r\n", &smuggled)), ["400", "200"]);
    for headers in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", smuggled.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", smuggled.len()),
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Content-Length: 5\r\nContent-Length: 6\r\n".to_owned(),
        "Content-Length: +5\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
    ] {
        // One answer, a refusal, and the end of the connection: what follows is nobody's request.
        assert_eq!(statuses(&ca, &post(&headers, &smuggled)), ["400"], "{headers}");
    }
}

#[test]
fn who_is_slow_is_closed_at_the_limit_and_holds_up_nobody() {
    let ca = serving("handshake_seconds: 1, header_seconds: 1");
    let mut silent = tcp(&ca);
    let mut idle = tls(&ca);
    let mut slow = tls(&ca);
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").unwrap();
    slow.flush().unwrap();
    // They are open while another is served.
    assert_eq!(ask(&ca, &[], "/healthz").status, 200);
    assert_eq!(read_all(&mut silent), "");
    for mut stream in [slow, std::mem::replace(&mut idle, tls(&ca))] {
        assert!(!read_all(&mut stream).contains(" 200 "));
    }
}

#[test]
fn a_body_that_does_not_come_ends_at_the_limit_with_503() {
    let ca = serving("request_seconds: 1");
    let mut stream = tls(&ca);
    stream.write_all(b"POST /v1/enroll HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{").unwrap();
    stream.flush().unwrap();
    let answer = read_all(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 5"), "{answer}");
}
