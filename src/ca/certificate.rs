//! A CA's own certificate, read once and checked for what the rest relies on.

use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::profile::KeyKind;

/// A CA certificate: self-signed or issued, with a key of a kind that can sign here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaCertificate {
    der: Vec<u8>,
    pem: String,
    subject: Vec<u8>,
    common_name: String,
    subject_key_id: Vec<u8>,
    public_key: Vec<u8>,
    spki: Vec<u8>,
    key: KeyKind,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why a certificate cannot be a CA here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaCertificateError {
    /// Not a certificate at all.
    #[error("this is no X.509 certificate: {0}")]
    Malformed(String),
    /// A certificate of something else.
    #[error("{0} is not a CA certificate (basicConstraints, keyCertSign and a subject key identifier are needed)")]
    NotACa(String),
    /// A key that cannot sign here.
    #[error("{0} has a key that this psfca cannot sign with (ECDSA P-256 and P-384 can)")]
    Key(String),
}

impl CaCertificate {
    /// Reads DER.
    ///
    /// # Errors
    /// [`CaCertificateError`].
    pub fn from_der(der: &[u8]) -> Result<Self, CaCertificateError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| CaCertificateError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CaCertificateError::Malformed(format!("{} bytes follow it", rest.len())));
        }
        let common_name = common_name(&certificate);
        let not_a_ca = || CaCertificateError::NotACa(common_name.clone());
        let subject_key_id = certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            })
            .ok_or_else(not_a_ca)?;
        let signs = certificate.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign());
        if !certificate.is_ca() || !signs {
            return Err(not_a_ca());
        }
        let key = super::csr::key_kind(certificate.public_key()).filter(|kind| *kind != KeyKind::Ed25519);
        Ok(Self {
            subject: certificate.subject().as_raw().to_vec(),
            subject_key_id,
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            spki: certificate.public_key().raw.to_vec(),
            key: key.ok_or_else(|| CaCertificateError::Key(common_name.clone()))?,
            not_before: Timestamp::from_unix(certificate.validity().not_before.timestamp()),
            not_after: Timestamp::from_unix(certificate.validity().not_after.timestamp()),
            der: der.to_vec(),
            pem: certificate_pem(der),
            common_name,
        })
    }

    /// The certificate itself.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the certificate: its fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// The subject's DER, which is the issuer of everything that this CA signs.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The subject's common name.
    #[must_use]
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// The subject key identifier, which is the authority key identifier of what it signs.
    #[must_use]
    pub fn subject_key_id(&self) -> &[u8] {
        &self.subject_key_id
    }

    /// The public key's bits, without the algorithm.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The public key with its algorithm (SubjectPublicKeyInfo, DER).
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Whether `signature` over the to-be-signed bytes `tbs` is by this CA's key.
    #[must_use]
    pub fn has_signed(&self, tbs: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn ring::signature::VerificationAlgorithm = match self.key {
            KeyKind::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
            _ => &ECDSA_P384_SHA384_ASN1,
        };
        UnparsedPublicKey::new(algorithm, &self.public_key).verify(tbs, signature).is_ok()
    }

    /// The kind of its key.
    #[must_use]
    pub const fn key(&self) -> KeyKind {
        self.key
    }

    /// Its first moment.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Its last moment.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

/// PEM armour around a certificate (RFC 7468), with plain line feeds.
#[must_use]
pub fn certificate_pem(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config)
}

fn common_name(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.map_or_else(|| "a certificate without a common name".to_owned(), ToOwned::to_owned)
}
