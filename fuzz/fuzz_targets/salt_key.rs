//! A Salt minion's public key, PEM or DER.
#![cfg_attr(fuzzing, no_main)]

use psfca::ca::salt_key::SaltKey;

pub(crate) fn run(data: &[u8]) {
    for key in [SaltKey::from_pem(data), SaltKey::from_spki(data.to_vec())].into_iter().flatten() {
        assert_eq!(SaltKey::from_spki(key.spki().to_vec()).as_ref(), Ok(&key));
        assert!(!key.has_signed(data, data));
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
