//! `psfca enroll`

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use super::host::with_agent;
use crate::agent::Agent;
use crate::agent::approval::{self, Requested};
use crate::agent::enroll::{Enrolled, FirstTrust, NamedBy, enroll, spare_another};
use crate::agent::salt::{self, MinionKey};
use crate::cli;
use crate::digest::Fingerprint;
use crate::name::HostName;
use crate::token::EnrollmentToken;

/// A token is far shorter; only a bound against the wrong file.
const MAX_TOKEN_FILE: u64 = 4_096;
/// Where Linux says what the machine calls itself.
const OWN_NAME: &str = "/proc/sys/kernel/hostname";
/// The exit code where no operator has decided yet.
const WAITING: u8 = 8;

/// Reads the token from a file or standard input, and enrols.
pub(super) fn run(args: &cli::Enroll) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.misplaced.is_empty(),
        "a token does not belong on the command line, where everybody on this machine can read it; give it on standard \
         input or with --token-file, and if others use this machine, let that one run out and make another"
    );
    if args.request {
        return run_request(args);
    }
    if let Some(path) = &args.salt_key {
        return run_salt_key(args, path);
    }
    let mut text = Zeroizing::new(String::new());
    match &args.token_file {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
            file.take(MAX_TOKEN_FILE).read_to_string(&mut text).context("the token file is no text")?;
        }
        None => {
            let mut stdin = std::io::stdin().lock().take(MAX_TOKEN_FILE);
            let read = if std::io::stdin().is_terminal() {
                cli::host::note("paste the token (made on the CA machine: psfca token HOST), then press Enter")?;
                stdin.read_line(&mut text)
            } else {
                stdin.read_to_string(&mut text)
            };
            read.context("the token cannot be read from standard input")?;
            if text.trim().is_empty() {
                bail!("no token came on standard input; make one on the CA machine: psfca token HOST");
            }
        }
    }
    let token = EnrollmentToken::parse(&text)?;
    with_agent(&args.config, async |agent| done(agent, enroll(agent, &token, args.replace).await?))
}

/// Asks for an operator's approval, and waits.
fn run_request(args: &cli::Enroll) -> anyhow::Result<ExitCode> {
    with_agent(&args.config, async |agent| {
        let (trust, host) = (first_trust(args, agent)?, host(args, agent)?);
        let tell = |fingerprint: &Fingerprint| cli::host::asks(&host, fingerprint);
        match approval::request(agent, &trust, &host, args.wait, tell).await? {
            Requested::Enrolled(enrolled) => done(agent, *enrolled),
            Requested::Waiting(waiting) => {
                cli::host::waits(&waiting, agent.now())?;
                Ok(ExitCode::from(WAITING))
            }
        }
    })
}

/// Signs with the key of the Salt minion.
fn run_salt_key(args: &cli::Enroll, path: &Path) -> anyhow::Result<ExitCode> {
    with_agent(&args.config, async |agent| {
        let (trust, host) = (first_trust(args, agent)?, host(args, agent)?);
        let minion = MinionKey::read(path)?;
        done(agent, salt::enroll(agent, &trust, &host, &minion).await?)
    })
}

/// Whom to ask, and which root must answer, from the words or else the settings.
fn first_trust(args: &cli::Enroll, agent: &Agent<'_>) -> anyhow::Result<FirstTrust> {
    let settings = agent.settings;
    let root = args.ca_fingerprint.map(|Fingerprint(root)| root).or(settings.ca_fingerprint).context(
        "without a token this host has to be told which CA to trust: --ca-fingerprint, or ca_fingerprint in the settings; \
         psfca init has printed it, and psfca inspect PSF_CA.pem and psfca host list --pending print it on the CA machine",
    )?;
    let servers = args.server.as_ref().map_or_else(|| settings.server.clone(), |server| vec![server.clone()]);
    anyhow::ensure!(!servers.is_empty(), "where is the CA? say --server NAME:PORT, or server in the settings");
    Ok(FirstTrust { servers, root, named_by: NamedBy::Fingerprint })
}

/// The name that was given, or the machine's own; none that the state directory is not of, unless that is meant.
fn host(args: &cli::Enroll, agent: &Agent<'_>) -> anyhow::Result<HostName> {
    let host = named(args)?;
    if !args.replace {
        spare_another(agent, &host)?;
    }
    Ok(host)
}

fn named(args: &cli::Enroll) -> anyhow::Result<HostName> {
    if let Some(host) = &args.host {
        return Ok(host.clone());
    }
    let name =
        std::fs::read_to_string(OWN_NAME).with_context(|| format!("{OWN_NAME} cannot be read; say --host NAME"))?;
    HostName::parse(name.trim())
        .with_context(|| format!("this machine calls itself {:?}; say --host NAME", name.trim()))
}

/// Says that the host is enrolled, and what is not as it should be.
fn done(agent: &Agent<'_>, enrolled: Enrolled) -> anyhow::Result<ExitCode> {
    let Enrolled { enrolment, trust, ledger_break } = enrolled;
    let until = enrolment.validity().not_after;
    let trust_bundle = &agent.settings.trust_bundle;
    cli::host::enrolled(&enrolment.host, &enrolment.server, until, trust_bundle, agent.now())?;
    if let Some(error) = ledger_break {
        cli::host::note(&format!("{error}; this host starts anew with the ledger as it is now"))?;
    }
    trust.context("the identity is stored, and the trust bundle is not; psfca renew tries again")?;
    Ok(ExitCode::SUCCESS)
}
