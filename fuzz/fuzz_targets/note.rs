//! A signed note, the key that opens it, and a checkpoint with a signature that is good.
#![cfg_attr(fuzzing, no_main)]

use psfca::ledger::checkpoint::Checkpoint;
use psfca::ledger::note::{NoteSigner, NoteVerifier};

/// The PKCS#8 of an Ed25519 key that is all sevens (RFC 8410, section 7).
const KEY: [u8; 48] = {
    let mut key = [7; 48];
    let start = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let mut at = 0;
    while at < start.len() {
        key[at] = start[at];
        at += 1;
    }
    key
};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(verifier) = NoteVerifier::parse(text) {
        assert_eq!(NoteVerifier::parse(&verifier.to_string()), Ok(verifier));
    }
    let Ok(signer) = NoteSigner::from_pkcs8("psf.io/PSF_CA", &KEY) else { panic!("the key is good") };
    let _ = Checkpoint::open(text, signer.verifier());
    // A text without its newline at the end, or with a control character, is none that can be signed.
    let note = signer.sign(text);
    if let Ok(opened) = signer.verifier().open(&note) {
        assert_eq!(opened, text);
    }
    if let Ok(checkpoint) = Checkpoint::open(&note, signer.verifier()) {
        assert_eq!(Checkpoint::open(&checkpoint.sign(&signer), signer.verifier()), Ok(checkpoint));
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
