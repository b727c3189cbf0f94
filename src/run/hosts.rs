//! `psfca host`: operators see and change the hosts, over the admin socket or as a host that may.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use hyper::Method;
use serde::de::DeserializeOwned;

use super::host::with_agent;
use crate::agent::AgentError;
use crate::agent::identity::Enrolment;
use crate::cli;
use crate::cli::hosts::{HostChanged, HostCommand, HostDecided, HostList, HostShow, Hosts};
use crate::cli::{CaConfigFile, HostConfigFile};
use crate::client::{Client, ClientError};
use crate::clock::{Clock as _, SystemClock};
use crate::digest::Fingerprint;
use crate::enrollment::RequestAction;
use crate::host::HostAction;
use crate::wire::{HostAnswer, HostDetails, HostRequest, HostSummary, PendingRequests, RequestAnswer, RequestDecision};

/// Does what the words say.
pub(super) fn run(args: &Hosts) -> anyhow::Result<ExitCode> {
    let (as_host, settings) = (args.as_host, args.host_config.as_deref());
    let change = |host: &HostChanged, action| {
        with_client(as_host, settings, &host.config, async |client| change(client, host, action).await)
    };
    match &args.command {
        HostCommand::List(list) if list.pending => pending(args, list),
        HostCommand::List(list) => {
            with_client(as_host, settings, &list.config, async |client| show_list(client, list).await)
        }
        HostCommand::Show(host) => {
            with_client(as_host, settings, &host.config, async |client| show_host(client, host).await)
        }
        HostCommand::Disable(host) => change(host, HostAction::Disable),
        HostCommand::Enable(host) => change(host, HostAction::Enable),
        HostCommand::Approve(key) => decide(args, key, RequestAction::Approve),
        HostCommand::Reject(key) => decide(args, key, RequestAction::Reject),
        HostCommand::ImportSalt(import) => super::salt_keys::run(args, import),
        HostCommand::Remove(host) => change(host, HostAction::Remove),
    }
}

/// Works over a connection to the daemon: over the admin socket, or with this host's identity.
pub(super) fn with_client(
    as_host: bool,
    settings: Option<&Path>,
    config: &CaConfigFile,
    work: impl AsyncFnOnce(&mut Client) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    if as_host {
        let settings = HostConfigFile { config: settings.map(Path::to_owned) };
        return with_agent(&settings, async |agent| {
            let enrolment = Enrolment::load(&agent.settings.state)?;
            let mut servers = agent.connect(&enrolment).await?;
            work(servers.current()).await
        });
    }
    let config = super::config(&config.config)?;
    super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        work(&mut client).await
    })
}

async fn show_list(client: &mut Client, args: &HostList) -> anyhow::Result<ExitCode> {
    let hosts: Vec<HostSummary> = client.get_json("/v1/hosts").await.map_err(AgentError::from)?;
    if args.json {
        cli::hosts::print_list_json(&hosts)?;
    } else {
        cli::hosts::print_list(&hosts, SystemClock.now())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn show_host(client: &mut Client, args: &HostShow) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/hosts/{}", args.host);
    let details: HostDetails = client.get_json(&path).await.map_err(AgentError::from)?;
    if args.json {
        cli::host::json(&details)?;
    } else {
        cli::hosts::print_details(&details, SystemClock.now())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn change(client: &mut Client, change: &HostChanged, action: HostAction) -> anyhow::Result<ExitCode> {
    let body = serde_json::to_vec(&HostRequest { action, remark: change.reason.clone() })?;
    let answer: HostAnswer =
        send(client, &format!("/v1/hosts/{}", change.host), body).await.map_err(AgentError::from)?;
    cli::hosts::print_answer(action, &answer)?;
    Ok(ExitCode::SUCCESS)
}

/// A connection over the admin socket, for what hosts may not do.
pub(super) fn with_admin_socket(
    args: &Hosts,
    config: &CaConfigFile,
    work: impl AsyncFnOnce(&mut Client) -> Result<(), anyhow::Error>,
) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(!args.as_host, "this can be done on the CA machine only, without --as-host");
    with_client(false, None, config, async |client| work(client).await.map(|()| ExitCode::SUCCESS))
}

fn pending(args: &Hosts, list: &HostList) -> anyhow::Result<ExitCode> {
    with_admin_socket(args, &list.config, async |client| {
        let pending: PendingRequests = client.get_json("/v1/requests").await.map_err(AgentError::from)?;
        match list.json {
            true => cli::hosts::print_list_json(&pending.requests)?,
            false => cli::hosts::print_pending(&pending, SystemClock.now())?,
        }
        Ok(())
    })
}

fn decide(args: &Hosts, decided: &HostDecided, action: RequestAction) -> anyhow::Result<ExitCode> {
    let Fingerprint(key_sha256) = Fingerprint::parse(&decided.fingerprint.join(" "))
        .context("the whole fingerprint is needed, as psfca enroll --request shows it on the host")?;
    let body = serde_json::to_vec(&RequestDecision { action, key_sha256 })?;
    with_admin_socket(args, &decided.config, async |client| {
        let path = format!("/v1/requests/{}", decided.host);
        let RequestAnswer { changed } = send(client, &path, body).await.map_err(AgentError::from)?;
        cli::hosts::print_decision(&decided.host, action, changed)?;
        Ok(())
    })
}

/// Sends a change in JSON, and reads the answer to it.
pub(super) async fn send<T: DeserializeOwned>(
    client: &mut Client,
    path: &str,
    body: Vec<u8>,
) -> Result<T, ClientError> {
    client.send(Method::POST, path, "application/json", "application/json", body).await?.ok()?.json()
}
