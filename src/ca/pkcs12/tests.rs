use std::fs;
use std::process::Command;

use super::*;
use crate::ca::bundle::Chain;
use crate::ca::fixture::{Hierarchy, LeafSpec, dns};
use crate::ca::pem_file::{Content, strict_blocks};
use crate::random::SystemRandom;

fn bundle() -> Bundle {
    Hierarchy::new("PSF_CA").bundle(&LeafSpec::server(&dns(&["reports.psf.io"])))
}

fn password(text: &str) -> Password {
    Password::parse(text.as_bytes()).unwrap()
}

/// What openssl finds in a file.
fn opened(file: &[u8], password: &str, args: &[&str]) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.p12");
    fs::write(&path, file).unwrap();
    let pass = format!("pass:{password}");
    let output = Command::new("openssl")
        .args(["pkcs12", "-in", path.to_str().unwrap(), "-passin", &pass])
        .args(args)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn openssl_finds_the_key_and_the_chain_of_every_kind_and_form_of_key() {
    let mut bundles = vec![("PKCS#8", bundle())];
    for (form, args) in [
        ("Ed25519", &["genpkey", "-algorithm", "ed25519"][..]),
        ("P-384", &["genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        ("SEC 1", &["ecparam", "-name", "prime256v1", "-genkey", "-noout"]),
        ("PKCS#1", &["genrsa", "-traditional", "2048"]),
    ] {
        bundles.push((form, self_signed(args)));
    }
    for (form, bundle) in bundles {
        // In the MAC's key a character has two octets, so these fill more than one block of 64.
        let word = "it takes 40 characters, or a few more ~~";
        let file = seal(&bundle, &password(word), &SystemRandom).unwrap();
        let pem = opened(&file, word, &["-nodes"]).unwrap();
        assert_eq!(pem.matches("friendlyName: user").count(), 2, "{form}: the key and its certificate");
        let key = strict_blocks(pem.as_bytes()).unwrap().into_iter().find_map(|block| match block.content {
            Content::PrivateKey(key) => Some(key),
            _ => None,
        });
        assert_eq!(key.unwrap().spki(), bundle.key().spki(), "{form}");
        let certificates = opened(&file, word, &["-nokeys"]).unwrap();
        let certificates = Chain::parse(certificates.as_bytes()).unwrap();
        assert_eq!(certificates.certificates(), bundle.chain().certificates(), "{form}");
        assert!(opened(&file, "another", &["-nokeys"]).unwrap_err().contains("invalid password"));
    }
}

/// A bundle of one certificate, with a key that openssl makes.
fn self_signed(args: &[&str]) -> Bundle {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    let run = |args: &[&str]| {
        let output = Command::new("openssl").args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let text = run(args);
    fs::write(&key, &text).unwrap();
    let request = ["req", "-x509", "-key", key.to_str().unwrap(), "-subj", "/CN=reports.psf.io"];
    let mut bundle = run(&request);
    bundle.extend(text);
    Bundle::parse(&bundle).unwrap()
}

#[test]
fn the_encryption_is_what_current_openssl_and_java_read_without_legacy_algorithms() {
    let file = seal(&bundle(), &Password::conventional(), &SystemRandom).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.p12");
    fs::write(&path, file).unwrap();
    let output = Command::new("openssl")
        .args(["pkcs12", "-info", "-noout", "-passin", "pass:changeit", "-in", path.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "MAC: sha256, Iteration 10000\nMAC length: 32, salt length: 32\nPKCS7 Data\nCertificate bag\nCertificate bag\n\
         PKCS7 Data\nShrouded Keybag: PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256\n"
    );
}

#[test]
fn a_file_holds_its_own_bundle_under_its_own_password_and_no_other_nor_with_any_byte_changed() {
    let (ours, other, word) = (bundle(), bundle(), password("correct horse"));
    let file = seal(&ours, &word, &SystemRandom).unwrap();
    assert_ne!(seal(&ours, &word, &SystemRandom).unwrap(), file);
    assert!(holds(&file, &ours, &word));
    assert!(!holds(&file, &other, &word));
    assert!(!holds(&file, &ours, &Password::conventional()));
    let last = file.len() - 1;
    for at in [0, 1, 20, last / 3, last / 2, last - 100, last - 40, last - 20, last - 3, last] {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        assert!(!holds(&damaged, &ours, &word), "byte {at} of {last}");
    }
    for length in [0, 1, AFTER_SEED, SEED, SEED + AFTER_SEED, last] {
        assert!(!holds(&file[..length], &ours, &word), "{length} bytes");
    }
    assert!(!holds(&[&file[..], b"\n"].concat(), &ours, &word));
}

#[test]
fn a_password_is_one_line_that_java_takes() {
    for (text, word) in [("x", "x"), ("correct horse\n", "correct horse"), ("~ \r\n", "~ ")] {
        assert_eq!(*password(text).0, word);
    }
    let long = "x".repeat(MAX_PASSWORD + 1);
    for wrong in ["", "\n", "two\nlines\n", "h\u{f6}rse", "tab\t", long.as_str()] {
        let error = Password::parse(wrong.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("one line of 1 to 128 printable ASCII characters"), "{wrong:?}: {error}");
    }
    assert_eq!(format!("{:?}", password("correct horse")), "Password(..)");
}
