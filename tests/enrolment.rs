//! From a token to a certificate, by the commands that people type; and what becomes of a token that will not do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use support::tools::{said, wrapped};
use support::{Ca, Host};

const HOST: &str = "pg0.iad1.psf.io";

/// That this run failed with `code`, said `text` and not the token's secret, and left no identity and no trust.
fn refused(host: &Host, token: &str, output: &Output, code: i32, text: &str) {
    assert_eq!(output.status.code(), Some(code), "{text}: {}", said(output));
    assert!(said(output).contains(text), "{text:?} in {}", said(output));
    let secret = token.rsplit('.').next().unwrap();
    assert!(secret.is_empty() || !said(output).contains(secret), "the secret is shown: {}", said(output));
    assert!(!host.dir().join("state/enrolment.json").exists() && !host.trust_bundle().exists(), "{text}");
}

/// The four parts of a token: a mark, the address, the root's digest, the secret.
fn parts(token: &str) -> [String; 4] {
    let parts: Vec<String> = token.split('.').map(ToOwned::to_owned).collect();
    parts.try_into().unwrap()
}

#[test]
fn a_token_on_the_command_line_is_never_taken() {
    let ca = Ca::start();
    let (host, token) = (Host::new(HOST), ca.token(HOST));
    let text = "a token does not belong on the command line";
    for args in [&["enroll", &token][..], &["enroll", "--token-file", "/dev/null", &token]] {
        let output = host.command(args).stdin(Stdio::null()).output().unwrap();
        refused(&host, &token, &output, 1, text);
    }
    // Nor from an environment that everybody with this user's rights can read.
    let mut command = host.command(&["enroll"]);
    let output = command.env("PSFCA_TOKEN", &token).env("TOKEN", &token).stdin(Stdio::null()).output().unwrap();
    refused(&host, &token, &output, 1, "no token came on standard input");
    // Nothing of that spent it.
    assert!(host.enroll_with(&token).status.success());
}

#[test]
fn a_token_comes_from_standard_input_or_a_file_and_is_good_once() {
    let ca = Ca::start();
    let (pg0, pg1) = (Host::new(HOST), Host::new("pg1.iad1.psf.io"));
    let (first, second) = (ca.token(HOST), ca.token("pg1.iad1.psf.io"));
    let output = pg0.enroll_with(&format!("  {first}\r\n"));
    assert!(output.status.success(), "{}", said(&output));
    let file = pg1.dir().join("token");
    fs::write(&file, format!("{second}\n")).unwrap();
    let said_by = pg1.ok(&["enroll", "--token-file", file.to_str().unwrap()]);
    assert!(said_by.starts_with(&format!("pg1.iad1.psf.io is enrolled at {}", ca.address())), "{said_by}");

    let thief = Host::new("pg2.iad1.psf.io");
    refused(&thief, &first, &thief.enroll_with(&first), 3, "the token was spent already");
    let again = ca.psfca(&["token", HOST]);
    assert!(said(&again).contains("is enrolled already; an operator can make a replacing token"), "{}", said(&again));
}

#[test]
fn a_token_that_is_damaged_or_none_says_so() {
    let ca = Ca::start();
    let (host, token) = (Host::new(HOST), ca.token(HOST));
    let (none, damaged) =
        ("this is not an enrolment token", "the enrolment token is incomplete or damaged; copy it whole");
    for (text, message) in [
        (String::new(), "no token came on standard input"),
        ("hvs.CAESIJ".to_owned(), none),
        (token[1..].to_owned(), none),
        (token[..token.len() - 1].to_owned(), damaged),
        (token.replacen('.', " ", 2), none),
        (format!("{token}\n{token}"), damaged),
        (token.replacen('.', "..", 2), damaged),
        (format!("{}!", &token[..token.len() - 1]), damaged),
    ] {
        refused(&host, &token, &host.enroll_with(&text), 1, message);
    }
    // A secret that is whole and no one's: the CA says no.
    let [mark, address, root, secret] = parts(&token);
    let other = URL_SAFE_NO_PAD.encode(URL_SAFE_NO_PAD.decode(&secret).unwrap().iter().map(|b| !b).collect::<Vec<_>>());
    let text = format!("{mark}.{address}.{root}.{other}");
    refused(&host, &text, &host.enroll_with(&text), 3, "token");

    let file = host.dir().join("token");
    let path = file.to_str().unwrap().to_owned();
    let from_file = || host.psfca(&["enroll", "--token-file", &path]);
    refused(&host, &token, &from_file(), 1, &format!("{path} cannot be read"));
    fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    refused(&host, &token, &from_file(), 1, "the token file is no text");
    fs::write(&file, &token[..40]).unwrap();
    refused(&host, &token, &from_file(), 1, damaged);
}

#[test]
fn a_token_is_shown_only_to_the_root_and_the_name_that_it_names() {
    let (ca, other) = (Ca::start(), Ca::start());
    let (host, token) = (Host::new(HOST), ca.token(HOST));
    let [mark, address, root, secret] = parts(&token);
    let join = |address: &str, root: &str| format!("{mark}.{address}.{root}.{secret}");

    // The token of one CA with the address of another, and the other way round.
    let [_, elsewhere, other_root, _] = parts(&other.token(HOST));
    for text in [join(&elsewhere, &root), join(&address, &other_root)] {
        refused(&host, &token, &host.enroll_with(&text), 4, "is not trusted: ");
    }
    // The right daemon under a name that its certificate does not carry.
    let port = ca.address().rsplit(':').next().unwrap();
    let by_address = URL_SAFE_NO_PAD.encode(format!("127.0.0.1:{port}"));
    let text = format!("127.0.0.1:{port} is not trusted: its certificate is for localhost, not for 127.0.0.1");
    refused(&host, &token, &host.enroll_with(&join(&by_address, &root)), 4, &text);
    // No daemon at all: somebody who hangs up.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = URL_SAFE_NO_PAD.encode(format!("localhost:{}", listener.local_addr().unwrap().port()));
    std::thread::spawn(move || listener.incoming().for_each(drop));
    refused(&host, &token, &host.enroll_with(&join(&nowhere, &root)), 4, "cannot be reached: ");

    // A daemon has a line for every secret that it gets, good or not.
    for daemon in [&ca, &other] {
        daemon.wait_for_log("handshake failed");
        assert!(!daemon.log().contains(" issued ") && !daemon.log().contains(" refused "), "{}", daemon.log());
    }
    assert_eq!(host.enroll_with(&join(&elsewhere, &other_root)).status.code(), Some(3), "{}", other.log());
    other.wait_for_log(" refused ");
    assert!(host.enroll_with(&token).status.success(), "nothing of that spent it");
}

#[test]
fn an_identity_is_its_owners_alone_and_its_key_never_leaves_the_host() {
    let ca = Ca::start();
    let host = Host::new(HOST);
    let file = host.dir().join("token");
    fs::write(&file, ca.token(HOST)).unwrap();
    // With a umask that would open everything to everybody.
    let enroll = host.command(&["enroll", "--token-file", file.to_str().unwrap()]);
    let output = wrapped(&["sh", "-c", "umask 0; exec \"$@\"", "sh"], &enroll).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let state = host.dir().join("state");
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o7777, 0o700);
    let files: Vec<_> = fs::read_dir(&state).unwrap().map(Result::unwrap).collect();
    assert!(files.iter().any(|file| file.file_name() == "enrolment.json"));
    for file in &files {
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600, "{file:?}");
    }
    assert_eq!(fs::metadata(host.trust_bundle()).unwrap().mode() & 0o7777, 0o644);

    // R6: neither this key nor a bundle's is anywhere on the CA's side, as PEM or as DER.
    host.ok(&["issue", "postgresql.psf.io"]);
    let (identity, bundle) = (host.identity(), host.bundle("postgresql.psf.io"));
    let keys = [identity, bundle].map(|path| {
        let text = fs::read(path).unwrap();
        let block = pem::parse_many(&text).unwrap().into_iter().find(|block| block.tag() == "PRIVATE KEY").unwrap();
        (text, block.into_contents())
    });
    let mut places = vec![ca.dir().to_owned()];
    let mut looked_at = vec![ca.log().into_bytes()];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(place).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => places.push(entry.path()),
                kind if kind.is_file() => looked_at.push(fs::read(entry.path()).unwrap()),
                _ => {}
            }
        }
    }
    assert!(looked_at.len() > 5, "the CA's files are looked at");
    let held = |content: &[u8], what: &[u8]| content.windows(what.len()).any(|found| found == what);
    for (pem, key) in keys {
        // The private number of a P-256 key in PKCS#8 (RFC 5915, RFC 5958) is the 32 octets after the first 36, which
        // are the same in each key; in PEM the last characters of the first line are of the number.
        assert_eq!(key[34..36], [0x04, 0x20]);
        let (number, text) = (&key[36..68], base64::engine::general_purpose::STANDARD.encode(&key));
        let text = &text.as_bytes()[48..64];
        assert!(held(&pem, text), "this finds a key where there is one");
        assert!(!looked_at.iter().any(|content| held(content, number) || held(content, text)));
    }
}

#[test]
fn a_host_in_the_role_gets_the_bundle_and_one_outside_is_refused_with_the_reason() {
    let ca = Ca::start();
    let pg = Host::enroll(&ca, HOST);
    let lb = Host::enroll(&ca, "lb0.iad1.psf.io");

    pg.ok(&["issue", "postgresql.psf.io"]);
    let bundle = std::fs::read_to_string(pg.bundle("postgresql.psf.io")).unwrap();
    let kinds: Vec<&str> = bundle.lines().filter(|line| line.starts_with("-----BEGIN")).collect();
    assert_eq!(kinds, ["-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"]);

    let refused = lb.psfca(&["issue", "postgresql.psf.io"]);
    assert_eq!(refused.status.code(), Some(3));
    let reason = String::from_utf8(refused.stderr).unwrap();
    assert!(
        reason.contains(
            "lb0.iad1.psf.io may not have postgresql.psf.io: its roles are loadbalancer; postgresql.psf.io lists"
        ),
        "{reason}"
    );
    assert!(!lb.bundle("postgresql.psf.io").exists());

    let listing = ca.ok(&["audit", "list", "--name", "postgresql.psf.io", "--json"]);
    assert_eq!(listing.lines().count(), 1);
    assert!(listing.contains("\"host\":\"pg0.iad1.psf.io\""), "{listing}");
}

#[test]
fn a_token_for_another_host_takes_no_identity_from_this_one_unless_that_is_meant() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    let stored = || fs::read(host.dir().join("state/enrolment.json")).unwrap();
    let before = stored();
    let out = host.enroll_with(&ca.token("lb0.iad1.psf.io"));
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    let text = "this machine is enrolled as pg0.iad1.psf.io, and the token is for lb0.iad1.psf.io; nothing was changed";
    assert!(said(&out).contains(text) && said(&out).contains("psfca enroll --replace"), "{}", said(&out));
    assert!(stored() == before && !host.dir().join("state/pending-key.pem").exists());
    host.ok(&["renew", "--force"]);

    let token = host.dir().join("token");
    fs::write(&token, ca.ok(&["token", "lb0.iad1.psf.io", "--replace"])).unwrap();
    host.ok(&["enroll", "--replace", "--token-file", token.to_str().unwrap()]);
    assert!(host.psfca(&["status"]).stdout.starts_with(b"host      lb0.iad1.psf.io"));
}

#[test]
fn a_token_that_this_host_has_spent_says_that_it_is_enrolled() {
    let ca = Ca::start();
    let (host, token) = (Host::new(HOST), ca.token(HOST));
    assert!(host.enroll_with(&token).status.success());
    let again = host.enroll_with(&token);
    assert_eq!(again.status.code(), Some(3), "{}", said(&again));
    let text = "this host is enrolled already, as pg0.iad1.psf.io, until ";
    assert!(said(&again).contains(text) && !said(&again).contains("by another key"), "{}", said(&again));
    // Anywhere else it is the CA's own word.
    let elsewhere = Host::new(HOST).enroll_with(&token);
    assert!(said(&elsewhere).contains("the token was spent already, by another key"), "{}", said(&elsewhere));
}

#[test]
fn an_identity_that_was_replaced_is_worth_nothing_from_then_on() {
    let ca = Ca::start();
    let stolen = Host::enroll(&ca, HOST);
    assert!(said(&stolen.psfca(&["issue", "postgresql.psf.io"])).contains("is installed"));

    let rebuilt = Host::new(HOST);
    let token = ca.ok(&["token", HOST, "--replace"]);
    assert!(rebuilt.enroll_with(token.trim()).status.success());
    rebuilt.ok(&["issue", "postgresql.psf.io"]);
    let refused = stolen.psfca(&["issue", "postgresql.psf.io"]);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    assert!(said(&refused).contains("has enrolled again since this identity was issued"), "{}", said(&refused));
}
