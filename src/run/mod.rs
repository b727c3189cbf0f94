//! The wiring: one file per subcommand puts the real clock, files and sockets together.

mod audit;
mod backup;
mod check;
mod ciphers;
mod declaration_files;
mod demo;
mod enroll;
mod fleet;
mod hook;
mod host;
mod hosts;
mod init;
mod inspect;
mod issue;
mod recover;
mod reload;
mod renew;
mod retention;
mod salt_keys;
mod serve;
mod status;
mod token;
mod why;
mod witness;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::{Cli, Command};
use crate::config::CaConfig;
use crate::terminal::{cut, printable_lines};

/// Longest part of an error that is shown, in characters.
const MAX_SHOWN: usize = 16_000;

/// Runs one command and says with which code to exit.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(args),
        Command::Why(args) => why::run(args),
        Command::Init(args) => init::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Token(args) => token::run(args),
        Command::Host(args) => hosts::run(args),
        Command::Fleet(args) => fleet::run(args),
        Command::Backup(args) => backup::back_up_ledger(args),
        Command::Restore(args) => backup::restore_ledger(args),
        Command::Reopen(args) => backup::reopen(args),
        Command::Audit(args) => audit::run(args),
        Command::Recover(args) => recover::run(args),
        Command::Witness(args) => witness::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Enroll(args) => enroll::run(args),
        Command::Issue(args) => issue::run(args),
        Command::Renew(args) => renew::run(args),
        Command::Hook(args) => hook::run(args),
        Command::Ciphers(args) => ciphers::run(args),
        Command::Status(args) => status::run(args),
    };
    outcome.unwrap_or_else(|error| {
        // Whoever closed the pipe has seen enough; `psfca audit list | head` is no failure worth words.
        if !error.chain().any(is_broken_pipe) {
            complain(&error);
        }
        ExitCode::FAILURE
    })
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The fact first, then each cause on its own line.
#[allow(clippy::print_stderr, reason = "the one place where errors reach people")]
fn complain(error: &anyhow::Error) {
    let shown = |text: &str| printable_lines(&cut(text, MAX_SHOWN)).into_owned();
    let mut said = shown(&error.to_string());
    eprintln!("psfca: {said}");
    for cause in error.chain().skip(1) {
        let cause = shown(&cause.to_string());
        // Many errors end with their cause already.
        if !said.ends_with(&cause) {
            eprintln!("  because: {cause}");
        }
        said = cause;
    }
}

/// `ca.yaml`, for the commands that need no more of it than its values.
fn config(path: &Path) -> anyhow::Result<CaConfig> {
    let (config, _) =
        declaration_files::read_config(path).with_context(|| format!("{} is not usable", path.display()))?;
    Ok(config)
}

/// The runtime of the commands that talk to someone.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the asynchronous runtime did not start")
}
