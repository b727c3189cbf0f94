//! What a witness is asked, and how it decides (C2SP tlog-witness, add-checkpoint). Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::Checkpoint;
use super::tree::verify_consistency;
use crate::digest::Digest;

/// Most hashes in a consistency proof, as the protocol has it.
const MAX_HASHES: usize = 63;

/// The body of an add-checkpoint request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness cosigned last, as the sender believes.
    pub old: u64,
    /// The proof that the checkpoint continues it.
    pub proof: Vec<Digest>,
    /// The signed checkpoint.
    pub checkpoint: String,
}

impl AddCheckpoint {
    /// The body.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            text.push_str(&STANDARD.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        text + &self.checkpoint
    }

    /// Reads a body; none where it has another form. The checkpoint is not looked at.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let old = lines.next()?.strip_prefix("old ")?;
        let plain = old.bytes().all(|b| b.is_ascii_digit()) && (old == "0" || !old.starts_with('0'));
        let hash = |line: &str| Some(Digest::from_bytes(STANDARD.decode(line).ok()?.try_into().ok()?));
        let proof: Vec<Digest> = lines.take(MAX_HASHES + 1).map(hash).collect::<Option<_>>()?;
        let old = old.parse().ok().filter(|_| plain && proof.len() <= MAX_HASHES)?;
        Some(Self { old, proof, checkpoint: checkpoint.to_owned() })
    }
}

/// The head that a witness cosigned last; nothing before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cosigned {
    /// It never cosigned this ledger.
    #[default]
    Never,
    /// This one.
    Head {
        /// Entries.
        size: u64,
        /// The root over them.
        root: Digest,
    },
}

impl Cosigned {
    /// The size that a request has to begin at.
    #[must_use]
    pub const fn size(self) -> u64 {
        match self {
            Self::Never => 0,
            Self::Head { size, .. } => size,
        }
    }
}

/// Why a witness does not cosign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The old size is above the new one (400).
    #[error("the old size is larger than the checkpoint's")]
    OldAboveNew,
    /// The proof is from another size than was cosigned last (409).
    #[error("the size that was cosigned last is {0}")]
    OtherSize(u64),
    /// The same size with another root: a fork (409).
    #[error("another head of {0} entries was cosigned: this is a fork")]
    OtherRoot(u64),
    /// The checkpoint does not continue what was cosigned (422).
    #[error("the proof does not show that the {cosigned} entries cosigned before are the beginning of the {new}")]
    NoContinuation {
        /// Cosigned last.
        cosigned: u64,
        /// In the checkpoint.
        new: u64,
    },
}

/// Whether `head`, whose signature was verified, continues what was cosigned last.
///
/// # Errors
/// [`Refusal`]: it is not to be cosigned.
pub fn judge(cosigned: Cosigned, request: &AddCheckpoint, head: &Checkpoint) -> Result<(), Refusal> {
    if request.old > head.size {
        return Err(Refusal::OldAboveNew);
    }
    if request.old != cosigned.size() {
        return Err(Refusal::OtherSize(cosigned.size()));
    }
    let Cosigned::Head { size: size @ 1.., root } = cosigned else {
        // Every ledger continues an empty one, and the protocol wants no proof of that.
        return if request.proof.is_empty() {
            Ok(())
        } else {
            Err(Refusal::NoContinuation { cosigned: 0, new: head.size })
        };
    };
    if size == head.size && root != head.root {
        return Err(Refusal::OtherRoot(size));
    }
    match verify_consistency(size, root, head.size, head.root, &request.proof) {
        true => Ok(()),
        false => Err(Refusal::NoContinuation { cosigned: size, new: head.size }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::leaf_hash;
    use crate::ledger::tree::{Node, Nodes, consistency_proof, node_hash, root};

    /// Two ledgers that part after so many entries.
    struct Leaves(Vec<Digest>);

    impl Nodes for Leaves {
        type Error = std::convert::Infallible;
        fn hash(&mut self, node: Node) -> Result<Digest, Self::Error> {
            let Some(level) = node.level.checked_sub(1) else {
                return Ok(self.0[usize::try_from(node.index).unwrap()]);
            };
            let left = self.hash(Node { level, index: node.index * 2 })?;
            Ok(node_hash(left, self.hash(Node { level, index: node.index * 2 + 1 })?))
        }
    }

    fn ledger(common: u8, line: u8) -> Leaves {
        Leaves((0..12).map(|n| leaf_hash(&[n, if n < common { 0 } else { line }])).collect())
    }

    fn head(of: &mut Leaves, size: u64) -> Checkpoint {
        Checkpoint { origin: "psf.io/PSF_CA".to_owned(), size, root: root(of, size).unwrap() }
    }

    #[test]
    fn only_what_continues_the_head_that_was_cosigned_last_is_cosigned() {
        for common in 0..=12 {
            let [mut one, mut other] = [1, 2].map(|line| ledger(common, line));
            for (old, new) in (0..=12).flat_map(|old| (0..=12).map(move |new| (old, new))) {
                let known = head(&mut one, old);
                let cosigned = Cosigned::Head { size: old, root: known.root };
                for on_the_same_line in [true, false] {
                    let line = if on_the_same_line { &mut one } else { &mut other };
                    let proof = consistency_proof(line, old, new).unwrap().unwrap_or_default();
                    let request = AddCheckpoint { old, proof, checkpoint: String::new() };
                    let outcome = judge(cosigned, &request, &head(line, new));
                    let continues = old <= new && (on_the_same_line || old <= u64::from(common));
                    assert_eq!(outcome.is_ok(), continues, "{common} {old} {new} {outcome:?}");
                    // From any other size nothing is cosigned, whatever the proof.
                    for claimed in (0..=new).filter(|claimed| *claimed != old) {
                        let request = AddCheckpoint { old: claimed, ..request.clone() };
                        assert_eq!(judge(cosigned, &request, &head(line, new)), Err(Refusal::OtherSize(old)));
                    }
                }
            }
        }
    }

    #[test]
    fn the_refusals_are_those_of_the_protocol() {
        let (mut one, mut other) = (ledger(4, 1), ledger(4, 2));
        let known = head(&mut one, 6);
        let cosigned = Cosigned::Head { size: 6, root: known.root };
        let request = |old, proof: Vec<Digest>| AddCheckpoint { old, proof, checkpoint: String::new() };
        assert_eq!(judge(cosigned, &request(9, vec![]), &head(&mut one, 8)), Err(Refusal::OldAboveNew));
        assert_eq!(judge(cosigned, &request(6, vec![]), &head(&mut other, 6)), Err(Refusal::OtherRoot(6)));
        let no = Err(Refusal::NoContinuation { cosigned: 6, new: 8 });
        assert_eq!(judge(cosigned, &request(6, vec![]), &head(&mut one, 8)), no);
        assert_eq!(judge(Cosigned::Never, &request(0, vec![]), &known), Ok(()));
        assert_eq!(judge(Cosigned::Never, &request(1, vec![]), &known), Err(Refusal::OtherSize(0)));
        let with_proof = request(0, vec![Digest::of(b"x")]);
        assert!(matches!(judge(Cosigned::Never, &with_proof, &known), Err(Refusal::NoContinuation { .. })));
    }

    #[test]
    fn a_request_is_read_as_it_was_written_and_in_no_other_form() {
        let request = AddCheckpoint {
            old: 7,
            proof: vec![Digest::of(b"a"), Digest::of(b"b")],
            checkpoint: "a\n\nb\n".to_owned(),
        };
        let text = request.to_text();
        assert_eq!(
            text,
            "old 7\nypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=\nPiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0=\n\na\n\nb\n"
        );
        assert_eq!(AddCheckpoint::parse(&text), Some(request));
        let none = AddCheckpoint { old: 0, proof: vec![], checkpoint: "x".to_owned() };
        assert_eq!(AddCheckpoint::parse("old 0\n\nx"), Some(none));
        for bad in
            ["", "old 7", "old 7\n", "old 07\n\n", "old +7\n\n", "old 7 \n\n", "old 7\r\n\n", "7\n\n", "old 7\nx\n\n"]
        {
            assert_eq!(AddCheckpoint::parse(bad), None, "{bad:?}");
        }
        let hash = STANDARD.encode(Digest::of(b"a").as_bytes()) + "\n";
        assert!(AddCheckpoint::parse(&format!("old 7\n{}\n", hash.repeat(63))).is_some());
        assert_eq!(AddCheckpoint::parse(&format!("old 7\n{}\n", hash.repeat(64))), None);
    }
}
