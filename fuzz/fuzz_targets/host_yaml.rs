//! `host.yaml`.
#![cfg_attr(fuzzing, no_main)]

use std::path::Path;

use psfca::agent::settings::Settings;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(settings) = Settings::parse(text, Path::new("host.yaml")) {
        assert!(settings.placement.default.mode & 0o007 == 0, "a key that anyone can read");
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
