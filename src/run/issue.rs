//! `psfca issue`

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use super::host::with_agent;
use crate::agent::identity::{self, Enrolment};
use crate::agent::ledger::Memory;
use crate::agent::obtain::{self, Exchange, Request};
use crate::agent::{Agent, AgentError, copies, reporting};
use crate::ca::bundle::Bundle;
use crate::cli;
use crate::name::DnsName;
use crate::renewal::Validity;
use crate::report::LEDGER;

/// Gets one certificate, and installs its bundle or prints it.
pub(super) fn run(args: &cli::Issue) -> anyhow::Result<ExitCode> {
    let request = args.csr.as_deref().map(read_request).transpose()?;
    with_agent(&args.config, async |agent| {
        let _lock = agent.lock()?;
        let enrolment = Enrolment::load(&agent.settings.state)?;
        let mut ledger = Memory::load(agent, &enrolment)?;
        let mut client = agent.connect(&enrolment).await?;
        let known = obtain::entitlements(&mut client).await?;
        identity::keep_entitlements(&agent.settings.state, &known)?;
        let promised = known.certs.iter().find(|cert| cert.name == args.name);
        let mut exchange = Exchange { agent, client: &mut client, enrolment: &enrolment, ledger: &mut ledger };
        if let Some(request) = &request {
            let chain = obtain::chain(&mut exchange, &args.name, promised, request).await?;
            cli::host::text(&chain.to_pem())?;
            return after(&ledger);
        }
        if !args.stdout {
            obtain::prepare(agent, &args.name).map_err(AgentError::from)?;
            if !args.force {
                obtain::spare_foreign(agent, &args.name, &enrolment.anchors).map_err(AgentError::from)?;
            }
        }
        let bundle = obtain::bundle(&mut exchange, &args.name, promised, args.ca_made_key).await?;
        if args.stdout {
            cli::host::text(&bundle.to_pem())?
        } else {
            install(agent, &enrolment, &args.name, &bundle)?;
            if let Err(error) = reporting::tell(agent, &mut client, &enrolment, &BTreeMap::new()).await {
                cli::host::untold(&error.to_string())?;
            }
        }
        after(&ledger)
    })
}

/// Done, and another code where that was in spite of the ledger.
fn after(ledger: &Memory) -> anyhow::Result<ExitCode> {
    if let Some(recovery) = ledger.news() {
        cli::host::recovered(recovery)?;
    }
    let Some(trouble) = ledger.trouble() else { return Ok(ExitCode::SUCCESS) };
    cli::host::ledger(&trouble)?;
    Ok(ExitCode::from(LEDGER))
}

fn install(agent: &Agent<'_>, enrolment: &Enrolment, name: &DnsName, bundle: &Bundle) -> anyhow::Result<()> {
    obtain::install(agent, name, bundle).map_err(AgentError::from)?;
    let leaf = bundle.leaf();
    let due = Validity::new(leaf.not_before, leaf.not_after, &leaf.serial).due();
    let path = agent.settings.placement.bundle(name).path;
    cli::host::installed(name, &path, &leaf.serial, leaf.not_after, due, agent.now())?;
    for copy in copies::keep(agent, name, bundle, &enrolment.anchors).map_err(AgentError::from)? {
        cli::host::copied(&copy)?;
    }
    if let Some(note) = agent.ownership_note() {
        cli::host::note(&note)?;
    }
    Ok(())
}

fn read_request(path: &Path) -> Result<Request, AgentError> {
    let wrong = |cause: String| AgentError::Request { path: path.to_owned(), cause };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    Request::parse(&text).map_err(wrong)
}
