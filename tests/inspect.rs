//! `psfca inspect` as a person meets it, on the real roots of the Python Software Foundation. They
//! are other people's data, so they are read where they lie and never committed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may, and a skipped one has to say so")]

use std::path::PathBuf;

use assert_cmd::Command;

/// The shared data, or none, said aloud; `PSFCA_REQUIRE_SHARED=1` makes that a failure.
fn roots() -> Option<PathBuf> {
    let shared = std::env::var_os("PSFCA_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let roots = shared.join("data/psf-ca");
    if roots.is_dir() {
        return Some(roots);
    }
    let required = std::env::var_os("PSFCA_REQUIRE_SHARED").is_some_and(|value| value == "1");
    assert!(!required, "PSFCA_REQUIRE_SHARED=1, and {} is not there", roots.display());
    println!("skipped: {} is not there (set PSFCA_SHARED)", roots.display());
    None
}

/// Runs `psfca inspect` and gives its exit code and output, with the distance to today left out.
fn inspect(args: &[&str]) -> Option<String> {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("psfca"));
    let output = command.current_dir(roots()?).arg("inspect").args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    // A distance is always the last thing on its line.
    let lines = text.lines().map(|line| match line.rsplit_once(" (") {
        Some((start, distance)) if distance.ends_with(" ago)") => format!("{start} (… ago)"),
        Some((start, distance)) if distance.starts_with("in ") => format!("{start} (in …)"),
        _ => line.to_owned(),
    });
    let code = output.status.code().unwrap();
    Some(format!("exit code {code}\n{}\n", lines.collect::<Vec<_>>().join("\n")))
}

macro_rules! shows {
    ($name:ident, $($arg:expr),+) => {
        #[test]
        fn $name() {
            if let Some(shown) = inspect(&[$($arg),+]) {
                insta::assert_snapshot!(shown);
            }
        }
    };
}

shows!(the_root_of_2014_with_its_serial_of_20_octets, "psf-ca-2014.pem");
shows!(the_root_of_2019_that_ended_too_early, "psf-ca-2019.pem");
shows!(the_root_of_2024, "psf-ca-2024.pem");
shows!(the_root_of_2024_for_programs, "--json", "psf-ca-2024.pem");
shows!(a_root_damaged_by_text_recognition, "garbled.pem");
shows!(a_file_that_is_not_there, "psf-ca-2029.pem");
