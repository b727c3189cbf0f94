//! Hooks where there is systemd: the renewer is confined and could reload nothing, so it starts
//! `psfca-hook@NAME.service`, which runs `psfca hook NAME` and leaves what became of it in the state directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PATH, process, refused};
use crate::agent::settings::DEFAULT_FILE;
use crate::agent::{Agent, AgentError, install, read_if_there};
use crate::ca::bundle::Bundle;
use crate::durable;
use crate::loading::HookRun;
use crate::name::DnsName;
use crate::serial::Serial;

/// Where systemd is the one that started everything (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// Longer than the unit lets its hooks take (`TimeoutStartSec=` in `psfca-hook@.service`).
const LIMIT: Duration = Duration::from_secs(11 * 60);

/// How much all hooks together may have said for that to be kept, in octets: each may take six in JSON, and of a file no
/// more than 1 MiB is read.
const MAX_SAID: usize = 128 << 10;

/// What the unit leaves behind.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Left {
    serial: Serial,
    runs: Vec<HookRun>,
}

/// Whether hooks are for systemd to run: it is there, this is root, and the settings are those that the unit reads.
#[must_use]
pub fn is_used(agent: &Agent<'_>) -> bool {
    agent.privileged && agent.settings.file == Path::new(DEFAULT_FILE) && Path::new(BOOTED).is_dir()
}

/// Starts the unit and waits for it.
pub async fn start(agent: &Agent<'_>, name: &DnsName, bundle: &Bundle) -> Vec<HookRun> {
    let unit = format!("psfca-hook@{name}.service");
    let failed = |why: String| vec![refused(PathBuf::from(&unit), why)];
    let path = path(agent, name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return failed(format!("is not started: {} cannot be removed: {error}", path.display()));
        }
        _ => {}
    }
    let mut command = Command::new("systemctl");
    command.env_clear().env("PATH", PATH).args(["--no-ask-password", "start", &unit]).current_dir("/");
    let ran = match process::run(command, LIMIT).await {
        Ok(ran) => ran,
        Err(error) => return failed(format!("cannot be started: systemctl: {error}")),
    };
    let left = left(&path);
    let done = ran.status.is_some_and(|status| status.success());
    match left.filter(|left| left.serial == bundle.leaf().serial) {
        Some(left) if done || left.runs.iter().any(|run| run.error.is_some()) => left.runs,
        // It did not get as far as that, or did it for another certificate.
        _ => failed(format!("did not run every hook; journalctl -u {unit} shows more; systemctl said: {}", ran.output)),
    }
}

/// Keeps what became of the hooks for the renewer that waits.
///
/// # Errors
/// [`AgentError`] when it cannot be written.
pub fn leave(agent: &Agent<'_>, name: &DnsName, bundle: &Bundle, runs: &[HookRun]) -> Result<(), AgentError> {
    let path = path(agent, name);
    if let Some(directory) = path.parent() {
        install::make_directory(directory, 0o700)?;
    }
    let most = MAX_SAID / runs.len().max(1);
    let runs = runs.iter().map(|run| HookRun { output: end(&run.output, most), ..run.clone() });
    let left = Left { serial: bundle.leaf().serial.clone(), runs: runs.collect() };
    let text = serde_json::to_vec_pretty(&left)
        .map_err(|error| AgentError::State { path: path.clone(), cause: error.to_string() })?;
    durable::replace(&path, &text, 0o600).map_err(|error| AgentError::state(&path, &error))
}

/// The last `most` octets of a text, or a few less.
fn end(text: &str, most: usize) -> String {
    match text.len().checked_sub(most).filter(|over| *over > 0) {
        None => text.to_owned(),
        Some(over) => format!("…{}", &text[text.ceil_char_boundary(over)..]),
    }
}

fn left(path: &Path) -> Option<Left> {
    read_if_there(path).ok().flatten().and_then(|text| serde_json::from_slice(&text).ok())
}

fn path(agent: &Agent<'_>, name: &DnsName) -> PathBuf {
    agent.settings.state.join("hooks").join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::fixture::{NAME, World};
    use crate::agent::hooks::MAX_HOOKS;
    use crate::ca::fixture::now;

    #[tokio::test]
    async fn what_many_hooks_did_is_known_however_much_each_of_them_said() {
        let world = World::enrolled().await;
        world.renew(now()).await;
        let (agent, name, bundle) = (world.agent(now()), NAME.parse().unwrap(), world.bundle());
        for (count, said) in [(2 * MAX_HOOKS, "\u{1}"), (2 * MAX_HOOKS, "\u{fffd}"), (1, "x")] {
            let output = format!("…{} because", said.repeat(process::MAX_OUTPUT));
            let runs = vec![HookRun { hook: "/etc/psfca/hooks.d/all/reload".into(), output, error: None }; count];
            leave(&agent, &name, &bundle, &runs).unwrap();
            let left = left(&path(&agent, &name)).expect("it can be read again");
            assert_eq!(left.runs.len(), count);
            assert!(left.runs.iter().all(|run| run.output.starts_with('…') && run.output.ends_with(" because")));
        }
    }
}
