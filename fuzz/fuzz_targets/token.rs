//! An enrolment token, and the address in it.
#![cfg_attr(fuzzing, no_main)]

use psfca::token::{EnrollmentToken, ServerAddress};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = EnrollmentToken::parse(text) {
        let again = EnrollmentToken::parse(&token.expose());
        assert!(again.is_ok_and(|again| again.expose() == token.expose()));
    }
    if let Ok(address) = ServerAddress::parse(text) {
        assert_eq!(ServerAddress::parse(&address.to_string()), Ok(address));
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
