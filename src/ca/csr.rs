//! The subject's public key: taken from a host's request after proof of possession, or made here.
//!
//! Nothing else of a request is ever used. Names, lifetime, usages and extensions come from the
//! grant, so a request that asks for more than it may have asks in vain.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::PublicKeyData as _;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA1WITHRSA,
    OID_SHA1_WITH_RSA, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::pem_file::{self, Block, Content};
use crate::digest::Digest;
use crate::profile::KeyKind;

/// Characters in a line of PEM (RFC 7468, section 2).
const LINE: usize = 64;
/// A SubjectPublicKeyInfo up to the key's bits, and how many octets these have: an uncompressed point of P-256 or
/// P-384 (RFC 5480, section 2), or an Ed25519 key (RFC 8410, section 4).
const P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\0";
const P256_BITS: usize = 65;
const P384: &[u8] = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\0\x22\x03\x62\0";
const P384_BITS: usize = 97;
const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\0";
const ED25519_BITS: usize = 32;
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
    /// A point that has no private key of its own, or one that is not in its one encoding.
    #[error("the request has an Ed25519 key that anybody can sign for, or one that is not encoded as RFC 8032 has it")]
    Ed25519Weak,
    /// A key in an encoding that certificates do not have.
    #[error(
        "the request's key is not encoded as certificates have it (wrong parameters of its algorithm, or something \
         after it); make the request anew with a usual tool"
    )]
    KeyForm,
    /// Key generation failed, or the CA was asked to make what it cannot.
    #[error("the CA cannot make a key of kind {0}; send a request of the host's own")]
    NotMadeHere(KeyKind),
}

/// A public key that may be certified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubjectKey {
    spki: Vec<u8>,
    identifier: [u8; 20],
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
    /// The key as PKCS#8 PEM (RFC 7468, section 10). No copy is made that is not erased.
    #[must_use]
    pub fn expose_pem(&self) -> Zeroizing<String> {
        const LABEL: &str = "PRIVATE KEY-----";
        let text = Zeroizing::new(STANDARD.encode(&*self.0));
        // Whole from the beginning: a text that grows leaves its old places behind.
        let mut pem = Zeroizing::new(String::with_capacity(text.len() + text.len() / LINE + 100));
        pem.push_str("-----BEGIN ");
        pem.push_str(LABEL);
        for (at, character) in text.chars().enumerate() {
            if at % LINE == 0 {
                pem.push('\n');
            }
            pem.push(character);
        }
        pem.push_str("\n-----END ");
        pem.push_str(LABEL);
        pem.push('\n');
        pem
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
        check_form(spki)?;
        match found {
            KeyKind::Rsa => check_rsa(spki)?,
            KeyKind::Ed25519 => check_ed25519(&spki.subject_public_key.data)?,
            KeyKind::EcdsaP256 | KeyKind::EcdsaP384 => {}
        }
        let algorithm = &request.signature_algorithm.algorithm;
        if *algorithm == OID_PKCS1_SHA1WITHRSA || *algorithm == OID_SHA1_WITH_RSA {
            return Err(CsrError::Sha1);
        }
        request.verify_signature().map_err(|_| CsrError::NotSigned)?;
        Ok(Self::new(spki.raw.to_vec(), &spki.subject_public_key.data, found))
    }

    /// Makes a key of `kind` with ring's system generator.
    ///
    /// # Errors
    /// [`CsrError::NotMadeHere`] for RSA, or when the system gives no randomness.
    pub fn generate(kind: KeyKind) -> Result<(Self, MadeKey), CsrError> {
        let random = SystemRandom::new();
        let (document, before, length) = match kind {
            KeyKind::EcdsaP256 => {
                (EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random), P256, P256_BITS)
            }
            KeyKind::EcdsaP384 => {
                (EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &random), P384, P384_BITS)
            }
            KeyKind::Ed25519 => (Ed25519KeyPair::generate_pkcs8(&random), ED25519, ED25519_BITS),
            KeyKind::Rsa => return Err(CsrError::NotMadeHere(kind)),
        };
        let document = document.map_err(|_| CsrError::NotMadeHere(kind))?;
        let made = MadeKey(Zeroizing::new(document.as_ref().to_vec()));
        // The public key comes last in the document; to load that would be to compute it a second time.
        let bits = made
            .0
            .len()
            .checked_sub(length)
            .and_then(|start| made.0.get(start..))
            .ok_or(CsrError::NotMadeHere(kind))?;
        let key = Self::new([before, bits].concat(), bits, kind);
        Ok((key, made))
    }

    /// A key by its SubjectPublicKeyInfo and the bits in it.
    pub(super) fn new(spki: Vec<u8>, bits: &[u8], kind: KeyKind) -> Self {
        let mut identifier = [0; 20];
        identifier.copy_from_slice(&Digest::of(bits).as_bytes()[..20]);
        Self { spki, identifier, kind }
    }

    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key identifier: SHA-256 of the key's bits, cut to 160 bits (RFC 7093, section 2, method 1). (rcgen's own
    /// hashes the whole SubjectPublicKeyInfo, which is none of the methods there; pkilint says so.)
    #[must_use]
    pub const fn identifier(&self) -> &[u8; 20] {
        &self.identifier
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

/// DER of a request that came as DER (RFC 5967), or as the one block of PEM (RFC 7468, section 7).
fn request_der(body: &[u8]) -> Result<Vec<u8>, CsrError> {
    if body.first() == Some(&0x30) {
        return Ok(body.to_vec());
    }
    let blocks = pem_file::strict_blocks(body).map_err(|error| CsrError::Malformed(error.to_string()))?;
    let several = blocks.len() > 1;
    match blocks.into_iter().next() {
        Some(_) if several => {
            Err(CsrError::Malformed("there has to be one PEM block in it, and there are more".into()))
        }
        Some(Block { content: Content::Request(der), .. }) => Ok(der),
        Some(Block { place, .. }) => Err(CsrError::Malformed(format!("{place} is of another kind"))),
        None => Err(CsrError::Malformed("there is no PEM block in it".into())),
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

/// The key's encoding has to be the one that goes into certificates: a lenient parser reads more of them
/// (RFC 8410, section 3: no parameters for Ed25519; RFC 3279, section 2.3.1: NULL for RSA).
fn check_form(spki: &SubjectPublicKeyInfo<'_>) -> Result<(), CsrError> {
    let written = rcgen::SubjectPublicKeyInfo::from_der(spki.raw).map_err(|_| CsrError::KeyForm)?;
    if written.subject_public_key_info() == spki.raw { Ok(()) } else { Err(CsrError::KeyForm) }
}

/// The y coordinates of the eight points of small order, little-endian: 0 (order 4), 1 (order 1), -1
/// (order 2) and the two of order 8. With such a key a signature that verifies can be written down
/// without any private key. They follow from the curve of RFC 8032, section 5.1 (what L times a point
/// can be); C2SP's test vectors (CCTV, ed25519) count the same eight, and six more encodings of them.
const SMALL_ORDER: [[u8; 32]; 5] = [
    hex32(b"0000000000000000000000000000000000000000000000000000000000000000"),
    hex32(b"0100000000000000000000000000000000000000000000000000000000000000"),
    hex32(b"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    hex32(b"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    hex32(b"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
];

/// The field's prime, 2^255 - 19, little-endian.
const ED25519_PRIME: [u8; 32] = hex32(b"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");

const fn hex32(text: &[u8; 64]) -> [u8; 32] {
    const fn digit(c: u8) -> u8 {
        if c.is_ascii_digit() { c - b'0' } else { c - b'a' + 10 }
    }
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = digit(text[at * 2]) << 4 | digit(text[at * 2 + 1]);
        at += 1;
    }
    bytes
}

/// Refuses points of small order, and y coordinates that are not below the prime (RFC 8032, section
/// 5.1.3, which ring does not check).
fn check_ed25519(key: &[u8]) -> Result<(), CsrError> {
    let mut y: [u8; 32] = key.try_into().map_err(|_| CsrError::KeyForm)?;
    // The last bit is the sign of x, and each of the points is one with either.
    y[31] &= 0x7f;
    let below_prime = y.iter().rev().lt(ED25519_PRIME.iter().rev());
    if below_prime && !SMALL_ORDER.contains(&y) { Ok(()) } else { Err(CsrError::Ed25519Weak) }
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
mod tests;
