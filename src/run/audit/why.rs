//! `psfca audit why`

use std::process::ExitCode;

use super::super::check::write_out;
use crate::cli::AuditWhy;
use crate::cli::audit::why::Reason;
use crate::client::Client;
use crate::clock::{Clock as _, SystemClock};
use crate::grant::Rule;
use crate::terminal::printable_lines;
use crate::wire::DeclarationText;

/// Says by which line of which declaration a certificate was issued.
pub(super) fn run(args: &AuditWhy) -> anyhow::Result<ExitCode> {
    let config = crate::run::config(&args.config.config)?;
    let (entry, certificate, declaration) = crate::run::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        let (entry, certificate) = super::certificate(&mut client, &args.serial).await?;
        let declaration = match &certificate.rule {
            Rule::Declaration { declaration, .. } => {
                Some(client.get_json::<DeclarationText>(&format!("/v1/declarations/{declaration}")).await?)
            }
            _ => None,
        };
        anyhow::Ok((entry, certificate, declaration))
    })?;
    let reason = Reason::new(&entry, &certificate, declaration.as_ref());
    write_out(&if args.json { reason.json()? } else { printable_lines(&reason.text(SystemClock.now())).into_owned() })?;
    Ok(ExitCode::SUCCESS)
}
