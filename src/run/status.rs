//! `psfca status`

use std::process::ExitCode;

use super::host::with_agent;
use crate::agent::status::status;
use crate::cli;

/// Something is expired, damaged, missing or about to expire; the same number as in `psfca renew`.
const TROUBLE: u8 = 5;

/// Says how things stand; 5 when something is expired, damaged, missing or about to expire.
pub(super) fn run(args: &cli::Status) -> anyhow::Result<ExitCode> {
    with_agent(&args.config, async |agent| {
        let status = status(agent)?;
        if args.json {
            cli::host::json(&status)?
        } else {
            cli::host::status(&status, agent.now())?
        }
        Ok(if status.is_good(agent.now()) { ExitCode::SUCCESS } else { ExitCode::from(TROUBLE) })
    })
}
