//! Programs that see another time, by libfaketime.

use std::process::Command;

use super::tools::skip;

/// `command` as it runs `offset` from now, such as `+2h`; none, said aloud, without libfaketime.
pub fn at(offset: &str, mut command: Command) -> Option<Command> {
    // The faketime program would stand between us and the process to be killed, so only its library is used.
    let found = Command::new("faketime").args(["-f", "+0", "printenv", "LD_PRELOAD"]).output();
    let Some(library) = found.ok().filter(|out| out.status.success()) else {
        skip("faketime is not installed (tests/setup does it)");
        return None;
    };
    command.env("LD_PRELOAD", String::from_utf8(library.stdout).unwrap().trim());
    command.env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Some(command)
}
