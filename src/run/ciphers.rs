//! `psfca ciphers`

use std::process::ExitCode;

use super::check::show;
use super::declaration_files::{ReadError, read_declaration_files};
use super::host::with_agent;
use crate::agent::AgentError;
use crate::agent::identity::Enrolment;
use crate::cli;
use crate::declaration::Rules;
use crate::name::DnsName;
use crate::terminal::printable;
use crate::wire::CipherPolicy;

/// The exit code where no list applies; the same number as for what the CA denies.
const NONE: u8 = 3;

/// Prints one line: for a host what the CA says, otherwise what the files say.
pub(super) fn run(args: &cli::Ciphers) -> anyhow::Result<ExitCode> {
    if !args.declaration.is_empty() {
        return of_files(args);
    }
    with_agent(&args.config, async |agent| {
        let enrolment = Enrolment::load(&agent.settings.state)?;
        let mut client = agent.connect(&enrolment).await?;
        let path = args.name.as_ref().map_or_else(|| "/v1/ciphers".to_owned(), |name| format!("/v1/ciphers/{name}"));
        let policy: CipherPolicy = client.get_json(&path).await.map_err(AgentError::from)?;
        // For a line of some service's configuration: what is not printable does not belong there.
        cli::host::text(&format!("{}\n", printable(&policy.ciphers)))?;
        if let Some(name) = args.name.as_ref().filter(|_| policy.is_default) {
            no_line(name)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// A slip of the pen looks the same as a name that goes by the default.
fn no_line(name: &DnsName) -> std::io::Result<()> {
    cli::host::note(&format!("no line for {name} under tls.ciphers; this is the default"))
}

/// Warnings and notes are left to `psfca check`.
fn of_files(args: &cli::Ciphers) -> anyhow::Result<ExitCode> {
    let declaration = match read_declaration_files(&args.declaration, &Rules::default()) {
        Ok((declaration, ..)) => declaration,
        Err(ReadError::Mistakes(messages)) => {
            show(&messages)?;
            return Ok(ExitCode::FAILURE);
        }
        Err(error @ ReadError::Files(_)) => return Err(error.into()),
    };
    match declaration.ciphers(args.name.as_ref()) {
        Some(ciphers) => {
            cli::host::text(&format!("{ciphers}\n"))?;
            if let Some(name) = args.name.as_ref().filter(|name| !declaration.has_own_ciphers(name)) {
                no_line(name)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        None => {
            cli::host::note("there is no cipher list for this, and no `default` under tls.ciphers")?;
            Ok(ExitCode::from(NONE))
        }
    }
}
