//! The words of `psfca fleet`, and what it says.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::CaConfigFile;
use super::table::align;
use crate::clock::{Timestamp, describe};
use crate::name::{DnsName, HostName};
use crate::terminal::printable_lines;
use crate::wire::{Deployment, FirstEnd, FleetEntry, Holder, Lag, LagReason};

/// `psfca fleet`
#[derive(Debug, Args)]
pub struct Fleet {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// Only what lags
    #[arg(long)]
    pub lagging: bool,
    /// Only this name
    #[arg(long)]
    pub name: Option<DnsName>,
    /// Only this host
    #[arg(long)]
    pub host: Option<HostName>,
    /// Print one JSON object per line, by host and name
    #[arg(long)]
    pub json: bool,
    /// Ask over the network, as this host, which ca.yaml has to name under `operators`
    #[arg(long)]
    pub as_host: bool,
    /// This host's settings, for --as-host (otherwise: /etc/psfca/host.yaml)
    #[arg(long, value_name = "FILE", env = "PSFCA_HOST_CONFIG")]
    pub host_config: Option<PathBuf>,
}

/// What is told of the whole beside its entries.
#[derive(Debug, Default)]
pub struct Totals {
    /// Names on hosts, by the filters of name and host.
    pub seen: usize,
    /// Of these, with something wrong.
    pub lagging: usize,
    /// Of these, ended or nearly so, and not renewed.
    pub critical: usize,
    /// Of what lags: never issued.
    pub never_issued: usize,
    /// What ends first when nothing is renewed any more.
    pub first_end: Option<FirstEnd>,
}

/// One JSON object per line.
///
/// # Errors
/// When standard output is closed.
pub fn print_json(entries: &[FleetEntry]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for entry in entries {
        serde_json::to_writer(&mut out, entry)?;
        writeln!(out)?;
    }
    Ok(())
}

/// A table for people, the newest trouble first, and for how long the CA may be gone.
///
/// # Errors
/// When standard output is closed.
pub fn print_table(mut entries: Vec<FleetEntry>, totals: &Totals, now: Timestamp) -> io::Result<()> {
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.lag.map(|lag| lag.since)));
    let header = ["NAME", "HOST", "STATE", "DUE", "UNTIL", "LAGS"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header).chain(entries.iter().map(|entry| row(entry, now))).collect();
    let mut out = String::new();
    if !entries.is_empty() {
        out.push_str(&align(&rows, rows[0].len()));
        out.push('\n');
    }
    out.push_str(&summary(totals, now));
    io::stdout().lock().write_all(printable_lines(&out).as_bytes())
}

fn row(entry: &FleetEntry, now: Timestamp) -> [String; 6] {
    let certificate = entry.certificate.as_ref();
    let reported = certificate.zip(entry.report.as_ref());
    let state = match reported.filter(|(certificate, report)| certificate.serial == report.serial) {
        Some((_, report)) => report.deployment.as_str(),
        None if certificate.is_some() => "issued",
        None => "none",
    };
    let lags = match entry.lag {
        Some(lag) => {
            let length = lag.since.until(now);
            // The moment it began is no length.
            let since = if length.as_secs() == 0 { "just now".to_owned() } else { format!("for {}", describe(length)) };
            format!("{since}: {}", why(entry, lag))
        }
        None if !entry.allowed => "no; the declaration gives it no longer".to_owned(),
        None => "no".to_owned(),
    };
    let Holder { host, name } = &entry.holder;
    let moments = certificate.map(|certificate| [certificate.due, certificate.not_after]);
    let [due, until] = moments.map_or_else(|| ["-", "-"].map(str::to_owned), |both| both.map(|one| one.distance(now)));
    [name.to_string(), host.to_string(), state.to_owned(), due, until, lags]
}

fn why(entry: &FleetEntry, lag: Lag) -> String {
    let serial = entry.report.as_ref().map(|report| report.serial.to_string()).unwrap_or_default();
    match lag.why {
        LagReason::HostDisabled => "the host is disabled".to_owned(),
        LagReason::HostFrozen => format!("the host is frozen; psfca host show {}", entry.holder.host),
        LagReason::Expired => "it ended and was not renewed".to_owned(),
        LagReason::ExpiresSoon => "it ends soon and was not renewed".to_owned(),
        LagReason::UnknownSerial => format!("the host has serial {serial}, which the ledger does not have for it"),
        LagReason::Owed => owed(entry),
        LagReason::Overdue => "it should have been renewed".to_owned(),
        LagReason::OlderSerial => format!("the host still has serial {serial}"),
        LagReason::Unreported => "the host never said that it has one".to_owned(),
        LagReason::NeverIssued => "the host may have it and never got one; does its timer run?".to_owned(),
    }
}

fn owed(entry: &FleetEntry) -> String {
    let mut text = "the service was not shown to have it".to_owned();
    if let Some(Deployment::Owed { attempts, error, .. }) = entry.report.as_ref().map(|report| &report.deployment) {
        text.push_str(&format!(", {attempts} attempt{}", if *attempts == 1 { "" } else { "s" }));
        if let Some(error) = error {
            text.push_str(&format!(": {error}"));
        }
    }
    text
}

fn summary(totals: &Totals, now: Timestamp) -> String {
    let Totals { seen, lagging, critical, never_issued, first_end } = totals;
    if *seen == 0 {
        return "No host holds a certificate that this asks for.\n".to_owned();
    }
    let mut text = match (seen - never_issued, lagging - never_issued) {
        (1, lagging) => format!("1 certificate in use, {lagging} lagging"),
        (in_use, lagging) => format!("{in_use} certificates in use, {lagging} lagging"),
    };
    if *critical > 0 {
        text.push_str(&format!(", {critical} ended or about to"));
    }
    match never_issued {
        0 => {}
        1 => text.push_str("; 1 never issued"),
        many => text.push_str(&format!("; {many} never issued")),
    }
    text.push_str(".\n");
    if let Some(FirstEnd { not_after, holder: Holder { host, name } }) = first_end {
        let left = describe(now.until(*not_after));
        text.push_str(&format!("If the CA were gone from now on, the first would end in {left}: {name} on {host}.\n"));
    }
    text
}
