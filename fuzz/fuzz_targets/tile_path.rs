//! The path of a tile.
#![cfg_attr(fuzzing, no_main)]

use psfca::ledger::tile::TilePath;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(path) = TilePath::parse(text) {
        assert_eq!(path.to_string(), format!("tile/{text}"), "a second name for one tile");
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
