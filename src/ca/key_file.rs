//! Private keys in files of the CA: PKCS#8 PEM, for their owner alone.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use pkcs8::pkcs5::pbes2;
use pkcs8::{LineEnding, PrivateKeyInfoRef};
use ring::signature::Ed25519KeyPair;
use zeroize::Zeroizing;

use crate::ledger::cosignature::WitnessSigner;
use crate::ledger::note::NoteSigner;
use crate::random::{NoRandomness, Random};

/// A key file is a few hundred bytes.
const MAX_KEY_FILE: u64 = 16 * 1024;
/// scrypt's work factor for keys kept elsewhere: OpenSSL opens 2^14 and refuses 2^17.
const SCRYPT_LOG_N: u8 = 14;

/// Why a key file cannot be used. Never says anything about the key itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than its owner can read the file.
    #[error("{path} has mode {mode:04o}; such a key is for its owner alone: chmod 600 {path}")]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a PKCS#8 key of the kind that is wanted.
    #[error("{path} holds no PKCS#8 key of kind {wanted}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The key belongs to another certificate.
    #[error("{0} is not the key of the certificate beside it")]
    Mismatch(PathBuf),
    /// An archive of keys is that of another CA, or not whole.
    #[error("{0} does not hold the keys of this CA: one is missing, or belongs to none of its certificates")]
    Foreign(PathBuf),
    /// The system gave no key or no randomness.
    #[error("no key could be made: the system gave no randomness")]
    Generation,
    /// The passphrase cannot be used.
    #[error("the key could not be encrypted; is the passphrase empty?")]
    Encryption,
    /// The passphrase is another.
    #[error("{0} cannot be opened with this passphrase")]
    Passphrase(PathBuf),
}

impl From<NoRandomness> for KeyError {
    fn from(_: NoRandomness) -> Self {
        Self::Generation
    }
}

/// DER of the key in a PEM file that only its owner can read.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let unreadable = |_| KeyError::Unreadable { path: path.to_owned(), wanted: "any" };
    let block = pem::parse(read_text(path)?.as_slice()).map_err(unreadable)?;
    Ok(Zeroizing::new(block.into_contents()))
}

/// A key file as it is, if only its owner can read it.
pub(super) fn read_text(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let file = |source| KeyError::File { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(file)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode { path: path.to_owned(), mode });
    }
    if metadata.len() > MAX_KEY_FILE {
        return Err(KeyError::Unreadable { path: path.to_owned(), wanted: "any" });
    }
    Ok(Zeroizing::new(std::fs::read(path).map_err(file)?))
}

/// A PKCS#8 key as PEM, encrypted with `passphrase` (PBES2: scrypt and AES-256-CBC, RFC 7914 and
/// RFC 8018).
pub(super) fn encrypt(der: &[u8], passphrase: &str, random: &dyn Random) -> Result<String, KeyError> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    random.fill(&mut salt)?;
    random.fill(&mut iv)?;
    let scrypt = pkcs8::pkcs5::scrypt::Params::new(SCRYPT_LOG_N, 8, 1).map_err(|_| KeyError::Encryption)?;
    let parameters =
        pbes2::Parameters::generate_scrypt_aes256cbc(scrypt, &salt, iv).map_err(|_| KeyError::Encryption)?;
    let info = PrivateKeyInfoRef::try_from(der).map_err(|_| KeyError::Encryption)?;
    let encrypted = info.encrypt_with_params(parameters, passphrase).map_err(|_| KeyError::Encryption)?;
    let text = encrypted.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF).map_err(|_| KeyError::Encryption)?;
    Ok(text.to_string())
}

/// Writes a PKCS#8 key as PEM to a new file of mode 0600, durably.
pub(super) fn write_new(path: &Path, der: &[u8]) -> Result<(), KeyError> {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let text = Zeroizing::new(pem::encode_config(&pem::Pem::new("PRIVATE KEY", der), config));
    write_text(path, text.as_bytes())
}

/// Writes a new file of mode 0600, durably.
pub(super) fn write_text(path: &Path, text: &[u8]) -> Result<(), KeyError> {
    let file = |source| KeyError::File { path: path.to_owned(), source };
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(file)?;
    out.write_all(text).and_then(|()| out.sync_all()).map_err(file)
}

/// Makes a key that signs the ledger's checkpoints, or a witness', in a new file of mode 0600, durably. It
/// is no CA key: it signs no certificates, and no client trusts it for any.
///
/// # Errors
/// [`KeyError::File`], also when the file exists; [`KeyError::Generation`].
pub fn make_ledger_key(path: &Path) -> Result<(), KeyError> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).map_err(|_| KeyError::Generation)?;
    write_new(path, pkcs8.as_ref())
}

/// Reads the key that signs the checkpoints of the ledger `origin`.
///
/// # Errors
/// What is wrong with the file.
pub fn load_ledger_key(path: &Path, origin: &str) -> Result<NoteSigner, KeyError> {
    let unreadable = |_| KeyError::Unreadable { path: path.to_owned(), wanted: "ed25519" };
    NoteSigner::from_pkcs8(origin, &read(path)?).map_err(unreadable)
}

/// Reads the key of the witness `name`.
///
/// # Errors
/// What is wrong with the file.
pub fn load_witness_key(path: &Path, name: &str) -> Result<WitnessSigner, KeyError> {
    let unreadable = |_| KeyError::Unreadable { path: path.to_owned(), wanted: "ed25519" };
    WitnessSigner::from_pkcs8(name, &read(path)?).map_err(unreadable)
}
