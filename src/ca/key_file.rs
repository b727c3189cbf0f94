//! Private keys in files of the CA: PKCS#8 PEM, for their owner alone.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::signature::Ed25519KeyPair;
use zeroize::Zeroizing;

use crate::ledger::cosignature::WitnessSigner;
use crate::ledger::note::NoteSigner;
use crate::random::NoRandomness;

/// A key file is a few hundred bytes.
const MAX_KEY_FILE: u64 = 16 * 1024;

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
    let file = |source| KeyError::File { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(file)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode { path: path.to_owned(), mode });
    }
    let unreadable = || KeyError::Unreadable { path: path.to_owned(), wanted: "any" };
    if metadata.len() > MAX_KEY_FILE {
        return Err(unreadable());
    }
    let text = Zeroizing::new(std::fs::read(path).map_err(file)?);
    let block = pem::parse(text.as_slice()).map_err(|_| unreadable())?;
    Ok(Zeroizing::new(block.into_contents()))
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
