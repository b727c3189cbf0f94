//! How a CA comes back from a backup: the order of operations of `psfca restore`.
//!
//! Everything is made in a scratch directory and moved into place at the end. Until the directory
//! `ca` is in place there is no CA, so a restore that is killed leaves nothing usable or the whole,
//! and the next one begins again or clears up.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ca::authorities::{CaCertificates, CaFiles};
use crate::ca::key_archive::{self, CaKeys};
use crate::ca::key_file::KeyError;
use crate::clock::{Clock, Timestamp};
use crate::digest::Digest;
use crate::durable;
use crate::host::{HostState, Remark};
use crate::init::ledger_path;
use crate::ledger::checkpoint::{Checkpoint, ProofError};
use crate::restoration::Restoration;
use crate::store::{LedgerCopy, NewRestoration, Store, StoreError, note_of};
use crate::verification::{Finding, Wanted, examine};
use crate::wire::AuditQuery;

/// Everything is made here.
const SCRATCH: &str = ".restore";
/// In the scratch directory, once everything else there is whole: what was restored.
const READY: &str = "ready.json";

/// What is wanted.
pub struct Restoring<'a> {
    /// The state directory; it must exist and be empty.
    pub state: &'a Path,
    /// The ledger's name.
    pub origin: &'a str,
    /// What `psfca backup` wrote.
    pub backup: &'a Path,
    /// What `psfca backup --keys` wrote.
    pub keys: &'a Path,
    /// What opens the keys.
    pub passphrase: &'a str,
    /// Who restores.
    pub operator_uid: u32,
    /// On whose behalf.
    pub remark: Option<Remark>,
    /// How many threads verify signatures; at least one.
    pub signature_threads: usize,
    /// Time.
    pub clock: &'a dyn Clock,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// How many entries the backup had: the index from which on entries may be lost.
    pub size: u64,
    /// The Merkle root over them.
    pub root: Digest,
    /// When its last entry was written.
    pub last: Timestamp,
    /// How many hosts are enabled in it.
    pub enabled: u64,
    /// Whether the root's key was among the keys.
    pub root_key: bool,
    /// The root's certificate.
    pub root_certificate: String,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Something is in the way.
    #[error("{0} exists already; a restore replaces nothing: move it away, or use another state directory")]
    Exists(PathBuf),
    /// A directory or file failed.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The backup cannot be read.
    #[error("the backup cannot be used: {0}")]
    Backup(StoreError),
    /// The backup is not what the CA signed.
    #[error("the backup's checkpoint is not to be believed: {0}")]
    Checkpoint(#[from] ProofError),
    /// The backup does not verify.
    #[error("the backup does not hold, so nothing was restored: {0} differences, listed above")]
    DoesNotHold(u64),
    /// The backup has no CA in it.
    #[error("the backup does not have the certificates of root, issuing CA and identity CA, all signed")]
    NoCertificates,
    /// The keys cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The new ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk did not keep everything.
    #[error("the restored ledger did not keep what was written to it; nothing was restored: check the disk, and again")]
    LedgerIncomplete,
}

/// Verifies a backup and makes a CA of it, which is closed. `found` is told what does not hold, and
/// `progress` now and then how many entries of how many were read.
///
/// # Errors
/// [`RestoreError`]; there is no CA then, and no key is left in the state directory.
pub async fn restore(
    wanted: &Restoring<'_>,
    found: &mut dyn FnMut(Finding),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, RestoreError> {
    // 1. Refuse to overwrite; what a killed restore left is cleared up, or found to be whole.
    if let Some(restored) = clear(wanted.state)? {
        return Ok(restored);
    }
    let outcome = make(wanted, found, progress).await;
    if outcome.is_err() {
        let _ = std::fs::remove_dir_all(wanted.state.join(SCRATCH));
    }
    outcome
}

/// Sees that the state directory is empty, but for what an earlier restore left there. One that was
/// killed after its last rename has restored all: what that was is returned.
fn clear(state: &Path) -> Result<Option<Restored>, RestoreError> {
    let (scratch, ledger, files) = (state.join(SCRATCH), ledger_path(state), CaFiles::in_state(state));
    let made = CaFiles::in_state(&scratch);
    let ready = std::fs::read(scratch.join(READY)).ok();
    let ready = ready.and_then(|text| serde_json::from_slice::<Restored>(&text).ok());
    if let Some(restored) = &ready
        && files.directory().exists()
        && !made.directory().exists()
    {
        std::fs::remove_dir_all(&scratch).map_err(file(&scratch))?;
        return Ok(Some(restored.clone()));
    }
    for entry in std::fs::read_dir(state).map_err(file(state))? {
        let path = entry.map_err(file(state))?.path();
        // A ledger without a CA, beside a scratch directory that has all but the ledger, is ours.
        let ours = path == scratch || (path == ledger && ready.is_some() && !ledger_path(&scratch).exists());
        if !ours {
            return Err(RestoreError::Exists(path));
        }
    }
    if ledger.exists() {
        std::fs::remove_file(&ledger).map_err(file(&ledger))?;
    }
    match std::fs::remove_dir_all(&scratch) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file(&scratch)(source)),
        _ => Ok(None),
    }
}

async fn make(
    wanted: &Restoring<'_>,
    found: &mut dyn FnMut(Finding),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, RestoreError> {
    // 2. The keys, since a wrong passphrase is found in a moment; and the head that the CA signed.
    let archive = key_archive::open(wanted.keys, wanted.passphrase)?;
    let signer = archive.ledger_signer(wanted.origin)?;

    // 3. A copy of the backup: what is verified is what is restored, whatever becomes of the file.
    let scratch = wanted.state.join(SCRATCH);
    let made = CaFiles::in_state(&scratch);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(made.directory()).map_err(file(made.directory()))?;
    let ledger = ledger_path(&scratch);
    copy(wanted.backup, &ledger)?;
    // An older version's tables become those of this one.
    drop(Store::open(&ledger).map_err(RestoreError::Backup)?);
    let checkpoint = Checkpoint::open(&note_of(&ledger).map_err(RestoreError::Backup)?, signer.verifier())?;

    // 4. Verify it wholly, as psfca audit verify does, and by that head: not an entry more or less.
    let certificates = verified(wanted, &ledger, &checkpoint, found, progress)?;

    // 5. Every key must be that of its certificate. The certificates come from the ledger.
    let keys = archive.of(&certificates)?;

    // 6. The ledger says that it was restored; tokens, requests and Salt keys are void, and the CA is closed.
    let (last, enabled) = mark(wanted, &ledger, &checkpoint).await?;
    let restored = Restored {
        size: checkpoint.size,
        root: checkpoint.root,
        last,
        enabled,
        root_key: keys.has_root(),
        root_certificate: certificates.root.pem().to_owned(),
    };

    // 7. Everything to disk, durably.
    store(&made, &certificates, &keys)?;
    let text = serde_json::to_vec(&restored).map_err(|error| file(&scratch)(error.into()))?;
    durable::replace(&scratch.join(READY), &text, 0o600).map_err(file(&scratch))?;
    durable::sync_directory_of(&scratch).map_err(file(&scratch))?;

    // 8. Into place. Until the second rename there is no CA, and the next restore knows what it found.
    let (to, files) = (ledger_path(wanted.state), CaFiles::in_state(wanted.state));
    std::fs::rename(&ledger, &to).map_err(file(&to))?;
    durable::sync_directory_of(&to).map_err(file(&to))?;
    std::fs::rename(made.directory(), files.directory()).map_err(file(files.directory()))?;
    durable::sync_directory_of(&to).map_err(file(&to))?;
    let _ = std::fs::remove_dir_all(&scratch);
    Ok(restored)
}

fn file(path: &Path) -> impl Fn(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::File { path: path.clone(), source }
}

fn copy(backup: &Path, to: &Path) -> Result<(), RestoreError> {
    let mut from = std::fs::File::open(backup).map_err(file(backup))?;
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(file(to))?;
    io::copy(&mut from, &mut out).and_then(|_| out.sync_all()).map_err(file(to))
}

fn verified(
    wanted: &Restoring<'_>,
    ledger: &Path,
    checkpoint: &Checkpoint,
    found: &mut dyn FnMut(Finding),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CaCertificates, RestoreError> {
    let copy = LedgerCopy::open(ledger).map_err(RestoreError::Backup)?;
    let against = Wanted { against: Some(checkpoint), signature_threads: wanted.signature_threads.max(1) };
    let (summary, certificates) = examine(&copy, against, found, &mut |entries| progress(entries, checkpoint.size))
        .map_err(RestoreError::Backup)?;
    if summary.differences != 0 {
        return Err(RestoreError::DoesNotHold(summary.differences));
    }
    certificates.ok_or(RestoreError::NoCertificates)
}

/// Appends the restoration. Returns when the backup's last entry was written, and how many hosts are enabled.
async fn mark(
    wanted: &Restoring<'_>,
    ledger: &Path,
    checkpoint: &Checkpoint,
) -> Result<(Timestamp, u64), RestoreError> {
    let now = wanted.clock.now();
    let store = Store::open(ledger)?;
    let (newest, _) = store.entries(AuditQuery { limit: Some(1), ..AuditQuery::default() }, now).await?;
    let last = newest.first().map(|entry| entry.time).ok_or(RestoreError::NoCertificates)?;
    let enabled = store.hosts().iter().filter(|host| host.state == HostState::Enabled).count() as u64;
    let (operator_uid, remark) = (wanted.operator_uid, wanted.remark.clone());
    let restoration = Restoration { size: checkpoint.size, root: checkpoint.root, operator_uid, remark };
    store.mark_restored(NewRestoration { at: now, restoration: restoration.clone() }).await?;
    drop(store);
    // Opening it again leaves everything in its one file, or fails.
    let store = Store::open(ledger)?;
    let kept = store.closed().is_some_and(|closed| closed.restoration == restoration);
    if kept && store.head().size == checkpoint.size + 1 {
        Ok((last, enabled))
    } else {
        Err(RestoreError::LedgerIncomplete)
    }
}

fn store(made: &CaFiles, certificates: &CaCertificates, keys: &CaKeys) -> Result<(), RestoreError> {
    keys.store(made)?;
    let CaCertificates { root, issuing, identity } = certificates;
    for (path, certificate) in [(made.root(), root), (made.issuing(), issuing), (made.identity(), identity)] {
        durable::replace(&path, certificate.pem().as_bytes(), 0o644).map_err(file(&path))?;
    }
    Ok(())
}
