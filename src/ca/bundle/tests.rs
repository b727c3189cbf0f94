use rcgen::KeyPair;

use super::*;
use crate::ca::fixture::{DAY, Hierarchy, LeafSpec, dns, now};

fn check(bundle: &Bundle, ca: &Hierarchy, names: &SubjectAltNames) -> Result<(), BundleError> {
    let expected = Expected { alt_names: names, exactly: true, usages: Some(Usages::Server) };
    bundle.check(&[ca.root_der()], &expected, now())
}

#[test]
fn a_good_bundle_passes_and_survives_being_written() {
    let ca = Hierarchy::new("PSF_CA");
    let names = SubjectAltNames { ip: vec!["10.0.0.1".parse().unwrap()], ..dns(&["postgresql.psf.io", "pg.psf.io"]) };
    let bundle = ca.bundle(&LeafSpec::server(&names));
    check(&bundle, &ca, &names).unwrap();
    let read = Bundle::parse(bundle.to_pem().as_bytes()).unwrap();
    assert_eq!(read.to_pem(), bundle.to_pem());
    assert_eq!(read.leaf().key, Some(KeyKind::EcdsaP256));
    assert_eq!(read.leaf().serial.to_string(), "0123456789ab");
    let labels: Vec<_> = pem_file::strict_blocks(read.to_pem().as_bytes()).unwrap();
    let labels: Vec<_> = labels.iter().map(|block| block.place.label.as_str()).collect();
    assert_eq!(labels, ["CERTIFICATE", "CERTIFICATE", "PRIVATE KEY"]);
    assert!(!format!("{read:?}").contains("der: ["));
}

#[test]
fn a_bundle_of_another_ca_or_without_its_issuer_is_refused() {
    let (ca, other) = (Hierarchy::new("PSF_CA"), Hierarchy::new("PSF_CA"));
    let names = dns(&["postgresql.psf.io"]);
    let bundle = ca.bundle(&LeafSpec::server(&names));
    assert!(matches!(check(&bundle, &other, &names), Err(BundleError::Untrusted(_))));
    let alone = Chain::new(bundle.chain().certificates()[..1].to_vec()).unwrap();
    let expected = Expected { alt_names: &names, exactly: true, usages: None };
    assert!(matches!(alone.check(&[ca.root_der()], &expected, now()), Err(BundleError::Untrusted(_))));
    // A root sent along is not thereby trusted.
    let mut with_root = bundle.chain().certificates().to_vec();
    with_root.push(ca.root_der());
    let with_root = Chain::new(with_root).unwrap();
    assert!(matches!(with_root.check(&[other.root_der()], &expected, now()), Err(BundleError::Untrusted(_))));
    assert!(matches!(with_root.check(&[], &expected, now()), Err(BundleError::Untrusted(_))));
}

#[test]
fn dates_are_checked_against_the_clock_that_is_given() {
    let ca = Hierarchy::new("PSF_CA");
    let names = dns(&["postgresql.psf.io"]);
    let bundle = ca.bundle(&LeafSpec::server(&names));
    let expected = Expected { alt_names: &names, exactly: true, usages: None };
    let at = |when| bundle.check(&[ca.root_der()], &expected, when);
    assert!(matches!(at(now().plus(DAY * 2)), Err(BundleError::Expired { .. })));
    assert!(matches!(at(now().minus(DAY)), Err(BundleError::NotYetValid { .. })));
    at(now().plus(DAY)).unwrap();
}

#[test]
fn other_names_and_other_usages_are_refused() {
    let ca = Hierarchy::new("PSF_CA");
    let (one, two) = (dns(&["postgresql.psf.io"]), dns(&["postgresql.psf.io", "lb.psf.io"]));
    let bundle = ca.bundle(&LeafSpec::server(&two));
    let error = check(&bundle, &ca, &one).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the certificate is for lb.psf.io, postgresql.psf.io, and postgresql.psf.io is expected"
    );
    let lax = Expected { alt_names: &one, exactly: false, usages: None };
    bundle.check(&[ca.root_der()], &lax, now()).unwrap();
    assert!(matches!(check(&ca.bundle(&LeafSpec::server(&one)), &ca, &two), Err(BundleError::Names { .. })));
    let client = ca.bundle(&LeafSpec { usages: Usages::Client, ..LeafSpec::server(&one) });
    assert!(matches!(check(&client, &ca, &one), Err(BundleError::Usages { .. })));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let ca = Hierarchy::new("PSF_CA");
    let names = dns(&["postgresql.psf.io"]);
    let one = ca.bundle(&LeafSpec::server(&names));
    let other = PrivateKey::from_pkcs8(KeyPair::generate().unwrap().serialize_der()).unwrap();
    let swapped = format!("{}{}", one.chain().to_pem(), *other.to_pem());
    assert_eq!(Bundle::parse(swapped.as_bytes()).unwrap_err(), BundleError::KeyMismatch);
}

#[test]
fn blocks_in_another_order_are_refused() {
    let ca = Hierarchy::new("PSF_CA");
    let names = dns(&["postgresql.psf.io"]);
    let bundle = ca.bundle(&LeafSpec::server(&names));
    let key_first = format!("{}{}", *bundle.key().to_pem(), bundle.chain().to_pem());
    assert!(matches!(Bundle::parse(key_first.as_bytes()), Err(BundleError::Layout(_))));
    assert!(matches!(Bundle::parse(bundle.chain().to_pem().as_bytes()), Err(BundleError::Layout(_))));
}
