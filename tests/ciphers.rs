//! Cipher policy in one place: the declaration has it, and hosts ask for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use support::{Ca, Host, TLS_YAML, psfca};

const OWN: &str = "  ciphers:\n    default: ECDH+AESGCM\n    lb.psf.io: ECDH+CHACHA20:!aNULL\n";

#[test]
fn a_name_has_its_own_cipher_list_and_every_other_the_default() {
    let mut ca = Ca::made_with("");
    let own = TLS_YAML.replacen("  ciphers:\n    default: ECDH+AESGCM\n", OWN, 1);
    std::fs::write(ca.dir().join("tls.yaml"), own).unwrap();
    ca.serve();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let said = |words: &[&str]| {
        let out = host.psfca(words);
        let note = String::from_utf8(out.stderr).unwrap();
        let typo = "psfca: no line for postgersql.psf.io under tls.ciphers; this is the default\n";
        assert_eq!(note == typo, words.contains(&"postgersql.psf.io"), "{note}");
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    };
    assert_eq!(said(&["ciphers", "postgersql.psf.io"]), (0, "ECDH+AESGCM\n".to_owned()));
    assert_eq!(
        said(&["ciphers", "postgersql.psf.io", "--declaration", ca.dir().join("tls.yaml").to_str().unwrap()]),
        (0, "ECDH+AESGCM\n".to_owned())
    );
    assert_eq!(said(&["ciphers"]), (0, "ECDH+AESGCM\n".to_owned()));
    assert_eq!(said(&["ciphers", "postgresql.psf.io"]), (0, "ECDH+AESGCM\n".to_owned()));
    assert_eq!(said(&["ciphers", "lb.psf.io"]), (0, "ECDH+CHACHA20:!aNULL\n".to_owned()));

    let files = ca.dir().join("tls.yaml");
    let out = psfca().args(["ciphers", "lb.psf.io", "--declaration"]).arg(files).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "ECDH+CHACHA20:!aNULL\n");
}

#[test]
fn without_any_list_that_is_said_and_nothing_is_made_up() {
    let mut ca = Ca::made_with("");
    let none = TLS_YAML.replacen("  ciphers:\n    default: ECDH+AESGCM\n", "", 1);
    std::fs::write(ca.dir().join("tls.yaml"), none).unwrap();
    ca.serve();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let out = host.psfca(&["ciphers"]);
    assert_eq!(out.status.code(), Some(3));
    assert!(out.stdout.is_empty());
    assert!(String::from_utf8(out.stderr).unwrap().contains("no `default` under tls.ciphers"));
}
