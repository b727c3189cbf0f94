//! `psfca token`

use std::process::ExitCode;

use hyper::Method;

use crate::cli;
use crate::client::Client;
use crate::clock::{Clock as _, SystemClock};
use crate::wire::{TokenAnswer, TokenRequest};

/// Asks the daemon for a token and prints it alone on standard output.
pub(super) fn run(args: &cli::Token) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    let request = TokenRequest { host: args.host.clone(), replace: args.replace };
    let answer: TokenAnswer = super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        let body = serde_json::to_vec(&request)?;
        let answer = client.send(Method::POST, "/v1/tokens", "application/json", "application/json", body).await?;
        anyhow::Ok(answer.ok()?.json()?)
    })?;
    cli::token::print(&args.host, &answer, SystemClock.now())?;
    Ok(ExitCode::SUCCESS)
}
