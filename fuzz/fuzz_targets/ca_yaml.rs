//! `ca.yaml`, and the messages about it.
#![cfg_attr(fuzzing, no_main)]

use psfca::config::CaConfig;
use psfca::diagnostic::SourceFile;

pub(crate) fn run(data: &[u8]) {
    let Ok(file) = SourceFile::from_bytes("ca.yaml", data.to_vec()) else { return };
    match CaConfig::parse(&file) {
        Ok((config, messages)) => drop((config.daemon_grant(), messages.render(false))),
        Err(messages) => drop(messages.render(false)),
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
