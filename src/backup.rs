//! How a backup comes to be: the order of operations of `psfca backup`. The daemon may run meanwhile.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::ca::authorities::{AuthoritiesError, CaCertificates, CaFiles};
use crate::ca::key_archive;
use crate::ca::key_file::{KeyError, load_ledger_key};
use crate::durable;
use crate::init::ledger_path;
use crate::ledger::checkpoint::Checkpoint;
use crate::random::Random;
use crate::store::{LedgerCopy, StoreError, write_backup};
use crate::verification::{self, verify};

/// What is wanted.
pub struct Wanted<'a> {
    /// The state directory.
    pub state: &'a Path,
    /// The ledger's name.
    pub origin: &'a str,
    /// The new file.
    pub file: &'a Path,
    /// Where the private keys go besides, if anywhere, and what opens them again.
    pub keys: Option<(&'a Path, &'a str)>,
    /// Randomness, for the encryption of the keys.
    pub random: &'a dyn Random,
}

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Pages that were copied, of how many.
    Copied(u64, u64),
    /// Entries that were verified, of how many.
    Verified(u64, u64),
}

/// What was backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// The head of the ledger in the backup.
    pub checkpoint: Checkpoint,
    /// The head, signed.
    pub note: String,
    /// Whether the root's key is among the keys.
    pub root_key: bool,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A file is in the way.
    #[error("{0} exists already; a backup replaces nothing, so name another file")]
    Exists(PathBuf),
    /// A file failed.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The ledger cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The CA's certificates cannot be read.
    #[error(transparent)]
    Authorities(#[from] AuthoritiesError),
    /// What was written does not verify.
    #[error(
        "what was written does not verify, so it was thrown away: {0}; psfca audit verify says what is wrong with the ledger itself"
    )]
    DoesNotHold(String),
}

/// Writes a backup, verifies what was written, and only then gives it its name.
///
/// # Errors
/// [`BackupError`]; there is no file of that name then. Keys may be there already.
pub fn back_up(wanted: &Wanted<'_>, progress: &mut dyn FnMut(Progress)) -> Result<BackedUp, BackupError> {
    // 1. Refuse to overwrite, before any work.
    for path in std::iter::once(wanted.file).chain(wanted.keys.map(|(path, _)| path)) {
        if path.try_exists().map_err(failed(path))? {
            return Err(BackupError::Exists(path.to_owned()));
        }
    }
    let files = CaFiles::in_state(wanted.state);
    let signer = load_ledger_key(&files.ledger_key(), wanted.origin)?;

    // 2. The copy, with a signed checkpoint of all that is in it.
    let draft = Draft::new(wanted.file)?;
    let mut note = String::new();
    let sign = |head: crate::store::Head| {
        note = Checkpoint { origin: wanted.origin.to_owned(), size: head.size, root: head.root }.sign(&signer);
        note.clone()
    };
    let head = write_backup(&ledger_path(wanted.state), &draft.path, sign, &mut |done, all| {
        progress(Progress::Copied(done, all))
    })?;
    let checkpoint = Checkpoint { origin: wanted.origin.to_owned(), size: head.size, root: head.root };

    // 3. Verify what was written, by that checkpoint. Signatures take long, and the daemon verified
    //    each before it left; audit verify and restore look at them.
    let mut first = None;
    let mut found = |finding: verification::Finding| {
        first.get_or_insert(finding.what);
    };
    let copy = LedgerCopy::open(&draft.path)?;
    let against = verification::Wanted { against: Some(&checkpoint), signature_threads: 0 };
    let summary = verify(&copy, against, &mut found, &mut |done| progress(Progress::Verified(done, head.size)))?;
    if let Some(what) = first {
        return Err(BackupError::DoesNotHold(what));
    }
    if summary.entries != head.size {
        return Err(BackupError::DoesNotHold(format!("{} entries of {}", summary.entries, head.size)));
    }
    drop(copy);

    // 4. The keys, opened again to see that they can be, and that they are this CA's.
    let mut root_key = false;
    if let Some((path, passphrase)) = wanted.keys {
        let keys = Draft::vacant(path)?;
        key_archive::write(&keys.path, &key_archive::seal(&files, passphrase, wanted.random)?)?;
        root_key = key_archive::open(&keys.path, passphrase)?.of(&CaCertificates::load(&files)?)?.has_root();
        keys.place(path)?;
    }

    // 5. The name comes last: whatever has it is whole.
    draft.place(wanted.file)?;
    Ok(BackedUp { checkpoint, note, root_key })
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(path),
        _ => BackupError::File { path, source },
    }
}

/// A file that has no name yet; removed when dropped.
struct Draft {
    path: PathBuf,
}

impl Draft {
    /// Nothing is at the place where the file will be until it is whole.
    fn vacant(file: &Path) -> Result<Self, BackupError> {
        let path = durable::temporary_name(file).map_err(failed(file))?;
        // What lies there, or what SQLite keeps beside it, is left over from a run that was killed.
        for ending in ["", "-journal", "-wal", "-shm"] {
            let mut name = path.clone().into_os_string();
            name.push(ending);
            match std::fs::remove_file(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path)(error)),
                _ => {}
            }
        }
        Ok(Self { path })
    }

    /// An empty file, for its owner alone.
    fn new(file: &Path) -> Result<Self, BackupError> {
        let draft = Self::vacant(file)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&draft.path).map_err(failed(&draft.path))?;
        Ok(draft)
    }

    fn place(self, file: &Path) -> Result<(), BackupError> {
        durable::place_new(&self.path, file).map_err(failed(file))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
