//! The words of `psfca host`, and what it says.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::CaConfigFile;
use super::table::align;
use crate::clock::Timestamp;
use crate::digest::Fingerprint;
use crate::enrollment::RequestAction;
use crate::grant::{CertificateKind, Rule};
use crate::host::{HostAction, HostState, Remark};
use crate::name::HostName;
use crate::profile::Lifetime;
use crate::wire::{
    HostAnswer, HostDetails, HostFork, HostGrant, HostSummary, PendingRequest, PendingRequests, SaltKeysAnswer,
};

/// `psfca host`
#[derive(Debug, Args)]
pub struct Hosts {
    /// What to do
    #[command(subcommand)]
    pub command: HostCommand,
    /// Ask over the network, as this host, which ca.yaml has to name under `operators`; list, show and disable only
    #[arg(long, global = true)]
    pub as_host: bool,
    /// This host's settings, for --as-host (otherwise: /etc/psfca/host.yaml)
    #[arg(long, global = true, value_name = "FILE", env = "PSFCA_HOST_CONFIG")]
    pub host_config: Option<PathBuf>,
}

/// `psfca host …`
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// List the hosts and whether they are served
    List(HostList),
    /// Show what a host may have by the declaration in force, and what it has
    Show(HostShow),
    /// Make the minions that a Salt master has accepted, and no others, able to enrol by their keys
    #[command(
        after_help = "Exit codes: 0 imported, 1 a local error, or some files are no keys and the rest is imported."
    )]
    ImportSalt(HostImportSalt),
    /// Refuse a host everything from now on, also on open connections
    Disable(HostChanged),
    /// Serve a disabled or frozen host again
    Enable(HostChanged),
    /// Let in the host that has shown this fingerprint (psfca enroll --request)
    Approve(HostDecided),
    /// Refuse the key with this fingerprint, which asks to be the host
    Reject(HostDecided),
    /// Forget a host's enrolment; only `psfca token HOST --replace` lets it come back
    Remove(HostChanged),
}

/// `psfca host list`
#[derive(Debug, Args)]
pub struct HostList {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// List the keys that ask to be hosts instead (psfca enroll --request)
    #[arg(long)]
    pub pending: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// `psfca host approve` and `reject`
#[derive(Debug, Args)]
pub struct HostDecided {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// The host
    pub host: HostName,
    /// The whole fingerprint that the host shows; case and grouping do not matter
    #[arg(required = true, num_args = 1..)]
    pub fingerprint: Vec<String>,
}

/// `psfca host import-salt`
#[derive(Debug, Args)]
pub struct HostImportSalt {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// The master's directory of keys, such as /etc/salt/pki/master; only what is in minions/ there counts
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Import a set without any key as well, after which no minion can enrol by its key
    #[arg(long)]
    pub allow_empty: bool,
}

/// `psfca host show`
#[derive(Debug, Args)]
pub struct HostShow {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// The host
    pub host: HostName,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `psfca host disable`, `enable` and `remove`
#[derive(Debug, Args)]
pub struct HostChanged {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// The host
    pub host: HostName,
    /// Why, for the ledger: one line of at most 200 characters
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<Remark>,
}

/// One JSON object per line.
///
/// # Errors
/// When standard output is closed.
pub fn print_list_json(hosts: &[impl serde::Serialize]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for host in hosts {
        serde_json::to_writer(&mut out, host)?;
        writeln!(out)?;
    }
    Ok(())
}

/// A table for people.
///
/// # Errors
/// When standard output is closed.
pub fn print_list(hosts: &[HostSummary], now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if hosts.is_empty() {
        return writeln!(out, "No host is enrolled; psfca token HOST makes what it needs.");
    }
    let header = ["HOST", "STATE", "SINCE", "ENROLLED"].map(str::to_owned);
    let row = |host: &HostSummary| {
        [host.host.to_string(), host.state.to_string(), host.since.with_distance(now), host.enrolled.with_distance(now)]
    };
    let rows: Vec<_> = std::iter::once(header).chain(hosts.iter().map(row)).collect();
    out.write_all(align(&rows, rows[0].len()).as_bytes())
}

/// The keys that ask to be hosts, and what the next host has to be told.
///
/// # Errors
/// When standard output is closed.
pub fn print_pending(pending: &PendingRequests, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if pending.requests.is_empty() {
        writeln!(out, "No host waits.")?;
    }
    for request in &pending.requests {
        let PendingRequest { host, key_sha256, address, state, since, expires, operator_uid, names } = request;
        let by = operator_uid.map(|uid| format!(" by uid {uid}")).unwrap_or_default();
        writeln!(out, "{host}")?;
        writeln!(out, "  key      {}", Fingerprint(*key_sha256))?;
        writeln!(out, "  from     {address}")?;
        writeln!(out, "  state    {state}{by} since {}, until {expires}", since.with_distance(now))?;
        if *names == 0 {
            writeln!(out, "  note     the declaration gives this host no name yet; is it spelled right?")?;
        }
    }
    writeln!(out, "\nA host asks with: psfca enroll --request --server {} \\", pending.server)?;
    writeln!(out, "    --ca-fingerprint {}", Fingerprint(pending.ca_fingerprint))?;
    writeln!(out, "Compare the fingerprint that it shows, whole, then: psfca host approve HOST FINGERPRINT")
}

/// What a decision did.
///
/// # Errors
/// When standard output is closed.
pub fn print_decision(host: &HostName, action: RequestAction, changed: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match (changed, action) {
        (false, _) => writeln!(out, "That was decided already; nothing changed."),
        (true, RequestAction::Approve) => {
            writeln!(out, "{host} is let in when it asks next, with this key alone, within a day.")
        }
        (true, RequestAction::Reject) => writeln!(out, "This key is not let in as {host}."),
    }
}

/// What an import changed.
///
/// # Errors
/// When standard output is closed.
pub fn print_salt_keys(answer: SaltKeysAnswer) -> io::Result<()> {
    let SaltKeysAnswer { imported, removed, unchanged } = answer;
    let keys = if imported == 1 { "key" } else { "keys" };
    writeln!(io::stdout().lock(), "{imported} {keys} imported, {removed} accepted no longer, {unchanged} as before")
}

/// One host, for people.
///
/// # Errors
/// When standard output is closed.
pub fn print_details(details: &HostDetails, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let HostSummary { host, state, since, enrolled } = &details.summary;
    writeln!(out, "host      {host}")?;
    writeln!(out, "state     {state} since {}", since.with_distance(now))?;
    if let Some(operator) = &details.operator {
        let remark = details.remark.as_ref().map(|remark| format!(": {remark}")).unwrap_or_default();
        writeln!(out, "          by {operator}{remark}")?;
    }
    match state {
        HostState::Enabled => {}
        HostState::Disabled => writeln!(out, "          it gets nothing until psfca host enable {host}")?,
        HostState::Frozen => write_fork(&mut out, details)?,
        HostState::Removed => writeln!(out, "          it gets nothing until psfca token {host} --replace")?,
    }
    writeln!(out, "enrolled  {}", enrolled.with_distance(now))?;
    writeln!(out, "\nBy the declaration in force a host of this name may have:")?;
    for grant in &details.may_have {
        write_grant(&mut out, grant)?;
    }
    if details.may_have.is_empty() {
        writeln!(out, "  nothing; psfca why NAME {host} says why not")?;
    }
    writeln!(out, "\nIt has, still valid and not to be taken back:")?;
    write_certificates(&mut out, details, now)
}

/// What people need who have to find out which of the two is the host.
fn write_fork(out: &mut impl Write, details: &HostDetails) -> io::Result<()> {
    let host = &details.summary.host;
    if let Some(HostFork { serial, key_sha256, other_key_sha256 }) = &details.fork {
        writeln!(out, "          two keys asked to renew one identity (serial {serial}):")?;
        writeln!(out, "            first   SHA-256 {key_sha256}, which got the next identity")?;
        writeln!(out, "            second  SHA-256 {other_key_sha256}, which got nothing")?;
        writeln!(
            out,
            "          so a disk was cloned, an old copy of the host's state was put back, or a thief was here"
        )?;
    }
    writeln!(out, "          it gets nothing until you have found out who is who; then either")?;
    writeln!(
        out,
        "            psfca token {host} --replace   to enrol the right one anew; every older identity is void"
    )?;
    writeln!(out, "            psfca host enable {host}   if the first key is the host's, and the second is gone")
}

fn write_grant(out: &mut impl Write, grant: &HostGrant) -> io::Result<()> {
    let life = Lifetime::new(std::time::Duration::from_secs(grant.lifetime_seconds));
    let life = life.map(|life| format!("{life}, ")).unwrap_or_default();
    writeln!(out, "  {}  {life}{}, {}", grant.name, grant.usages, grant.key)?;
    match &grant.rule {
        Rule::Declaration { listed, role, defined, pattern, .. } => {
            writeln!(out, "    {listed}: it lists the role {role}")?;
            writeln!(out, "    {defined}: {role} is {:?}", &**pattern)
        }
        _ => Ok(()),
    }
}

fn write_certificates(out: &mut impl Write, details: &HostDetails, now: Timestamp) -> io::Result<()> {
    if details.has.is_empty() {
        return writeln!(out, "  nothing");
    }
    let header = ["  NAME", "UNTIL", "STATE", "SERIAL", ""].map(str::to_owned);
    let rows = details.has.iter().map(|certificate| {
        let (name, identity) = (&certificate.name, certificate.kind == CertificateKind::Identity);
        let entitled = identity || details.may_have.iter().any(|grant| grant.name == *name);
        let name = if identity { "  (identity)".to_owned() } else { format!("  {name}") };
        let note = match (entitled, certificate.void) {
            (_, true) => "void: the host enrolled again since",
            (false, _) => "may have it no longer",
            (true, false) => "",
        };
        let until = certificate.not_after.with_distance(now);
        [name, until, certificate.state.as_str().to_owned(), certificate.serial.to_string(), note.to_owned()]
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    out.write_all(align(&rows, rows[0].len()).as_bytes())?;
    if let (1.., Some(end)) = (details.has_more, details.last_end) {
        // Rounded up, so that the last one is among them.
        let days = now.until(end).as_secs() / 86_400 + 1;
        let host = &details.summary.host;
        writeln!(out, "  and {} more: psfca audit list --host {host} --expiring-within {days}d", details.has_more)?;
    }
    Ok(())
}

/// What a change did.
///
/// # Errors
/// When standard output is closed.
pub fn print_answer(action: HostAction, answer: &HostAnswer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let HostSummary { host, state, .. } = &answer.summary;
    if !answer.changed {
        return writeln!(out, "{host} was {state} already; nothing changed.");
    }
    match action {
        HostAction::Enable => writeln!(out, "{host} is {state}, and served again."),
        HostAction::Disable | HostAction::Remove => {
            writeln!(out, "{host} is {state}: it gets nothing from now on.")?;
            writeln!(out, "Certificates that it has are good until they end: psfca host show {host}")
        }
    }
}
