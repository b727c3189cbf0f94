//! A file of the declaration, and the messages about it.
#![cfg_attr(fuzzing, no_main)]

use psfca::declaration::{Declaration, Rules};
use psfca::diagnostic::SourceFile;

pub(crate) fn run(data: &[u8]) {
    match SourceFile::from_bytes("tls.yaml", data.to_vec()) {
        Err(diagnostic) => drop(diagnostic.render(false)),
        Ok(file) => match Declaration::parse(&[file], &Rules::default()) {
            Ok((_, messages)) | Err(messages) => drop((messages.render(false), messages.to_string())),
        },
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
