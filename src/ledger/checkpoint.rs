//! The ledger's head, and the proof that an entry is under it (C2SP tlog-checkpoint, tlog-proof).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{NoteError, NoteSigner, NoteVerifier};
use super::tree::verify_inclusion;
use super::{MAX_ENTRY, leaf_hash};
use crate::digest::Digest;

/// The first line of a proof.
const PROOF_HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Most hashes in an inclusion proof: one for each level of a tree of 2^63 leaves.
const MAX_HASHES: usize = 63;

/// How many entries the ledger has, and the Merkle root over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which ledger: `psf.io/PSF_CA`.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// The root over all of them.
    pub root: Digest,
}

/// Why a checkpoint or a proof is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Not signed as it must be.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Signed, and no checkpoint.
    #[error("the signed note is no checkpoint: {0}")]
    Checkpoint(&'static str),
    /// Not of the form of a proof.
    #[error("this is no proof of inclusion: {0}")]
    Malformed(&'static str),
    /// The hashes do not lead from the entry to the root.
    #[error("the proof does not show entry {index} to be among the {size} of the checkpoint")]
    NotIncluded {
        /// The entry.
        index: u64,
        /// The checkpoint's size.
        size: u64,
    },
}

impl Checkpoint {
    /// The checkpoint as a note signed by `signer`.
    #[must_use]
    pub fn sign(&self, signer: &NoteSigner) -> String {
        signer.sign(&format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes())))
    }

    /// Reads a checkpoint that `key` has signed, of the ledger that has the key's name.
    ///
    /// # Errors
    /// [`ProofError::Note`], [`ProofError::Checkpoint`].
    pub fn open(note: &str, key: &NoteVerifier) -> Result<Self, ProofError> {
        let text = key.open(note)?;
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(ProofError::Checkpoint("it does not have three lines"));
        };
        if origin != key.name() {
            return Err(ProofError::Checkpoint("it is that of another ledger"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            size: decimal(size).ok_or(ProofError::Checkpoint("its second line is no size"))?,
            root: hash(root).ok_or(ProofError::Checkpoint("its third line is no hash"))?,
        })
    }
}

/// An entry, where it stands, and the hashes up to a signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The entry's canonical bytes.
    pub entry: Vec<u8>,
    /// Its index.
    pub index: u64,
    /// The hashes beside the way to the root, lowest first.
    pub hashes: Vec<Digest>,
    /// The signed checkpoint.
    pub checkpoint: String,
}

impl InclusionProof {
    /// The text of a `.tlog-proof` file; the entry is its extra data.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{PROOF_HEADER}\nextra {}\nindex {}\n", STANDARD.encode(&self.entry), self.index);
        for hash in &self.hashes {
            text.push_str(&STANDARD.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        text + &self.checkpoint
    }

    /// Reads the text of a proof; nothing is believed before [`InclusionProof::verify`].
    ///
    /// # Errors
    /// [`ProofError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofError::Malformed("it has no checkpoint"))?;
        let mut lines = head.lines();
        if lines.next() != Some(PROOF_HEADER) {
            return Err(ProofError::Malformed("its first line is another"));
        }
        let entry = lines.next().and_then(|line| line.strip_prefix("extra "));
        let entry = entry.filter(|text| text.len() <= MAX_ENTRY.div_ceil(3) * 4);
        let entry = entry.and_then(|text| STANDARD.decode(text).ok());
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let hashes: Option<Vec<Digest>> = lines.take(MAX_HASHES + 1).map(hash).collect();
        Ok(Self {
            entry: entry.ok_or(ProofError::Malformed("its second line is no entry"))?,
            index: index.ok_or(ProofError::Malformed("its third line is no index"))?,
            hashes: hashes
                .filter(|hashes| hashes.len() <= MAX_HASHES)
                .ok_or(ProofError::Malformed("a line above the checkpoint is no hash"))?,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Checks the checkpoint's signature and that the entry is where the proof says.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, key: &NoteVerifier) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        let leaf = leaf_hash(&self.entry);
        if verify_inclusion(leaf, self.index, checkpoint.size, &self.hashes, checkpoint.root) {
            Ok(checkpoint)
        } else {
            Err(ProofError::NotIncluded { index: self.index, size: checkpoint.size })
        }
    }
}

/// ASCII decimal without leading zeros, except for zero itself.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn hash(text: &str) -> Option<Digest> {
    Some(Digest::from_bytes(STANDARD.decode(text).ok()?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use ring::signature::Ed25519KeyPair;

    use super::*;
    use crate::ledger::tree::node_hash;

    fn signer() -> NoteSigner {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        NoteSigner::from_pkcs8("psf.io/PSF_CA", pkcs8.as_ref()).unwrap()
    }

    fn proof(signer: &NoteSigner) -> InclusionProof {
        let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));
        let checkpoint = Checkpoint { origin: "psf.io/PSF_CA".to_owned(), size: 2, root: node_hash(left, right) };
        InclusionProof { entry: b"right".to_vec(), index: 1, hashes: vec![left], checkpoint: checkpoint.sign(signer) }
    }

    #[test]
    fn a_proof_survives_being_written_and_verifies() {
        let signer = signer();
        let proof = proof(&signer);
        let read = InclusionProof::parse(&proof.to_text()).unwrap();
        assert_eq!(read, proof);
        assert_eq!(read.verify(signer.verifier()).unwrap().size, 2);
    }

    #[test]
    fn no_changed_character_of_a_proof_verifies_as_another_entry() {
        let signer = signer();
        let text = proof(&signer).to_text();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let verified =
                InclusionProof::parse(&changed).and_then(|proof| Ok((proof.verify(signer.verifier())?, proof)));
            if let Ok((checkpoint, proof)) = verified {
                assert_eq!((checkpoint.size, proof.index, &proof.entry[..]), (2, 1, &b"right"[..]), "character {at}");
            }
        }
    }

    #[test]
    fn the_checkpoint_of_another_ledger_is_refused() {
        let signer = signer();
        let foreign = Checkpoint { origin: "psf.io/OTHER".to_owned(), size: 0, root: leaf_hash(b"") }.sign(&signer);
        assert!(matches!(Checkpoint::open(&foreign, signer.verifier()), Err(ProofError::Checkpoint(_))));
        let padded = signer.sign("psf.io/PSF_CA\n01\nAAAA\n");
        assert!(matches!(Checkpoint::open(&padded, signer.verifier()), Err(ProofError::Checkpoint(_))));
    }
}
