//! Certificates that the CA would never issue, signed by its own key as a thief would, or by others.

use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;
use yasna::Tag;

use super::{Ca, Host};

/// A general name (RFC 5280, section 4.2.1.6) with any bytes: `Name(6, b"spiffe://…")`.
#[derive(Clone)]
pub struct Name(pub u64, pub Vec<u8>);

impl Name {
    pub fn uri(text: &str) -> Self {
        Self(6, text.into())
    }

    pub fn dns(text: &str) -> Self {
        Self(2, text.into())
    }
}

/// The extension subjectAltName with exactly these names.
pub fn alt_names(names: &[Name]) -> CustomExtension {
    let content = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for Name(tag, bytes) in names {
                writer.next().write_tagged_implicit(Tag::context(*tag), |writer| writer.write_bytes(bytes));
            }
        });
    });
    CustomExtension::from_oid_content(&[2, 5, 29, 17], content)
}

/// A certificate as the identity CA would issue it, but for its names.
pub fn identity(names: &[Name]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::days(30);
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&now.unix_timestamp_nanos().to_be_bytes()[8..]));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "pg0.iad1.psf.io");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    if !names.is_empty() {
        params.custom_extensions.push(alt_names(names));
    }
    params
}

/// A certificate with its key, which can sign others.
pub struct Forger {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Forger {
    /// Whoever has stolen the key of the identity CA.
    pub fn identity_ca(ca: &Ca) -> Self {
        let read = |name: &str| std::fs::read_to_string(ca.state().join("ca").join(name)).unwrap();
        Self::new(read("identity.pem"), KeyPair::from_pem(&read("identity.key")).unwrap())
    }

    /// A CA of the same name with another key.
    pub fn namesake(ca: &Ca) -> Self {
        let certificate = std::fs::read_to_string(ca.state().join("ca/identity.pem")).unwrap();
        Self::new(certificate, KeyPair::generate().unwrap())
    }

    /// A host that takes its own certificate in `pem`, with its key, for a CA's.
    pub fn of_bundle(pem: &Path) -> Self {
        let text = std::fs::read_to_string(pem).unwrap();
        let (chain, key) = text.split_at(text.find("-----BEGIN PRIVATE KEY-----").unwrap());
        Self::new(chain.to_owned(), KeyPair::from_pem(key).unwrap())
    }

    fn new(certificate: String, key: KeyPair) -> Self {
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).unwrap();
        Self { certificate, issuer }
    }

    /// Signs `params` for a new key; the file is for curl: certificate, its chain, key.
    pub fn sign(&self, host: &Host, params: &CertificateParams) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let file = host.dir().join("forged.pem");
        std::fs::write(&file, self.signed(params, &key) + &key.serialize_pem()).unwrap();
        file
    }

    /// A CA below this one.
    pub fn below(&self, params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let chain = self.signed(params, &key);
        Self::new(chain, key)
    }

    fn signed(&self, params: &CertificateParams, key: &KeyPair) -> String {
        params.signed_by(key, &self.issuer).unwrap().pem() + &self.certificate
    }
}
