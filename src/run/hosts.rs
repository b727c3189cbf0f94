//! `psfca host`: operators see and change the hosts, over the admin socket or as a host that may.

use std::process::ExitCode;

use hyper::Method;

use super::host::with_agent;
use crate::agent::AgentError;
use crate::agent::identity::Enrolment;
use crate::cli;
use crate::cli::hosts::{HostChanged, HostCommand, HostList, HostShow, Hosts};
use crate::cli::{CaConfigFile, HostConfigFile};
use crate::client::{Client, ClientError};
use crate::clock::{Clock as _, SystemClock};
use crate::host::HostAction;
use crate::wire::{HostAnswer, HostDetails, HostRequest, HostSummary};

/// Does what the words say.
pub(super) fn run(args: &Hosts) -> anyhow::Result<ExitCode> {
    match &args.command {
        HostCommand::List(list) => with_client(args, &list.config, async |client| show_list(client, list).await),
        HostCommand::Show(host) => with_client(args, &host.config, async |client| show_host(client, host).await),
        HostCommand::Disable(host) => change(args, host, HostAction::Disable),
        HostCommand::Enable(host) => change(args, host, HostAction::Enable),
        HostCommand::Remove(host) => change(args, host, HostAction::Remove),
    }
}

/// A connection to the daemon: over the admin socket, or with this host's identity.
fn with_client(
    args: &Hosts,
    config: &CaConfigFile,
    work: impl AsyncFnOnce(&mut Client) -> Result<(), anyhow::Error>,
) -> anyhow::Result<ExitCode> {
    if args.as_host {
        let settings = HostConfigFile { config: args.host_config.clone() };
        return with_agent(&settings, async |agent| {
            let enrolment = Enrolment::load(&agent.settings.state)?;
            let mut servers = agent.connect(&enrolment).await?;
            work(servers.current()).await?;
            Ok(ExitCode::SUCCESS)
        });
    }
    let config = super::config(&config.config)?;
    super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        work(&mut client).await
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn show_list(client: &mut Client, args: &HostList) -> anyhow::Result<()> {
    let hosts: Vec<HostSummary> = client.get_json("/v1/hosts").await.map_err(AgentError::from)?;
    if args.json {
        cli::hosts::print_list_json(&hosts)?;
    } else {
        cli::hosts::print_list(&hosts, SystemClock.now())?;
    }
    Ok(())
}

async fn show_host(client: &mut Client, args: &HostShow) -> anyhow::Result<()> {
    let path = format!("/v1/hosts/{}", args.host);
    let details: HostDetails = client.get_json(&path).await.map_err(AgentError::from)?;
    if args.json {
        cli::host::json(&details)?;
    } else {
        cli::hosts::print_details(&details, SystemClock.now())?;
    }
    Ok(())
}

fn change(args: &Hosts, change: &HostChanged, action: HostAction) -> anyhow::Result<ExitCode> {
    let body = serde_json::to_vec(&HostRequest { action, remark: change.reason.clone() })?;
    with_client(args, &change.config, async |client| {
        let answer = send(client, &format!("/v1/hosts/{}", change.host), body).await.map_err(AgentError::from)?;
        cli::hosts::print_answer(action, &answer)?;
        Ok(())
    })
}

async fn send(client: &mut Client, path: &str, body: Vec<u8>) -> Result<HostAnswer, ClientError> {
    client.send(Method::POST, path, "application/json", "application/json", body).await?.ok()?.json()
}
