//! A certificate request, PEM or DER, for each kind of key.
#![cfg_attr(fuzzing, no_main)]

use psfca::ca::csr::SubjectKey;
use psfca::profile::KeyKind;

pub(crate) fn run(data: &[u8]) {
    let keys: Vec<_> = KeyKind::ALL.iter().filter_map(|&kind| SubjectKey::from_request(data, kind).ok()).collect();
    assert!(keys.len() <= 1, "one key of several kinds");
    for key in keys {
        assert!(data.len() > key.spki().len());
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
