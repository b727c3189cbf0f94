//! Every parser of bytes from outside, by the fuzz targets of `fuzz/`, over their seeds and what changes make of them:
//! no panic, no endless loop, and what was written is read as the same. In `.ci/long` libFuzzer drives the same targets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

macro_rules! targets {
    ($($name:ident $path:literal)+) => {
        $(#[path = $path] mod $name;)+

        /// Each a file of `fuzz/fuzz_targets` and a binary of `fuzz/Cargo.toml`.
        const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name::run)),+];
    };
}

targets! {
    ca_yaml "../fuzz/fuzz_targets/ca_yaml.rs"
    certificate "../fuzz/fuzz_targets/certificate.rs"
    certificate_request "../fuzz/fuzz_targets/certificate_request.rs"
    challenge "../fuzz/fuzz_targets/challenge.rs"
    declaration "../fuzz/fuzz_targets/declaration.rs"
    host_yaml "../fuzz/fuzz_targets/host_yaml.rs"
    http_body "../fuzz/fuzz_targets/http_body.rs"
    ledger_entry "../fuzz/fuzz_targets/ledger_entry.rs"
    ledger_pages "../fuzz/fuzz_targets/ledger_pages.rs"
    ledger_proof "../fuzz/fuzz_targets/ledger_proof.rs"
    note "../fuzz/fuzz_targets/note.rs"
    pattern "../fuzz/fuzz_targets/pattern.rs"
    pem_file "../fuzz/fuzz_targets/pem_file.rs"
    probe_preamble "../fuzz/fuzz_targets/probe_preamble.rs"
    query "../fuzz/fuzz_targets/query.rs"
    salt_key "../fuzz/fuzz_targets/salt_key.rs"
    tile_path "../fuzz/fuzz_targets/tile_path.rs"
    token "../fuzz/fuzz_targets/token.rs"
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files below `directory`, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// At a place, some octets go and others come.
#[derive(Debug, Clone)]
struct Change {
    at: Index,
    gone: usize,
    new: Piece,
}

#[derive(Debug, Clone)]
enum Piece {
    Octets(Vec<u8>),
    /// A part of a seed.
    Seed(Index, Index, usize),
}

/// What parsers stumble over.
const STUMBLING: [&[u8]; 16] = [
    b"\n",
    b"\n\n",
    b"\0",
    b"\xff",
    b"\r\n",
    b"\xef\xbb\xbf",
    "\u{e9}".as_bytes(),
    b": ",
    b"- ",
    b"\"",
    b"18446744073709551616",
    b"-1",
    b"1e999",
    b"9999-12-31T23:59:59-23:59",
    b"\x30\x84\xff\xff\xff\xff",
    b"[[[[[[[[[[[[[[[[((((((((((((((((",
];

fn change() -> impl Strategy<Value = Change> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..4).prop_map(Piece::Octets),
        proptest::sample::select(&STUMBLING[..]).prop_map(|octets| Piece::Octets(octets.to_vec())),
        (any::<Index>(), any::<Index>(), 0..64usize).prop_map(|(seed, from, length)| Piece::Seed(seed, from, length)),
    ];
    (any::<Index>(), prop_oneof![0..4usize, 0..200usize], piece).prop_map(|(at, gone, new)| Change { at, gone, new })
}

fn changed(seeds: &[Vec<u8>], seed: Index, changes: &[Change]) -> Vec<u8> {
    let mut data = seed.get(seeds).clone();
    for Change { at, gone, new } in changes {
        let at = at.index(data.len() + 1);
        let end = (at + gone).min(data.len());
        let new = match new {
            Piece::Octets(octets) => octets,
            Piece::Seed(seed, from, length) => {
                let seed = seed.get(seeds);
                let from = from.index(seed.len() + 1);
                &seed[from..(from + length).min(seed.len())]
            }
        };
        data.splice(at..end, new.iter().copied());
    }
    data
}

#[test]
fn no_bytes_from_outside_make_a_parser_panic_or_forget() {
    let usual = Config::default();
    let config =
        Config { cases: usual.cases.saturating_mul(8), failure_persistence: None, max_shrink_iters: 500, ..usual };
    std::thread::scope(|scope| {
        for (name, run) in TARGETS {
            let config = config.clone();
            scope.spawn(move || {
                let seeds: Vec<_> =
                    files(&fuzz().join("seeds").join(name)).iter().map(|path| std::fs::read(path).unwrap()).collect();
                seeds.iter().for_each(|seed| run(seed));
                let strategy = (any::<Index>(), proptest::collection::vec(change(), 0..8));
                let strategy = strategy.prop_map(|(seed, changes)| changed(&seeds, seed, &changes));
                let outcome = TestRunner::new(config).run(&strategy, |data| {
                    run(&data);
                    Ok(())
                });
                if let Err(error) = outcome {
                    panic!("{name}: {error}");
                }
            });
        }
    });
}

#[test]
fn every_target_has_its_file_its_binary_and_its_seeds() {
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |directory: &str| {
        files(&fuzz().join(directory))
            .iter()
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    };
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let binaries = manifest.split("[[bin]]\n").skip(1).map(|binary| binary.split('"').nth(1).unwrap().to_owned());
    let (sources, seeds): (Vec<_>, Vec<_>) = (stems("fuzz_targets"), stems("seeds"));
    let mut binaries: Vec<_> = binaries.collect();
    binaries.sort();
    assert_eq!((&sources, &seeds, &binaries), (&names, &names, &names));
}
