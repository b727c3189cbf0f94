//! The CA's private keys in one file, to be kept apart from the state directory and from backups: each
//! a PKCS#8 PEM block that is encrypted with a passphrase. Nothing else takes keys out (rule R6).

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::authorities::{CaCertificates, CaFiles};
use super::key_file::{self, KeyError};
use super::signer::CaKey;
use crate::ledger::note::NoteSigner;
use crate::random::Random;

/// Most keys that are looked for in a file: opening each takes a while on purpose.
const MAX_KEYS: usize = 4;

/// The keys of `files`, encrypted: the text of an archive. The root's is among them where it lies
/// in the state directory.
///
/// # Errors
/// What is wrong with a key's file, or with the passphrase.
pub fn seal(files: &CaFiles, passphrase: &str, random: &dyn Random) -> Result<String, KeyError> {
    let mut text = String::new();
    for path in [files.root_key(), files.issuing_key(), files.identity_key(), files.ledger_key()] {
        if path == files.root_key() && !path.exists() {
            continue;
        }
        // RFC 7468 lets text stand before a block; this one is for people.
        text.push_str(&path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
        text.push('\n');
        text.push_str(&key_file::encrypt(&key_file::read(&path)?, passphrase, random)?);
    }
    Ok(text)
}

/// Writes the text of an archive to a new file of mode 0600, durably.
///
/// # Errors
/// [`KeyError::File`], also when the file exists.
pub fn write(path: &Path, text: &str) -> Result<(), KeyError> {
    key_file::write_text(path, text.as_bytes())
}

/// An archive that its passphrase has opened. Which key is whose is found by the certificates.
pub struct OpenedArchive {
    path: PathBuf,
    keys: Vec<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for OpenedArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, keys } = self;
        write!(f, "OpenedArchive({}, {} keys)", path.display(), keys.len())
    }
}

/// The keys of a CA, each known to belong to its certificate.
pub struct CaKeys {
    root: Option<Zeroizing<Vec<u8>>>,
    issuing: Zeroizing<Vec<u8>>,
    identity: Zeroizing<Vec<u8>>,
    ledger: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for CaKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaKeys(..)")
    }
}

/// Opens an archive that only its owner can read.
///
/// # Errors
/// [`KeyError::Mode`], [`KeyError::Unreadable`], [`KeyError::Passphrase`].
pub fn open(path: &Path, passphrase: &str) -> Result<OpenedArchive, KeyError> {
    let unreadable = || KeyError::Unreadable { path: path.to_owned(), wanted: "encrypted, by psfca backup --keys" };
    let blocks = pem::parse_many(key_file::read_text(path)?.as_slice()).map_err(|_| unreadable())?;
    if blocks.is_empty() || blocks.len() > MAX_KEYS {
        return Err(unreadable());
    }
    let mut keys = Vec::new();
    for block in &blocks {
        let encrypted = pkcs8::EncryptedPrivateKeyInfoRef::try_from(block.contents()).map_err(|_| unreadable())?;
        let key = encrypted.decrypt(passphrase).map_err(|_| KeyError::Passphrase(path.to_owned()))?;
        keys.push(Zeroizing::new(key.as_bytes().to_vec()));
    }
    Ok(OpenedArchive { path: path.to_owned(), keys })
}

impl OpenedArchive {
    /// The key that signs the checkpoints of the ledger `origin`.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`] when there is none.
    pub fn ledger_signer(&self, origin: &str) -> Result<NoteSigner, KeyError> {
        let mut signers = self.keys.iter().filter_map(|der| NoteSigner::from_pkcs8(origin, der).ok());
        signers.next().ok_or_else(|| KeyError::Unreadable { path: self.path.clone(), wanted: "ed25519" })
    }

    /// Finds for each certificate its key. The root's may be elsewhere.
    ///
    /// # Errors
    /// [`KeyError::Foreign`] when one is missing, or belongs to none of the certificates.
    pub fn of(self, certificates: &CaCertificates) -> Result<CaKeys, KeyError> {
        let Self { path, keys } = self;
        let (mut root, mut issuing, mut identity, mut ledger) = (None, None, None, None);
        for der in keys {
            let Ok(key) = CaKey::from_pkcs8(&der, &path) else {
                ledger = Some(der);
                continue;
            };
            let key = key.subject_key();
            let belongs = |to: &super::certificate::CaCertificate| key.spki() == to.spki();
            match () {
                () if belongs(&certificates.issuing) => issuing = Some(der),
                () if belongs(&certificates.identity) => identity = Some(der),
                () if belongs(&certificates.root) => root = Some(der),
                () => return Err(KeyError::Foreign(path)),
            }
        }
        match (issuing, identity, ledger) {
            (Some(issuing), Some(identity), Some(ledger)) => Ok(CaKeys { root, issuing, identity, ledger }),
            _ => Err(KeyError::Foreign(path)),
        }
    }
}

impl CaKeys {
    /// Whether the root's key is among them.
    #[must_use]
    pub const fn has_root(&self) -> bool {
        self.root.is_some()
    }

    /// Writes each to its new file of mode 0600, durably.
    ///
    /// # Errors
    /// [`KeyError::File`], also when one exists.
    pub fn store(&self, files: &CaFiles) -> Result<(), KeyError> {
        let Self { root, issuing, identity, ledger } = self;
        if let Some(root) = root {
            key_file::write_new(&files.root_key(), root)?;
        }
        key_file::write_new(&files.issuing_key(), issuing)?;
        key_file::write_new(&files.identity_key(), identity)?;
        key_file::write_new(&files.ledger_key(), ledger)
    }
}
