//! The only code that touches CA keys. It signs nothing but a recorded certificate (rule R1), and root
//! statements, which leave the process only by the ledger.

use std::fmt;
use std::path::Path;

use rcgen::{PublicKeyData as _, SigningKey as _};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use super::certificate::CaCertificate;
use super::csr::SubjectKey;
use super::key_file::{self, KeyError};
use super::lint::Linted;
use super::tbs::signature_algorithm;
use crate::profile::KeyKind;
use crate::random::Random;
use crate::root_statement::{Recovery, SignedRecovery, key_id};
use crate::store::Recorded;

/// DER of the AlgorithmIdentifier ecdsa-with-SHA256 (RFC 5758, section 3.2).
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// DER of the AlgorithmIdentifier ecdsa-with-SHA384 (RFC 5758, section 3.2).
const ECDSA_SHA384: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];

/// Why a recorded certificate was not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// What was recorded is not what was linted.
    #[error("the recorded certificate is not the one that was checked; nothing was signed; please report this")]
    NotWhatWasRecorded,
    /// The signature failed or does not verify: a fault in hardware or memory.
    #[error("the signature does not verify; nothing was released; check this machine's hardware")]
    Faulty,
}

/// A CA's private key.
pub struct CaKey {
    pair: rcgen::KeyPair,
    kind: KeyKind,
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pair: _, kind } = self;
        write!(f, "CaKey({kind}, ..)")
    }
}

impl CaKey {
    /// Makes a key of `kind` (ECDSA P-256 or P-384) with ring's system generator.
    ///
    /// # Errors
    /// [`KeyError::Generation`].
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let algorithm = signature_algorithm(kind).map_err(|_| KeyError::Generation)?;
        let pair = rcgen::KeyPair::generate_for(algorithm).map_err(|_| KeyError::Generation)?;
        Ok(Self { pair, kind })
    }

    /// The public half, for the CA's own certificate.
    #[must_use]
    pub fn subject_key(&self) -> SubjectKey {
        SubjectKey::new(self.pair.subject_public_key_info(), self.pair.der_bytes(), self.kind)
    }

    /// Writes PKCS#8 PEM to a new file of mode 0600, durably.
    ///
    /// # Errors
    /// [`KeyError::File`], also when the file exists.
    pub fn store(&self, path: &Path) -> Result<(), KeyError> {
        key_file::write_new(path, &Zeroizing::new(self.pair.serialize_der()))
    }

    /// Writes PKCS#8 PEM, encrypted with `passphrase` (PBES2: scrypt and AES-256-CBC, RFC 7914 and
    /// RFC 8018), to a new file of mode 0600, durably. `openssl pkcs8` opens it.
    ///
    /// # Errors
    /// [`KeyError::File`], also when the file exists; [`KeyError::Encryption`].
    pub fn store_encrypted(&self, path: &Path, passphrase: &str, random: &dyn Random) -> Result<(), KeyError> {
        let text = key_file::encrypt(&Zeroizing::new(self.pair.serialize_der()), passphrase, random)?;
        key_file::write_text(path, text.as_bytes())
    }

    /// Reads PKCS#8 PEM from a file that only its owner can read.
    ///
    /// # Errors
    /// [`KeyError::File`], [`KeyError::Mode`], [`KeyError::Unreadable`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        Self::from_pkcs8(&key_file::read(path)?, path)
    }

    /// Reads what [`CaKey::store_encrypted`] wrote.
    ///
    /// # Errors
    /// As [`CaKey::load`]; [`KeyError::Passphrase`] when the passphrase does not open it.
    pub fn load_encrypted(path: &Path, passphrase: &str) -> Result<Self, KeyError> {
        let der = key_file::read(path)?;
        let unreadable = |_| KeyError::Unreadable { path: path.to_owned(), wanted: "encrypted PKCS#8" };
        let encrypted = pkcs8::EncryptedPrivateKeyInfoRef::try_from(der.as_slice()).map_err(unreadable)?;
        let opened = encrypted.decrypt(passphrase).map_err(|_| KeyError::Passphrase(path.to_owned()))?;
        Self::from_pkcs8(opened.as_bytes(), path)
    }

    /// Reads PKCS#8 DER that was in the file at `path`.
    pub(super) fn from_pkcs8(der: &[u8], path: &Path) -> Result<Self, KeyError> {
        for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384] {
            let Ok(algorithm) = signature_algorithm(kind) else { continue };
            let pkcs8 = PrivatePkcs8KeyDer::from(der);
            if let Ok(pair) = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, algorithm) {
                return Ok(Self { pair, kind });
            }
        }
        Err(KeyError::Unreadable { path: path.to_owned(), wanted: "ecdsa-p256 or ecdsa-p384" })
    }
}

/// A CA that can sign: its certificate and the key that belongs to it.
#[derive(Debug)]
pub struct Authority {
    certificate: CaCertificate,
    key: CaKey,
}

/// A certificate that was recorded, signed, and whose signature was verified.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The certificate.
    pub der: Vec<u8>,
    /// The signature alone, to lie beside the ledger entry.
    pub signature: Vec<u8>,
}

impl Authority {
    /// Joins a certificate and its key, read from `path`.
    ///
    /// # Errors
    /// What [`CaKey::load`] says, and [`KeyError::Mismatch`].
    pub fn load(certificate: CaCertificate, path: &Path) -> Result<Self, KeyError> {
        Self::join(certificate, CaKey::load(path)?, path)
    }

    /// As [`Authority::load`], for a key in a file that `passphrase` opens.
    ///
    /// # Errors
    /// What [`CaKey::load_encrypted`] says, and [`KeyError::Mismatch`].
    pub fn load_encrypted(certificate: CaCertificate, path: &Path, passphrase: &str) -> Result<Self, KeyError> {
        Self::join(certificate, CaKey::load_encrypted(path, passphrase)?, path)
    }

    fn join(certificate: CaCertificate, key: CaKey, path: &Path) -> Result<Self, KeyError> {
        if key.subject_key().spki() != certificate.spki() {
            return Err(KeyError::Mismatch(path.to_owned()));
        }
        Ok(Self { certificate, key })
    }

    /// The CA's certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// Signs exactly the recorded bytes and verifies the signature with the CA's public key.
    ///
    /// # Errors
    /// [`SignError`]; nothing leaves this function then.
    pub fn sign(&self, recorded: &Recorded, linted: &Linted) -> Result<Signed, SignError> {
        sign(&self.key, recorded, linted)
    }

    /// Signs a root statement and verifies the signature. The type is what keeps this apart from
    /// certificates: its text never begins as DER does.
    ///
    /// # Errors
    /// [`SignError::Faulty`]; nothing leaves this function then.
    pub fn state(&self, recovery: Recovery) -> Result<SignedRecovery, SignError> {
        let text = recovery.text();
        let signature = self.key.pair.sign(text.as_bytes()).map_err(|_| SignError::Faulty)?;
        if !self.certificate.has_signed(text.as_bytes(), &signature) {
            return Err(SignError::Faulty);
        }
        Ok(SignedRecovery::new(recovery, key_id(self.certificate.spki()), signature))
    }

    /// An earlier certificate with the signature that was stored for it; none where none was, or where
    /// it is not by this key.
    #[must_use]
    pub fn signed_before(&self, recorded: &Recorded) -> Option<Signed> {
        let signature = recorded.signature()?.to_vec();
        let der = assemble(recorded.tbs(), &signature, self.key.kind);
        self.certificate.has_signed(recorded.tbs(), &signature).then_some(Signed { der, signature })
    }
}

/// Signs a recorded certificate with a key that has no certificate yet: a root's own, and what a
/// root signs while `init` runs.
///
/// # Errors
/// [`SignError`]; nothing leaves this function then.
pub fn sign(key: &CaKey, recorded: &Recorded, linted: &Linted) -> Result<Signed, SignError> {
    if recorded.tbs() != &**linted.bytes() {
        return Err(SignError::NotWhatWasRecorded);
    }
    let signature = key.pair.sign(recorded.tbs()).map_err(|_| SignError::Faulty)?;
    let algorithm: &dyn ring::signature::VerificationAlgorithm = match key.kind {
        KeyKind::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
        _ => &ECDSA_P384_SHA384_ASN1,
    };
    UnparsedPublicKey::new(algorithm, key.pair.der_bytes())
        .verify(recorded.tbs(), &signature)
        .map_err(|_| SignError::Faulty)?;
    Ok(Signed { der: assemble(recorded.tbs(), &signature, key.kind), signature })
}

/// Joins recorded bytes and a stored signature into the certificate (RFC 5280, section 4.1).
#[must_use]
pub fn assemble(tbs: &[u8], signature: &[u8], issuer_key: KeyKind) -> Vec<u8> {
    let algorithm = if issuer_key == KeyKind::EcdsaP256 { ECDSA_SHA256 } else { ECDSA_SHA384 };
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(tbs);
            writer.next().write_der(algorithm);
            writer.next().write_bitvec_bytes(signature, signature.len() * 8);
        });
    })
}
