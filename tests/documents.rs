//! Documents that speak of code speak of all of it: docs/security.md of tests that are there, docs/audit.md of every event.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every Rust file below `directory`.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let mut files = Vec::new();
    sources(Path::new("tests"), &mut files);
    sources(Path::new("src"), &mut files);
    let function =
        regex::Regex::new(r"(?m)#\[(?:tokio::)?test[^\n]*\n(?:\s*#\[[^\n]*\n)*\s*(?:async )?fn ([a-z0-9_]+)\(")
            .unwrap();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    let tests: BTreeSet<String> = texts
        .flat_map(|text| function.captures_iter(&text).map(|found| found[1].to_owned()).collect::<Vec<_>>())
        .collect();
    let document = std::fs::read_to_string("docs/security.md").unwrap();
    // A test's name is a sentence: nothing else in backquotes has three underscores.
    let named = regex::Regex::new(r"`([a-z0-9]+(?:_[a-z0-9]+){3,})`").unwrap();
    let named: Vec<_> = named.captures_iter(&document).map(|found| found[1].to_owned()).collect();
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/security.md names tests that are not there: {missing:?}");
}

#[test]
fn the_auditors_document_has_every_event() {
    let document = std::fs::read_to_string("docs/audit.md").unwrap();
    let command = <psfca::cli::Cli as clap::CommandFactory>::command();
    let list = command.find_subcommand("audit").and_then(|audit| audit.find_subcommand("list")).unwrap();
    let events = list.get_arguments().find(|argument| argument.get_id() == "event").unwrap().get_possible_values();
    assert!(events.len() > 10);
    for event in events {
        // As an entry writes it.
        let name = event.get_name().replace('-', "_");
        assert!(document.contains(&format!("`{name}`")), "docs/audit.md does not explain the event {name}");
    }
}
