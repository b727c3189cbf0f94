//! What is owed to the services of this host: to be told of the bundle that is installed, and to prove that they serve
//! it. `loading` decides; here are the files, the hooks and the probes.
//!
//! One file for each name, `loaded/NAME.json` in the state directory. That a new serial is owed stands there before its
//! bundle is in place; that it is paid, only after every hook succeeded and every probe proved it. A crash between two
//! steps leaves a debt that is known or a certificate of which nothing is written, and both are owed.

use std::path::PathBuf;

use rustls::pki_types::CertificateDer;

use super::files::{self, Links};
use super::hooks::{self, unit};
use super::install::{self, InstallError};
use super::probe::{self, Expected};
use super::{Agent, read_if_there};
use crate::ca::bundle::Bundle;
use crate::ca::provenance;
use crate::durable;
use crate::loading::{HookRun, Loaded, Records, Wanted};
use crate::name::DnsName;
use crate::report::Line;
use crate::serial::Serial;

/// What is installed under a name, and whether services use it.
#[derive(Debug)]
pub struct Standing {
    /// The serial number of the bundle that is installed; none where there is none of this CA that is whole.
    pub installed: Option<Serial>,
    /// Whether services use it.
    pub loaded: Loaded,
}

/// How things stand under `name`, without trying anything.
#[must_use]
pub fn standing(agent: &Agent<'_>, name: &DnsName, anchors: &[CertificateDer<'_>]) -> Standing {
    match installed(agent, name, anchors) {
        None => Standing { installed: None, loaded: Loaded::NotInstalled },
        Some(bundle) => {
            let serial = bundle.leaf().serial.clone();
            let loaded = read(agent, name).loaded(&serial, wanted(agent, name));
            Standing { installed: Some(serial), loaded }
        }
    }
}

/// Writes down that `new` will be owed, before its bundle takes the place of the old one.
///
/// # Errors
/// [`InstallError`]; then the old one has to stay.
pub fn expect(agent: &Agent<'_>, name: &DnsName, new: &Serial) -> Result<(), InstallError> {
    if wanted(agent, name) == NOTHING {
        return Ok(());
    }
    let before = bundle_of(agent, name).and_then(|text| Bundle::parse(&text).ok());
    let mut records = read(agent, name);
    records.expect(new, before.as_ref().map(|bundle| &bundle.leaf().serial), agent.now());
    write(agent, name, &records)
}

/// The same before a copy of the installed bundle is written: services may read that one.
///
/// # Errors
/// [`InstallError`]; then the copy has to stay as it is.
pub fn reopen(agent: &Agent<'_>, name: &DnsName, installed: &Serial) -> Result<(), InstallError> {
    let mut records = read(agent, name);
    if wanted(agent, name) == NOTHING || !records.reopen(installed, agent.now()) {
        return Ok(());
    }
    write(agent, name, &records)
}

/// Pays what is owed under each of these names, or only says what is (`dry_run`). Those that were tried least come
/// first: one whose hooks always take too long keeps nobody else from being paid.
pub async fn settle(agent: &Agent<'_>, anchors: &[CertificateDer<'_>], lines: &mut [Line], dry_run: bool) {
    let mut owed = Vec::new();
    for line in lines.iter_mut() {
        line.loaded = standing(agent, &line.name, anchors).loaded;
        if let Loaded::Owed { attempts, .. } = line.loaded {
            owed.push((attempts, line));
        }
    }
    owed.sort_by_key(|(attempts, _)| *attempts);
    if dry_run {
        return;
    }
    for (_, line) in owed {
        (line.loaded, line.hooks) = pay(agent, &line.name, anchors, line.copy_problem.as_deref()).await;
    }
}

/// Tries to pay what is owed for the bundle that is installed under `name`; `copy_problem` is why services
/// that read a copy of it cannot have it yet. Says how far that came, and what the hooks said.
pub async fn pay(
    agent: &Agent<'_>,
    name: &DnsName,
    anchors: &[CertificateDer<'_>],
    copy_problem: Option<&str>,
) -> (Loaded, Vec<HookRun>) {
    let wanted = wanted(agent, name);
    let Some(bundle) = installed(agent, name, anchors) else { return (Loaded::NotInstalled, Vec::new()) };
    let serial = &bundle.leaf().serial;
    let mut records = read(agent, name);
    let outstanding = records.of_installed(serial, agent.now()).outstanding(wanted);
    if outstanding == NOTHING {
        return (records.loaded(serial, wanted), Vec::new());
    }
    let record = records.of_installed(serial, agent.now());
    record.attempts = record.attempts.saturating_add(1);
    // Counted before it is tried, so that a try which kills the whole run counts.
    let counted = write(agent, name, &records);
    let (runs, tried) = attempt(agent, name, anchors, &bundle, outstanding).await;
    let tried = counted.map_err(|error| error.to_string()).and(tried);
    let tried = tried.and(copy_problem.map_or(Ok(()), |problem| Err(format!("a copy is out of date: {problem}"))));
    let (now, record) = (agent.now(), records.of_installed(serial, agent.now()));
    match tried {
        Ok(()) => record.paid(wanted, now),
        Err(error) => record.failed(error),
    }
    if let Err(error) = write(agent, name, &records) {
        // What is not written down is not paid.
        records.of_installed(serial, now).failed(error.to_string());
    }
    (records.loaded(serial, wanted), runs)
}

async fn attempt(
    agent: &Agent<'_>,
    name: &DnsName,
    anchors: &[CertificateDer<'_>],
    bundle: &Bundle,
    outstanding: Wanted,
) -> (Vec<HookRun>, Result<(), String>) {
    let mut runs = Vec::new();
    if outstanding.hooks {
        runs = match unit::is_used(agent) {
            true => unit::start(agent, name, bundle).await,
            false => hooks::run(agent, name, bundle).await,
        };
        if let Some(failures) = hooks::failures(&runs) {
            return (runs, Err(failures));
        }
    }
    let expected = Expected { anchors, name, serial: &bundle.leaf().serial, clock: agent.clock.clone() };
    let mut unproven = Vec::new();
    for probe in agent.settings.placement.probes(name) {
        if let Err(error) = probe::prove(probe, &expected, tokio::time::sleep).await {
            unproven.push(error.to_string());
        }
    }
    let proven = if unproven.is_empty() { Ok(()) } else { Err(unproven.join("\n")) };
    (runs, proven)
}

const NOTHING: Wanted = Wanted { hooks: false, probe: false };

fn wanted(agent: &Agent<'_>, name: &DnsName) -> Wanted {
    Wanted { hooks: hooks::are_there(agent, name), probe: !agent.settings.placement.probes(name).is_empty() }
}

/// The bundle that is installed under `name`, when it is whole and this CA issued it: what is damaged, or anybody
/// else's, is nothing that a service should be told to load, or be given a copy of.
#[must_use]
pub fn installed(agent: &Agent<'_>, name: &DnsName, anchors: &[CertificateDer<'_>]) -> Option<Bundle> {
    provenance::own_bundle(&bundle_of(agent, name)?, anchors, agent.now())
}

fn bundle_of(agent: &Agent<'_>, name: &DnsName) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    files::read(&agent.settings.placement.bundle(name).path, Links::Refused).ok().map(|(_, text)| text)
}

/// Clears what runs left beside the records that were killed while they wrote one.
pub fn clear_leftovers(agent: &Agent<'_>) {
    durable::clear_leftovers(&directory(agent));
}

fn directory(agent: &Agent<'_>) -> PathBuf {
    agent.settings.state.join("loaded")
}

fn path(agent: &Agent<'_>, name: &DnsName) -> PathBuf {
    directory(agent).join(format!("{name}.json"))
}

/// What cannot be read is as if it were not there, and so is owed.
fn read(agent: &Agent<'_>, name: &DnsName) -> Records {
    let text = read_if_there(&path(agent, name)).ok().flatten();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn write(agent: &Agent<'_>, name: &DnsName, records: &Records) -> Result<(), InstallError> {
    let path = path(agent, name);
    if let Some(directory) = path.parent() {
        install::make_directory(directory, 0o700)?;
    }
    let failed = |cause| InstallError::Io { path: path.clone(), step: "write down what is owed", cause };
    let text = serde_json::to_vec_pretty(records).map_err(|error| failed(error.into()))?;
    durable::replace(&path, &text, 0o600).map_err(failed)
}
