//! Reads the to-be-signed bytes back with a parser that did not write them, and compares every
//! part with what was granted. A certificate that carries anything else is never recorded.

use std::net::IpAddr;
use std::sync::Arc;

use x509_parser::certificate::TbsCertificate;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::oid_registry::{
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_SUBJECT_ALT_NAME, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, Oid,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Version;

use super::certificate::CaCertificate;
use super::csr::SubjectKey;
use super::tbs::{CaProfile, Tbs};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::grant::{CertificateKind, Grant};
use crate::profile::{KeyKind, MAX_COMMON_NAME};
use crate::serial::Serial;

/// What the bytes say that they must not. A bug in this program, never the caller's mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate about to be signed is wrong in its {part}; nothing was issued; please report this")]
pub struct LintError {
    /// Which part.
    pub part: &'static str,
}

/// To-be-signed bytes that passed. Only this module makes them, and only they can be signed.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linted(Tbs);

impl Linted {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.0.bytes
    }

    /// Their hash.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        Digest::of(&self.0.bytes)
    }

    /// The serial number in them.
    #[must_use]
    pub const fn serial(&self) -> &Serial {
        &self.0.serial
    }

    /// The first moment of validity in them.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// The last moment of validity in them.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.0.not_after
    }
}

type Verdict = Result<(), LintError>;

fn require(holds: bool, part: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(LintError { part }) }
}

/// Compares a leaf with its grant, its key and its issuer.
///
/// # Errors
/// The first part that differs.
pub fn leaf(tbs: Tbs, grant: &Grant, key: &SubjectKey, issuer: &CaCertificate) -> Result<Linted, LintError> {
    let certificate = parse(&tbs)?;
    check_frame(&certificate, &tbs, key, issuer.subject(), issuer.key())?;
    require(tbs.not_after <= issuer.not_after(), "end: it outlives its issuer")?;
    let short = grant.name().len() <= MAX_COMMON_NAME;
    let common_names: Vec<_> = certificate.subject().iter_common_name().map(|cn| cn.as_str().ok()).collect();
    let expected: &[_] = if short { &[Some(grant.name())] } else { &[] };
    require(common_names == expected, "common name")?;
    require(short || certificate.subject().iter().count() == 0, "subject")?;
    require(certificate.subject().iter_email().next().is_none(), "subject: a leaf has no e-mail")?;
    let extensions = [
        (OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, false),
        (OID_X509_EXT_SUBJECT_ALT_NAME, !short),
        (OID_X509_EXT_KEY_USAGE, true),
        (OID_X509_EXT_EXTENDED_KEY_USAGE, false),
        (OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, false),
        (OID_X509_EXT_BASIC_CONSTRAINTS, true),
    ];
    only(&certificate, &extensions)?;
    for extension in certificate.extensions() {
        check_leaf_extension(extension, grant, key, issuer)?;
    }
    Ok(Linted(tbs))
}

/// Compares a CA certificate with its profile, its key and its issuer (none: self-signed).
///
/// # Errors
/// The first part that differs.
pub fn ca(
    tbs: Tbs,
    profile: &CaProfile,
    key: &SubjectKey,
    issuer: Option<&CaCertificate>,
) -> Result<Linted, LintError> {
    let certificate = parse(&tbs)?;
    let (issuer_name, issuer_key) =
        issuer.map_or_else(|| (certificate.subject().as_raw(), key.kind()), |ca| (ca.subject(), ca.key()));
    check_frame(&certificate, &tbs, key, issuer_name, issuer_key)?;
    require(issuer.is_none_or(|issuer| tbs.not_after <= issuer.not_after()), "end: it outlives its issuer")?;
    let common_names: Vec<_> = certificate.subject().iter_common_name().map(|cn| cn.as_str().ok()).collect();
    require(common_names == [Some(profile.common_name.as_str())], "common name")?;
    let mut expected = vec![
        (OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, false),
        (OID_X509_EXT_KEY_USAGE, true),
        (OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, false),
        (OID_X509_EXT_BASIC_CONSTRAINTS, true),
    ];
    if profile.subject.email.is_some() {
        expected.push((OID_X509_EXT_SUBJECT_ALT_NAME, false));
    }
    only(&certificate, &expected)?;
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => {
                let path = if profile.kind == CertificateKind::Root { None } else { Some(0) };
                require(constraints.ca && constraints.path_len_constraint == path, "basic constraints")?;
            }
            ParsedExtension::KeyUsage(usage) => require(usage.flags == KEY_CERT_SIGN | CRL_SIGN, "key usage")?,
            ParsedExtension::SubjectAlternativeName(names) => {
                let email = profile.subject.email.as_deref();
                let good = matches!(&names.general_names[..], [GeneralName::RFC822Name(name)] if Some(*name) == email);
                require(good, "subject alternative names")?;
            }
            other => check_key_identifiers(other, issuer)?,
        }
    }
    Ok(Linted(tbs))
}

/// Bits of keyUsage as x509-parser counts them (RFC 5280, section 4.2.1.3).
const DIGITAL_SIGNATURE: u16 = 1;
const KEY_ENCIPHERMENT: u16 = 1 << 2;
const KEY_CERT_SIGN: u16 = 1 << 5;
const CRL_SIGN: u16 = 1 << 6;

fn parse(tbs: &Tbs) -> Result<TbsCertificate<'_>, LintError> {
    match TbsCertificate::from_der(&tbs.bytes) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(LintError { part: "encoding" }),
    }
}

/// What every certificate has: version, serial, algorithm, issuer, dates, key.
fn check_frame(
    certificate: &TbsCertificate<'_>,
    tbs: &Tbs,
    key: &SubjectKey,
    issuer: &[u8],
    issuer_key: KeyKind,
) -> Verdict {
    require(certificate.version == X509Version::V3, "version")?;
    let serial = certificate.raw_serial();
    let positive = serial.first().is_some_and(|top| top & 0x80 == 0);
    require(positive && serial.len() <= 20, "serial number: it is not positive or too long")?;
    require(Serial::from_octets(serial).as_ref() == Ok(&tbs.serial), "serial number")?;
    let algorithm = match issuer_key {
        KeyKind::EcdsaP256 => OID_SIG_ECDSA_WITH_SHA256,
        _ => OID_SIG_ECDSA_WITH_SHA384,
    };
    require(certificate.signature.algorithm == algorithm, "signature algorithm")?;
    require(certificate.issuer().as_raw() == issuer, "issuer")?;
    let validity = certificate.validity();
    require(validity.not_before.timestamp() == tbs.not_before.unix(), "beginning")?;
    require(validity.not_after.timestamp() == tbs.not_after.unix(), "end")?;
    require(certificate.subject_pki.raw == key.spki(), "public key")?;
    require(certificate.issuer_uid.is_none() && certificate.subject_uid.is_none(), "unique identifiers")
}

fn check_leaf_extension(
    extension: &X509Extension<'_>,
    grant: &Grant,
    key: &SubjectKey,
    issuer: &CaCertificate,
) -> Verdict {
    match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => {
            require(alt_names_match(&names.general_names, grant), "subject alternative names")
        }
        ParsedExtension::KeyUsage(usage) => {
            let rsa = key.kind() == KeyKind::Rsa;
            require(usage.flags == DIGITAL_SIGNATURE | if rsa { KEY_ENCIPHERMENT } else { 0 }, "key usage")
        }
        ParsedExtension::ExtendedKeyUsage(usage) => {
            let wanted = grant.usages();
            let others = usage.any
                || usage.code_signing
                || usage.email_protection
                || usage.time_stamping
                || usage.ocsp_signing
                || !usage.other.is_empty();
            let good = usage.server_auth == wanted.server() && usage.client_auth == wanted.client() && !others;
            require(good, "extended key usage")
        }
        ParsedExtension::BasicConstraints(constraints) => {
            require(!constraints.ca && constraints.path_len_constraint.is_none(), "basic constraints")
        }
        other => check_key_identifiers(other, Some(issuer)),
    }
}

/// Subject and authority key identifiers; anything else has no business here.
fn check_key_identifiers(extension: &ParsedExtension<'_>, issuer: Option<&CaCertificate>) -> Verdict {
    match extension {
        ParsedExtension::SubjectKeyIdentifier(id) => require(!id.0.is_empty(), "subject key identifier"),
        ParsedExtension::AuthorityKeyIdentifier(id) => {
            let named = id.key_identifier.as_ref().map(|id| id.0);
            // A self-signed certificate names its own key, whose identifier is being made here.
            let good = issuer.map_or_else(|| named.is_some(), |ca| named == Some(ca.subject_key_id()));
            require(good && id.authority_cert_serial.is_none(), "authority key identifier")
        }
        _ => Err(LintError { part: "extensions: one cannot be read" }),
    }
}

fn alt_names_match(found: &[GeneralName<'_>], grant: &Grant) -> bool {
    let wanted = grant.alt_names();
    let dns = wanted.dns.iter().map(|name| AltName::Dns(name.as_str()));
    let ip = wanted.ip.iter().copied().map(AltName::Ip);
    let uri = wanted.uri.iter().map(|uri| AltName::Uri(uri));
    found.iter().map(AltName::of).eq(dns.chain(ip).chain(uri).map(Some))
}

#[derive(PartialEq, Eq)]
enum AltName<'a> {
    Dns(&'a str),
    Ip(IpAddr),
    Uri(&'a str),
}

impl<'a> AltName<'a> {
    fn of(name: &GeneralName<'a>) -> Option<Self> {
        match name {
            GeneralName::DNSName(name) => Some(Self::Dns(name)),
            GeneralName::URI(uri) => Some(Self::Uri(uri)),
            GeneralName::IPAddress(octets) => match octets.len() {
                4 => <[u8; 4]>::try_from(*octets).ok().map(|ip| Self::Ip(ip.into())),
                _ => <[u8; 16]>::try_from(*octets).ok().map(|ip| Self::Ip(ip.into())),
            },
            _ => None,
        }
    }
}

/// The extensions are exactly the wanted ones, each with its criticality.
fn only(certificate: &TbsCertificate<'_>, wanted: &[(Oid<'static>, bool)]) -> Verdict {
    let found = certificate.extensions();
    let each_once = wanted.iter().all(|(oid, critical)| {
        let mut same = found.iter().filter(|extension| extension.oid == *oid);
        same.next().is_some_and(|extension| extension.critical == *critical) && same.next().is_none()
    });
    require(each_once && found.len() == wanted.len(), "set of extensions")
}
