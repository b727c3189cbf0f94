//! `psfca status`

use std::process::ExitCode;

use super::host::with_agent;
use crate::agent::status::status;
use crate::cli;

/// Says how things stand; the exit codes are those of [`crate::report::Status::exit_code`].
pub(super) fn run(args: &cli::Status) -> anyhow::Result<ExitCode> {
    with_agent(&args.config, async |agent| {
        let status = status(agent)?;
        if args.json {
            cli::host::json(&status)?
        } else {
            cli::host::status(&status, agent.now())?
        }
        Ok(ExitCode::from(status.exit_code(agent.now())))
    })
}
