//! `psfca check`: every mistake with its place, then who gets what.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::declaration_files::{Owners, ReadError, read_config, read_declaration, read_declaration_files, read_set};
use crate::ca::authorities::{CaCertificates, CaFiles};
use crate::cli::check::Known;
use crate::cli::{self, Check};
use crate::client::Client;
use crate::clock::{Clock as _, SystemClock};
use crate::config::CaConfig;
use crate::declaration::{Declaration, Rules};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile};
use crate::expiry::ca_health;
use crate::host::HostState;
use crate::name::HostName;
use crate::policy;
use crate::wire::{Health, HostSummary};

/// Checks what `args` name. The hosts are those of `--hosts`, or else the enrolled ones.
///
/// # Errors
/// Files that cannot be read, and output that cannot be written. Mistakes in the files are no error
/// here but the exit code 1.
pub(super) fn run(args: &Check) -> anyhow::Result<ExitCode> {
    match read(args) {
        Ok(Checked { declaration, known, messages }) => {
            if args.json {
                write_out(&cli::check::json(Some(&declaration), &known, &messages)?)?;
            } else {
                show(&messages)?;
                write_out(&cli::check::table(&declaration, &known, &messages, SystemClock.now()))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(ReadError::Mistakes(messages)) => {
            if args.json {
                write_out(&cli::check::json(None, &Known::default(), &messages)?)?;
            } else {
                show(&messages)?;
            }
            Ok(ExitCode::FAILURE)
        }
        Err(error @ ReadError::Files(_)) => Err(error.into()),
    }
}

struct Checked {
    declaration: Declaration,
    known: Known,
    messages: Diagnostics,
}

fn read(args: &Check) -> Result<Checked, ReadError> {
    let mut messages = Diagnostics::new();
    let mut known = Known::default();
    let (declaration, files, more) = if args.files.is_empty() {
        let (config, notes) = read_config(&args.config.config)?;
        messages.append(notes);
        known = Known { identity_grace: config.identity_grace, ..ask_ca(&config) };
        read_declaration(&config)?
    } else {
        read_declaration_files(&args.files, &Rules::default())?
    };
    messages.append(more);
    if let Some(path) = &args.hosts {
        known.hosts = Some(read_hosts(path)?);
    }
    if let Some(hosts) = &known.hosts {
        report_unreachable(&declaration, &files, hosts, &mut messages);
    }
    Ok(Checked { declaration, known, messages })
}

/// The enrolled hosts and the ends of the CA's certificates, from the daemon where it runs. Without
/// it the certificates are read from the state directory, and the hosts stay unknown.
fn ask_ca(config: &CaConfig) -> Known {
    let asked = super::runtime().and_then(|runtime| {
        runtime.block_on(async {
            let mut client = Client::connect_unix(&config.admin_socket).await?;
            let hosts: Vec<HostSummary> = client.get_json("/v1/hosts").await?;
            let health: Health = client.get_json("/healthz").await?;
            let hosts = hosts.into_iter().filter(|summary| summary.state != HostState::Removed);
            let hosts = hosts.map(|summary| summary.host).collect();
            anyhow::Ok(Known { hosts: Some(hosts), ca: health.ca, ..Known::default() })
        })
    });
    asked.unwrap_or_else(|error| {
        let certificates = CaCertificates::load(&CaFiles::in_state(&config.state_dir));
        let now = SystemClock.now();
        let ca = certificates.iter().flat_map(CaCertificates::each);
        let ca = ca.map(|(kind, ca)| ca_health(kind, ca.not_after(), now)).collect();
        Known { ca, unasked: Some(error.to_string()), ..Known::default() }
    })
}

/// One host name per line; empty lines and what follows a `#` are skipped.
fn read_hosts(path: &Path) -> Result<Vec<HostName>, ReadError> {
    let files = read_set(&[path.to_owned()], Owners::Anybody)?;
    let mut mistakes = Diagnostics::new();
    let mut hosts = BTreeSet::new();
    for file in &files {
        let mut start = 0;
        for line in file.text().split_inclusive('\n') {
            let text = line.split('#').next().unwrap_or_default();
            let at = start + text.len() - text.trim_start().len();
            start += line.len();
            let text = text.trim();
            match HostName::parse(text) {
                _ if text.is_empty() => {}
                Ok(host) => {
                    hosts.insert(host);
                }
                Err(error) => mistakes.push(
                    Diagnostic::error(file, at..at + text.len(), format!("{text:?} is no host name: {error}"))
                        .help("write one host name per line"),
                ),
            }
        }
    }
    if mistakes.is_empty() { Ok(hosts.into_iter().collect()) } else { Err(ReadError::Mistakes(mistakes)) }
}

fn report_unreachable(declaration: &Declaration, files: &[SourceFile], hosts: &[HostName], messages: &mut Diagnostics) {
    // A new CA has no hosts yet, which is no mistake in any of the names.
    if hosts.is_empty() {
        return;
    }
    for service in declaration.services() {
        // That a name lists no roles at all has been reported without any hosts.
        if service.roles.is_empty() || !policy::hosts_of(declaration, service, hosts).is_empty() {
            continue;
        }
        if let Some(file) = files.iter().find(|file| file.path() == &*service.place.file) {
            let message = format!("none of the known hosts can get {}", service.name);
            let help = "no host has a role that it lists; look at the patterns, or remove the name";
            messages.push(Diagnostic::warning(file, file.line_span(service.place.line), message).help(help));
        }
    }
}

/// Messages go to standard error, in colour only on a terminal.
pub(super) fn show(messages: &Diagnostics) -> std::io::Result<()> {
    let mut stderr = std::io::stderr().lock();
    let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    stderr.write_all(messages.render(colour).as_bytes())?;
    if !messages.is_empty() {
        stderr.write_all(b"\n")?;
    }
    Ok(())
}

pub(super) fn write_out(text: &str) -> std::io::Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes())
}
