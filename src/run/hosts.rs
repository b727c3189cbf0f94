//! `psfca host`: operators see and change the hosts over the admin socket.

use std::process::ExitCode;

use anyhow::Context as _;
use hyper::Method;

use crate::cli;
use crate::cli::hosts::{HostChanged, HostCommand, HostDecided, HostList, HostShow, Hosts};
use crate::client::Client;
use crate::clock::{Clock as _, SystemClock};
use crate::digest::Fingerprint;
use crate::enrollment::RequestAction;
use crate::host::HostAction;
use crate::wire::{HostAnswer, HostDetails, HostRequest, HostSummary, PendingRequests, RequestAnswer, RequestDecision};

/// Does what the words say.
pub(super) fn run(args: &Hosts) -> anyhow::Result<ExitCode> {
    match &args.command {
        HostCommand::List(args) => list(args),
        HostCommand::Show(args) => show(args),
        HostCommand::Disable(args) => change(args, HostAction::Disable),
        HostCommand::Enable(args) => change(args, HostAction::Enable),
        HostCommand::Approve(args) => decide(args, RequestAction::Approve),
        HostCommand::Reject(args) => decide(args, RequestAction::Reject),
        HostCommand::ImportSalt(args) => super::salt_keys::run(args),
        HostCommand::Remove(args) => change(args, HostAction::Remove),
    }
}

fn list(args: &HostList) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    if args.pending {
        let pending: PendingRequests = super::runtime()?.block_on(async {
            let mut client = Client::connect_unix(&config.admin_socket).await?;
            client.get_json("/v1/requests").await
        })?;
        match args.json {
            true => cli::hosts::print_list_json(&pending.requests)?,
            false => cli::hosts::print_pending(&pending, SystemClock.now())?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let hosts: Vec<HostSummary> = super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        client.get_json("/v1/hosts").await
    })?;
    if args.json {
        cli::hosts::print_list_json(&hosts)?;
    } else {
        cli::hosts::print_list(&hosts, SystemClock.now())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &HostShow) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    let details: HostDetails = super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        client.get_json(&format!("/v1/hosts/{}", args.host)).await
    })?;
    if args.json {
        cli::host::json(&details)?;
    } else {
        cli::hosts::print_details(&details, SystemClock.now())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn change(args: &HostChanged, action: HostAction) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    let body = serde_json::to_vec(&HostRequest { action, remark: args.reason.clone() })?;
    let answer: HostAnswer = super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        let path = format!("/v1/hosts/{}", args.host);
        let answer = client.send(Method::POST, &path, "application/json", "application/json", body).await?;
        anyhow::Ok(answer.ok()?.json()?)
    })?;
    cli::hosts::print_answer(action, &answer)?;
    Ok(ExitCode::SUCCESS)
}

fn decide(args: &HostDecided, action: RequestAction) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    let Fingerprint(key_sha256) = Fingerprint::parse(&args.fingerprint.join(" "))
        .context("the whole fingerprint is needed, as psfca enroll --request shows it on the host")?;
    let body = serde_json::to_vec(&RequestDecision { action, key_sha256 })?;
    let RequestAnswer { changed } = super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        let path = format!("/v1/requests/{}", args.host);
        let answer = client.send(Method::POST, &path, "application/json", "application/json", body).await?;
        anyhow::Ok(answer.ok()?.json()?)
    })?;
    cli::hosts::print_decision(&args.host, action, changed)?;
    Ok(ExitCode::SUCCESS)
}
