//! `psfca renew`

use std::process::ExitCode;

use super::host::with_agent;
use crate::agent::renew::{Options, renew};
use crate::cli;
use crate::report::Outcome;

/// Renews what is due and says what became of it; the exit codes are those of
/// [`crate::report::Report::exit_code`].
pub(super) fn run(args: &cli::Renew) -> anyhow::Result<ExitCode> {
    let options = Options { force: args.force, prune: args.prune, dry_run: args.dry_run };
    with_agent(&args.config, async |agent| {
        let report = renew(agent, options).await?;
        if args.json {
            cli::host::json(&report)?;
        } else {
            cli::host::report(&report, agent.now())?;
            let installed = report.names.iter().any(|line| matches!(line.outcome, Outcome::Renewed { .. }));
            if let Some(note) = agent.ownership_note().filter(|_| installed) {
                cli::host::note(&note)?;
            }
        }
        for stray in &report.strays {
            cli::host::note(stray)?;
        }
        if let Some(unasked) = &report.unasked {
            cli::host::note(&unasked.to_string())?;
        }
        if let Some(why) = &report.untold {
            cli::host::untold(why)?;
        }
        if let Some(recovery) = &report.ledger_recovered {
            cli::host::recovered(recovery)?;
        }
        if let Some(trouble) = &report.ledger_trouble {
            cli::host::ledger(trouble)?;
        }
        Ok(ExitCode::from(report.exit_code()))
    })
}
