//! The subject's public key: taken from a host's request after proof of possession, or made here.
//!
//! Nothing else of a request is ever used. Names, lifetime, usages and extensions come from the
//! grant, so a request that asks for more than it may have asks in vain.

use std::fmt;

use rcgen::PublicKeyData as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA1WITHRSA,
    OID_SHA1_WITH_RSA, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::profile::KeyKind;

/// Smallest and largest RSA modulus, in bits: below is weak, above is slow for every client.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// Smallest RSA public exponent (FIPS 186-5, appendix A.1.1: above 2^16).
const RSA_EXPONENT: u64 = 65_537;

/// Why a request's key is not certified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// Neither PEM nor DER of a request.
    #[error("the body is no PKCS#10 certificate request: {0}")]
    Malformed(String),
    /// The signature is not by the key in the request.
    #[error("the request is not signed by its own key, so its sender has not shown to hold it")]
    NotSigned,
    /// The signature rests on SHA-1.
    #[error("the request is signed with SHA-1; make it anew with SHA-256")]
    Sha1,
    /// A kind of key that nothing here certifies.
    #[error("the request's key is of a kind that is not certified here (ECDSA P-256, P-384, Ed25519 and RSA are)")]
    KeyKind,
    /// A good key of another kind than the declaration wants.
    #[error("the request has a key of kind {found}; the declaration wants {wanted} (key: {wanted})")]
    OtherKind {
        /// What the request has.
        found: KeyKind,
        /// What the declaration says.
        wanted: KeyKind,
    },
    /// An RSA modulus out of range.
    #[error("the request has an RSA key of {0} bits; 2048 to 8192 are accepted")]
    RsaSize(usize),
    /// An RSA exponent that invites attacks, or an even modulus.
    #[error("the request has an RSA key with a weak exponent or modulus; 65537 is the usual exponent")]
    RsaWeak,
    /// Key generation failed, or the CA was asked to make what it cannot.
    #[error("the CA cannot make a key of kind {0}; send a request of the host's own")]
    NotMadeHere(KeyKind),
}

/// A public key that may be certified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubjectKey {
    spki: Vec<u8>,
    kind: KeyKind,
}

/// A private key that the CA made on a host's request. It leaves in the bundle and is then gone:
/// never stored, never logged (rule R6).
pub struct MadeKey(Zeroizing<Vec<u8>>);

impl fmt::Debug for MadeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MadeKey(..)")
    }
}

impl MadeKey {
    /// The key as PKCS#8 PEM.
    #[must_use]
    pub fn expose_pem(&self) -> Zeroizing<String> {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        Zeroizing::new(pem::encode_config(&pem::Pem::new("PRIVATE KEY", self.0.to_vec()), config))
    }

    /// The key as PKCS#8 DER.
    #[must_use]
    pub fn expose_der(&self) -> &[u8] {
        &self.0
    }
}

impl SubjectKey {
    /// Takes the public key out of a PKCS#10 request, PEM or DER, after checking that the sender
    /// holds its private half and that it is a key of the `wanted` kind and strong enough.
    ///
    /// # Errors
    /// [`CsrError`] says what is wrong with the request.
    pub fn from_request(body: &[u8], wanted: KeyKind) -> Result<Self, CsrError> {
        let der = request_der(body)?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|error| CsrError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed(format!("{} bytes follow the request", rest.len())));
        }
        let spki = &request.certification_request_info.subject_pki;
        let found = key_kind(spki).ok_or(CsrError::KeyKind)?;
        if found != wanted {
            return Err(CsrError::OtherKind { found, wanted });
        }
        if found == KeyKind::Rsa {
            check_rsa(spki)?;
        }
        let algorithm = &request.signature_algorithm.algorithm;
        if *algorithm == OID_PKCS1_SHA1WITHRSA || *algorithm == OID_SHA1_WITH_RSA {
            return Err(CsrError::Sha1);
        }
        request.verify_signature().map_err(|_| CsrError::NotSigned)?;
        Ok(Self { spki: spki.raw.to_vec(), kind: found })
    }

    /// Makes a key of `kind` with ring's system generator.
    ///
    /// # Errors
    /// [`CsrError::NotMadeHere`] for RSA, or when the system gives no randomness.
    pub fn generate(kind: KeyKind) -> Result<(Self, MadeKey), CsrError> {
        let failed = |_| CsrError::NotMadeHere(kind);
        let algorithm = match kind {
            KeyKind::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyKind::Ed25519 => &rcgen::PKCS_ED25519,
            KeyKind::Rsa => return Err(CsrError::NotMadeHere(kind)),
        };
        let pair = rcgen::KeyPair::generate_for(algorithm).map_err(failed)?;
        let made = MadeKey(Zeroizing::new(pair.serialize_der()));
        Ok((Self { spki: pair.subject_public_key_info(), kind }, made))
    }

    /// The public key of a CA, for its own certificate.
    pub(super) fn of_ca(spki: Vec<u8>, kind: KeyKind) -> Self {
        Self { spki, kind }
    }

    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The kind of key.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// SHA-256 of the SubjectPublicKeyInfo, by which the ledger knows the key.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        Digest::of(&self.spki)
    }
}

/// DER of a request that came as PEM (RFC 7468, section 7) or as DER (RFC 5967).
fn request_der(body: &[u8]) -> Result<Vec<u8>, CsrError> {
    if body.first() == Some(&0x30) {
        return Ok(body.to_vec());
    }
    let block = pem::parse(body).map_err(|error| CsrError::Malformed(error.to_string()))?;
    match block.tag() {
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Ok(block.into_contents()),
        other => Err(CsrError::Malformed(format!("it is a PEM block of another kind ({})", other.escape_debug()))),
    }
}

/// The kind of a public key, by its algorithm and curve; none for kinds that are not used here.
pub(super) fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> Option<KeyKind> {
    let algorithm = &spki.algorithm;
    if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = algorithm.parameters.as_ref()?.as_oid().ok()?;
        if curve == OID_EC_P256 {
            return Some(KeyKind::EcdsaP256);
        }
        return (curve == OID_NIST_EC_P384).then_some(KeyKind::EcdsaP384);
    }
    if algorithm.algorithm == OID_SIG_ED25519 {
        return Some(KeyKind::Ed25519);
    }
    (algorithm.algorithm == OID_PKCS1_RSAENCRYPTION).then_some(KeyKind::Rsa)
}

pub(super) fn check_rsa(spki: &SubjectPublicKeyInfo<'_>) -> Result<(), CsrError> {
    let Ok(PublicKey::RSA(key)) = spki.parsed() else {
        return Err(CsrError::Malformed("its RSA key cannot be read".to_owned()));
    };
    let modulus = &key.modulus[key.modulus.iter().position(|&b| b != 0).unwrap_or(key.modulus.len())..];
    let bits = modulus.first().map_or(0, |&top| modulus.len() * 8 - top.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(CsrError::RsaSize(bits));
    }
    let odd = |bytes: &[u8]| bytes.last().is_some_and(|b| b % 2 == 1);
    // An exponent that does not fit 64 bits is refused as well: no real key has one.
    let exponent = key.try_exponent().unwrap_or(0);
    if exponent < RSA_EXPONENT || !odd(key.exponent) || !odd(modulus) {
        return Err(CsrError::RsaWeak);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec!["evil.psf.io".to_owned()]).unwrap();
        params.serialize_request(&pair).unwrap().pem().unwrap()
    }

    #[test]
    fn a_key_is_taken_only_with_proof_of_possession() {
        let text = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(SubjectKey::from_request(text.as_bytes(), KeyKind::EcdsaP256).unwrap().kind(), KeyKind::EcdsaP256);
        let mut der = pem::parse(&text).unwrap().into_contents();
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(SubjectKey::from_request(&der, KeyKind::EcdsaP256), Err(CsrError::NotSigned));
    }

    #[test]
    fn a_key_of_another_kind_than_declared_is_refused() {
        let text = request(&rcgen::PKCS_ED25519);
        assert_eq!(
            SubjectKey::from_request(text.as_bytes(), KeyKind::EcdsaP256),
            Err(CsrError::OtherKind { found: KeyKind::Ed25519, wanted: KeyKind::EcdsaP256 })
        );
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        for body in
            [&b""[..], b"hello", b"\x30\x03\x02\x01", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(matches!(SubjectKey::from_request(body, KeyKind::EcdsaP256), Err(CsrError::Malformed(_))));
        }
    }

    #[test]
    fn a_made_key_is_never_printed_by_accident() {
        let (_, made) = SubjectKey::generate(KeyKind::Ed25519).unwrap();
        assert_eq!(format!("{made:?}"), "MadeKey(..)");
        assert!(matches!(SubjectKey::generate(KeyKind::Rsa), Err(CsrError::NotMadeHere(KeyKind::Rsa))));
    }
}
