//! The pages of a ledger's file.
#![cfg_attr(fuzzing, no_main)]

use psfca::store::page_faults;

pub(crate) fn run(data: &[u8]) {
    assert!(page_faults(data).len() <= 100, "more is said than anybody reads");
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
