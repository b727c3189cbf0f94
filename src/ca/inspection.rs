//! What is in a PEM file and what is wrong with it, for `psfca inspect`. It judges the file alone:
//! nothing is trusted, and a fault in one block does not hide the others.

use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{BasicConstraints, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::bundle::{general_name, key_kind};
use super::pem_file::{self, Content, PemError, Place};
use crate::clock::Timestamp;
use crate::digest::{Digest, hex};
use crate::profile::KeyKind;

/// Everything about one file. Text from certificates is as it stands there: print it only through
/// something that neutralises control characters.
#[derive(Debug, Default, Serialize)]
pub struct Inspection {
    /// The certificates, in file order.
    pub certificates: Vec<CertificateView>,
    /// The requests, in file order.
    pub requests: Vec<RequestView>,
    /// The private keys, without anything secret.
    pub keys: Vec<KeyView>,
    /// Blocks that were not looked into.
    pub others: Vec<String>,
    /// How the certificates hang together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// What is broken; empty for a good file.
    pub problems: Vec<String>,
}

/// One certificate.
#[derive(Debug, Serialize)]
pub struct CertificateView {
    /// The line of its BEGIN.
    pub line: usize,
    /// The subject.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// The serial number, hexadecimal.
    pub serial: String,
    /// Its subjectAltNames.
    pub names: Vec<String>,
    /// Key usages and extended key usages.
    pub usages: Vec<String>,
    /// The kind and size of its key.
    pub key: String,
    /// First moment of validity.
    pub not_before: Timestamp,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// Whether it is a CA's.
    pub ca: bool,
    /// How many CAs may follow below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_length: Option<u32>,
    /// Subject and issuer are the same and its own key signed it.
    pub self_signed: bool,
    /// The algorithm of its signature.
    pub signature: String,
    /// SHA-256 of its DER.
    pub sha256: Digest,
    /// Subject key identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_key: Option<String>,
    /// Authority key identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority_key: Option<String>,
}

/// One request.
#[derive(Debug, Serialize)]
pub struct RequestView {
    /// The line of its BEGIN.
    pub line: usize,
    /// The subject it asks for.
    pub subject: String,
    /// The kind and size of its key.
    pub key: String,
}

/// One private key.
#[derive(Debug, Serialize)]
pub struct KeyView {
    /// The line of its BEGIN.
    pub line: usize,
    /// Its kind and size; none when it is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// SHA-256 of its public half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_sha256: Option<Digest>,
    /// Whether it belongs to the first certificate, or where there is none to the first request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<bool>,
}

/// Looks at a file at the moment `now`.
///
/// # Errors
/// [`PemError`] when it is no PEM file at all.
pub fn inspect(text: &[u8], now: Timestamp) -> Result<Inspection, PemError> {
    let mut seen = Inspection::default();
    let mut certificates = Vec::new();
    let (mut first_certificate, mut first_request) = (None, None);
    let mut keys = Vec::new();
    for block in pem_file::blocks(text)? {
        let block = match block {
            Ok(block) => block,
            Err(error) => {
                seen.problems.push(error.to_string());
                continue;
            }
        };
        match block.content {
            Content::Certificate(der) => certificates.push((block.place, der)),
            Content::Request(der) => {
                let spki = request(&mut seen, &block.place, &der);
                first_request = first_request.or(spki);
            }
            Content::PrivateKey(key) => keys.push((block.place, Some(key.spki().to_vec()))),
            Content::EncryptedKey => keys.push((block.place, None)),
            Content::Other => seen.others.push(block.place.to_string()),
        }
    }
    let mut parsed = Vec::new();
    for (place, der) in &certificates {
        match X509Certificate::from_der(der) {
            Ok((_, certificate)) => {
                first_certificate = first_certificate.or(Some(certificate.public_key().raw.to_vec()));
                let view = certificate_view(&mut seen.problems, place, der, &certificate, now);
                seen.certificates.push(view);
                parsed.push(certificate);
            }
            Err(error) => seen.problems.push(format!("{place} cannot be read: {error}")),
        }
    }
    chain(&mut seen, &parsed);
    let owner = match (&first_certificate, &first_request) {
        (Some(spki), _) => Some((spki, "certificate")),
        (None, Some(spki)) => Some((spki, "request")),
        (None, None) => None,
    };
    for (place, spki) in keys {
        key(&mut seen, &place, spki.as_deref(), owner);
    }
    Ok(seen)
}

fn request(seen: &mut Inspection, place: &Place, der: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509CertificationRequest::from_der(der).ok()?;
    if parsed.verify_signature().is_err() {
        seen.problems.push(format!("{place} is not signed by its own key"));
    }
    let info = &parsed.certification_request_info;
    let view =
        RequestView { line: place.line, subject: info.subject.to_string(), key: describe_key(&info.subject_pki) };
    seen.requests.push(view);
    Some(info.subject_pki.raw.to_vec())
}

fn key(seen: &mut Inspection, place: &Place, spki: Option<&[u8]>, owner: Option<(&Vec<u8>, &str)>) {
    let matches = spki.zip(owner).map(|(spki, (owner, _))| spki == owner.as_slice());
    if let (Some(false), Some((_, what))) = (matches, owner) {
        seen.problems.push(format!("{place} does not belong to the first {what} in the file"));
    }
    let described =
        spki.and_then(|spki| SubjectPublicKeyInfo::from_der(spki).ok()).map(|(_, spki)| describe_key(&spki));
    seen.keys.push(KeyView { line: place.line, key: described, public_sha256: spki.map(Digest::of), matches });
}

fn certificate_view(
    problems: &mut Vec<String>,
    place: &Place,
    der: &CertificateDer<'_>,
    certificate: &X509Certificate<'_>,
    now: Timestamp,
) -> CertificateView {
    let validity = certificate.validity();
    let not_before = Timestamp::from_unix(validity.not_before.timestamp());
    let not_after = Timestamp::from_unix(validity.not_after.timestamp());
    if now > not_after {
        problems.push(format!("{place} expired on {}", not_after.with_distance(now)));
    }
    if now < not_before {
        problems.push(format!("{place} is not valid before {}", not_before.with_distance(now)));
    }
    let own_names = certificate.subject().as_raw() == certificate.issuer().as_raw();
    let self_signed = own_names && certificate.verify_signature(None).is_ok();
    if own_names && !self_signed {
        problems.push(format!("{place} names itself as its issuer, and its own key did not make its signature"));
    }
    let constraints: Option<&BasicConstraints> =
        certificate.basic_constraints().ok().flatten().map(|found| found.value);
    let mut identifiers = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => identifiers.0 = Some(hex(id.0)),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                identifiers.1 = id.key_identifier.as_ref().map(|id| hex(id.0));
            }
            ParsedExtension::ParseError { .. } => {
                problems.push(format!("{place} has an extension that cannot be read ({})", extension.oid));
            }
            _ => {}
        }
    }
    let names = certificate.subject_alternative_name().ok().flatten();
    CertificateView {
        line: place.line,
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial: serial(problems, place, certificate.raw_serial()),
        names: names.iter().flat_map(|names| &names.value.general_names).map(general_name).collect(),
        usages: usages(certificate),
        key: describe_key(certificate.public_key()),
        not_before,
        not_after,
        ca: constraints.is_some_and(|found| found.ca),
        path_length: constraints.and_then(|found| found.path_len_constraint),
        self_signed,
        signature: signature_name(&certificate.signature_algorithm.algorithm.to_id_string()),
        sha256: Digest::of(der),
        subject_key: identifiers.0,
        authority_key: identifiers.1,
    }
}

/// The serial without the octet that only keeps it positive (X.690, section 8.3).
fn serial(problems: &mut Vec<String>, place: &Place, octets: &[u8]) -> String {
    let magnitude = match octets {
        [0, rest @ ..] if !rest.is_empty() => rest,
        other => other,
    };
    if octets.first().is_some_and(|first| first & 0x80 != 0) {
        problems.push(format!("{place} has a negative serial number, which RFC 5280 forbids"));
    }
    if magnitude.len() > 20 {
        problems.push(format!("{place} has a serial number of {} octets; RFC 5280 allows 20", magnitude.len()));
    }
    hex(magnitude)
}

fn usages(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(Some(usage)) = certificate.key_usage() {
        let usage = usage.value;
        found.extend([
            usage.digital_signature().then_some("digitalSignature"),
            usage.non_repudiation().then_some("nonRepudiation"),
            usage.key_encipherment().then_some("keyEncipherment"),
            usage.data_encipherment().then_some("dataEncipherment"),
            usage.key_agreement().then_some("keyAgreement"),
            usage.key_cert_sign().then_some("keyCertSign"),
            usage.crl_sign().then_some("cRLSign"),
        ]);
    }
    let mut other = Vec::new();
    if let Ok(Some(usage)) = certificate.extended_key_usage() {
        let usage = usage.value;
        found.extend([
            usage.any.then_some("anyExtendedKeyUsage"),
            usage.server_auth.then_some("serverAuth"),
            usage.client_auth.then_some("clientAuth"),
            usage.code_signing.then_some("codeSigning"),
            usage.email_protection.then_some("emailProtection"),
            usage.time_stamping.then_some("timeStamping"),
            usage.ocsp_signing.then_some("OCSPSigning"),
        ]);
        other.extend(usage.other.iter().map(ToString::to_string));
    }
    found.into_iter().flatten().map(ToOwned::to_owned).chain(other).collect()
}

/// How the certificates hang together in file order.
fn chain(seen: &mut Inspection, certificates: &[X509Certificate<'_>]) {
    let views = &seen.certificates;
    if certificates.len() < 2 {
        return;
    }
    if views.iter().all(|view| view.self_signed) {
        seen.chain = Some(format!("a trust bundle of {} roots", certificates.len()));
        return;
    }
    let mut broken = false;
    for (at, pair) in certificates.windows(2).enumerate() {
        let [below, above] = pair else { continue };
        let fault = if below.issuer().as_raw() != above.subject().as_raw() {
            "is not issued by the next one in the file"
        } else if below.verify_signature(Some(above.public_key())).is_err() {
            "names the next one in the file as its issuer, whose key did not sign it"
        } else if !views[at + 1].ca {
            "is signed by the next one in the file, which is no CA"
        } else {
            continue;
        };
        broken = true;
        seen.problems.push(format!("the certificate on line {} {fault}", views[at].line));
    }
    let last = if views.last().is_some_and(|view| view.self_signed) { " up to its root" } else { "" };
    if !broken {
        seen.chain = Some(format!("{} certificates, each signed by the next{last}", certificates.len()));
    }
}

fn describe_key(spki: &SubjectPublicKeyInfo<'_>) -> String {
    match (key_kind(spki), spki.parsed()) {
        (Some(KeyKind::EcdsaP256), _) => "ECDSA P-256".to_owned(),
        (Some(KeyKind::EcdsaP384), _) => "ECDSA P-384".to_owned(),
        (Some(KeyKind::Ed25519), _) => "Ed25519".to_owned(),
        (_, Ok(PublicKey::RSA(rsa))) => format!("RSA, {} bits", rsa.key_size()),
        _ => format!("of another kind ({})", spki.algorithm.algorithm),
    }
}

fn signature_name(oid: &str) -> String {
    match oid {
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.3.101.112" => "Ed25519",
        "1.2.840.113549.1.1.5" => "RSA with SHA-1",
        "1.2.840.113549.1.1.11" => "RSA with SHA-256",
        "1.2.840.113549.1.1.12" => "RSA with SHA-384",
        "1.2.840.113549.1.1.13" => "RSA with SHA-512",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests;
