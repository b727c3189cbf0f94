//! Our host patterns against the compound matcher of real Salt (PyPI, pinned in `python-requirements.txt`).
//!
//! The deliberate differences, as `docs/declaration.md` lists them, are handled in the open: `E@x` is
//! sent to Salt as `E@(?:x)$`, which is what it means here, and matchers that are refused here are
//! not generated. A last check shows that the first difference is there and goes in one direction.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use psfca::name::HostName;
use psfca::pattern::Pattern;

const PAIRS: usize = 20_000;

/// A generator whose every run is the same, so that a failure can be looked at again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        // Knuth's MMIX constants; the upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

fn host(chance: &mut Chance) -> String {
    let first = *chance.pick(&["pg", "lb", "web-", "a", "consul-", "x9"]);
    let number = chance.below(4);
    let domain = *chance.pick(&["iad1.psf.io", "nyc1.psf.io", "psf.io", "io", "b.psf.io.org"]);
    format!("{first}{number}.{domain}")
}

/// A glob that `name` matches, unless `spoiled`.
fn glob(chance: &mut Chance, name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match chance.below(12) {
            0 => out.push('?'),
            1 => out.push('*'),
            2 => out.extend([c, '*']),
            3 => out.push_str(&format!("[{c}xyz]")),
            4 => out.push_str(&format!("[!{}]", if c == 'q' { 'r' } else { 'q' })),
            5 => out.push_str(chance.pick(&[
                "[a-z0-9.-]",
                "[!]]",
                "[]a-p1-9.]",
                "[z-a0-9]",
                "[!z-a]",
                "[--z]",
                "[a-c-e]",
                "[-a]",
                "[^a]",
            ])),
            6 if chance.one_in(8) => out.push_str(chance.pick(&["[", "]", "[!", "[a", "\\", "+", "$", "{1}", "X"])),
            _ => out.push(c),
        }
        if chance.one_in(40) {
            out.push_str("*.*");
            break;
        }
    }
    out
}

/// A regular expression that fits `name` or nearly so, in what both languages can say.
fn regex(chance: &mut Chance, name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        let escaped = if c == '.' && !chance.one_in(3) { "\\.".to_owned() } else { c.to_string() };
        out.push_str(&match chance.below(14) {
            0 => ".".to_owned(),
            1 => format!("{escaped}?"),
            2 => format!("{escaped}+"),
            3 => "[a-z0-9]".to_owned(),
            4 => "\\w*".to_owned(),
            5 => format!("({escaped}|zz)"),
            6 => format!("(?:{escaped}){{1,2}}"),
            7 => "[^q]".to_owned(),
            8 => "\\S".to_owned(),
            9 => "\\d*?".to_owned() + &escaped,
            _ => escaped,
        });
        if chance.one_in(20) {
            out.push_str(".*");
            break;
        }
    }
    match chance.below(6) {
        0 => format!("{out}$"),
        1 => format!("^{out}"),
        2 => format!("{out}|lb.*"),
        3 => format!("(?i){out}"),
        _ => out,
    }
}

/// A pattern, once as it is written here and once as Salt has to be asked.
#[derive(Clone)]
struct Both(String, String);

fn leaf(chance: &mut Chance, name: &str) -> Both {
    let other = host(chance);
    let target = if chance.one_in(2) { name } else { other.as_str() };
    match chance.below(5) {
        0 => {
            let regex = regex(chance, target);
            Both(format!("E@{regex}"), format!("E@(?:{regex})$").replace("(?:(?i)", "(?i)(?:"))
        }
        1 => {
            let third = host(chance);
            let list = *chance.pick(&["L@{a},{b}", "L@{a}", "L@{b},{a},", "L@{b}"]);
            let list = list.replace("{a}", target).replace("{b}", &third);
            Both(list.clone(), list)
        }
        _ => {
            let glob = glob(chance, target);
            Both(glob.clone(), glob)
        }
    }
}

fn compound(chance: &mut Chance, name: &str, depth: usize) -> Both {
    let join = |parts: &[&Both], words: [&str; 3]| {
        let side = |get: fn(&Both) -> &str| match parts {
            [only] => format!("{}{}{}", words[0], get(only), words[2]),
            [a, b, ..] => format!("{}{}{}{}{}", words[0], get(a), words[1], get(b), words[2]),
            [] => String::new(),
        };
        Both(side(|both| &both.0), side(|both| &both.1))
    };
    if depth == 0 {
        return leaf(chance, name);
    }
    let part = |chance: &mut Chance| compound(chance, name, depth - 1);
    match chance.below(8) {
        0 | 1 => leaf(chance, name),
        2 => join(&[&part(chance), &part(chance)], ["", " and ", ""]),
        3 => join(&[&part(chance), &part(chance)], ["", " or ", ""]),
        // Salt's implicit "and".
        4 => join(&[&part(chance), &leaf(chance, name)], ["", " not ", ""]),
        5 => join(&[&part(chance), &leaf(chance, name)], ["", "  and not ", " "]),
        6 => join(&[&part(chance)], ["( ", "", " )"]),
        _ => join(&[&part(chance), &part(chance)], ["not ( ", " or ", " )"]),
    }
}

/// What Salt says to each pair; `None`, said aloud, where there is no Salt.
fn salt(pairs: &[(String, String)]) -> Option<Vec<bool>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let venv = std::env::var_os("PSFCA_VENV").map_or_else(|| root.join("target/venv"), |venv| root.join(venv));
    let python = venv.join("bin/python");
    if !python.exists() {
        let required = std::env::var_os("PSFCA_REQUIRE_SHARED").is_some_and(|value| value == "1");
        assert!(!required, "there is no Salt: {} is missing", python.display());
        println!("skipped: {} is not there", python.display());
        return None;
    }
    let mut oracle = Command::new(python);
    oracle.arg(root.join("tests/salt/oracle.py"));
    let mut child = oracle.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines: String = pairs.iter().map(|pair| serde_json::to_string(pair).unwrap() + "\n").collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "the oracle failed");
    let answers = String::from_utf8(output.stdout).unwrap();
    Some(answers.lines().map(|line| line == "true").collect())
}

fn ours(pattern: &str, host: &str) -> bool {
    let pattern = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern:?}: {error}"));
    pattern.matches(&HostName::parse(host).unwrap())
}

#[test]
fn generated_patterns_mean_here_what_they_mean_to_salt() {
    let mut chance = Chance(20_140_203);
    let mut cases = Vec::with_capacity(PAIRS);
    for _ in 0..PAIRS {
        let name = host(&mut chance);
        let depth = chance.below(4);
        cases.push((compound(&mut chance, &name, depth), name));
    }
    let asked: Vec<_> = cases.iter().map(|(both, name)| (both.1.clone(), name.clone())).collect();
    let Some(answers) = salt(&asked) else { return };
    assert_eq!(answers.len(), PAIRS);
    let mut matched = 0;
    for ((both, name), salt) in cases.iter().zip(&answers) {
        assert_eq!(ours(&both.0, name), *salt, "{:?} (to Salt: {:?}) on {name}", both.0, both.1);
        matched += usize::from(*salt);
    }
    println!("{PAIRS} pairs agree with Salt; {matched} of them match");
    assert!((PAIRS / 5..PAIRS * 4 / 5).contains(&matched), "too one-sided to say much: {matched} of {PAIRS}");
}

#[test]
fn a_regular_expression_gives_a_role_to_no_host_that_salt_would_refuse() {
    let mut chance = Chance(20_190_212);
    let mut pairs = Vec::new();
    for _ in 0..3_000 {
        let (name, other) = (host(&mut chance), host(&mut chance));
        let mut longer = if chance.one_in(2) { format!("{name}.evil") } else { name.clone() };
        if chance.one_in(4) {
            longer = other;
        }
        pairs.push((format!("E@{}", regex(&mut chance, &name)), longer));
    }
    let Some(answers) = salt(&pairs) else { return };
    let mut fewer = 0;
    for ((pattern, name), salt) in pairs.iter().zip(answers) {
        let here = ours(pattern, name);
        assert!(salt || !here, "{pattern} matches {name} here and not in Salt");
        fewer += usize::from(salt && !here);
    }
    println!("{fewer} of {} pairs match in Salt alone, because E@ is anchored at the end here", pairs.len());
    assert!(fewer > 0, "the documented difference has gone");
}
