//! A backup with its keys.

use std::path::PathBuf;
use std::process::Command;

use rusqlite::Connection;

use super::{Ca, psfca};

pub const PASSPHRASE: &str = "correct horse battery staple";

/// Where a CA's backup and its keys are.
pub struct Kept {
    pub dir: tempfile::TempDir,
}

impl Kept {
    /// Backs a CA up, with its keys.
    pub fn of(ca: &Ca) -> Self {
        let kept = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(kept.passphrase(), PASSPHRASE).unwrap();
        let [file, keys, passphrase] = [kept.file(), kept.keys(), kept.passphrase()].map(text);
        ca.ok(&["backup", &file, "--keys", &keys, "--passphrase-file", &passphrase]);
        kept
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ledger.backup")
    }

    pub fn keys(&self) -> PathBuf {
        self.dir.path().join("keys.pem")
    }

    pub fn passphrase(&self) -> PathBuf {
        self.dir.path().join("passphrase")
    }

    /// `psfca restore` with this backup, into the state directory of `ca`.
    pub fn restore(&self, ca: &Ca) -> Command {
        let mut command = psfca();
        command.arg("restore").arg(self.file()).arg("--keys").arg(self.keys());
        command.arg("--passphrase-file").arg(self.passphrase()).env("PSFCA_CONFIG", ca.config());
        command
    }

    /// A copy of the backup that `tamper` has changed.
    pub fn tampered(&self, tamper: impl FnOnce(&Connection)) -> Self {
        let other = self.copied();
        let sql = Connection::open(other.file()).unwrap();
        sql.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        tamper(&sql);
        drop(sql);
        other
    }

    pub fn copied(&self) -> Self {
        let other = Self { dir: tempfile::tempdir().unwrap() };
        for (from, to) in
            [(self.file(), other.file()), (self.keys(), other.keys()), (self.passphrase(), other.passphrase())]
        {
            std::fs::copy(from, to).unwrap();
        }
        other
    }
}

pub fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

/// The CA's machine is lost, but for its configuration.
pub fn lose(ca: &mut Ca) {
    ca.stop();
    std::fs::remove_dir_all(ca.state()).unwrap();
    std::fs::remove_file(ca.trust_bundle()).unwrap();
}
