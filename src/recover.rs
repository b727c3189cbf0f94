//! How a CA gives up what it lost: the order of operations of `psfca recover`.

use std::io;
use std::path::{Path, PathBuf};

use crate::ca::key_file::{KeyError, load_ledger_key, make_ledger_key};
use crate::ca::signer::{Authority, SignError};
use crate::clock::{Clock, Timestamp};
use crate::digest::Digest;
use crate::durable;
use crate::ledger::note::NoteVerifier;
use crate::root_statement::{Recovery, SignedRecovery};
use crate::store::{Head, NewRecovery, Store, StoreError};

/// What is wanted.
pub struct Recovering<'a> {
    /// The ledger, which no daemon has open meanwhile.
    pub store: &'a Store,
    /// The root, with its key.
    pub root: &'a Authority,
    /// Heads of up to so many entries are given up.
    pub given_up: u64,
    /// The root of the largest of them, where it is known.
    pub given_up_root: Option<Digest>,
    /// The file with the key that signs the ledger's checkpoints.
    pub ledger_key: &'a Path,
    /// What the ledger is called.
    pub origin: &'a str,
    /// Whether that key is replaced, because it was lost or stolen.
    pub new_ledger_key: bool,
    /// Who runs the command.
    pub operator_uid: u32,
    /// Time.
    pub clock: &'a dyn Clock,
}

/// Why nothing was given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The ledger has what was to be given up.
    #[error(
        "nothing was lost: the first {0} entries of this ledger are those of the checkpoint; if hosts refuse it all the same, give the newest checkpoint that any of them has seen"
    )]
    NothingLost(u64),
    /// The clock went back.
    #[error(
        "this machine's clock says {now}, and the newest recovery in the ledger is of {newest}; hosts obey only a newer one: set the clock"
    )]
    ClockBehind {
        /// The clock.
        now: Timestamp,
        /// The newest recovery.
        newest: Timestamp,
    },
    /// The ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The statement was not signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The new ledger key is not in its place.
    #[error(
        "the recovery is in the ledger, and the new ledger key could not be put in its place; run psfca recover again: {path}: {source}"
    )]
    KeyNotInPlace {
        /// The key's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Signs a recovery with the root's key and appends it to the ledger, from which the daemon serves it.
///
/// # Errors
/// [`RecoverError`]; nothing was given up then, except for [`RecoverError::KeyNotInPlace`].
pub async fn recover(wanted: &Recovering<'_>) -> Result<Recovery, RecoverError> {
    let store = wanted.store;

    // 1. What was lost must be lost.
    if let (Some(given_up), false) = (wanted.given_up_root, wanted.new_ledger_key)
        && store.root_of(wanted.given_up).await? == Some(given_up)
    {
        return Err(RecoverError::NothingLost(wanted.given_up));
    }

    // 2. Hosts obey only what is newer than what they obeyed.
    let now = wanted.clock.now();
    let newest = store.recovery().await?.and_then(|text| SignedRecovery::parse(&text).ok());
    if let Some(newest) = newest.map(|signed| signed.claim().time).filter(|newest| *newest >= now) {
        return Err(RecoverError::ClockBehind { now, newest });
    }

    // 3. The key that signs from then on. A new one waits beside the old until hosts can learn of it.
    let fresh = wanted.ledger_key.with_extension("key.new");
    let ledger_key = ledger_key(wanted, &fresh)?;

    // 4. Sign; the signature is verified, and goes nowhere but into the ledger.
    let head = store.head();
    let Head { size, root } = head;
    let (given_up, given_up_root) = (wanted.given_up, wanted.given_up_root);
    let signed = wanted.root.state(Recovery { given_up, given_up_root, size, root, ledger_key, time: now })?;

    // 5. Append, durably. From here on the audit shows it, and the daemon serves it.
    let statement = signed.to_text();
    store.recover(NewRecovery { at: now, statement, head, operator_uid: wanted.operator_uid }).await?;

    // 6. The new key in its place. A crash before this leaves a recovery that names a key which is not
    //    there yet; hosts refuse until the command has been run again.
    if wanted.new_ledger_key {
        let path = wanted.ledger_key;
        let moved = std::fs::rename(&fresh, path).and_then(|()| durable::sync_directory_of(path));
        moved.map_err(|source| RecoverError::KeyNotInPlace { path: path.to_owned(), source })?;
    }
    Ok(signed.claim().clone())
}

fn ledger_key(wanted: &Recovering<'_>, fresh: &Path) -> Result<NoteVerifier, RecoverError> {
    if !wanted.new_ledger_key {
        return Ok(load_ledger_key(wanted.ledger_key, wanted.origin)?.verifier().clone());
    }
    let file = |source| KeyError::File { path: fresh.to_owned(), source };
    match std::fs::remove_file(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(error).into()),
        _ => {}
    }
    make_ledger_key(fresh)?;
    durable::sync_directory_of(fresh).map_err(file)?;
    Ok(load_ledger_key(fresh, wanted.origin)?.verifier().clone())
}
