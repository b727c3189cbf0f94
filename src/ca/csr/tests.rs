//! Requests that are good, wrong, and odd.

use super::*;

fn request(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
    let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let params = rcgen::CertificateParams::new(vec!["evil.psf.io".to_owned()]).unwrap();
    params.serialize_request(&pair).unwrap().pem().unwrap()
}

#[test]
fn a_key_is_taken_only_with_proof_of_possession() {
    let text = request(&rcgen::PKCS_ECDSA_P256_SHA256);
    assert_eq!(SubjectKey::from_request(text.as_bytes(), KeyKind::EcdsaP256).unwrap().kind(), KeyKind::EcdsaP256);
    let mut der = pem::parse(&text).unwrap().into_contents();
    let last = der.len() - 1;
    der[last] ^= 1;
    assert_eq!(SubjectKey::from_request(&der, KeyKind::EcdsaP256), Err(CsrError::NotSigned));
}

#[test]
fn a_key_of_another_kind_than_declared_is_refused() {
    let text = request(&rcgen::PKCS_ED25519);
    assert_eq!(
        SubjectKey::from_request(text.as_bytes(), KeyKind::EcdsaP256),
        Err(CsrError::OtherKind { found: KeyKind::Ed25519, wanted: KeyKind::EcdsaP256 })
    );
}

#[test]
fn garbage_is_refused_with_a_reason() {
    for body in
        [&b""[..], b"hello", b"\x30\x03\x02\x01", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        assert!(matches!(SubjectKey::from_request(body, KeyKind::EcdsaP256), Err(CsrError::Malformed(_))));
    }
}

#[test]
fn a_made_key_is_certified_with_its_own_public_half() {
    for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519] {
        let (key, made) = SubjectKey::generate(kind).unwrap();
        let read = crate::ca::pem_file::PrivateKey::from_pkcs8(made.expose_der().to_vec()).unwrap();
        assert_eq!((key.spki(), key.kind()), (read.spki(), kind));
        let pair = rcgen::KeyPair::try_from(made.expose_der()).unwrap();
        assert_eq!(key, SubjectKey::new(pair.subject_public_key_info(), pair.der_bytes(), kind));
    }
}

#[test]
fn a_made_key_is_never_printed_by_accident() {
    let (_, made) = SubjectKey::generate(KeyKind::Ed25519).unwrap();
    assert_eq!(format!("{made:?}"), "MadeKey(..)");
    assert!(matches!(SubjectKey::generate(KeyKind::Rsa), Err(CsrError::NotMadeHere(KeyKind::Rsa))));
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match content.len() {
        short @ ..0x80 => vec![u8::try_from(short).unwrap()],
        long => [vec![0x82], u16::try_from(long).unwrap().to_be_bytes().to_vec()].concat(),
    };
    [vec![tag], length, content].concat()
}

/// A request for the key of which `spki` are the parts, signed by `sign`.
fn signed(spki: &[&[u8]], algorithm: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let info = tlv(0x30, &[b"\x02\x01\x00", &tlv(0x30, &[]), &tlv(0x30, spki), b"\xa0\x00"]);
    let signature = sign(&info);
    tlv(0x30, &[&info, &tlv(0x30, &[algorithm]), &tlv(3, &[b"\0", &signature])])
}

const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";
const NULL: &[u8] = b"\x05\x00";

fn ed25519(point: &[u8]) -> Vec<u8> {
    // The signature by which the identity point "signs" everything: R is the identity and S is zero.
    let forged = [&[1_u8][..], &[0; 63]].concat();
    signed(&[&tlv(0x30, &[ED25519]), &tlv(3, &[b"\0", point])], ED25519, |_| forged.clone())
}

#[test]
fn an_ed25519_key_that_anybody_can_sign_for_is_refused() {
    let refused = |point: &[u8]| SubjectKey::from_request(&ed25519(point), KeyKind::Ed25519);
    for y in SMALL_ORDER {
        let mut other_sign = y;
        other_sign[31] |= 0x80;
        assert_eq!(refused(&y), Err(CsrError::Ed25519Weak), "{y:02x?}");
        assert_eq!(refused(&other_sign), Err(CsrError::Ed25519Weak), "{y:02x?}");
    }
    // Nineteen coordinates have a second encoding: those that are below 19.
    for more in 0..19 {
        let mut second = ED25519_PRIME;
        second[0] += more;
        assert_eq!(refused(&second), Err(CsrError::Ed25519Weak), "{second:02x?}");
    }
    let text = request(&rcgen::PKCS_ED25519);
    assert!(SubjectKey::from_request(text.as_bytes(), KeyKind::Ed25519).is_ok());
}

#[test]
fn a_key_that_is_oddly_encoded_is_the_requests_fault() {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
    let random = ring::rand::SystemRandom::new();
    let refuse = |der: &[u8], kind| {
        assert_eq!(SubjectKey::from_request(der, kind), Err(CsrError::KeyForm), "{der:02x?}");
    };

    let pair = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
    let point = tlv(3, &[b"\0", pair.public_key().as_ref()]);
    let sign = |info: &[u8]| pair.sign(info).as_ref().to_vec();
    refuse(&signed(&[&tlv(0x30, &[ED25519, NULL]), &point], ED25519, sign), KeyKind::Ed25519);
    let usual = signed(&[&tlv(0x30, &[ED25519]), &point], ED25519, sign);
    assert!(SubjectKey::from_request(&usual, KeyKind::Ed25519).is_ok());

    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    let sign = |info: &[u8]| pair.sign(&random, info).unwrap().as_ref().to_vec();
    let point = tlv(3, &[b"\0", pair.public_key().as_ref()]);
    let curve = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    let with_sha256 = b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    for odd in [&[&tlv(0x30, &[curve, NULL])[..], &point][..], &[&tlv(0x30, &[curve]), &point, NULL]] {
        refuse(&signed(odd, with_sha256, sign), KeyKind::EcdsaP256);
    }
    let usual = signed(&[&tlv(0x30, &[curve]), &point], with_sha256, sign);
    assert!(SubjectKey::from_request(&usual, KeyKind::EcdsaP256).is_ok());

    // Its form is looked at before its signature.
    let rsa = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    let key = tlv(0x30, &[&tlv(2, &[b"\0", &[0xff; 256]]), &tlv(2, &[b"\x01\x00\x01"])]);
    for (parameters, error) in [(&b""[..], CsrError::KeyForm), (NULL, CsrError::NotSigned)] {
        let der = signed(&[&tlv(0x30, &[rsa, parameters]), &tlv(3, &[b"\0", &key])], rsa, |_| vec![0; 256]);
        assert_eq!(SubjectKey::from_request(&der, KeyKind::Rsa), Err(error));
    }
}

#[test]
fn a_made_key_is_written_as_pem_is() {
    for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519] {
        let (_, made) = SubjectKey::generate(kind).unwrap();
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let expected = pem::encode_config(&pem::Pem::new("PRIVATE KEY", made.expose_der()), config);
        assert_eq!(*made.expose_pem(), expected);
    }
}
