//! The sample and the real declarations, through the real binary, against an evaluator of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Other people's data lies beside the project; `None`, said aloud, where it is absent.
fn real_data() -> Option<PathBuf> {
    let shared = std::env::var_os("PSFCA_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let data = shared.join("data/psf-salt");
    if data.is_dir() {
        return Some(data);
    }
    assert!(std::env::var_os("PSFCA_REQUIRE_SHARED").is_none_or(|v| v != "1"), "{} is missing", data.display());
    println!("skipped: {} is not there", data.display());
    None
}

fn psfca(args: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("psfca").unwrap().current_dir(root()).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_sample_loads_without_mistakes_or_warnings() {
    let (code, table, messages) = psfca(&["check", "--config", "ca-config/ca.yaml"]);
    assert_eq!((code, messages.as_str()), (0, ""));
    assert!(table.contains("postgresql.psf.io"), "{table}");
}

#[test]
fn the_sample_gives_the_database_name_to_the_database_host_alone() {
    let why = |host| psfca(&["why", "--config", "ca-config/ca.yaml", "postgresql.psf.io", host]);
    let (code, text, _) = why("pg0.iad1.psf.io");
    assert_eq!(code, 0);
    insta::assert_snapshot!("why_yes", text);
    let (code, text, _) = why("lb0.iad1.psf.io");
    assert_eq!(code, 3);
    insta::assert_snapshot!("why_no", text);
}

#[test]
fn known_hosts_appear_in_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts.txt");
    let names: String = (0..6).map(|n| format!("pg{n}.iad1.psf.io\n")).collect();
    std::fs::write(&hosts, format!("# the fleet\n{names}lb0.iad1.psf.io # in front\n\n")).unwrap();
    let hosts = hosts.to_str().unwrap();
    let (code, table, messages) = psfca(&["check", "--config", "ca-config/ca.yaml", "--hosts", hosts]);
    assert_eq!(code, 0);
    insta::assert_snapshot!("table_with_hosts", table);
    assert!(messages.contains("none of the known hosts can get consul.psf.io"), "{messages}");
}

#[test]
fn without_any_host_yet_no_name_is_suspicious() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts.txt");
    std::fs::write(&hosts, "# none yet\n").unwrap();
    let (code, table, messages) =
        psfca(&["check", "--config", "ca-config/ca.yaml", "--hosts", hosts.to_str().unwrap()]);
    assert_eq!((code, messages.as_str()), (0, ""));
    assert!(table.contains("0 hosts; no mistakes, 0 warnings"), "{table}");
}

#[test]
fn real_declarations_are_accepted_and_every_verdict_equals_an_independent_one() {
    let Some(data) = real_data() else { return };
    let mut verdicts = 0;
    for (year, environment) in [("2017", "prod"), ("2026", "prod"), ("2026", "dev")] {
        let dir = data.join(year);
        let files = [dir.join("tls.sls"), dir.join(format!("roles-{environment}.sls"))];
        let hosts = all_hosts(&data);
        let scratch = tempfile::tempdir().unwrap();
        let list = scratch.path().join("hosts.txt");
        std::fs::write(&list, hosts.join("\n")).unwrap();
        let [tls, roles] = files.each_ref().map(|path| path.to_str().unwrap());
        let (code, report, _) = psfca(&["check", tls, roles, "--json", "--hosts", list.to_str().unwrap()]);
        assert_eq!(code, 0, "{year} {environment}: {report}");
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let ours: BTreeMap<String, Vec<String>> =
            report["names"].as_array().unwrap().iter().map(name_and_hosts).collect();
        let independent = independent::verdicts(&files[0], &files[1], &hosts);
        assert_eq!(ours, independent, "{year} {environment}");
        verdicts += ours.len() * hosts.len();
        let granted: usize = ours.values().map(Vec::len).sum();
        println!("{year} {environment}: {} names, {} hosts, {granted} grants agree", ours.len(), hosts.len());
        assert!(granted > 0, "nothing was granted, so nothing was compared");
    }
    assert!(verdicts > 1_000, "{verdicts}");
}

/// The published hosts of both years, and hosts made up to fit the patterns or nearly so.
fn all_hosts(data: &Path) -> Vec<String> {
    let mut hosts = Vec::new();
    for year in ["2017", "2026"] {
        let text = std::fs::read_to_string(data.join(year).join("hosts.txt")).unwrap();
        hosts.extend(text.split_whitespace().map(str::to_owned));
    }
    let made_up =
        ["pg", "lb", "consul", "salt-master", "loadbalancer", "wiki", "docs", "pydotorg-staging2", "hg0", "bugs.x"];
    for domain in ["iad1.psf.io", "nyc1.psf.io", "vagrant.psf.io", "psf.io", "vagrant.psf.io.evil.org"] {
        hosts.extend(made_up.iter().map(|name| format!("{name}.{domain}")));
    }
    hosts.extend(["consulxvagrant.psf.io", "consul.vagrantxpsf.io"].map(str::to_owned));
    hosts.sort();
    hosts.dedup();
    hosts
}

fn name_and_hosts(entry: &serde_json::Value) -> (String, Vec<String>) {
    let hosts = entry["hosts"].as_array().unwrap().iter().map(|host| host.as_str().unwrap().to_owned());
    (entry["name"].as_str().unwrap().to_owned(), hosts.collect())
}

/// A second reading of the same files with nothing of the first: another YAML reader, and patterns
/// by recursion on the words.
mod independent {
    use std::collections::BTreeMap;
    use std::path::Path;

    use serde_yaml::Value;

    pub(super) fn verdicts(tls: &Path, roles: &Path, hosts: &[String]) -> BTreeMap<String, Vec<String>> {
        let read = |path: &Path| serde_yaml::from_str::<Value>(&std::fs::read_to_string(path).unwrap()).unwrap();
        let (tls, roles) = (read(tls), read(roles));
        let mut out = BTreeMap::new();
        for (name, terms) in tls["tls"]["gen_certs"].as_mapping().unwrap() {
            let patterns: Vec<&str> =
                terms["roles"].as_sequence().unwrap().iter().filter_map(|role| pattern(&roles, role)).collect();
            let may = |host: &&String| patterns.iter().any(|pattern| compound(pattern, host));
            out.insert(name.as_str().unwrap().to_owned(), hosts.iter().filter(may).cloned().collect());
        }
        out
    }

    fn pattern<'r>(roles: &'r Value, role: &Value) -> Option<&'r str> {
        let role = roles["roles"].get(role.as_str()?)?;
        role.as_str().or_else(|| role["pattern"].as_str())
    }

    /// The real patterns have no parentheses as words of their own, which keeps this honest and short.
    fn compound(pattern: &str, host: &str) -> bool {
        pattern.split(" or ").any(|side| {
            side.replace(" and not ", " not ").split(" and ").all(|part| {
                let mut words = part.split(" not ").map(|word| word.trim());
                let first = words.next().unwrap();
                let first = first.strip_prefix("not ").map_or_else(|| one(first, host), |rest| !one(rest, host));
                first && words.all(|word| !one(word, host))
            })
        })
    }

    fn one(word: &str, host: &str) -> bool {
        match word.strip_prefix("E@") {
            // Of the real expressions: one group of alternatives, and dots that mean any character.
            Some(regex) => {
                let (before, rest) = regex.split_once('(').unwrap_or((regex, ")"));
                let (group, after) = rest.split_once(')').unwrap();
                let texts = group.split('|').map(|choice| format!("{before}{choice}{after}"));
                texts.into_iter().any(|text| glob(text.replace('.', "?").as_bytes(), host.as_bytes()))
            }
            None => glob(word.as_bytes(), host.as_bytes()),
        }
    }

    fn glob(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| glob(rest, &text[skip..])),
            ([b'?', pattern @ ..], [_, text @ ..]) => glob(pattern, text),
            ([a, pattern @ ..], [b, text @ ..]) => a == b && glob(pattern, text),
            _ => false,
        }
    }
}
