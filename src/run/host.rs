//! What the four commands of the agent share: settings, clock, randomness, and a light runtime.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use crate::agent::settings::Settings;
use crate::agent::{Agent, AgentError};
use crate::cli;
use crate::clock::SystemClock;
use crate::random::SystemRandom;

/// Reads the settings and calls `work` with the agent. An error of the agent becomes its own exit
/// code: 1 local, 3 denied, 4 CA unreachable, 6 its ledger.
pub(super) fn with_agent(
    config: &cli::HostConfigFile,
    work: impl AsyncFnOnce(&Agent<'_>) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(config.config.as_deref())?;
    let agent = Agent {
        settings: &settings,
        clock: Arc::new(SystemClock),
        random: &SystemRandom,
        privileged: rustix::process::geteuid().is_root(),
    };
    // One connection and a few files need no threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("the asynchronous runtime did not start")?.block_on(work(&agent)) {
        Err(error) => match error.downcast_ref::<AgentError>().map(AgentError::exit_code) {
            Some(code) if code != 1 => {
                cli::host::note(&error.to_string())?;
                Ok(ExitCode::from(code))
            }
            _ => Err(error),
        },
        done => done,
    }
}
