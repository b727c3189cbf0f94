//! `psfca audit verify`

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::ca::authorities::CaFiles;
use crate::ca::key_file::load_ledger_key;
use crate::cli::AuditVerify;
use crate::cli::audit::verification::Printer;
use crate::init::ledger_path;
use crate::ledger::checkpoint::{Checkpoint, ProofError};
use crate::ledger::note::{NoteError, NoteVerifier};
use crate::store::LedgerCopy;
use crate::verification::{Wanted, verify};

/// A checkpoint is a few hundred octets.
const MAX_CHECKPOINT: u64 = 64 * 1024;

/// Checks a ledger; exit code 0 means that everything holds, 1 that something does not.
pub(super) fn run(args: &AuditVerify) -> anyhow::Result<ExitCode> {
    let (file, state) = place(args)?;
    let against = args.against.as_deref().map(|path| checkpoint(path, args.key.as_ref(), state.as_deref()));
    let against = against.transpose().map_err(by_another_key)?;
    let copy = LedgerCopy::open(&file)?;
    let signature_threads =
        if args.without_signatures { 0 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let wanted = Wanted { against: against.as_ref(), signature_threads };
    let printer = Printer::new(args.json, !args.without_signatures, copy.count().unwrap_or(0));
    let printer = std::cell::RefCell::new(printer);
    let summary = verify(&copy, wanted, &mut |finding| printer.borrow_mut().finding(&finding), &mut |entries| {
        printer.borrow_mut().progress(entries)
    })?;
    printer.into_inner().summary(&summary, against.as_ref())?;
    Ok(if summary.differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A checkpoint may be older than the ledger's key.
fn by_another_key(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(ProofError::Note(NoteError::Unsigned(_))) => {
            error.context("the checkpoint and the key do not go together; the key that signed it is given with --key")
        }
        _ => error,
    }
}

/// The ledger's file, and the state directory where one was given.
fn place(args: &AuditVerify) -> anyhow::Result<(PathBuf, Option<PathBuf>)> {
    match (&args.state, &args.file) {
        (Some(state), _) => Ok((ledger_path(state), Some(state.clone()))),
        (None, Some(path)) if path.is_dir() => Ok((ledger_path(path), Some(path.clone()))),
        (None, Some(file)) => Ok((file.clone(), None)),
        (None, None) => bail!("say which ledger: a file, or --state DIR"),
    }
}

/// Reads the checkpoint in `path` and verifies its signature.
pub(in crate::run) fn checkpoint(
    path: &Path,
    key: Option<&NoteVerifier>,
    state: Option<&Path>,
) -> anyhow::Result<Checkpoint> {
    let mut note = String::new();
    let name = path.display();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_CHECKPOINT).read_to_string(&mut note).context("standard input cannot be read")?;
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("{name} cannot be read"))?;
        file.take(MAX_CHECKPOINT).read_to_string(&mut note).with_context(|| format!("{name} cannot be read"))?;
    }
    let key = match (key, state) {
        (Some(key), _) => key.clone(),
        // The key's name is the ledger's, which the checkpoint's first line says; a checkpoint of
        // another ledger is signed by another key.
        (None, Some(state)) => {
            let origin = note.lines().next().unwrap_or_default();
            load_ledger_key(&CaFiles::in_state(state).ledger_key(), origin)?.verifier().clone()
        }
        (None, None) => bail!("a checkpoint is only as good as the key that signed it: give that with --key"),
    };
    Checkpoint::open(&note, &key).with_context(|| format!("the checkpoint in {name} is not to be believed"))
}
