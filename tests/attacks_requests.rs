//! Certificate requests made byte by byte: each gives a correct certificate of the grant or a refusal that says why.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use ring::digest::{SHA256, digest};
use support::ask::{Answer, openssl, post_csr};
use support::{Ca, Host, TLS_YAML};

const P256: &str = "/v1/certs/postgresql.psf.io";
const RSA: &str = "/v1/certs/rsa.psf.io";

// Contents of object identifiers (RFC 5480, 5758, 8017).
const EC_KEY: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
const CURVE_P256: &[u8] = b"\x2a\x86\x48\xce\x3d\x03\x01\x07";
const ECDSA_SHA1: &[u8] = b"\x2a\x86\x48\xce\x3d\x04\x01";
const ECDSA_SHA256: &[u8] = b"\x2a\x86\x48\xce\x3d\x04\x03\x02";
const RSA_KEY: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const RSA_MD5: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04";
const RSA_SHA256: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";

fn start() -> (Ca, Host) {
    let mut ca = Ca::made_with("");
    let tls = TLS_YAML.to_owned() + "    rsa.psf.io:\n      key: rsa\n      roles: [postgresql]\n";
    std::fs::write(ca.dir().join("tls.yaml"), tls).unwrap();
    ca.serve();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    (ca, host)
}

fn post(ca: &Ca, host: &Host, body: &[u8], path: &str) -> Answer {
    let file = host.dir().join("body");
    std::fs::write(&file, body).unwrap();
    post_csr(ca, host, &file, path)
}

/// That the request is refused for its key, with a reason in which `why` stands.
fn refused(ca: &Ca, host: &Host, what: &str, body: &[u8], path: &str, why: &str) {
    let answer = post(ca, host, body, path);
    assert_eq!(answer.refusal(), (400, "bad-key".to_owned()), "{what}: {answer:?}");
    assert!(answer.json()["detail"].as_str().unwrap().contains(why), "{what}: {answer:?}");
}

/// That the request is answered with a certificate of the grant, for the key `spki`.
fn certified(ca: &Ca, host: &Host, what: &str, body: &[u8], spki: &[u8]) {
    let answer = post(ca, host, body, P256);
    assert_eq!(answer.status, 200, "{what}: {answer:?}");
    let file = host.dir().join("answer.pem");
    std::fs::write(&file, &answer.body).unwrap();
    let [root, chain] = [&ca.trust_bundle(), &file].map(|path| path.to_str().unwrap().to_owned());
    openssl(&["verify", "-x509_strict", "-CAfile", &root, "-untrusted", &chain, &chain]);
    let leaf = pem::parse_many(&answer.body).unwrap().swap_remove(0).into_contents();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    assert_eq!(leaf.public_key().raw, spki, "{what}");
    assert_eq!(leaf.extensions().len(), 6, "{what}");
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    assert_eq!(names, [x509_parser::extensions::GeneralName::DNSName("postgresql.psf.io")], "{what}");
}

/// One value in DER (X.690, section 8.1).
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match content.len() {
        short @ 0..0x80 => vec![u8::try_from(short).unwrap()],
        long => [&[0x82][..], &u16::try_from(long).unwrap().to_be_bytes()].concat(),
    };
    [&[tag][..], &length, &content].concat()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, parts)
}

fn algorithm(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    sequence(&[&der(0x06, &[oid]), parameters])
}

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    sequence(&[algorithm, &der(0x03, &[&[0], key])])
}

/// The parts of a request, each of which an attacker chooses (RFC 2986, section 4).
struct Request {
    version: Vec<u8>,
    spki: Vec<u8>,
    attributes: Vec<u8>,
    algorithm: Vec<u8>,
}

impl Request {
    fn with(spki: Vec<u8>) -> Self {
        let algorithm = algorithm(ECDSA_SHA256, &[]);
        Self { version: vec![2, 1, 0], spki, attributes: Vec::new(), algorithm }
    }

    fn of(key: &KeyPair) -> Self {
        Self::with(key.subject_public_key_info())
    }

    fn signed(&self, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let info = sequence(&[&self.version, &sequence(&[]), &self.spki, &der(0xa0, &[&self.attributes])]);
        let signature = der(0x03, &[&[0], &sign(&info)]);
        sequence(&[&info, &self.algorithm, &signature])
    }

    fn signed_by(&self, key: &KeyPair) -> Vec<u8> {
        self.signed(|message| key.sign(message).unwrap())
    }
}

fn armoured(label: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(label, der))
}

/// An attribute that asks for these extensions (RFC 2985, section 5.4.2).
fn asked_extensions(extensions: &[u8]) -> Vec<u8> {
    let oid = der(0x06, &[b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e"]);
    sequence(&[&oid, &der(0x31, &[&sequence(&[extensions])])])
}

#[test]
fn a_request_for_anothers_key_is_refused() {
    let (ca, host) = start();
    let (own, others) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    certified(
        &ca,
        &host,
        "the untouched request",
        &Request::of(&own).signed_by(&own),
        own.subject_public_key_info().as_slice(),
    );
    let not_signed = "not signed by its own key";
    let stolen = Request::of(&others);
    refused(&ca, &host, "another's key", &stolen.signed_by(&own), P256, not_signed);
    refused(&ca, &host, "no signature", &stolen.signed(|_| Vec::new()), P256, not_signed);
    let zero = sequence(&[&[2, 1, 0], &[2, 1, 0]]);
    refused(&ca, &host, "the signature zero", &stolen.signed(|_| zero), P256, not_signed);
    let other_text = stolen.signed(|_| others.sign(b"something else").unwrap());
    refused(&ca, &host, "a signature over something else", &other_text, P256, not_signed);
    let mut relabelled = Request::of(&own);
    for (what, oid) in [("RSA and SHA-256", RSA_SHA256), ("RSA and MD5", RSA_MD5), ("ECDSA and SHA-1", ECDSA_SHA1)] {
        relabelled.algorithm = algorithm(oid, &[5, 0]);
        refused(&ca, &host, what, &relabelled.signed_by(&own), P256, not_signed);
    }
}

#[test]
fn what_stands_behind_or_beside_a_request_is_refused() {
    let (ca, host) = start();
    let [first, second] = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
    let [one, two] = [&first, &second].map(|key| Request::of(key).signed_by(key));
    let label = "CERTIFICATE REQUEST";
    let trailing = [&one[..], b"\0"].concat();
    refused(&ca, &host, "a byte behind the DER", &trailing, P256, "1 bytes follow");
    refused(&ca, &host, "a byte in the PEM", armoured(label, &trailing).as_bytes(), P256, "bytes and");
    refused(
        &ca,
        &host,
        "another request in the PEM",
        armoured(label, &[&one[..], &two].concat()).as_bytes(),
        P256,
        "are there",
    );
    let [one, two] = [one, two].map(|der| armoured(label, &der));
    let key = first.serialize_pem();
    for (what, blocks) in [
        ("two requests", [one.clone(), two]),
        ("one request twice", [one.clone(), one.clone()]),
        ("the key behind it", [one.clone(), key.clone()]),
        ("the key in front of it", [key, one.clone()]),
        ("a broken block behind it", [one, "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n".to_owned()]),
    ] {
        refused(&ca, &host, what, blocks.concat().as_bytes(), P256, "");
    }
    assert!(!ca.log().contains("PRIVATE KEY"));
}

#[test]
fn a_request_with_huge_or_meaningless_attributes_gives_exactly_the_grant() {
    let (ca, host) = start();
    let key = KeyPair::generate().unwrap();
    let spki = key.subject_public_key_info();
    let name = |n: usize| der(0x82, &[format!("n{n}.evil.example").as_bytes()]);
    let names: Vec<u8> = (0..2_500).flat_map(name).collect();
    let alt_names = sequence(&[&[0x06, 3, 0x55, 0x1d, 0x11], &der(0x04, &[&sequence(&[&names])])]);
    let password = sequence(&[
        &der(0x06, &[b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07"]),
        &der(0x31, &[&der(0x0c, &[&[b'x'; 60_000]])]),
    ]);
    for (what, attributes) in [
        ("2,500 names", asked_extensions(&alt_names)),
        ("a password of 60,000 characters", password),
        (
            "an extension that nobody knows",
            asked_extensions(&sequence(&[&[0x06, 3, 0x2a, 3, 4], &[1, 1, 0xff], &[4, 2, 5, 0]])),
        ),
        ("an empty request for extensions", asked_extensions(&[])),
        ("the same attribute 1,000 times", asked_extensions(&[]).repeat(1_000)),
    ] {
        let request = Request { attributes, ..Request::of(&key) }.signed_by(&key);
        certified(&ca, &host, what, &request, &spki);
    }
    // What is no attribute, what is too deep, and a version that there never was: the key may be had or not, and the
    // certificate holds nothing of it.
    let deep = (0..200).fold(Vec::new(), |inner, _| sequence(&[&inner]));
    for (what, request) in [
        ("no attributes", Request { attributes: vec![5, 0], ..Request::of(&key) }),
        ("torn attributes", Request { attributes: vec![0x30, 0x7f, 0], ..Request::of(&key) }),
        ("deep attributes", Request { attributes: deep, ..Request::of(&key) }),
        ("another version", Request { version: vec![2, 1, 1], ..Request::of(&key) }),
        ("a negative version", Request { version: vec![2, 1, 0xff], ..Request::of(&key) }),
    ] {
        let request = request.signed_by(&key);
        match post(&ca, &host, &request, P256).status {
            200 => certified(&ca, &host, what, &request, &spki),
            _ => refused(&ca, &host, what, &request, P256, ""),
        }
    }
}

#[test]
fn a_key_that_is_not_in_its_one_encoding_is_refused() {
    let (ca, host) = start();
    let key = KeyPair::generate().unwrap();
    let point = key.der_bytes().to_vec();
    let curve = der(0x06, &[CURVE_P256]);
    let p256 = algorithm(EC_KEY, &curve);
    let good = spki(&p256, &point);
    assert_eq!(good, key.subject_public_key_info());
    let compressed = [&[2 + (point[64] & 1)][..], &point[1..33]].concat();
    let mut off_curve = point.clone();
    off_curve[64] ^= 1;
    let hybrid = [&[6 + (point[64] & 1)][..], &point[1..]].concat();
    let long_length = [&[0x30, 0x81][..], &good[1..]].concat();
    let endless = [&[0x30, 0x80][..], &good[2..], &[0, 0]].concat();
    for (what, spki) in [
        ("a compressed point", spki(&p256, &compressed)),
        ("a hybrid point", spki(&p256, &hybrid)),
        ("the point at infinity", spki(&p256, &[0])),
        ("no point", spki(&p256, &[])),
        ("a point beside the curve", spki(&p256, &off_curve)),
        ("a point of another curve", spki(&p256, &[&[4][..], &[7; 96]].concat())),
        ("a byte behind the point", spki(&p256, &[&point[..], &[0]].concat())),
        ("no curve", spki(&algorithm(EC_KEY, &[]), &point)),
        ("a curve by inheritance", spki(&algorithm(EC_KEY, &[5, 0]), &point)),
        ("two curves", spki(&algorithm(EC_KEY, &curve.repeat(2)), &point)),
        ("a value behind the curve", spki(&algorithm(EC_KEY, &[&curve[..], &[5, 0]].concat()), &point)),
        ("unused bits", sequence(&[&p256, &der(0x03, &[&[1], &point])])),
        ("a value behind the key", sequence(&[&p256, &der(0x03, &[&[0], &point]), &[5, 0]])),
        ("a length of two octets", long_length),
        ("a length that is not said", endless),
    ] {
        refused(&ca, &host, what, &Request::with(spki).signed_by(&key), P256, "");
    }
    assert_eq!(ca.ok(&["audit", "list", "--name", "postgresql.psf.io"]), "Nothing matches.\n");
}

/// An RSA key (RFC 8017, appendix A.1.1) with these octets as its numbers.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Request {
    let numbers = sequence(&[&der(0x02, &[modulus]), &der(0x02, &[exponent])]);
    let request = Request::with(spki(&algorithm(RSA_KEY, &[5, 0]), &numbers));
    Request { algorithm: algorithm(RSA_SHA256, &[5, 0]), ..request }
}

/// The message as RSA with PKCS #1 v1.5 pads it (RFC 8017, section 9.2): under the exponent 1, it is its own signature.
fn padded(message: &[u8], size: usize) -> Vec<u8> {
    let hash = digest(&SHA256, message);
    let info = sequence(&[&algorithm(b"\x60\x86\x48\x01\x65\x03\x04\x02\x01", &[5, 0]), &der(0x04, &[hash.as_ref()])]);
    [&[0, 1][..], &vec![0xff; size - info.len() - 3], &[0], &info].concat()
}

#[test]
fn rsa_keys_with_which_anyone_can_sign_are_refused() {
    let (ca, host) = start();
    // A number of 2048 bits, odd and even, with the octet in front that keeps it positive.
    let odd: Vec<u8> = std::iter::once(0).chain((0..256u32).map(|n| (n * 37) as u8 | 0x81)).collect();
    let even = [&odd[..256], &[0x80]].concat();
    let weak = "a weak exponent or modulus";
    for (what, modulus, exponent, why) in [
        ("the exponent 1", &odd, &[1][..], weak),
        ("the exponent 0", &odd, &[0], weak),
        ("the exponent 3", &odd, &[3], weak),
        ("the exponent 65535", &odd, &[0, 0xff, 0xff], weak),
        ("the exponent 65538", &odd, &[1, 0, 2], weak),
        ("the exponent 1, in four octets", &odd, &[0, 0, 0, 1], ""),
        ("the exponent -1", &odd, &[0xff], ""),
        ("an exponent of 72 bits", &odd, &[1, 0, 0, 0, 0, 0, 0, 0, 1], weak),
        ("no exponent", &odd, &[], ""),
        ("an even modulus", &even, &[1, 0, 1], weak),
        ("a negative modulus", &odd[1..].to_vec(), &[1, 0, 1], ""),
        ("the modulus 0", &vec![0], &[1, 0, 1], "0 bits"),
        ("no modulus", &Vec::new(), &[1, 0, 1], ""),
        ("2048 bits of which most are 0", &[&[0; 255][..], &[0x81]].concat(), &[1, 0, 1], ""),
        ("16384 bits", &[&[0][..], &[0x81; 2_048]].concat(), &[1, 0, 1], "16384 bits"),
    ] {
        let request = rsa(modulus, exponent).signed(|message| padded(message, 256));
        refused(&ca, &host, what, &request, RSA, why);
    }
    assert_eq!(ca.ok(&["audit", "list", "--name", "rsa.psf.io"]), "Nothing matches.\n");
}
