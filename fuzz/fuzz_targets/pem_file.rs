//! A PEM file: blocks, a chain, a bundle, and what `psfca inspect` says of it.
#![cfg_attr(fuzzing, no_main)]

use psfca::ca::bundle::{Bundle, Chain};
use psfca::ca::inspection::inspect;
use psfca::ca::pem_file::{Content, blocks, certificates, certificates_to_pem};
use psfca::clock::Timestamp;

pub(crate) fn run(data: &[u8]) {
    if let Ok(certificates_read) = certificates(data) {
        let written = certificates_to_pem(&certificates_read);
        assert_eq!(certificates(written.as_bytes()).as_ref(), Ok(&certificates_read));
    }
    for block in blocks(data).into_iter().flatten().flatten() {
        if let Content::PrivateKey(key) = block.content {
            let again = blocks(key.to_pem().as_bytes()).into_iter().flatten().flatten().next();
            let again = again.map(|block| block.content);
            assert!(matches!(again, Some(Content::PrivateKey(again)) if again.spki() == key.spki()));
        }
    }
    if let Ok(chain) = Chain::parse(data) {
        assert_eq!(Chain::parse(chain.to_pem().as_bytes()).map(|chain| chain.to_pem()), Ok(chain.to_pem()));
    }
    if let Ok(bundle) = Bundle::parse(data) {
        assert!(Bundle::parse(bundle.to_pem().as_bytes()).is_ok());
    }
    let _ = inspect(data, Timestamp::from_unix(1_795_255_200));
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
