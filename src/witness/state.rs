//! What a witness remembers: one file, replaced in one step, before anything that follows from it leaves.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::durable;
use crate::ledger::cosignature::WitnessKey;
use crate::ledger::witness::Cosigned;

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The key that cosigned all this.
    pub(super) key: WitnessKey,
    /// Each ledger, by its origin.
    pub(super) logs: BTreeMap<String, LogState>,
}

/// The head that a ledger goes on from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogState {
    /// Entries.
    pub(super) size: u64,
    /// The root over them.
    pub(super) root: Digest,
    /// What was cosigned, or the statement that took its place: for people, and as evidence.
    pub(super) checkpoint: String,
    /// When.
    pub(super) at: Timestamp,
    /// The newest recovery that was obeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) recovered: Option<Timestamp>,
}

impl LogState {
    pub(super) const fn cosigned(&self) -> Cosigned {
        Cosigned::Head { size: self.size, root: self.root }
    }
}

impl State {
    /// None where it is missing or damaged.
    pub(super) fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        durable::replace(path, &serde_json::to_vec_pretty(self)?, 0o600)
    }

    /// Remembers `next` for `origin`, durably or not at all. Where the disk kept it in spite of an error,
    /// the next start finds a head that continues the one in memory, and that nobody has a cosignature of.
    pub(super) fn put(&mut self, origin: &str, next: LogState, path: &Path) -> io::Result<()> {
        let mut changed = self.clone();
        changed.logs.insert(origin.to_owned(), next);
        changed.save(path)?;
        *self = changed;
        Ok(())
    }
}
