//! `POST /v1/certs/{name}`: what comes back, and every request that is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::path::{Path, PathBuf};

use psfca::clock::Timestamp;
use support::ask::{Answer, P256, ask_as, csr, openssl, post_csr, post_empty};
use support::{Ca, Host, wait_until};

const PATH: &str = "/v1/certs/postgresql.psf.io";

/// A CA and a host of role postgresql, which may have a name with an RSA key as well.
fn start() -> (Ca, Host) {
    let mut ca = Ca::made_with("");
    let tls = support::TLS_YAML.to_owned() + "    rsa.psf.io:\n      key: rsa\n      roles: [postgresql]\n";
    std::fs::write(ca.dir().join("tls.yaml"), tls).unwrap();
    ca.serve();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    (ca, host)
}

fn refused(status: u16, problem: &str) -> (u16, String) {
    (status, problem.to_owned())
}

/// The body in a file, for openssl.
fn save(host: &Host, answer: &Answer) -> PathBuf {
    assert_eq!(answer.status, 200, "{answer:?}");
    let file = host.dir().join("answer.pem");
    std::fs::write(&file, &answer.body).unwrap();
    file
}

fn blocks(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("-----BEGIN")).collect()
}

fn x509(file: &Path, args: &[&str]) -> String {
    openssl(&[&["x509", "-in", file.to_str().unwrap(), "-noout"], args].concat())
}

/// The chain in `file` verifies, and certifies the key of `request`.
fn check_chain(ca: &Ca, file: &Path, request: &Path) {
    let [root, chain] = [&ca.trust_bundle(), file].map(|path| path.to_str().unwrap().to_owned());
    openssl(&["verify", "-x509_strict", "-CAfile", &root, "-untrusted", &chain, &chain]);
    assert_eq!(x509(file, &["-pubkey"]), openssl(&["req", "-in", request.to_str().unwrap(), "-noout", "-pubkey"]));
}

#[test]
fn a_request_is_answered_with_the_chain_and_what_the_host_wants_to_know() {
    let (ca, host) = start();
    let request = csr(host.dir(), &P256);
    let answer = post_csr(&ca, &host, &request, PATH);
    let file = save(&host, &answer);
    assert_eq!(answer.header("content-type"), "application/pem-certificate-chain");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(blocks(&answer.body), ["-----BEGIN CERTIFICATE-----"; 2]);
    check_chain(&ca, &file, &request);
    let serial = answer.header("psfca-serial");
    assert_eq!(x509(&file, &["-serial"]).trim().to_lowercase(), format!("serial={serial}"));
    let mut recorded = serde_json::Value::Null;
    wait_until("the signature lies beside the entry", || {
        recorded = serde_json::from_str(&ca.ok(&["audit", "show", serial, "--json"])).unwrap();
        recorded["state"] == "issued"
    });
    assert_eq!(recorded["index"].to_string(), answer.header("psfca-ledger-index"));
    assert!(answer.body.starts_with(recorded["certificate"].as_str().unwrap()), "{recorded}");
    // Within the window of the declared day, which ends with the certificate.
    let [renew, end] = [answer.header("psfca-renew-after"), recorded["not_after"].as_str().unwrap()]
        .map(|time| Timestamp::parse(time).unwrap());
    let left = renew.until(end).as_secs_f64() / 86_400.0;
    assert!((0.40..=0.70).contains(&left), "{left} of its life would be left");
}

#[test]
fn an_empty_body_gives_the_whole_bundle_only_where_the_declaration_lets_the_ca_make_the_key() {
    let (ca, host) = start();
    let answer = post_empty(&ca, &host, "/v1/certs/made.psf.io");
    let file = save(&host, &answer);
    let bundle = ["-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"];
    assert_eq!(blocks(&answer.body), bundle);
    assert_eq!(x509(&file, &["-pubkey"]), openssl(&["pkey", "-in", file.to_str().unwrap(), "-pubout"]));
    let again = post_empty(&ca, &host, "/v1/certs/made.psf.io");
    assert_ne!(answer.body.split("PRIVATE KEY").nth(1), again.body.split("PRIVATE KEY").nth(1), "the key is a new one");

    assert_eq!(post_empty(&ca, &host, PATH).refusal(), refused(403, "no-ca-made-key"));
    assert_eq!(post_empty(&ca, &host, "/v1/certs/lb.psf.io").refusal(), refused(403, "denied"));
    // A key that left is nowhere in what the CA keeps.
    let key = answer.body.split_once("-----BEGIN PRIVATE KEY-----").unwrap().1.split_once("-----END").unwrap().0;
    let scalar = &pem::parse(format!("-----BEGIN PRIVATE KEY-----{key}-----END PRIVATE KEY-----"))
        .unwrap()
        .into_contents()[36..68];
    for file in std::fs::read_dir(ca.state()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    {
        let kept = std::fs::read(&file).unwrap();
        assert!(!kept.windows(32).any(|window| window == scalar), "{}", file.display());
    }
    assert!(!ca.log().contains(key.trim()));
}

#[test]
fn a_request_that_asks_for_more_gets_exactly_the_grant() {
    let (ca, host) = start();
    let greedy = [
        "-addext",
        "subjectAltName=DNS:lb.psf.io,DNS:*.psf.io,IP:127.0.0.1,email:root@psf.io",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-addext",
        "extendedKeyUsage=anyExtendedKeyUsage,clientAuth,codeSigning,OCSPSigning",
        "-addext",
        "nameConstraints=permitted;DNS:evil.example",
        "-days",
        "9999",
    ];
    let request = csr(host.dir(), &[&P256[..], &greedy].concat());
    let file = save(&host, &post_csr(&ca, &host, &request, PATH));
    let subject = x509(&file, &["-subject", "-nameopt", "RFC2253"]);
    assert_eq!(
        subject.trim(),
        "subject=CN=postgresql.psf.io,OU=Infrastructure Team,O=Python Software Foundation,L=Wolfeboro,ST=NH,C=US"
    );
    let text = x509(&file, &["-text"]);
    let extensions = text.split_once("X509v3 extensions:").unwrap().1.split_once("Signature Algorithm").unwrap().0;
    let known: Vec<_> = extensions.lines().map(str::trim).filter(|line| line.starts_with("X509v3")).collect();
    assert_eq!(known.len(), 6, "{extensions}");
    for (extension, value) in [
        ("X509v3 Subject Alternative Name:", "DNS:postgresql.psf.io"),
        ("X509v3 Basic Constraints: critical", "CA:FALSE"),
        ("X509v3 Key Usage: critical", "Digital Signature"),
        ("X509v3 Extended Key Usage:", "TLS Web Server Authentication"),
    ] {
        let lines: Vec<_> = extensions.lines().map(str::trim).collect();
        let at =
            lines.iter().position(|line| *line == extension).unwrap_or_else(|| panic!("{extension}: {extensions}"));
        assert_eq!(lines[at + 1], value, "{extensions}");
    }
    // The declaration's day, counted from now, and not the 9999.
    x509(&file, &["-checkend", "86000"]);
    let later = ["x509", "-in", file.to_str().unwrap(), "-noout", "-checkend", "86460"];
    assert!(!std::process::Command::new("openssl").args(later).output().unwrap().status.success());
}

#[test]
fn keys_of_another_kind_and_weak_ones_are_refused() {
    let (ca, host) = start();
    let rsa = "/v1/certs/rsa.psf.io";
    for (args, path, why) in [
        (&["-newkey", "ed25519"][..], PATH, "the declaration wants ecdsa-p256"),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"], PATH, "the declaration wants ecdsa-p256"),
        (&["-newkey", "rsa:2048"], PATH, "the declaration wants ecdsa-p256"),
        (&P256, rsa, "the declaration wants rsa"),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"], PATH, "of a kind that is not certified"),
        (&[&P256[..], &["-pkeyopt", "ec_param_enc:explicit"]].concat(), PATH, "of a kind that is not certified"),
        (&["-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"], rsa, "of a kind that is not certified"),
        (&["-newkey", "rsa:1024"], rsa, "an RSA key of 1024 bits"),
        (&["-newkey", "rsa:2040"], rsa, "an RSA key of 2040 bits"),
        (&["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"], rsa, "a weak exponent"),
        (&["-newkey", "rsa:2048", "-sha1"], rsa, "signed with SHA-1"),
    ] {
        let answer = post_csr(&ca, &host, &csr(host.dir(), args), path);
        assert_eq!(answer.refusal(), refused(400, "bad-key"), "{args:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(why), "{args:?}: {answer:?}");
    }
    assert_eq!(ca.ok(&["audit", "list", "--name", "rsa.psf.io"]), "Nothing matches.\n");
}

#[test]
fn an_rsa_key_of_the_hosts_own_works_where_it_is_declared() {
    let (ca, host) = start();
    for bits in ["rsa:2048", "rsa:3072"] {
        let request = csr(host.dir(), &["-newkey", bits]);
        let file = save(&host, &post_csr(&ca, &host, &request, "/v1/certs/rsa.psf.io"));
        check_chain(&ca, &file, &request);
    }
}

#[test]
fn a_p256_key_in_a_request_signed_with_sha384_gives_no_corrupt_certificate() {
    let (ca, host) = start();
    let request = csr(host.dir(), &[&P256[..], &["-sha384"]].concat());
    let file = save(&host, &post_csr(&ca, &host, &request, PATH));
    check_chain(&ca, &file, &request);
    assert!(x509(&file, &["-text"]).contains("Signature Algorithm: ecdsa-with-SHA256"));
}

#[test]
fn a_request_whose_sender_has_not_shown_to_hold_its_key_is_refused() {
    let (ca, host) = start();
    let request = csr(host.dir(), &P256);
    let good = pem::parse(std::fs::read(&request).unwrap()).unwrap().into_contents();
    let file = host.dir().join("request.der");
    std::fs::write(&file, &good).unwrap();
    assert_eq!(post_csr(&ca, &host, &file, PATH).status, 200, "DER is accepted as well");
    // A bit of the signature, and a bit of the key that it is over.
    let key = good.len() - 150;
    for (what, at) in [("signature", good.len() - 1), ("signed part", key)] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&file, bad).unwrap();
        assert_eq!(post_csr(&ca, &host, &file, PATH).refusal(), refused(400, "bad-key"), "{what}");
    }
}

#[test]
fn bodies_that_are_no_request_are_refused_for_what_they_are() {
    let (ca, host) = start();
    let request = csr(host.dir(), &P256);
    let good = format!("@{}", request.display());
    let post = |kind: &str, body: &str| {
        ask_as(&ca, &host, &["--header", &format!("Content-Type:{kind}"), "--data-binary", body], PATH)
    };
    for kind in [" application/json", " text/plain", " application/pkcs10x", " application/x-pem-file", ""] {
        assert_eq!(post(kind, &good).refusal(), refused(415, "media-type"), "{kind:?}");
    }
    assert_eq!(post(" Application/PKCS10; charset=utf-8", &good).status, 200);
    for body in ["hello", "0", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"] {
        assert_eq!(post(" application/pkcs10", body).refusal(), refused(400, "bad-key"), "{body}");
    }
    let key = format!("@{}", request.with_extension("key").display());
    let answer = post(" application/pkcs10", &key);
    assert_eq!(answer.refusal(), refused(400, "bad-key"), "a private key is no request");

    let large = host.dir().join("large");
    for (size, wanted) in [(65_536, refused(400, "bad-key")), (65_537, refused(413, "too-large"))] {
        std::fs::write(&large, vec![b'0'; size]).unwrap();
        assert_eq!(post_csr(&ca, &host, &large, PATH).refusal(), wanted, "{size}");
    }
    // 100 MB without a length in front: no more than the limit is ever kept.
    let file = std::fs::File::create(&large).unwrap();
    file.set_len(100_000_000).unwrap();
    let body = format!("@{}", large.display());
    let kinds = ["--header", "Content-Type: application/pkcs10", "--header", "Transfer-Encoding: chunked"];
    let answer = ask_as(&ca, &host, &[&kinds[..], &["--data-binary", &body]].concat(), PATH);
    assert!(matches!(answer.status, 413 | 0), "{answer:?}");
    assert_eq!(post(" application/pkcs10", &good).status, 200, "the daemon goes on");
}

#[test]
fn a_name_in_the_path_is_a_name_or_nothing() {
    let (ca, host) = start();
    let request = csr(host.dir(), &P256);
    let long = format!("{}.psf.io", vec!["a".repeat(62); 4].join(".")).split_off(5);
    assert_eq!(long.len(), 253);
    assert_eq!(post_csr(&ca, &host, &request, &format!("/v1/certs/{long}")).refusal(), refused(403, "denied"));
    for name in [
        "..%2f..%2fetc%2fpasswd",
        "..%252f..%252fetc%252fpasswd",
        "%252e%252e",
        "postgresql.psf.io%2500",
        "%2e%2e",
        "postgresql.psf.io%2f..%2flb.psf.io",
        "POSTGRESQL.psf.io",
        "*.psf.io",
        "%2a.psf.io",
        "postgresql.psf.io%00",
        "postgresql.psf.io%00.evil.example",
        "postgresql.psf.io.",
        "postgresql.psf.io%20",
        "postgresql..psf.io",
        "p%d0%bestgresql.psf.io",
        "postgresql.psf.io%0d%0aX:y",
        "127.0.0.1",
        &format!("a{long}"),
        &"a".repeat(8_000),
    ] {
        let answer = post_csr(&ca, &host, &request, &format!("/v1/certs/{name}"));
        assert_eq!(answer.refusal(), refused(400, "bad-name"), "{name}");
    }
    let answer = post_csr(&ca, &host, &request, "/v1/certs/%ff");
    assert_eq!(answer.refusal(), refused(400, "malformed"), "no UTF-8");
    assert_eq!(post_csr(&ca, &host, &request, "/v1/certs/made-alias.psf.io").refusal(), refused(403, "denied"));
    assert_eq!(
        ca.ok(&["audit", "list", "--json"]).lines().filter(|line| line.contains("\"kind\":\"service\"")).count(),
        0
    );
}
