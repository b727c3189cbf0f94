//! `witness.yaml`: the witness' name, where it listens, and which ledgers it knows.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ca::certificate::CaCertificate;
use crate::ca::pem_file;
use crate::ledger::note::NoteVerifier;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It is not what settings look like.
    #[error("{path} is wrong: {cause}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// A witness' settings.
#[derive(Debug)]
pub struct Settings {
    /// The name under which it cosigns.
    pub name: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The directory of its key and memory.
    pub state: PathBuf,
    /// Each ledger.
    pub logs: Vec<LogSettings>,
}

/// A ledger that is witnessed.
#[derive(Debug)]
pub struct LogSettings {
    /// The key that signs its checkpoints; its name is the ledger's origin.
    pub key: NoteVerifier,
    /// The roots whose word recovers it.
    pub roots: Vec<CaCertificate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    listen: SocketAddr,
    #[serde(default = "default_state")]
    state: PathBuf,
    logs: Vec<RawLog>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    key: NoteVerifier,
    root: PathBuf,
}

fn default_state() -> PathBuf {
    "/var/lib/psfca-witness".into()
}

impl Settings {
    /// Reads the file, and the roots that it names. Relative paths start at its directory.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let unreadable = |path: &Path, cause| SettingsError::Unreadable { path: path.to_owned(), cause };
        let wrong = |cause: String| SettingsError::Wrong { path: path.to_owned(), cause };
        let text = std::fs::read_to_string(path).map_err(|cause| unreadable(path, cause))?;
        let raw: Raw = serde_yaml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let base = path.parent().unwrap_or(Path::new(""));
        let bad_name = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if raw.name.is_empty() || raw.name.chars().any(bad_name) {
            return Err(wrong(
                "name must have neither white space nor a plus sign, such as witness.psf.io/w1".to_owned(),
            ));
        }
        let mut origins = BTreeSet::new();
        let mut logs = Vec::new();
        for RawLog { key, root } in raw.logs {
            if !origins.insert(key.name().to_owned()) {
                return Err(wrong(format!("the ledger {} is listed twice", key.name())));
            }
            let root = base.join(root);
            let text = std::fs::read(&root).map_err(|cause| unreadable(&root, cause))?;
            let found = pem_file::certificates(&text).map_err(|error| wrong(format!("{}: {error}", root.display())))?;
            let roots = found.iter().map(|der| CaCertificate::from_der(der)).collect::<Result<Vec<_>, _>>();
            let roots = roots.map_err(|error| wrong(format!("{}: {error}", root.display())))?;
            logs.push(LogSettings { key, roots });
        }
        if logs.is_empty() {
            return Err(wrong("logs lists no ledger".to_owned()));
        }
        Ok(Self { name: raw.name, listen: raw.listen, state: base.join(raw.state), logs })
    }
}
