//! Whether a ledger holds: every entry is what its hash says, the hashes make the tree, and whatever
//! else the file says follows from the entries. Reads only, and believes nothing in the file.
//!
//! What cannot be found, because no entry says it: that a signature was removed (its certificate
//! then counts as unreleased, as after a crash), or replaced by another one of the same key. A whole
//! body may be missing only where an entry says until which end bodies were dropped.

mod backup;
mod pass;
mod requests;
mod signatures;
mod tables;

use crate::ca::authorities::CaCertificates;
use crate::digest::Digest;
use crate::ledger::checkpoint::Checkpoint;
use crate::store::{Copied, LedgerCopy, Reading, StoreError};

use pass::Pass;
use signatures::Workers;

/// Entries between two calls of the progress function.
const STRIDE: u64 = 8_192;

/// What to check besides the ledger itself.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// A head that the ledger must have had, already verified.
    pub against: Option<&'a Checkpoint>,
    /// How many threads verify signatures; with none of them, signatures are left out.
    pub signature_threads: usize,
}

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The entry that it is about, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// What does not hold.
    pub what: String,
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Entries.
    pub entries: u64,
    /// The Merkle root over them.
    pub root: Digest,
    /// Certificates among them.
    pub certificates: u64,
    /// Certificates whose signature is not stored: they may or may not have left the CA.
    pub unreleased: u64,
    /// Certificates whose body was dropped after its retention: what they were is known by its hash.
    pub dropped: u64,
    /// Signatures that were verified.
    pub signatures: u64,
    /// Things that do not hold.
    pub differences: u64,
}

/// Checks everything; `found` is told each thing that does not hold, and `progress` now and then
/// how many entries were read.
///
/// # Errors
/// When the file is no ledger, or cannot be read by this build. What cannot be read in the middle of one is told as a finding.
pub fn verify(
    copy: &LedgerCopy,
    wanted: Wanted<'_>,
    found: &mut dyn FnMut(Finding),
    progress: &mut dyn FnMut(u64),
) -> Result<Summary, StoreError> {
    Ok(examine(copy, wanted, found, progress)?.0)
}

/// As [`verify`]; returns besides the newest CA certificate of each kind, where signatures were
/// verified and there is one of each.
///
/// # Errors
/// As [`verify`].
pub fn examine(
    copy: &LedgerCopy,
    wanted: Wanted<'_>,
    found: &mut dyn FnMut(Finding),
    progress: &mut dyn FnMut(u64),
) -> Result<(Summary, Option<CaCertificates>), StoreError> {
    let mut differences = 0;
    let mut tell = |finding| {
        differences += 1;
        found(finding);
    };
    // Beside the pass, with a connection of its own.
    let second = copy.second()?;
    let (mut passed, mut rest) = Reading::pair();
    let (mut summary, certificates) = std::thread::scope(|scope| {
        let structure = scope.spawn(move || {
            second.read_rest(&mut rest)?;
            Ok(rest)
        });
        let workers = Workers::start(scope, wanted.signature_threads);
        let mut pass = Pass::new(copy, wanted.against, workers, &mut tell);
        let outcome = copy.pass(&mut passed, |copied| match copied {
            Copied::Entry(row) => {
                pass.entry(row);
                if pass.size().is_multiple_of(STRIDE) {
                    progress(pass.size());
                }
            }
            Copied::Stray(table, index) => pass.stray(table, index),
            Copied::Mistyped(table, index) => pass.mistyped(table, index),
            Copied::Unreadable(table, index) => pass.unreadable(table, index),
        });
        let outcome = pass.end(outcome);
        let rest = structure.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match rest.and_then(|rest| copy.faults(passed, rest)) {
            Ok(faults) => faults.into_iter().for_each(|what| tell(Finding { index: None, what })),
            Err(error) => tell(unreadable(None, &error)),
        }
        outcome
    });
    if copy.was_disturbed() {
        let what = "a daemon opened the ledger while it was read; verify it again".to_owned();
        tell(Finding { index: None, what });
    }
    summary.differences = differences;
    Ok((summary, certificates))
}

/// A part of the file that could not be read.
fn unreadable(index: Option<u64>, error: &StoreError) -> Finding {
    Finding { index, what: format!("the file cannot be read further: {error}") }
}
