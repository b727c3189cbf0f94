//! Why an answer is not used, as far as the ledger says.

use crate::client::ClientError;
use crate::clock::Timestamp;
use crate::ledger::EntryError;
use crate::ledger::checkpoint::ProofError;
use crate::ledger::note::{NoteError, NoteVerifier};

/// Why an answer is not used, as far as the ledger says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// No proof, or an unreadable one.
    #[error(
        "the answer has no readable header {0}, so nothing shows that the CA recorded this; either psfca is older there than here, or something between changes answers"
    )]
    NoHeader(&'static str),
    /// The proof, or the checkpoint in it, does not show what it should.
    #[error("the CA does not prove that it recorded this: {0}")]
    Proof(ProofError),
    /// Signed by another key.
    #[error(
        "the ledger's checkpoint is not signed by {0}, the key that this host enrolled with; this is another CA, or its ledger's key was replaced; if that is meant, its operator says so with: psfca recover --new-ledger-key"
    )]
    OtherKey(NoteVerifier),
    /// Not cosigned by the witness that this host wants.
    #[error(
        "the witness {0} has not cosigned the ledger's head ({1}), and without that this host takes nothing from the CA (witness in host.yaml); either the witness is away for a while, or the CA shows it another ledger than this host"
    )]
    NotWitnessed(String, NoteError),
    /// The proof is about bytes that are no entry.
    #[error("what the CA recorded cannot be read: {0}")]
    Entry(#[from] EntryError),
    /// The proof is about another certificate.
    #[error("what the CA recorded is not what it sent: the entry has another {0}")]
    OtherEntry(&'static str),
    /// The ledger is shorter than it was.
    #[error(
        "the CA's ledger has {now} entries and this host has seen {seen} (checkpoint of {at}): it went back, perhaps to an old backup, or this is not the same CA; after an honest loss its operator ends this with: psfca recover --seen {seen}"
    )]
    WentBack {
        /// Its size now.
        now: u64,
        /// The size that was seen.
        seen: u64,
        /// When.
        at: Timestamp,
    },
    /// The ledger does not begin with what it was.
    #[error(
        "the CA's ledger of {now} entries does not continue the {seen} that this host has seen (checkpoint of {at}): {cause}; it was changed, or went back and grew again, or this is not the same CA; after an honest loss its operator ends this with: psfca recover --seen {seen}"
    )]
    Forked {
        /// Its size now.
        now: u64,
        /// The size that was seen.
        seen: u64,
        /// When.
        at: Timestamp,
        /// How that shows.
        cause: String,
    },
    /// The CA shows a recovery statement that does not help.
    #[error("{trouble}; the CA shows a recovery statement, which is not obeyed: {why}")]
    NotRecovered {
        /// What is wrong with the ledger.
        trouble: Box<LedgerError>,
        /// What is wrong with the statement, or with the ledger by it.
        why: String,
    },
    /// The CA did not say whether its ledger continues.
    #[error(transparent)]
    Unanswered(#[from] ClientError),
}

impl LedgerError {
    /// Whether it is about the ledger's past. That alone may be only reported
    /// ([`super::LedgerPolicy::Alarm`]); a certificate that is not in the ledger is never used.
    pub(super) fn is_of_the_past(&self) -> bool {
        match self {
            Self::WentBack { .. } | Self::Forked { .. } => true,
            Self::NotRecovered { trouble, .. } => trouble.is_of_the_past(),
            _ => false,
        }
    }

    /// Whether a recovery statement could end it.
    pub(super) const fn may_be_recovered(&self) -> bool {
        matches!(self, Self::WentBack { .. } | Self::Forked { .. } | Self::OtherKey(_))
    }

    pub(super) fn of_proof(error: ProofError, key: &NoteVerifier) -> Self {
        match error {
            ProofError::Note(NoteError::Unsigned(_) | NoteError::WrongSignature(_)) => Self::OtherKey(key.clone()),
            error => Self::Proof(error),
        }
    }
}
