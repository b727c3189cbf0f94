use proptest::prelude::*;

use super::*;
use crate::ca::fixture::{YEAR, ca, fields, grant, now, serial, terms};
use crate::ca::tbs::{self, TbsError};
use crate::digest::hex;
use crate::grant::ServiceTerms;
use crate::name::DnsName;
use crate::profile::{Lifetime, Usages};
use crate::random::SystemRandom;
use std::time::Duration;

#[test]
fn any_changed_byte_in_what_is_about_to_be_signed_is_caught() {
    let (issuer, grant) = (ca(KeyKind::EcdsaP256, YEAR), grant("postgresql.psf.io", &terms()));
    let (key, _) = SubjectKey::generate(KeyKind::EcdsaP256).unwrap();
    let tbs = tbs::leaf(&grant, &fields(), &key, &issuer, serial(), now()).unwrap();
    assert!(leaf(tbs.clone(), &grant, &fields(), &key, &issuer).is_ok());
    let unnoticed = (0..tbs.bytes.len()).filter(|&at| {
        let mut bytes = tbs.bytes.to_vec();
        bytes[at] ^= 1;
        leaf(Tbs { bytes: bytes.into(), ..tbs.clone() }, &grant, &fields(), &key, &issuer).is_ok()
    });
    let places: Vec<String> = unnoticed
        .map(|at| format!("{at}: {}", hex(&tbs.bytes[at.saturating_sub(4)..(at + 8).min(tbs.bytes.len())])))
        .collect();
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn a_certificate_for_another_grant_key_or_issuer_is_caught() {
    let issuer = ca(KeyKind::EcdsaP384, YEAR);
    let (key, _) = SubjectKey::generate(KeyKind::Ed25519).unwrap();
    let granted = grant("postgresql.psf.io", &terms());
    let tbs = tbs::leaf(&granted, &fields(), &key, &issuer, serial(), now()).unwrap();
    let part = |outcome: Result<Linted, LintError>| outcome.unwrap_err().part;

    let (other_key, _) = SubjectKey::generate(KeyKind::Ed25519).unwrap();
    assert_eq!(part(leaf(tbs.clone(), &granted, &fields(), &other_key, &issuer)), "public key");
    let other_issuer = CaCertificate::from_der(ca(KeyKind::EcdsaP384, YEAR).der()).unwrap();
    assert_eq!(part(leaf(tbs.clone(), &granted, &fields(), &key, &other_issuer)), "authority key identifier");
    let server_only = grant("postgresql.psf.io", &ServiceTerms { usages: Usages::Server, ..terms() });
    assert_eq!(part(leaf(tbs.clone(), &server_only, &fields(), &key, &issuer)), "extended key usage");
    let fewer = grant("postgresql.psf.io", &ServiceTerms { aliases: Vec::new(), ..terms() });
    assert_eq!(part(leaf(tbs.clone(), &fewer, &fields(), &key, &issuer)), "subject alternative names");
    let other_name = grant("other.psf.io", &terms());
    assert_eq!(part(leaf(tbs, &other_name, &fields(), &key, &issuer)), "subject");
}

#[test]
fn a_leaf_never_outlives_its_issuer_and_is_never_cut_short() {
    let issuer = ca(KeyKind::EcdsaP256, Duration::from_secs(86_400));
    let (key, _) = SubjectKey::generate(KeyKind::EcdsaP256).unwrap();
    let day = grant("postgresql.psf.io", &terms());
    assert!(tbs::leaf(&day, &fields(), &key, &issuer, serial(), now()).is_ok());
    let later = now().plus(Duration::from_secs(1));
    let refused = tbs::leaf(&day, &fields(), &key, &issuer, serial(), later);
    assert!(matches!(refused, Err(TbsError::OutlivesIssuer { .. })));
}

#[test]
fn nothing_is_issued_by_a_clock_from_before_the_issuer() {
    let issuer = ca(KeyKind::EcdsaP256, YEAR);
    let (key, _) = SubjectKey::generate(KeyKind::EcdsaP256).unwrap();
    let early = now().minus(Duration::from_secs(60));
    let refused = tbs::leaf(&grant("postgresql.psf.io", &terms()), &fields(), &key, &issuer, serial(), early);
    assert!(matches!(refused, Err(TbsError::BeforeIssuer { .. })));
}

#[test]
fn a_name_too_long_for_a_common_name_gets_an_empty_subject_and_a_critical_san() {
    let issuer = ca(KeyKind::EcdsaP256, YEAR);
    let (key, _) = SubjectKey::generate(KeyKind::EcdsaP256).unwrap();
    let name = format!("{}.psf.io", "a".repeat(58));
    let granted = grant(&name, &ServiceTerms { aliases: Vec::new(), ..terms() });
    let tbs = tbs::leaf(&granted, &fields(), &key, &issuer, serial(), now()).unwrap();
    let linted = leaf(tbs, &granted, &fields(), &key, &issuer).unwrap();
    let (_, read) = TbsCertificate::from_der(linted.bytes()).unwrap();
    assert_eq!(read.subject().iter_attributes().count(), 0);
    assert!(read.extensions().iter().any(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME && e.critical));
}

fn any_terms() -> impl Strategy<Value = ServiceTerms> {
    let name = "[a-z][a-z0-9]{0,8}(\\.[a-z][a-z0-9]{0,8}){0,3}".prop_map(|name| DnsName::parse(&name).unwrap());
    let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
    let usages = prop_oneof![Just(Usages::Server), Just(Usages::Client), Just(Usages::Both)];
    let key = prop_oneof![Just(KeyKind::EcdsaP256), Just(KeyKind::EcdsaP384), Just(KeyKind::Ed25519)];
    let aliases = proptest::collection::vec(name, 0..5);
    (aliases, proptest::collection::vec(ip, 0..4), usages, 7_200u64..7_776_000, key).prop_map(
        |(aliases, ip, usages, seconds, key)| ServiceTerms {
            aliases,
            ip,
            usages,
            lifetime: Lifetime::new(Duration::from_secs(seconds)).unwrap(),
            key,
            ca_made_key: true,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_granted_is_what_another_parser_reads(terms in any_terms(), seconds in 0i64..4_000_000_000) {
        let issuer = ca(KeyKind::EcdsaP256, Duration::from_secs(200 * 365 * 86_400));
        let now = Timestamp::from_unix(now().unix() + seconds);
        let granted = grant("postgresql.psf.io", &terms);
        let (key, _) = SubjectKey::generate(terms.key).unwrap();
        let serial = Serial::generate(now, &SystemRandom).unwrap();
        let tbs = tbs::leaf(&granted, &fields(), &key, &issuer, serial, now).unwrap();
        prop_assert!(leaf(tbs, &granted, &fields(), &key, &issuer).is_ok());
    }
}
