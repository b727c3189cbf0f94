//! Signs the ledger's heads. A head is signed once, however many answers carry it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::ledger::checkpoint::{Checkpoint, InclusionProof};
use crate::ledger::note::{NoteSigner, NoteVerifier};
use crate::store::{Head, Recorded};

/// The ledger's key and the last checkpoint that it signed. Only committed heads come here, and each
/// of them continues the one before, so no two signed checkpoints contradict each other.
pub struct Checkpoints {
    signer: NoteSigner,
    last: Mutex<Option<(Head, String)>>,
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoints({:?})", self.signer.verifier())
    }
}

impl Checkpoints {
    /// Signs with this key, under its name.
    #[must_use]
    pub fn new(signer: NoteSigner) -> Self {
        Self { signer, last: Mutex::new(None) }
    }

    /// The key by which the checkpoints are verified.
    #[must_use]
    pub const fn verifier(&self) -> &NoteVerifier {
        self.signer.verifier()
    }

    /// `head` as a signed checkpoint.
    #[must_use]
    pub fn sign(&self, head: Head) -> String {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((signed, note)) if *signed == head => note.clone(),
            _ => {
                let origin = self.signer.verifier().name().to_owned();
                let note = Checkpoint { origin, size: head.size, root: head.root }.sign(&self.signer);
                *last = Some((head, note.clone()));
                note
            }
        }
    }

    /// The proof that goes with a recorded certificate.
    #[must_use]
    pub fn prove(&self, recorded: &Recorded) -> InclusionProof {
        InclusionProof {
            entry: recorded.entry().to_vec(),
            index: recorded.index(),
            hashes: recorded.hashes().to_vec(),
            checkpoint: self.sign(recorded.head()),
        }
    }
}
