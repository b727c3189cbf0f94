//! An entry of the ledger.
#![cfg_attr(fuzzing, no_main)]

use psfca::ledger::Entry;

pub(crate) fn run(data: &[u8]) {
    let Ok(entry) = Entry::decode(data) else { return };
    if let Ok(written) = entry.encode() {
        assert_eq!(Entry::decode(written.bytes()).ok(), Some(entry));
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
