//! A minion's public key, as Salt's master has accepted it: RSA, and nothing else is made of it here
//! than the check of a signature.

use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::csr::{check_rsa, key_kind};
use crate::digest::Digest;
use crate::profile::KeyKind;

/// Longest PEM text of a key; one of 8192 bits has 1.4 KiB.
pub const MAX_PEM: usize = 16 * 1024;

/// Why a text is no minion's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaltKeyError {
    /// Longer than [`MAX_PEM`].
    #[error("it is longer than {MAX_PEM} octets")]
    TooLarge,
    /// Not PEM of a public key.
    #[error("it is no public key in PEM: {0}")]
    Malformed(String),
    /// Not RSA, or too weak.
    #[error("it is no RSA key of 2048 to 8192 bits with a usual exponent")]
    Unfit,
}

/// An RSA public key of 2048 to 8192 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaltKey {
    spki: Vec<u8>,
}

impl SaltKey {
    /// Reads PEM: a SubjectPublicKeyInfo, as Salt writes it, or PKCS#1.
    ///
    /// # Errors
    /// [`SaltKeyError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, SaltKeyError> {
        if text.len() > MAX_PEM {
            return Err(SaltKeyError::TooLarge);
        }
        let block =
            pem::parse(text).map_err(|_| SaltKeyError::Malformed("there is no whole PEM block in it".to_owned()))?;
        match block.tag() {
            "PUBLIC KEY" => Self::from_spki(block.into_contents()),
            "RSA PUBLIC KEY" => Self::from_spki(spki_of_pkcs1(block.contents())),
            other => Err(SaltKeyError::Malformed(format!("its label is {:?}", other.escape_debug().to_string()))),
        }
    }

    /// Reads a SubjectPublicKeyInfo, DER.
    ///
    /// # Errors
    /// [`SaltKeyError`].
    pub fn from_spki(spki: Vec<u8>) -> Result<Self, SaltKeyError> {
        let (rest, parsed) =
            SubjectPublicKeyInfo::from_der(&spki).map_err(|error| SaltKeyError::Malformed(error.to_string()))?;
        let fit = rest.is_empty() && key_kind(&parsed) == Some(KeyKind::Rsa) && check_rsa(&parsed).is_ok();
        if fit { Ok(Self { spki }) } else { Err(SaltKeyError::Unfit) }
    }

    /// The SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of it, by which the ledger knows the key.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        Digest::of(&self.spki)
    }

    /// Whether `signature` over `message` is by this key (RSASSA-PSS with SHA-256 and a salt of 32 octets, RFC 8017).
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok((_, parsed)) = SubjectPublicKeyInfo::from_der(&self.spki) else { return false };
        let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &parsed.subject_public_key.data);
        key.verify(message, signature).is_ok()
    }
}

/// A PKCS#1 RSAPublicKey as a SubjectPublicKeyInfo (RFC 8017, appendix A.1; RFC 3279, section 2.3.1).
fn spki_of_pkcs1(key: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&yasna::models::ObjectIdentifier::from_slice(&[1, 2, 840, 113_549, 1, 1, 1]));
                writer.next().write_null();
            });
            writer.next().write_bitvec_bytes(key, key.len() * 8);
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `openssl genrsa 2048` made them; the second is of 1024 bits.
    const SPKI: &str = include_str!("fixture/minion.pub");
    const PKCS1: &str = include_str!("fixture/minion-pkcs1.pub");
    const SHORT: &str = include_str!("fixture/short.pub");

    #[test]
    fn both_forms_of_a_key_are_one_key() {
        let key = SaltKey::from_pem(SPKI.as_bytes()).unwrap();
        assert_eq!(SaltKey::from_pem(PKCS1.as_bytes()).unwrap(), key);
        assert_eq!(key.sha256(), Digest::of(key.spki()));
        assert!(!key.has_signed(b"message", &[0; 256]) && !key.has_signed(b"message", b""));
    }

    #[test]
    fn what_is_no_fit_rsa_key_is_refused() {
        assert_eq!(SaltKey::from_pem(SHORT.as_bytes()), Err(SaltKeyError::Unfit));
        let ecdsa = rcgen::KeyPair::generate().unwrap();
        assert_eq!(SaltKey::from_pem(ecdsa.public_key_pem().as_bytes()), Err(SaltKeyError::Unfit));
        let long = format!("{SPKI}{}", " ".repeat(MAX_PEM));
        assert_eq!(SaltKey::from_pem(long.as_bytes()), Err(SaltKeyError::TooLarge));
        let cut = &SPKI.as_bytes()[..SPKI.len() / 2];
        for text in [&b""[..], b"ssh-rsa AAAA", cut, ecdsa.serialize_pem().as_bytes(), b"\xff\xfe"] {
            assert!(matches!(SaltKey::from_pem(text), Err(SaltKeyError::Malformed(_))));
        }
    }
}
