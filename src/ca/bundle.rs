//! What a service is given: a [`Chain`] (leaf, then its issuing CAs) and, with the private key, a
//! [`Bundle`]. [`Bundle::check`] is what stands between an answer and the disk (rule R4).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::pem_file::{self, Content, PemError, PrivateKey};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::profile::{KeyKind, SubjectAltNames, Usages};
use crate::serial::Serial;

/// Why a chain or bundle is not to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The text is not good PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Its blocks are not those of a bundle in this order.
    #[error("{0}; a bundle is the certificate, its issuing CA(s), then the private key")]
    Layout(String),
    /// The certificate has a form that this CA never makes.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The private key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// After its last moment.
    #[error("the certificate expired on {}", .not_after.with_distance(*.now))]
    Expired {
        /// Its last moment.
        not_after: Timestamp,
        /// When it was looked at.
        now: Timestamp,
    },
    /// Before its first moment.
    #[error("the certificate is not valid before {}; is this machine's clock right?", .not_before.with_distance(*.now))]
    NotYetValid {
        /// Its first moment.
        not_before: Timestamp,
        /// When it was looked at.
        now: Timestamp,
    },
    /// It does not chain to a trusted root.
    #[error("the certificate does not chain to a root that is trusted here: {0}")]
    Untrusted(String),
    /// It carries other names.
    #[error("the certificate is for {found}, and {expected} is expected")]
    Names {
        /// What it carries.
        found: String,
        /// What it should carry.
        expected: String,
    },
    /// It may be used for something else.
    #[error("the certificate is for use as {found}, and {expected} is expected")]
    Usages {
        /// What it says.
        found: String,
        /// What it should say.
        expected: Usages,
    },
}

/// What a certificate has to be.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// The names it has to carry.
    pub alt_names: &'a SubjectAltNames,
    /// Whether it may carry no others.
    pub exactly: bool,
    /// What it has to be usable for; `None` where that is not known.
    pub usages: Option<Usages>,
}

/// What is read from a leaf certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its serial number.
    pub serial: Serial,
    /// First moment of validity.
    pub not_before: Timestamp,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// Its names, as text: DNS names, addresses and URIs.
    pub names: BTreeSet<String>,
    /// The kind of its key; `None` for one that this CA does not certify.
    pub key: Option<KeyKind>,
    /// Its public key: `SubjectPublicKeyInfo`, DER.
    pub spki: Vec<u8>,
    /// SHA-256 of the to-be-signed bytes.
    pub tbs_sha256: Digest,
    /// `serverAuth` is among its extended key usages.
    pub server: bool,
    /// `clientAuth` is among its extended key usages.
    pub client: bool,
}

impl Leaf {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`BundleError::Certificate`].
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, BundleError> {
        let bad = |cause: String| BundleError::Certificate(cause);
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| bad(error.to_string()))?;
        let alternatives = certificate.subject_alternative_name().map_err(|error| bad(error.to_string()))?;
        let names = alternatives.iter().flat_map(|san| &san.value.general_names).map(general_name).collect();
        let usage = certificate.extended_key_usage().map_err(|error| bad(error.to_string()))?;
        let validity = certificate.validity();
        Ok(Self {
            serial: Serial::from_octets(certificate.raw_serial()).map_err(|error| bad(error.to_string()))?,
            not_before: Timestamp::from_unix(validity.not_before.timestamp()),
            not_after: Timestamp::from_unix(validity.not_after.timestamp()),
            names,
            key: key_kind(certificate.public_key()),
            spki: certificate.public_key().raw.to_vec(),
            tbs_sha256: Digest::of(certificate.tbs_certificate.as_ref()),
            server: usage.as_ref().is_some_and(|usage| usage.value.server_auth),
            client: usage.as_ref().is_some_and(|usage| usage.value.client_auth),
        })
    }

    fn usages(&self) -> String {
        match (self.server, self.client) {
            (true, true) => Usages::Both.to_string(),
            (true, false) => Usages::Server.to_string(),
            (false, true) => Usages::Client.to_string(),
            (false, false) => "nothing".to_owned(),
        }
    }
}

/// A leaf certificate and the CA certificates between it and a root. A root that is sent along is
/// kept, and never trusted for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    leaf: Leaf,
}

impl Chain {
    /// Takes the leaf and then its issuing CAs.
    ///
    /// # Errors
    /// [`BundleError`] when there is no leaf or it cannot be read.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        let first = certificates.first().ok_or_else(|| BundleError::Layout("there is no certificate".to_owned()))?;
        let leaf = Leaf::read(first)?;
        Ok(Self { certificates, leaf })
    }

    /// Reads PEM text that holds certificates only.
    ///
    /// # Errors
    /// [`BundleError`] says which block is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, BundleError> {
        Self::new(pem_file::certificates(text)?)
    }

    /// What the leaf says.
    #[must_use]
    pub const fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// The leaf and its issuing CAs, in this order.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Checks dates, chain, names and usages, in this order, so that the error names the cause
    /// that a person would name.
    ///
    /// # Errors
    /// The first [`BundleError`].
    pub fn check(
        &self,
        anchors: &[CertificateDer<'_>],
        expected: &Expected<'_>,
        now: Timestamp,
    ) -> Result<(), BundleError> {
        let Leaf { not_before, not_after, .. } = self.leaf;
        if now < not_before {
            return Err(BundleError::NotYetValid { not_before, now });
        }
        if now > not_after {
            return Err(BundleError::Expired { not_after, now });
        }
        self.check_chain(anchors, now)?;
        self.check_names(expected)?;
        match expected.usages {
            Some(usages) if (usages.server(), usages.client()) != (self.leaf.server, self.leaf.client) => {
                Err(BundleError::Usages { found: self.leaf.usages(), expected: usages })
            }
            _ => Ok(()),
        }
    }

    /// Whether the certificate leads to one of `anchors` at that moment, whatever it is for.
    #[must_use]
    pub fn leads_to(&self, anchors: &[CertificateDer<'_>], then: Timestamp) -> bool {
        self.check_chain(anchors, then).is_ok()
    }

    fn check_chain(&self, anchors: &[CertificateDer<'_>], now: Timestamp) -> Result<(), BundleError> {
        let untrusted = |error: webpki::Error| BundleError::Untrusted(webpki_cause(&error));
        let mut trusted = Vec::with_capacity(anchors.len());
        for anchor in anchors {
            // webpki does not look at a root's dates; clients such as OpenSSL do.
            let dates = Leaf::read(anchor)?;
            if dates.not_before <= now && now <= dates.not_after {
                trusted.push(anchor_from_trusted_cert(anchor).map_err(untrusted)?);
            }
        }
        if trusted.is_empty() {
            return Err(BundleError::Untrusted("there is no trusted root that is valid now".to_owned()));
        }
        let Some((leaf, issuers)) = self.certificates.split_first() else {
            return Err(BundleError::Layout("there is no certificate".to_owned()));
        };
        let leaf = EndEntityCert::try_from(leaf).map_err(untrusted)?;
        let seconds = u64::try_from(now.unix()).unwrap_or(0);
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        // The purpose must hold for the issuing CAs too, where they limit it.
        let purpose = if self.leaf.server { KeyUsage::server_auth() } else { KeyUsage::client_auth() };
        leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &trusted, issuers, time, purpose, None, None)
            .map(|_| ())
            .map_err(untrusted)
    }

    fn check_names(&self, expected: &Expected<'_>) -> Result<(), BundleError> {
        let wanted = names_of(expected.alt_names);
        let found = &self.leaf.names;
        if wanted.is_subset(found) && (!expected.exactly || wanted.len() == found.len()) {
            return Ok(());
        }
        let list = |names: &BTreeSet<String>| match names.is_empty() {
            true => "no name".to_owned(),
            false => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        };
        Err(BundleError::Names { found: list(found), expected: list(&wanted) })
    }

    /// The certificates in PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem_file::certificates_to_pem(&self.certificates)
    }
}

/// A chain and the private key of its leaf, which is known to fit.
#[derive(Debug)]
pub struct Bundle {
    chain: Chain,
    key: PrivateKey,
}

impl Bundle {
    /// Joins a chain and the key of its leaf.
    ///
    /// # Errors
    /// [`BundleError::KeyMismatch`].
    pub fn new(chain: Chain, key: PrivateKey) -> Result<Self, BundleError> {
        if chain.leaf.spki != key.spki() {
            return Err(BundleError::KeyMismatch);
        }
        Ok(Self { chain, key })
    }

    /// Reads a combined PEM file: leaf, issuing CAs, then one private key.
    ///
    /// # Errors
    /// [`BundleError`] says which block is wrong, or what is missing.
    pub fn parse(text: &[u8]) -> Result<Self, BundleError> {
        let (mut certificates, mut key) = (Vec::new(), None);
        for block in pem_file::strict_blocks(text)? {
            match block.content {
                Content::Certificate(der) if key.is_none() => certificates.push(der),
                Content::PrivateKey(found) if key.is_none() && !certificates.is_empty() => key = Some(found),
                _ => return Err(BundleError::Layout(format!("{} is not expected there", block.place))),
            }
        }
        let key = key.ok_or_else(|| BundleError::Layout("there is no private key".to_owned()))?;
        Self::new(Chain::new(certificates)?, key)
    }

    /// The certificates.
    #[must_use]
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What the leaf says.
    #[must_use]
    pub const fn leaf(&self) -> &Leaf {
        &self.chain.leaf
    }

    /// The private key.
    #[must_use]
    pub const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Checks everything about the bundle at the moment `now`: that it is within its dates, that
    /// it chains to one of `anchors`, and that it is for what is expected. That the key fits was
    /// checked when the bundle was made.
    ///
    /// # Errors
    /// The first [`BundleError`].
    pub fn check(
        &self,
        anchors: &[CertificateDer<'_>],
        expected: &Expected<'_>,
        now: Timestamp,
    ) -> Result<(), BundleError> {
        self.chain.check(anchors, expected, now)
    }

    /// The combined PEM: leaf, issuing CAs, private key.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let key = self.key.to_pem();
        let chain = self.chain.to_pem();
        let mut text = Zeroizing::new(String::with_capacity(chain.len() + key.len()));
        text.push_str(&chain);
        text.push_str(&key);
        text
    }
}

/// The names as a certificate shows them, for comparison.
#[must_use]
pub fn names_of(names: &SubjectAltNames) -> BTreeSet<String> {
    let dns = names.dns.iter().map(ToString::to_string);
    dns.chain(names.ip.iter().map(ToString::to_string)).chain(names.uri.clone()).collect()
}

/// One subjectAltName for people. What is no DNS name, address, URI or e-mail gets a prefix that
/// none of these has, so it never equals one.
#[must_use]
pub fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => (*name).to_owned(),
        GeneralName::RFC822Name(mail) => format!("email:{mail}"),
        GeneralName::IPAddress(octets) => match (<[u8; 4]>::try_from(*octets), <[u8; 16]>::try_from(*octets)) {
            (Ok(v4), _) => IpAddr::from(v4).to_string(),
            (_, Ok(v6)) => IpAddr::from(v6).to_string(),
            _ => format!("address of {} octets", octets.len()),
        },
        GeneralName::DirectoryName(name) => format!("directory name:{name}"),
        other => format!("other name:{other}"),
    }
}

/// The kind of a public key, when this CA certifies that kind.
#[must_use]
pub fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> Option<KeyKind> {
    match (spki.algorithm.algorithm.to_id_string().as_str(), spki.parsed()) {
        ("1.2.840.10045.2.1", Ok(PublicKey::EC(_))) => {
            let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
            match curve.as_str() {
                "1.2.840.10045.3.1.7" => Some(KeyKind::EcdsaP256),
                "1.3.132.0.34" => Some(KeyKind::EcdsaP384),
                _ => None,
            }
        }
        ("1.3.101.112", _) => Some(KeyKind::Ed25519),
        ("1.2.840.113549.1.1.1", Ok(PublicKey::RSA(_))) => Some(KeyKind::Rsa),
        _ => None,
    }
}

/// What a failed verification means, for people.
fn webpki_cause(error: &webpki::Error) -> String {
    match error {
        webpki::Error::UnknownIssuer => "no trusted root, nor an issuing CA in the chain, signed it".to_owned(),
        webpki::Error::InvalidSignatureForPublicKey => "a signature is wrong".to_owned(),
        webpki::Error::CertExpired { .. } => "an issuing CA in the chain has expired".to_owned(),
        webpki::Error::CertNotValidYet { .. } => "an issuing CA in the chain is not valid yet".to_owned(),
        webpki::Error::CaUsedAsEndEntity => "it is itself a CA's certificate".to_owned(),
        webpki::Error::NameConstraintViolation => "an issuing CA may not issue for this name".to_owned(),
        webpki::Error::PathLenConstraintViolated => "there are more issuing CAs than the root allows".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
