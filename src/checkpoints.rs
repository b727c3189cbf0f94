//! Signs the ledger's heads, and has them cosigned where there is a witness. A head is signed once, however
//! many answers carry it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::cosigning::{CosignedHead, Cosigner, Standing};
use crate::ledger::checkpoint::{Checkpoint, InclusionProof};
use crate::ledger::note::{NoteSigner, NoteVerifier};
use crate::store::{Head, Recorded, Store};

/// The ledger's key and the last checkpoint that it signed. Only heads of what is committed come here, so no two signed
/// checkpoints contradict each other.
pub struct Checkpoints {
    signer: NoteSigner,
    last: Mutex<Option<(Head, String)>>,
    cosigner: Option<Cosigner>,
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
        Self { signer, last: Mutex::new(None), cosigner: None }
    }

    /// The same, with a witness that is asked to cosign.
    #[must_use]
    pub fn with_witness(self, cosigner: Option<Cosigner>) -> Self {
        Self { cosigner, ..self }
    }

    /// How it stands with the witness, where there is one.
    #[must_use]
    pub fn witness(&self) -> Option<Standing> {
        self.cosigner.as_ref().map(Cosigner::standing)
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

    /// A signed checkpoint of `head`, or of a later one that the witness has cosigned.
    pub async fn newest(&self, head: Head) -> String {
        match self.cosigned(head).await {
            Some(cosigned) => cosigned.note,
            None => self.sign(head),
        }
    }

    /// The proof that goes with a recorded certificate: under a head that the witness has cosigned, where
    /// that could be had in time, and otherwise under the one that it was recorded with.
    pub async fn prove(&self, recorded: &Recorded, store: &Store) -> InclusionProof {
        let (entry, index) = (recorded.entry().to_vec(), recorded.index());
        if let Some(CosignedHead { head, note: checkpoint }) = self.cosigned(recorded.head()).await {
            let hashes = match head == recorded.head() {
                true => Some(recorded.hashes().to_vec()),
                false => store.inclusion(index, head.size).await.ok().flatten(),
            };
            if let Some(hashes) = hashes {
                return InclusionProof { entry, index, hashes, checkpoint };
            }
        }
        let (hashes, checkpoint) = (recorded.hashes().to_vec(), self.sign(recorded.head()));
        InclusionProof { entry, index, hashes, checkpoint }
    }

    async fn cosigned(&self, head: Head) -> Option<CosignedHead> {
        self.cosigner.as_ref()?.cosigned(head, |head| self.sign(head)).await
    }
}
