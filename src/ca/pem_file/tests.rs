use rcgen::KeyPair;

use super::*;
use crate::ca::fixture::Hierarchy;

fn fault(text: &str) -> String {
    strict_blocks(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn every_kind_of_key_is_read_and_matched_with_its_public_half() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let read = PrivateKey::from_pkcs8(key.serialize_der()).unwrap();
        assert_eq!(read.spki(), rcgen::PublicKeyData::subject_public_key_info(&key));
        let blocks = strict_blocks(read.to_pem().as_bytes()).unwrap();
        assert!(matches!(&blocks[0].content, Content::PrivateKey(again) if again.spki() == read.spki()));
        assert_eq!(format!("{read:?}"), "PrivateKey(Pkcs8, ..)");
    }
}

#[test]
fn text_between_blocks_and_windows_line_ends_are_fine() {
    let pem = certificates_to_pem([&Hierarchy::new("PSF_CA").root_der()]);
    let text = format!("subject=PSF_CA\n{pem}\nmore\n{}", pem.replace('\n', "\r\n"));
    assert_eq!(certificates(text.as_bytes()).unwrap().len(), 2);
}

#[test]
fn each_fault_names_its_block_and_line() {
    let pem = certificates_to_pem([&Hierarchy::new("PSF_CA").root_der()]);
    let lines = pem.lines().count();
    let second = |bad: &str| fault(&format!("{pem}{bad}"));
    let at = format!("block 2 (CERTIFICATE, line {})", lines + 1);

    assert_eq!(
        second(pem.strip_suffix("-----END CERTIFICATE-----\n").unwrap()),
        format!("{at} has no -----END CERTIFICATE----- line: the file was cut short")
    );
    assert_eq!(
        second(&pem.replacen("MII", "M?I", 1)),
        format!("{at} is not base64: line {} has the byte 0x3f", lines + 2)
    );
    assert!(second(&pem.replacen("MII", "MI", 1)).starts_with(&format!("{at} is not base64: ")));
    let short = pem.lines().enumerate().filter(|(n, _)| *n != 3).map(|(_, l)| format!("{l}\n")).collect::<String>();
    let error = second(&short);
    assert!(error.contains("its outer length says") && error.ends_with("are there"), "{error}");
    assert!(second(&pem.replace("END CERT", "END X CERT")).contains("ends with -----END X CERTIFICATE-----"));
    assert_eq!(
        fault("-----BEGIN CERTIFICATE\n"),
        "line 1: this is not a whole -----BEGIN … ----- or -----END … ----- line"
    );
    assert!(fault("hello").starts_with("there is no PEM block in it"));
    let key = fault("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert!(key.contains("it is no private key that is supported"), "{key}");
}

#[test]
fn absurd_input_is_bounded() {
    assert_eq!(blocks(&vec![b'a'; MAX_BYTES + 1]).unwrap_err(), PemError::TooLarge(MAX_BYTES + 1));
    let many = "-----BEGIN X-----\n-----END X-----\n".repeat(MAX_BLOCKS + 1);
    assert_eq!(blocks(many.as_bytes()).unwrap_err(), PemError::TooMany);
    assert_eq!(blocks(&[0x30, 0x82, 1, 0]).unwrap_err(), PemError::Der);
    for cut in 0..40 {
        assert!(whole(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0][..cut.min(7)]).is_err());
    }
}
