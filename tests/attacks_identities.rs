//! Identities that the CA never issued, also those that its own key signed: none of them is a host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use support::ask::{Answer, P256, ask, csr, enroll, openssl, post_csr, secret};
use support::forge::{Forger, Name, alt_names, identity};
use support::{Ca, Host};
use time::{Duration, OffsetDateTime};

const HOST: &str = "pg0.iad1.psf.io";
const URI: &str = "spiffe://psf.io/host/pg0.iad1.psf.io";

fn ask_with(ca: &Ca, certificate: &Path) -> Answer {
    ask(ca, &["--cert", certificate.to_str().unwrap()], "/v1/certs")
}

/// A CA with an enrolled host, and whoever stole the key of its identity CA.
fn stolen() -> (Ca, Host, Forger) {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    let forger = Forger::identity_ca(&ca);
    // All that follows differs from this in one thing, so that thing is what it is refused for.
    let answer = ask_with(&ca, &forger.sign(&host, &identity(&[Name::uri(URI)])));
    assert_eq!((answer.status, answer.json()["host"].as_str()), (200, Some(HOST)));
    (ca, host, forger)
}

/// That nobody was ever served on a connection with this certificate.
fn is_nobody(ca: &Ca, what: &str, certificate: &Path) {
    let answer = ask_with(ca, certificate);
    assert_eq!(answer.status, 0, "{what}: {answer:?}");
}

#[test]
fn a_name_that_is_not_one_hosts_in_its_one_spelling_is_no_host() {
    let (ca, host, forger) = stolen();
    let long = format!("spiffe://psf.io/host/{}.psf.io", vec!["a".repeat(62); 4].join(".").split_off(4));
    assert_eq!(long.len(), "spiffe://psf.io/host/".len() + 254);
    for uri in [
        "spiffe://psf.io/host/PG0.iad1.psf.io",
        "spiffe://psf.io/host/pg0.iad1.psf.io.",
        "spiffe://psf.io/host/pg0.iad1.psf.io ",
        "spiffe://psf.io/host/pg0.iad1.psf.io\n",
        "spiffe://psf.io/host/pg0.iad1.psf.io\0",
        "spiffe://psf.io/host/pg0.iad1.psf.io\0.evil.example",
        "spiffe://psf.io/host/*.iad1.psf.io",
        "spiffe://psf.io/host/*",
        "spiffe://psf.io/host/",
        "spiffe://psf.io/host",
        "spiffe://psf.io/",
        "spiffe://psf.io/host//pg0.iad1.psf.io",
        "spiffe://psf.io/host/./pg0.iad1.psf.io",
        "spiffe://psf.io/host/lb0.iad1.psf.io/../pg0.iad1.psf.io",
        "spiffe://psf.io/host/..%2fpg0.iad1.psf.io",
        "spiffe://psf.io/host/pg0%2eiad1.psf.io",
        "spiffe://psf.io/host/pg0.iad1.psf.io/",
        "spiffe://psf.io/host/pg0.iad1.psf.io?x",
        "spiffe://psf.io/host/pg0.iad1.psf.io#x",
        "spiffe://psf.io/service/pg0.iad1.psf.io",
        "spiffe://psf.io/Host/pg0.iad1.psf.io",
        "spiffe://PSF.io/host/pg0.iad1.psf.io",
        "spiffe://psf.io./host/pg0.iad1.psf.io",
        "spiffe://psf.io:443/host/pg0.iad1.psf.io",
        "spiffe://x@psf.io/host/pg0.iad1.psf.io",
        "spiffe://psf.io.evil.example/host/pg0.iad1.psf.io",
        "spiffe://evil.psf.io/host/pg0.iad1.psf.io",
        "spiffe://evil.example/host/pg0.iad1.psf.io",
        "spiffe:///host/pg0.iad1.psf.io",
        "SPIFFE://psf.io/host/pg0.iad1.psf.io",
        "https://psf.io/host/pg0.iad1.psf.io",
        "spiffe://psf.io/host/10.0.0.1",
        // A look-alike (Cyrillic i), though no such text can stand in a URI.
        "spiffe://psf.io/host/pg0.iad1.psf.\u{0456}o",
        &long,
        "pg0.iad1.psf.io",
        "",
    ] {
        is_nobody(&ca, uri, &forger.sign(&host, &identity(&[Name::uri(uri)])));
    }
}

#[test]
fn an_identity_names_one_host_and_nothing_else() {
    let (ca, host, forger) = stolen();
    let lb0 = Name::uri("spiffe://psf.io/host/lb0.iad1.psf.io");
    let pg0 = Name::uri(URI);
    let ip = Name(7, vec![127, 0, 0, 1]);
    for (what, names) in [
        ("two hosts", vec![pg0.clone(), lb0.clone()]),
        ("two hosts the other way round", vec![lb0, pg0.clone()]),
        ("the same host twice", vec![pg0.clone(), pg0.clone()]),
        ("a DNS name besides", vec![pg0.clone(), Name::dns("postgresql.psf.io")]),
        ("a DNS name before", vec![Name::dns(HOST), pg0.clone()]),
        ("an address besides", vec![pg0.clone(), ip]),
        ("an e-mail address besides", vec![pg0.clone(), Name(1, b"root@psf.io".to_vec())]),
        ("a DNS name instead", vec![Name::dns(HOST)]),
        ("a common name alone", vec![]),
    ] {
        is_nobody(&ca, what, &forger.sign(&host, &identity(&names)));
    }
    let mut twice = identity(std::slice::from_ref(&pg0));
    twice.custom_extensions.push(alt_names(&[pg0]));
    is_nobody(&ca, "the extension twice", &forger.sign(&host, &twice));
}

#[test]
fn a_certificate_of_the_identity_ca_for_any_other_use_is_no_identity() {
    type Change = (&'static str, fn(&mut CertificateParams));
    let changes: [Change; 12] = [
        ("for servers", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ("for servers as well", |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth)),
        ("for signing code as well", |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning)),
        ("for anything", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
        ("for no said use", |params| params.extended_key_usages.clear()),
        ("a CA", |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        }),
        ("a CA of no further ones", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
        ("that signs nothing", |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
        ("that signs certificates", |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        ("that ended just before the days of grace", |params| {
            params.not_before = OffsetDateTime::now_utc() - Duration::days(37);
            params.not_after = OffsetDateTime::now_utc() - Duration::days(7) - Duration::seconds(2);
        }),
        ("that ended long ago", |params| {
            params.not_before = OffsetDateTime::now_utc() - Duration::days(60);
            params.not_after = OffsetDateTime::now_utc() - Duration::days(30);
        }),
        ("that is yet to begin", |params| params.not_before = OffsetDateTime::now_utc() + Duration::hours(1)),
    ];
    let (ca, host, forger) = stolen();
    for (what, change) in changes {
        let mut params = identity(&[Name::uri(URI)]);
        change(&mut params);
        is_nobody(&ca, what, &forger.sign(&host, &params));
    }
}

#[test]
fn nobody_but_the_identity_ca_itself_makes_identities() {
    let (ca, host, forger) = stolen();
    host.ok(&["issue", "app.psf.io"]);
    let mut below = identity(&[]);
    below.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    below.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    below.distinguished_name.push(DnType::CommonName, "PSF_CA identity CA 2");
    for (what, forger) in [
        ("a CA of the same name", Forger::namesake(&ca)),
        ("a host's identity", Forger::of_bundle(&host.identity())),
        ("a certificate for TLS clients", Forger::of_bundle(&host.bundle("app.psf.io"))),
        ("a CA below the identity CA", forger.below(&below)),
    ] {
        is_nobody(&ca, what, &forger.sign(&host, &identity(&[Name::uri(URI)])));
    }
}

#[test]
fn a_request_for_an_identity_that_asks_for_more_gets_the_tokens_host_alone() {
    let ca = Ca::start();
    let greedy = [
        "-addext",
        "subjectAltName=URI:spiffe://psf.io/host/lb0.iad1.psf.io,DNS:postgresql.psf.io",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-addext",
        "extendedKeyUsage=serverAuth,anyExtendedKeyUsage",
        "-subj",
        "/CN=lb0.iad1.psf.io",
    ];
    let request = csr(ca.dir(), &[&P256[..], &greedy].concat());
    let enrolled = enroll(&ca, &secret(&ca.token(HOST)), &request);
    let host = Host::enroll(&ca, "pg1.iad1.psf.io");
    let renewed = post_csr(&ca, &host, &request, "/v1/identity");
    for (answer, name) in [(enrolled, HOST), (renewed, "pg1.iad1.psf.io")] {
        assert_eq!(answer.status, 200, "{answer:?}");
        let file = ca.dir().join("answer.pem");
        std::fs::write(&file, &answer.body).unwrap();
        let text = openssl(&["x509", "-in", file.to_str().unwrap(), "-noout", "-text"]);
        let extensions = text.split_once("X509v3 extensions:").unwrap().1.split_once("Signature Algorithm").unwrap().0;
        let lines: Vec<_> = extensions.lines().map(str::trim).collect();
        assert_eq!(lines.iter().filter(|line| line.starts_with("X509v3")).count(), 6, "{extensions}");
        for value in [&*format!("URI:spiffe://psf.io/host/{name}"), "CA:FALSE", "Digital Signature"] {
            assert!(lines.contains(&value), "{value}: {extensions}");
        }
        assert!(lines.contains(&"TLS Web Client Authentication"), "{extensions}");
        assert!(!text.contains("lb0") && !text.contains("postgresql"), "{text}");
    }
}
