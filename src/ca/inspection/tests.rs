use super::*;
use crate::ca::fixture::{DAY, Hierarchy, LeafSpec, dns, now};

fn problems(text: &str) -> Vec<String> {
    inspect(text.as_bytes(), now()).unwrap().problems
}

#[test]
fn a_good_bundle_has_no_problem() {
    let ca = Hierarchy::new("PSF_CA");
    let names = dns(&["postgresql.psf.io"]);
    let bundle = ca.bundle(&LeafSpec::server(&names));
    let seen = inspect(bundle.to_pem().as_bytes(), now()).unwrap();
    assert_eq!(seen.problems, [""; 0]);
    assert_eq!(seen.chain.as_deref(), Some("2 certificates, each signed by the next"));
    let leaf = &seen.certificates[0];
    assert_eq!((leaf.names[0].as_str(), leaf.key.as_str()), ("postgresql.psf.io", "ECDSA P-256"));
    assert!(!leaf.self_signed && !leaf.ca && seen.certificates[1].ca);
    assert_eq!(seen.keys[0].matches, Some(true));
    let secret: String = bundle.key().to_pem().lines().nth(1).unwrap().to_owned();
    assert!(!format!("{seen:?}{}", serde_json::to_string(&seen).unwrap()).contains(&secret));
}

#[test]
fn each_kind_of_breakage_is_told_and_hides_nothing() {
    let ca = Hierarchy::new("PSF_CA");
    let names = dns(&["postgresql.psf.io"]);
    let (one, two) = (ca.bundle(&LeafSpec::server(&names)), ca.bundle(&LeafSpec::server(&names)));
    let swapped = format!("{}{}", one.chain().to_pem(), *two.key().to_pem());
    assert_eq!(
        problems(&swapped),
        ["block 3 (PRIVATE KEY, line 25) does not belong to the first certificate in the file"]
            .map(|p| p.replace("25", &line_of(&swapped, "BEGIN PRIVATE")))
    );

    let mut reversed = one.chain().certificates().to_vec();
    reversed.reverse();
    let found = problems(&pem_file::certificates_to_pem(&reversed));
    assert_eq!(found, ["the certificate on line 1 is not issued by the next one in the file"]);

    // Two CAs of one name: the link is in the names and not in the signature.
    let twin = Hierarchy::new("PSF_CA");
    let mixed = [one.chain().certificates()[0].clone(), twin.issuing.der().clone()];
    let found = problems(&pem_file::certificates_to_pem(&mixed));
    assert!(found[0].contains("whose key did not sign it"), "{found:?}");

    let old = ca.bundle(&LeafSpec {
        not_after: now().minus(DAY),
        not_before: now().minus(DAY * 2),
        ..LeafSpec::server(&names)
    });
    let text = format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{}", *old.to_pem());
    let found = problems(&text);
    assert!(found[0].starts_with("block 1 (CERTIFICATE, line 1) does not hold"), "{found:?}");
    assert!(found[1].contains("expired on 2026-11-20T09:00:00Z (24 hours ago)"), "{found:?}");
    assert_eq!(found.len(), 2);
}

fn line_of(text: &str, what: &str) -> String {
    (text.lines().position(|line| line.contains(what)).unwrap() + 1).to_string()
}

#[test]
fn roots_side_by_side_are_a_trust_bundle() {
    let roots = [Hierarchy::new("one").root_der(), Hierarchy::new("two").root_der()];
    let seen = inspect(pem_file::certificates_to_pem(&roots).as_bytes(), now()).unwrap();
    assert_eq!((seen.chain.as_deref(), seen.problems.len()), (Some("a trust bundle of 2 roots"), 0));
    assert!(seen.certificates.iter().all(|root| root.self_signed));
}

#[test]
fn a_request_and_its_key_belong_together() {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let seen = inspect(format!("{request}{}", key.serialize_pem()).as_bytes(), now()).unwrap();
    assert_eq!((seen.requests.len(), seen.keys[0].matches, seen.problems.len()), (1, Some(true), 0));
}
