//! `psfca hook`

use std::process::ExitCode;

use anyhow::Context as _;

use super::host::with_agent;
use crate::agent::debt;
use crate::agent::hooks::{self, unit};
use crate::agent::identity::Enrolment;
use crate::cli;
use crate::report::OWED;

/// Runs the hooks of a name for the bundle that is installed, and leaves what became of them to a `psfca renew` that
/// waits. Nothing is paid by that: `psfca renew` does it, with the proof.
pub(super) fn run(args: &cli::Hook) -> anyhow::Result<ExitCode> {
    with_agent(&args.config, async |agent| {
        agent.check_state()?;
        let enrolment = Enrolment::load(&agent.settings.state)?;
        let bundle = debt::installed(agent, &args.name, &enrolment.anchors)
            .with_context(|| format!("there is no whole bundle of this CA installed for {}", args.name))?;
        let runs = hooks::run(agent, &args.name, &bundle).await;
        cli::host::hooks(&runs)?;
        if runs.is_empty() {
            let directory = agent.settings.hooks.display();
            cli::host::note(&format!(
                "there is no hook for {0}: none in {directory}/all or {directory}/{0}",
                args.name
            ))?;
        }
        unit::leave(agent, &args.name, &bundle, &runs)?;
        Ok(if hooks::failures(&runs).is_none() { ExitCode::SUCCESS } else { ExitCode::from(OWED) })
    })
}
