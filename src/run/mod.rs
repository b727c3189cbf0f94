//! The wiring: one file per subcommand puts the real clock, files and sockets together.

mod enroll;
mod host;
mod inspect;
mod issue;
mod renew;
mod status;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Runs one command and says with which code to exit.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let outcome: anyhow::Result<ExitCode> = match &cli.command {
        Command::Inspect(args) => inspect::run(args),
        Command::Enroll(args) => enroll::run(args),
        Command::Issue(args) => issue::run(args),
        Command::Renew(args) => renew::run(args),
        Command::Status(args) => status::run(args),
        _ => Err(anyhow::anyhow!("not built yet")),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// The fact first, then each cause on its own line.
#[allow(clippy::print_stderr, reason = "the one place where errors reach people")]
fn complain(error: &anyhow::Error) {
    eprintln!("psfca: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}
