//! Proofs: that an entry is in the ledger, and that one head continues another.
#![cfg_attr(fuzzing, no_main)]

use psfca::digest::Digest;
use psfca::ledger::checkpoint::InclusionProof;
use psfca::ledger::tree::{verify_consistency, verify_inclusion};

pub(crate) fn run(data: &[u8]) {
    if let Ok(proof) = std::str::from_utf8(data).map_or_else(|_| Err(()), |text| InclusionProof::parse(text).map_err(drop)) {
        assert_eq!(InclusionProof::parse(&proof.to_text()), Ok(proof));
    }
    // Any sizes with any hashes.
    let (hashes, rest) = data.as_chunks::<32>();
    let hashes: Vec<Digest> = hashes.iter().map(|&hash| Digest::from_bytes(hash)).collect();
    let number = |at: usize| rest.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    let root = Digest::of(data);
    let _ = verify_inclusion(root, number(0), number(8), &hashes, root);
    let _ = verify_consistency(number(0), root, number(8), root, &hashes);
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
