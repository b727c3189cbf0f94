//! The witness: a second machine that cosigns heads of ledgers, and only such as continue the one that
//! it cosigned last. Two hosts that both want its cosignature cannot be shown two different ledgers.
//!
//! What it cosigned last is durable before the cosignature leaves. Nothing but a root statement takes it
//! back (rule R10), the same that hosts obey, by the same rule. There is no command that makes it forget:
//! whoever could type that could fork the ledger.

pub mod http;
pub mod settings;
mod state;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ca::certificate::CaCertificate;
use crate::ca::key_file::{KeyError, load_witness_key, make_ledger_key};
use crate::ca::statement::recovery_by;
use crate::clock::Clock;
use crate::digest::Digest;
use crate::ledger::checkpoint::{Checkpoint, ProofError};
use crate::ledger::cosignature::{WitnessKey, WitnessSigner};
use crate::ledger::note::NoteVerifier;
use crate::ledger::witness::{AddCheckpoint, Cosigned, Refusal, judge};
use crate::rate::{LogGate, Rate, count};
use crate::root_statement::{NotObeyed, Remembered, SignedRecovery, StatementError};

use settings::Settings;
use state::{LogState, State};

/// Why a witness cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// A file or directory failed.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What was cosigned is not known any more.
    #[error(
        "{0} is missing or damaged, so it is not known what was cosigned with the key beside it, and that key must never be used again: remove both, and give hosts and CA the key of the new witness"
    )]
    StateLost(PathBuf),
    /// The key belongs to another state, or is gone.
    #[error(
        "the key in {0} is not the one that cosigned what is remembered beside it; put the right one back, or remove both for a new witness"
    )]
    OtherKey(PathBuf),
    /// Another witness is at work.
    #[error("another psfca witness is at work on {0}")]
    Busy(PathBuf),
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not of the form.
    #[error("the request is malformed")]
    Malformed,
    /// No such ledger in the settings.
    #[error("this witness does not know that ledger")]
    UnknownLog,
    /// The checkpoint is not signed by the ledger's key.
    #[error("the checkpoint is not to be believed: {0}")]
    Checkpoint(#[from] ProofError),
    /// It does not continue what was cosigned.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The statement is not to be believed.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The statement is not obeyed.
    #[error("the recovery is not obeyed: {0}")]
    NotObeyed(#[from] NotObeyed),
    /// The statement names another key than the settings.
    #[error("the recovery names another key of the ledger than this witness has in its settings: {0}")]
    OtherLedgerKey(NoteVerifier),
    /// Nothing was cosigned, so there is nothing to recover.
    #[error("this witness never cosigned that ledger")]
    NothingCosigned,
    /// What is to be remembered could not be stored.
    #[error("what was to be remembered could not be stored")]
    Storage(#[source] std::io::Error),
}

/// A ledger that is witnessed.
#[derive(Debug)]
struct Log {
    key: NoteVerifier,
    roots: Vec<CaCertificate>,
}

/// Log lines about refusals, which anybody can cause who has kept a head.
const LINES: Rate = Rate::per_minute(count(100), count(60));

/// A witness with its key and its memory.
pub struct Witness {
    signer: WitnessSigner,
    logs: BTreeMap<String, Log>,
    state: Mutex<State>,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// Apart from all other lines: nobody hides a fork by being refused for something else.
    forks: LogGate,
    lines: LogGate,
    _lock: File,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Witness({})", self.signer.key())
    }
}

impl Witness {
    /// Opens the state directory, and makes key and state where there are none.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn open(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, WitnessError> {
        let directory = &settings.state;
        let file = |source| WitnessError::File { path: directory.clone(), source };
        {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(file)?;
        }
        let lock = lock(directory)?;
        let (key, path) = (directory.join("witness.key"), directory.join("witness.json"));
        let (signer, state) = if key.exists() {
            let signer = load_witness_key(&key, &settings.name)?;
            let state = State::load(&path).ok_or_else(|| WitnessError::StateLost(path.clone()))?;
            if state.key != *signer.key() {
                return Err(WitnessError::OtherKey(key));
            }
            (signer, state)
        } else {
            make(&key, &path, &settings.name)?
        };
        let logs =
            settings.logs.into_iter().map(|log| (log.key.name().to_owned(), Log { key: log.key, roots: log.roots }));
        let [forks, lines] = [LINES; 2].map(LogGate::new);
        Ok(Self { signer, logs: logs.collect(), state: Mutex::new(state), path, clock, forks, lines, _lock: lock })
    }

    /// The key that such a witness has, also while one is at work; it is made where there is none.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn key_of(settings: Settings, clock: Arc<dyn Clock>) -> Result<WitnessKey, WitnessError> {
        let path = settings.state.join("witness.key");
        if path.exists() {
            return Ok(load_witness_key(&path, &settings.name)?.key().clone());
        }
        Ok(Self::open(settings, clock)?.key().clone())
    }

    /// The key by which its cosignatures are verified.
    #[must_use]
    pub const fn key(&self) -> &WitnessKey {
        self.signer.key()
    }

    /// Cosigns the checkpoint in an add-checkpoint request: the line that goes below it. What was cosigned
    /// is durable then.
    ///
    /// # Errors
    /// [`RequestError`]; nothing was cosigned.
    pub fn add_checkpoint(&self, body: &str) -> Result<String, RequestError> {
        let request = AddCheckpoint::parse(body).ok_or(RequestError::Malformed)?;
        let origin = request.checkpoint.lines().next().unwrap_or_default();
        let log = self.logs.get(origin).ok_or(RequestError::UnknownLog)?;
        let head = Checkpoint::open(&request.checkpoint, &log.key)?;
        let text = log.key.open(&request.checkpoint).map_err(ProofError::from)?;
        // Anybody can have put more below it.
        let checkpoint = log.key.alone(&request.checkpoint).map_err(ProofError::from)?;

        // Held from the comparison until the new head is durable, so that no two requests cross.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.logs.get(origin);
        let cosigned = known.map_or(Cosigned::Never, LogState::cosigned);
        if let Err(refusal) = judge(cosigned, &request, &head) {
            self.report(refusal, known, &head, &checkpoint);
            return Err(refusal.into());
        }
        let at = self.clock.now();
        let next = LogState {
            size: head.size,
            root: head.root,
            checkpoint,
            at,
            recovered: known.and_then(|known| known.recovered),
        };
        // The same head again, a second later, changes nothing that counts.
        if cosigned != next.cosigned() {
            state.put(origin, next, &self.path).map_err(RequestError::Storage)?;
            tracing::info!(ledger = origin, size = head.size, root = %head.root, "cosigned");
        }
        Ok(self.signer.cosign(text, at))
    }

    /// The head that was cosigned last of the ledger whose origin has this SHA-256, in hexadecimal digits: as the ledger
    /// signed it, with the cosignature. None of a ledger that is unknown, and none where a recovery came after it.
    #[must_use]
    pub fn cosigned_last(&self, origin: &str) -> Option<String> {
        let (origin, log) = self.logs.iter().find(|(name, _)| Digest::of(name.as_bytes()).to_string() == origin)?;
        let known = self.state.lock().unwrap_or_else(PoisonError::into_inner).logs.get(origin).cloned()?;
        let note = log.key.alone(&known.checkpoint).ok()?;
        let cosignature = self.signer.cosign(log.key.open(&note).ok()?, known.at);
        Some(note + &cosignature)
    }

    /// Obeys a recovery: the size from which the ledger goes on. It is durable then.
    ///
    /// # Errors
    /// [`RequestError`]; nothing was forgotten.
    pub fn recover(&self, statement: &str) -> Result<u64, RequestError> {
        let claim = SignedRecovery::parse(statement)?;
        let origin = claim.claim().origin().to_owned();
        let log = self.logs.get(&origin).ok_or(RequestError::UnknownLog)?;
        let recovery = recovery_by(statement, &log.roots)?;
        if recovery.ledger_key != log.key {
            return Err(RequestError::OtherLedgerKey(recovery.ledger_key));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.logs.get(&origin).ok_or(RequestError::NothingCosigned)?;
        let remembered =
            Remembered { origin: &origin, size: known.size, root: known.root, seen: known.at, obeyed: known.recovered };
        let now = self.clock.now();
        recovery.judge(&remembered, now)?;
        let (before, size, recovered) = (known.size, recovery.size, Some(recovery.time));
        let next = LogState { size, root: recovery.root, checkpoint: recovery.text(), at: now, recovered };
        state.put(&origin, next, &self.path).map_err(RequestError::Storage)?;
        tracing::warn!(ledger = origin, before, size, statement = %recovery.time, "the ledger was recovered by the root's word");
        Ok(size)
    }

    /// Two heads that do not go together are the reason why there is a witness, so both are told.
    fn report(&self, refusal: Refusal, known: Option<&LogState>, head: &Checkpoint, checkpoint: &str) {
        // Two signed heads of one size show it to everybody. A proof that does not fit shows nothing: anybody can have made
        // it up. So a daemon that finds its ledger forked shows its own head of that size.
        let fork = matches!(refusal, Refusal::OtherRoot(_));
        let gate = if fork { &self.forks } else { &self.lines };
        let Some(left_out) = gate.pass(self.clock.now()) else { return };
        let went_back = known.is_some_and(|known| head.size < known.size);
        let cosigned = known.map(|known| known.checkpoint.as_str()).unwrap_or_default();
        let (cosigned, shown) = (cosigned.escape_debug(), checkpoint.escape_debug());
        match refusal {
            Refusal::OtherRoot(_) => {
                tracing::error!(%cosigned, %shown, left_out, "FORK: the ledger showed a head that does not continue the one that was cosigned: {refusal}");
            }
            Refusal::NoContinuation { .. } => {
                tracing::warn!(%cosigned, %shown, left_out, "not cosigned, since the proof does not fit, which says nothing of the ledger: {refusal}");
            }
            // One daemon shows its heads in their order, so this is an old copy of it, or a second one; or somebody who
            // has kept that head.
            Refusal::OldAboveNew | Refusal::OtherSize(_) if went_back => {
                tracing::warn!(%cosigned, %shown, left_out, "WENT BACK: the ledger showed a head with fewer entries than were cosigned, or somebody who kept that head did");
            }
            Refusal::OldAboveNew | Refusal::OtherSize(_) => {
                tracing::info!(%shown, left_out, "not cosigned: {refusal}");
            }
        }
    }
}

fn lock(directory: &Path) -> Result<File, WitnessError> {
    let path = directory.join("lock");
    let failed = |source| WitnessError::File { path: path.clone(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WitnessError::Busy(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// A new witness. The state is there before the key is, so that a key without a state has always lost it.
fn make(key: &Path, path: &Path, name: &str) -> Result<(WitnessSigner, State), WitnessError> {
    if State::load(path).is_some_and(|state| !state.logs.is_empty()) {
        return Err(WitnessError::OtherKey(key.to_owned()));
    }
    let fresh = key.with_extension("key.new");
    let _ = std::fs::remove_file(&fresh);
    make_ledger_key(&fresh)?;
    let signer = load_witness_key(&fresh, name)?;
    let state = State { key: signer.key().clone(), logs: BTreeMap::new() };
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| WitnessError::File { path, source }
    };
    state.save(path).map_err(file(path))?;
    std::fs::rename(&fresh, key).map_err(file(key))?;
    crate::durable::sync_directory_of(key).map_err(file(key))?;
    Ok((signer, state))
}

#[cfg(test)]
mod tests;
