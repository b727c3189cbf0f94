//! For tests: a root, an issuing CA and leaves, made by rcgen with everything chosen by the test; and grants.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;

use super::bundle::{Bundle, Chain};
use super::certificate::CaCertificate;
use super::pem_file::PrivateKey;
use super::signer::CaKey;
use super::tbs::CaProfile;
use super::{lint, signer, tbs};
use crate::clock::{Clock, Timestamp};
use crate::digest::Digest;
use crate::grant::{CertificateKind, Grant, Place, Rule, ServiceTerms};
use crate::name::{DnsName, HostName, RoleName};
use crate::profile::{KeyKind, Lifetime, SubjectAltNames, SubjectFields, Usages};
use crate::random::SystemRandom;
use crate::serial::Serial;

/// When every test takes place.
pub(crate) const NOW: &str = "2026-11-21T09:00:00Z";

pub(crate) fn now() -> Timestamp {
    Timestamp::parse(NOW).unwrap()
}

pub(crate) struct Fixed(pub(crate) Timestamp);
impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn dns(names: &[&str]) -> SubjectAltNames {
    SubjectAltNames { dns: names.iter().map(|n| n.parse().unwrap()).collect(), ..SubjectAltNames::default() }
}

/// A root and an issuing CA.
pub(crate) struct Hierarchy {
    pub(crate) root: CertifiedIssuer<'static, KeyPair>,
    pub(crate) issuing: CertifiedIssuer<'static, KeyPair>,
}

pub(crate) struct LeafSpec<'a> {
    pub(crate) names: &'a SubjectAltNames,
    pub(crate) usages: Usages,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl<'a> LeafSpec<'a> {
    /// A server certificate, made an hour ago, for a day.
    pub(crate) fn server(names: &'a SubjectAltNames) -> Self {
        let (not_before, not_after) = (now().minus(crate::profile::BACKDATE), now().plus(DAY));
        Self { names, usages: Usages::Server, not_before, not_after }
    }
}

impl Hierarchy {
    pub(crate) fn new(name: &str) -> Self {
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(ca_params(name, 1), key()).unwrap();
        let issuing = CertifiedIssuer::signed_by(ca_params(&format!("{name} issuing"), 0), key(), &root).unwrap();
        Self { root, issuing }
    }

    pub(crate) fn root_der(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    /// Leaf and issuing CA for an existing public key.
    pub(crate) fn sign(&self, spec: &LeafSpec<'_>, key: &impl rcgen::PublicKeyData) -> Chain {
        let leaf = params(spec).signed_by(key, &self.issuing).unwrap();
        Chain::new(vec![leaf.der().clone(), self.issuing.der().clone()]).unwrap()
    }

    /// Leaf and root, as for an identity.
    pub(crate) fn sign_by_root(&self, spec: &LeafSpec<'_>, key: &impl rcgen::PublicKeyData) -> Chain {
        let leaf = params(spec).signed_by(key, &self.root).unwrap();
        Chain::new(vec![leaf.der().clone(), self.root.der().clone()]).unwrap()
    }

    pub(crate) fn bundle(&self, spec: &LeafSpec<'_>) -> Bundle {
        let key = KeyPair::generate().unwrap();
        Bundle::new(self.sign(spec, &key), PrivateKey::from_pkcs8(key.serialize_der()).unwrap()).unwrap()
    }
}

fn ca_params(name: &str, path: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now().minus(DAY).to_offset();
    params.not_after = now().plus(DAY * 3_650).to_offset();
    params
}

fn params(spec: &LeafSpec<'_>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let names = spec.names;
    let dns = names.dns.iter().map(|n| SanType::DnsName(n.as_str().try_into().unwrap()));
    let ip = names.ip.iter().map(|&ip| SanType::IpAddress(ip));
    let uri = names.uri.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap()));
    params.subject_alt_names = dns.chain(ip).chain(uri).collect();
    if spec.usages.server() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if spec.usages.client() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from(0x0123_4567_89ab_u64));
    params.not_before = spec.not_before.to_offset();
    params.not_after = spec.not_after.to_offset();
    params
}

pub(crate) const YEAR: Duration = Duration::from_secs(365 * 86_400);

pub(crate) fn fields() -> SubjectFields {
    SubjectFields {
        country: Some("US".to_owned()),
        state: Some("NH".to_owned()),
        locality: Some("Wolfeboro".to_owned()),
        organization: Some("Python Software Foundation".to_owned()),
        organizational_unit: Some("Infrastructure Team".to_owned()),
        email: Some("infrastructure-staff@python.org".to_owned()),
    }
}

pub(crate) fn serial() -> Serial {
    Serial::generate(now(), &SystemRandom).unwrap()
}

/// A CA certificate whose signature nobody looks at here.
pub(crate) fn ca(kind: KeyKind, lifetime: Duration) -> CaCertificate {
    let profile =
        CaProfile { kind: CertificateKind::Root, common_name: "PSF_CA".to_owned(), subject: fields(), lifetime };
    let key = CaKey::generate(kind).unwrap().subject_key();
    let linted = lint::ca(tbs::ca(&profile, &key, None, serial(), now()).unwrap(), &profile, &key, None).unwrap();
    CaCertificate::from_der(&signer::assemble(linted.bytes(), &[0; 64], kind)).unwrap()
}

pub(crate) fn grant(name: &str, terms: &ServiceTerms) -> Grant {
    let place = Place { file: "tls.yaml".into(), line: 1 };
    let rule = Rule::Declaration {
        declaration: Digest::of(b""),
        listed: place.clone(),
        role: RoleName::parse("postgresql").unwrap(),
        defined: place,
        pattern: "pg*".into(),
    };
    Grant::service(&HostName::parse("pg0.iad1.psf.io").unwrap(), &DnsName::parse(name).unwrap(), terms, rule)
}

pub(crate) fn terms() -> ServiceTerms {
    ServiceTerms {
        aliases: vec![DnsName::parse("pg.psf.io").unwrap()],
        ip: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        usages: Usages::Both,
        lifetime: Lifetime::new(Duration::from_secs(86_400)).unwrap(),
        key: KeyKind::EcdsaP256,
        ca_made_key: false,
    }
}
