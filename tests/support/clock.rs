//! Programs that see another time, by libfaketime.

use std::path::PathBuf;
use std::process::Command;

use super::tools::skip;

/// The library itself. The faketime program would stand between us and the process to be killed, and two of
/// them with one process id, one after the other, can meet in shared memory.
fn library() -> Option<PathBuf> {
    let directories = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    directories.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

/// Whether [`at`] works here; says so aloud where it does not.
pub fn works() -> bool {
    let found = library().is_some();
    if !found {
        skip("libfaketime is not installed (tests/setup does it)");
    }
    found
}

/// `command` as it runs `offset` from now, such as `+2h`; none, said aloud, without libfaketime.
pub fn at(offset: &str, mut command: Command) -> Option<Command> {
    if !works() {
        return None;
    }
    command.env("LD_PRELOAD", library()?);
    command.env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Some(command)
}

/// `command` with a clock that follows the file: an offset such as `+4d`, read anew each time. None, said aloud,
/// without libfaketime.
pub fn by_file(file: &std::path::Path, mut command: Command) -> Option<Command> {
    if !works() {
        return None;
    }
    command.env("LD_PRELOAD", library()?).env("FAKETIME_TIMESTAMP_FILE", file);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Some(command)
}
