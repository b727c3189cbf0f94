//! Builds the to-be-signed bytes of every certificate. No key is near: what would sign only
//! remembers what it was asked to sign.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SigningKey, SubjectPublicKeyInfo,
};

use super::certificate::CaCertificate;
use super::csr::SubjectKey;
use crate::clock::Timestamp;
use crate::grant::{CertificateKind, Grant};
use crate::ledger::{CertificateRecord, Entry, Event};
use crate::profile::{BACKDATE, KeyKind, MAX_COMMON_NAME, SubjectFields};
use crate::serial::Serial;
use crate::store::Recorded;

/// To-be-signed bytes with the values that went into them. Not linted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tbs {
    pub(super) bytes: Arc<[u8]>,
    pub(super) serial: Serial,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Tbs {
    /// Bytes that were recorded before, with the values of their entry. None where that is no
    /// certificate's.
    #[must_use]
    pub fn of_recorded(recorded: &Recorded) -> Option<Self> {
        let Event::Certificate(record) = Entry::decode(recorded.entry()).ok()?.event else { return None };
        let CertificateRecord { serial, not_before, not_after, .. } = record;
        Some(Self { bytes: recorded.tbs().into(), serial, not_before, not_after })
    }
}

/// Why no certificate was built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TbsError {
    /// The leaf would outlive its issuer (rule R5).
    #[error(
        "the certificate would live until {wanted}, beyond its issuer {issuer}, which ends {end}; \
         replace that CA, or shorten the lifetime"
    )]
    OutlivesIssuer {
        /// The end that the grant asks for.
        wanted: Timestamp,
        /// The issuer's common name.
        issuer: String,
        /// The issuer's end.
        end: Timestamp,
    },
    /// The clock is before the issuer's first moment, so one of the two is wrong.
    #[error("the clock says {now}, and {issuer} begins {beginning}; set this machine's clock")]
    BeforeIssuer {
        /// What the clock says.
        now: Timestamp,
        /// The issuer's common name.
        issuer: String,
        /// The issuer's first moment.
        beginning: Timestamp,
    },
    /// The encoder refused a value.
    #[error("the certificate cannot be encoded: {0}")]
    Encoding(String),
}

impl From<rcgen::Error> for TbsError {
    fn from(error: rcgen::Error) -> Self {
        Self::Encoding(error.to_string())
    }
}

/// What a CA certificate is made from.
#[derive(Clone, Debug)]
pub struct CaProfile {
    /// Root, issuing CA or identity CA.
    pub kind: CertificateKind,
    /// Its common name.
    pub common_name: String,
    /// `cert_opts`.
    pub subject: SubjectFields,
    /// How long it lives.
    pub lifetime: Duration,
}

/// Stands where rcgen wants a key: knows the public half, keeps the message, signs nothing.
struct Unsigned<'a> {
    public_key: &'a [u8],
    algorithm: &'static rcgen::SignatureAlgorithm,
    message: RefCell<Vec<u8>>,
}

impl PublicKeyData for &Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public_key
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for &Unsigned<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        *self.message.borrow_mut() = message.to_vec();
        Ok(Vec::new())
    }
}

/// The algorithm with which a CA key of `kind` signs.
pub(super) fn signature_algorithm(kind: KeyKind) -> Result<&'static rcgen::SignatureAlgorithm, TbsError> {
    match kind {
        KeyKind::EcdsaP256 => Ok(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyKind::EcdsaP384 => Ok(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyKind::Ed25519 | KeyKind::Rsa => Err(TbsError::Encoding(format!("a CA cannot sign with {kind}"))),
    }
}

/// The to-be-signed bytes of a leaf: everything from the grant, only the public key from `key`.
///
/// # Errors
/// [`TbsError::OutlivesIssuer`] rather than a certificate that is silently cut short, and
/// [`TbsError::BeforeIssuer`] rather than one by a clock that cannot be right.
pub fn leaf(
    grant: &Grant,
    subject: &SubjectFields,
    key: &SubjectKey,
    issuer: &CaCertificate,
    serial: Serial,
    now: Timestamp,
) -> Result<Tbs, TbsError> {
    let validity = Validity::within(issuer, now, grant.lifetime().as_duration())?;
    let mut params = params(&serial, validity);
    params.distinguished_name = leaf_subject(subject, grant.name())?;
    params.subject_alt_names = leaf_alt_names(grant)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = match key.kind() {
        // Old clients still move the session key under an RSA key.
        KeyKind::Rsa => vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment],
        _ => vec![KeyUsagePurpose::DigitalSignature],
    };
    if grant.usages().server() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if grant.usages().client() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    let bytes = encode(params, key, Some(issuer))?;
    Ok(Tbs { bytes, serial, not_before: validity.not_before, not_after: validity.not_after })
}

/// The to-be-signed bytes of a CA certificate: self-signed where `issuer` is none.
///
/// # Errors
/// [`TbsError::OutlivesIssuer`] when an issuing CA would outlive its root.
pub fn ca(
    profile: &CaProfile,
    key: &SubjectKey,
    issuer: Option<&CaCertificate>,
    serial: Serial,
    now: Timestamp,
) -> Result<Tbs, TbsError> {
    let validity = match issuer {
        Some(issuer) => Validity::within(issuer, now, profile.lifetime)?,
        None => Validity::from(now, profile.lifetime),
    };
    let mut params = params(&serial, validity);
    params.distinguished_name = ca_subject(&profile.subject, &profile.common_name)?;
    if let Some(email) = &profile.subject.email {
        // RFC 5280, section 4.1.2.6: an address in the subject belongs into the SAN as well.
        params.subject_alt_names = vec![SanType::Rfc822Name(Ia5String::try_from(email.as_str())?)];
    }
    params.is_ca = IsCa::Ca(match profile.kind {
        // Room for a cross-certified successor between a root and its issuing CA.
        CertificateKind::Root => BasicConstraints::Unconstrained,
        _ => BasicConstraints::Constrained(0),
    });
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let bytes = encode(params, key, issuer)?;
    Ok(Tbs { bytes, serial, not_before: validity.not_before, not_after: validity.not_after })
}

/// First and last moment.
#[derive(Clone, Copy)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Validity {
    fn from(now: Timestamp, lifetime: Duration) -> Self {
        Self { not_before: now.minus(BACKDATE), not_after: now.plus(lifetime) }
    }

    /// As [`Validity::from`], if it lies within the issuer's (rule R5).
    pub(super) fn within(issuer: &CaCertificate, now: Timestamp, lifetime: Duration) -> Result<Self, TbsError> {
        let validity = Self::from(now, lifetime);
        let name = || issuer.common_name().to_owned();
        if validity.not_after > issuer.not_after() {
            let (wanted, end) = (validity.not_after, issuer.not_after());
            return Err(TbsError::OutlivesIssuer { wanted, issuer: name(), end });
        }
        if validity.not_before < issuer.not_before() {
            return Err(TbsError::BeforeIssuer { now, issuer: name(), beginning: issuer.not_before() });
        }
        Ok(validity)
    }
}

fn params(serial: &Serial, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial.octets()));
    params.not_before = validity.not_before.to_offset();
    params.not_after = validity.not_after.to_offset();
    params.use_authority_key_identifier_extension = true;
    params
}

/// What rcgen would sign, with `issuer` or else with the key itself.
fn encode(
    mut params: CertificateParams,
    key: &SubjectKey,
    issuer: Option<&CaCertificate>,
) -> Result<Arc<[u8]>, TbsError> {
    let subject = SubjectPublicKeyInfo::from_der(key.spki())?;
    params.key_identifier_method = KeyIdMethod::PreSpecified(key.identifier().to_vec());
    let (public_key, kind) = issuer.map_or_else(|| (subject.der_bytes(), key.kind()), |ca| (ca.public_key(), ca.key()));
    let unsigned = Unsigned { public_key, algorithm: signature_algorithm(kind)?, message: RefCell::default() };
    match issuer {
        Some(issuer) => params.signed_by(&subject, &Issuer::from_ca_cert_der(&issuer.der().into(), &unsigned)?)?,
        None => params.self_signed(&&unsigned)?,
    };
    Ok(unsigned.message.take().into())
}

/// `C, ST, L, O, OU, CN` without the e-mail; empty where the name does not fit a common name.
fn leaf_subject(fields: &SubjectFields, name: &str) -> Result<DistinguishedName, TbsError> {
    let mut subject = DistinguishedName::new();
    if name.len() <= MAX_COMMON_NAME {
        push_fields(&mut subject, fields)?;
        subject.push(DnType::CommonName, name);
    }
    Ok(subject)
}

fn ca_subject(fields: &SubjectFields, common_name: &str) -> Result<DistinguishedName, TbsError> {
    let mut subject = DistinguishedName::new();
    push_fields(&mut subject, fields)?;
    subject.push(DnType::CommonName, common_name);
    if let Some(email) = &fields.email {
        // PKCS#9 emailAddress (RFC 2985, section 5.2.1) is an IA5String.
        let kind = DnType::from_oid(&[1, 2, 840, 113_549, 1, 9, 1]);
        subject.push(kind, DnValue::Ia5String(Ia5String::try_from(email.as_str())?));
    }
    Ok(subject)
}

fn push_fields(subject: &mut DistinguishedName, fields: &SubjectFields) -> Result<(), TbsError> {
    if let Some(country) = &fields.country {
        // X.520: a country is a PrintableString.
        let country = rcgen::string::PrintableString::try_from(country.as_str())?;
        subject.push(DnType::CountryName, DnValue::PrintableString(country));
    }
    for (kind, value) in [
        (DnType::StateOrProvinceName, &fields.state),
        (DnType::LocalityName, &fields.locality),
        (DnType::OrganizationName, &fields.organization),
        (DnType::OrganizationalUnitName, &fields.organizational_unit),
    ] {
        if let Some(value) = value {
            subject.push(kind, value.as_str());
        }
    }
    Ok(())
}

fn leaf_alt_names(grant: &Grant) -> Result<Vec<SanType>, TbsError> {
    let names = grant.alt_names();
    let mut out = Vec::with_capacity(names.dns.len() + names.ip.len() + 1);
    for name in &names.dns {
        out.push(SanType::DnsName(Ia5String::try_from(name.as_str())?));
    }
    out.extend(names.ip.iter().copied().map(SanType::IpAddress));
    if let Some(uri) = &names.uri {
        out.push(SanType::URI(Ia5String::try_from(uri.as_str())?));
    }
    Ok(out)
}
