//! The wiring: one file per subcommand puts the real clock, files and sockets together.

<<<<<<< HEAD
mod audit;
mod declaration_files;
mod init;
mod reload;
mod serve;
mod token;
=======
mod check;
pub mod declaration_files;
mod why;
>>>>>>> w-decl

use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::{Cli, Command};

/// Runs one command and says with which code to exit.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
<<<<<<< HEAD
    let outcome = match &cli.command {
        Command::Init(args) => init::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Token(args) => token::run(args),
        Command::Audit(args) => audit::run(args),
=======
    let outcome: anyhow::Result<ExitCode> = match cli.command {
        // Without the daemon only --hosts says which hosts there are.
        Command::Check(args) => check::run(&args, None),
        Command::Why(args) => why::run(&args),
>>>>>>> w-decl
        _ => Err(anyhow::anyhow!("not built yet")),
    };
    outcome.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

/// The fact first, then each cause on its own line.
#[allow(clippy::print_stderr, reason = "the one place where errors reach people")]
fn complain(error: &anyhow::Error) {
    eprintln!("psfca: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

/// The runtime of the commands that talk to someone.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the asynchronous runtime did not start")
}
