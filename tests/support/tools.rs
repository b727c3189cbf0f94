//! Programs that a test calls, and what it does where they or the shared data are missing.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Says aloud that a test did nothing; where everything is required, that is a failure.
pub fn skip(why: &str) {
    let required = std::env::var_os("PSFCA_REQUIRE_SHARED").is_some_and(|value| value == "1");
    assert!(!required, "PSFCA_REQUIRE_SHARED=1, and {why}");
    say(&format!("skipped: {why}"));
}

/// Says something that the harness does not keep to itself when the test succeeds.
pub fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// Whether this command works here; said aloud when not.
pub fn works(command: &[&str]) -> bool {
    let mut program = Command::new(command[0]);
    program.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let works = program.status().is_ok_and(|status| status.success());
    if !works {
        skip(&format!("{command:?} does not work here (tests/setup installs what is missing)"));
    }
    works
}

/// Whether programs can be traced here.
pub fn strace_works() -> bool {
    works(&["strace", "-f", "-o", "/dev/null", "true"])
}

/// Data that is read where it lies (`PSFCA_SHARED`, else beside this directory).
pub fn shared(path: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("PSFCA_SHARED").map(PathBuf::from);
    let path = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared")).join(path);
    if path.exists() {
        return Some(path);
    }
    skip(&format!("{} is not there (set PSFCA_SHARED)", path.display()));
    None
}

/// `command`, in front of which `wrapper` runs it: `strace …`, `setpriv …`.
pub fn wrapped(wrapper: &[&str], command: &Command) -> Command {
    let mut whole = Command::new(wrapper[0]);
    whole.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        whole.current_dir(directory);
    }
    whole
}

/// Runs a program that must succeed; returns what it printed.
pub fn succeed(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that a program printed.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}
