//! The house keeps its layers: what `src/lib.rs` says of them holds for every `crate::` path.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 400;
const EDGES: usize = 5;

/// Module → layer, from the comments and declarations of `src/lib.rs`.
fn layers() -> BTreeMap<String, usize> {
    let mut layer = None;
    let mut found = BTreeMap::new();
    for line in std::fs::read_to_string("src/lib.rs").unwrap().lines() {
        if let Some(rest) = line.strip_prefix("// Layer ") {
            layer = Some(rest.split(':').next().unwrap().parse().unwrap());
        } else if let Some(module) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            found.insert(module.to_owned(), layer.expect("a layer comment stands before the first module"));
        }
    }
    found
}

fn sources() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("src"), &mut found);
    found.sort();
    found
}

/// The top-level module that a file belongs to; none for `lib.rs` and `main.rs`.
fn module_of(path: &Path) -> Option<String> {
    let first = path.components().nth(1)?.as_os_str().to_str()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (module != "lib" && module != "main").then(|| module.to_owned())
}

/// Code that ships: without test modules and without comments.
fn shipped(path: &Path) -> String {
    let name = path.file_stem().unwrap().to_str().unwrap();
    if matches!(name, "tests" | "fixture") {
        return String::new();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Modules named by `crate::NAME` and `crate::{NAME, …}`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            None => vec![rest],
            // The names at the first level of the braces.
            Some(group) => {
                let (mut depth, mut start, mut names) = (0, 0, Vec::new());
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => {
                            names.push(&group[start..at]);
                            break;
                        }
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            names.push(&group[start..at]);
                            start = at + 1;
                        }
                        _ => {}
                    }
                }
                names
            }
        };
        for name in names {
            let word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            let name: String = name.trim().chars().take_while(word).collect();
            if !name.is_empty() {
                found.insert(name);
            }
        }
    }
    found
}

/// Module → modules it imports.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources() {
        if let Some(module) = module_of(&path) {
            let imported = imports(&shipped(&path));
            let known = graph.entry(module.clone()).or_default();
            known.extend(imported.into_iter().filter(|other| *other != module));
        }
    }
    graph
}

#[test]
fn every_module_imports_only_from_its_own_layer_and_those_below() {
    let layers = layers();
    let mut wrong = Vec::new();
    for (module, imported) in graph() {
        let Some(layer) = layers.get(&module) else { panic!("src/lib.rs does not place {module} in a layer") };
        for other in imported {
            let Some(below) = layers.get(&other) else { panic!("{module} imports crate::{other}, which has no layer") };
            if below > layer || (below == layer && *layer == EDGES) {
                wrong.push(format!("{module} (layer {layer}) imports {other} (layer {below})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn within_a_layer_imports_have_no_cycle() {
    let (layers, graph) = (layers(), graph());
    // Take away, again and again, whatever imports nothing that is left; a cycle remains.
    let mut left: BTreeSet<&String> = graph.keys().collect();
    loop {
        let free: Vec<&String> = left
            .iter()
            .filter(|module| {
                !graph[**module].iter().any(|other| left.contains(other) && layers[other] == layers[**module])
            })
            .copied()
            .collect();
        if free.is_empty() {
            break;
        }
        for module in free {
            left.remove(module);
        }
    }
    assert!(left.is_empty(), "these import each other: {left:?}");
}

#[test]
fn only_the_signer_touches_ca_keys_and_only_the_store_makes_records() {
    for path in sources() {
        let text = shipped(&path);
        let name = path.to_str().unwrap();
        if !name.starts_with("src/store/") {
            assert!(!text.contains("Recorded {"), "{name} makes a Recorded; only the store may");
        }
        if name != "src/ca/signer.rs" {
            assert!(!text.contains("from_pkcs8_der_and_sign_algo") || name == "src/ca/bundle.rs", "{name}");
        }
    }
}

#[test]
fn no_file_is_over_400_lines_without_a_reason_at_its_top() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        let reason = text.lines().take(12).any(|line| line.starts_with("//!") && line.contains("lines"));
        assert!(lines <= MAX_LINES || reason, "{} has {lines} lines and gives no reason", path.display());
    }
}

#[test]
fn time_and_randomness_are_arguments() {
    for path in sources() {
        let (text, name) = (shipped(&path), path.to_str().unwrap());
        for (call, home) in [("now_utc()", "src/clock.rs"), ("SystemTime::now", "src/clock.rs"), ("Instant::now", "")] {
            assert!(!text.contains(call) || name == home, "{name} asks the system for the time with {call}");
        }
    }
}

#[test]
fn the_binary_is_a_few_lines() {
    assert!(std::fs::read_to_string("src/main.rs").unwrap().lines().count() <= 40);
}
