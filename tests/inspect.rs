//! `psfca inspect` as a person meets it. On the real roots of the Python Software Foundation, which are other people's
//! data and are read where they lie, it must say what OpenSSL says; what it says of the tests' own files are snapshots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use serde_json::{Value, json};
use support::clock;
use support::tools::{said, shared, succeed, works};
use support::{Ca, Host, psfca};

const NAME: &str = "postgresql.psf.io";

fn inspect(directory: &Path, args: &[&str]) -> Command {
    let mut command = psfca();
    command.current_dir(directory).arg("inspect").args(args);
    command
}

/// What OpenSSL says about a certificate, in our words.
fn openssl_says(file: &str) -> BTreeMap<&'static str, Value> {
    let ask = |what: &[&str]| succeed("openssl", &[&["x509", "-noout", "-in", file], what].concat()).trim().to_owned();
    let value = |what: &[&str]| ask(what).split_once('=').unwrap().1.trim().to_owned();
    let name =
        |what: &str| value(&[what, "-nameopt", "sep_comma_plus_space,sname,utf8"]).replace("emailAddress=", "Email=");
    let bare = |text: String| text.replace(':', "").to_lowercase();
    let date = |what: &str| value(&[what, "-dateopt", "iso_8601"]).replace(' ', "T");
    // The extension's value: what stands under its title, the first line of it.
    let extension = |what: &str| {
        let text = ask(&["-ext", what]);
        text.lines().nth(1).map(|line| line.trim().trim_start_matches("keyid:").to_owned()).unwrap_or_default()
    };
    let constraints = extension("basicConstraints");
    let usages = extension("keyUsage").replace("Certificate Sign", "keyCertSign").replace("CRL Sign", "cRLSign");
    let text = ask(&["-text"]);
    let bits = text.split_once("Public-Key: (").unwrap().1.split_once(" bit)").unwrap().0.to_owned();
    assert!(text.contains("Public Key Algorithm: rsaEncryption"), "the roots have RSA keys");
    BTreeMap::from([
        ("subject", json!(name("-subject"))),
        ("issuer", json!(name("-issuer"))),
        ("serial", json!(bare(value(&["-serial"])))),
        ("sha256", json!(bare(value(&["-fingerprint", "-sha256"])))),
        ("not_before", json!(date("-startdate"))),
        ("not_after", json!(date("-enddate"))),
        ("subject_key", json!(bare(extension("subjectKeyIdentifier")))),
        ("authority_key", json!(bare(extension("authorityKeyIdentifier")))),
        ("usages", json!(usages.split(", ").filter(|usage| !usage.is_empty()).collect::<Vec<_>>())),
        ("ca", json!(constraints.starts_with("CA:TRUE"))),
        ("path_length", json!(constraints.split_once("pathlen:").map(|(_, length)| length.parse::<u32>().unwrap()))),
        ("key", json!(format!("RSA, {bits} bits"))),
    ])
}

#[test]
fn of_the_real_roots_it_says_what_openssl_says() {
    let Some(roots) = shared("data/psf-ca") else { return };
    if !works(&["openssl", "version"]) {
        return;
    }
    for file in ["psf-ca-2014.pem", "psf-ca-2019.pem", "psf-ca-2024.pem"] {
        let path = roots.join(file);
        let expected = openssl_says(path.to_str().unwrap());
        let json = inspect(&roots, &["--json", file]).output().unwrap();
        let seen: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(seen["certificates"].as_array().map(Vec::len), Some(1), "{seen}");
        for (field, value) in &expected {
            assert_eq!(&seen["certificates"][0][field], value, "{field} of {file}");
        }
        assert_eq!(seen["certificates"][0]["self_signed"], json!(true), "{file}");

        let text = inspect(&roots, &[file]).output().unwrap();
        for (title, field) in [
            ("subject", "subject"),
            ("serial", "serial"),
            ("SHA-256", "sha256"),
            ("key", "key"),
            ("not after", "not_after"),
        ] {
            let row = format!("\n  {title:<13} {}", expected[field].as_str().unwrap());
            assert!(said(&text).contains(&row), "{row:?} in {}", said(&text));
        }

        // Whether a root has ended depends on the day of the test, so OpenSSL is asked about that as well.
        let good =
            Command::new("openssl").args(["x509", "-noout", "-checkend", "0", "-in"]).arg(&path).output().unwrap();
        let ended = format!("block 1 (CERTIFICATE, line 1) expired on {}", expected["not_after"].as_str().unwrap());
        assert_eq!(said(&text).contains(&ended), !good.status.success(), "{}", said(&text));
        assert_eq!(said(&text).contains("nothing is wrong with it"), good.status.success(), "{}", said(&text));
        assert_eq!((text.status.code(), json.status.code()), (good.status.code(), good.status.code()), "{file}");
    }
}

#[test]
fn a_root_damaged_by_text_recognition_gets_a_clear_error() {
    let Some(roots) = shared("data/psf-ca") else { return };
    let text = std::fs::read_to_string(roots.join("garbled.pem")).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    let said_length = usize::from(u16::from_be_bytes([der[2], der[3]]));
    let fault = format!(
        "block 1 (CERTIFICATE, line 1) does not hold what its label says: its outer length says {said_length} bytes \
         and {} are there",
        der.len() - 4
    );
    let shown = inspect(&roots, &["garbled.pem"]).output().unwrap();
    assert_eq!(said(&shown), format!("garbled.pem\n\nbroken:\n  {fault}\n"));
    assert_eq!(shown.status.code(), Some(1));
    let shown = inspect(&roots, &["garbled.pem", "--json"]).output().unwrap();
    let seen: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&seen["problems"], &seen["certificates"]), (&json!([fault]), &json!([])));
    assert_eq!(shown.status.code(), Some(1));
}

/// Leaves out what differs from run to run. Keys, fingerprints and serials are numbered by their first appearance, so
/// that what was equal still is: a certificate's key identifier and the one that it names as its issuer's, for example.
fn steady(text: &str) -> String {
    let replace =
        |pattern: &str, by: &str, text: &str| regex::Regex::new(pattern).unwrap().replace_all(text, by).into_owned();
    let text = replace(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text);
    let text = replace(r"\(in [^()]+\)", "(in …)", &text);
    let text = replace(r"\([^()]+ ago\)", "(… ago)", &text);
    // The length of a signature, and with it that of a block, varies by a few bytes. (Line 1 stays.)
    let text = replace(r#"\b(line"?:?) (\d{2,}|[2-9])\b"#, "$1 …", &text);
    let mut known: Vec<String> = Vec::new();
    let number = |found: &regex::Captures<'_>| {
        let at = known.iter().position(|text| *text == found[0]).unwrap_or(known.len());
        if at == known.len() {
            known.push(found[0].to_owned());
        }
        format!("HEX-{}", at + 1)
    };
    regex::Regex::new(r"\b[0-9a-f]{30,64}\b").unwrap().replace_all(&text, number).into_owned()
}

fn shown(mut command: Command) -> String {
    let output = command.output().unwrap();
    format!("exit code {}\n{}", output.status.code().unwrap(), steady(&said(&output)))
}

macro_rules! shows {
    ($name:literal, $command:expr) => {
        insta::with_settings!({ description => "made by the test; what differs from run to run is left out" }, {
            insta::assert_snapshot!($name, shown($command));
        })
    };
}

#[test]
fn of_what_a_ca_made_it_shows_everything_and_what_is_broken() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    let bundle = host.ok(&["issue", NAME, "--stdout"]);
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();

    write("bundle.pem", &bundle);
    shows!("a_bundle", inspect(dir, &["bundle.pem"]));
    shows!("a_bundle_for_programs", inspect(dir, &["bundle.pem", "--json"]));
    let secret = bundle.lines().rev().nth(1).unwrap();
    for format in [&["bundle.pem"][..], &["bundle.pem", "--json"]] {
        assert!(!said(&inspect(dir, format).output().unwrap()).contains(secret), "the key is shown");
    }

    std::fs::copy(ca.trust_bundle(), dir.join("PSF_CA.pem")).unwrap();
    shows!("a_trust_bundle", inspect(dir, &["PSF_CA.pem"]));
    std::fs::copy(host.identity(), dir.join("identity.pem")).unwrap();
    shows!("an_identity", inspect(dir, &["identity.pem"]));

    let (chain, _) = bundle.split_once("-----BEGIN PRIVATE KEY-----").unwrap();
    let other = host.ok(&["issue", NAME, "--stdout"]);
    write("mismatched.pem", &format!("{chain}{}", &other[other.find("-----BEGIN PRIVATE KEY-----").unwrap()..]));
    shows!("a_key_of_another_certificate", inspect(dir, &["mismatched.pem"]));

    let (cut, _) = bundle.split_once("-----END PRIVATE KEY-----").unwrap();
    write("cut.pem", cut);
    shows!("a_file_that_was_cut_short", inspect(dir, &["cut.pem"]));

    write("notes.txt", "postgresql is on pg0\n");
    shows!("a_file_that_is_no_pem", inspect(dir, &["notes.txt"]));
    shows!("a_file_that_is_not_there", inspect(dir, &["absent.pem"]));

    if let Some(later) = clock::at("+3d", inspect(dir, &["bundle.pem"])) {
        shows!("a_bundle_that_ended", later);
    }
}

#[test]
fn of_a_request_it_shows_what_is_asked_for_and_whose_key_it_is() {
    if !works(&["openssl", "version"]) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/C=US/CN=db.psf.io"];
    succeed(
        "openssl",
        &[&["req", "-new", "-keyout", &at("key.pem"), "-out", &at("request.pem")], &options[..]].concat(),
    );
    let text = std::fs::read_to_string(at("request.pem")).unwrap() + &std::fs::read_to_string(at("key.pem")).unwrap();
    std::fs::write(at("both.pem"), text).unwrap();
    shows!("a_request_and_its_key", inspect(place.path(), &["both.pem"]));
}
