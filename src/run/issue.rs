//! `psfca issue`

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use super::host::with_agent;
use crate::agent::identity::{self, Enrolment};
use crate::agent::ledger::Memory;
use crate::agent::obtain::{self, Exchange, Request};
use crate::agent::{Agent, AgentError, claims, copies, debt, reporting};
use crate::ca::bundle::Bundle;
use crate::cli;
use crate::renewal::Validity;
use crate::report::{LEDGER, OWED};

/// Gets one certificate, and installs its bundle or prints it.
pub(super) fn run(args: &cli::Issue) -> anyhow::Result<ExitCode> {
    let request = args.csr.as_deref().map(read_request).transpose()?;
    with_agent(&args.config, async |agent| {
        let _lock = agent.lock()?;
        let enrolment = Enrolment::load(&agent.settings.state)?;
        let mut ledger = Memory::load(agent, &enrolment)?;
        let mut client = agent.connect(&enrolment).await?;
        let known = obtain::entitlements(&mut client, &enrolment.host).await?;
        identity::keep_entitlements(&agent.settings.state, &known)?;
        ledger.rewrite()?;
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
                let path = agent.settings.placement.bundle(&args.name).path;
                claims::spare(agent, &path, &args.name, &enrolment.anchors).map_err(AgentError::from)?;
            }
        }
        let bundle = obtain::bundle(&mut exchange, &args.name, promised, args.ca_made_key).await?;
        if args.stdout {
            cli::host::text(&bundle.to_pem())?;
            return after(&ledger);
        }
        let owed = install(agent, &enrolment, args, &bundle).await?;
        if let Err(error) = reporting::tell(agent, &mut client, &enrolment).await {
            cli::host::untold(&error.to_string())?;
        }
        let code = after(&ledger)?;
        Ok(if code == ExitCode::SUCCESS && owed { ExitCode::from(OWED) } else { code })
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

/// Says whether a service still has to be told of it.
async fn install(agent: &Agent<'_>, enrolment: &Enrolment, args: &cli::Issue, bundle: &Bundle) -> anyhow::Result<bool> {
    let name = &args.name;
    obtain::install(agent, name, bundle).map_err(AgentError::from)?;
    let leaf = bundle.leaf();
    let due = Validity::new(leaf.not_before, leaf.not_after, &leaf.serial).due();
    let path = agent.settings.placement.bundle(name).path;
    cli::host::installed(name, &path, &leaf.serial, leaf.not_after, due, agent.now())?;
    let copies = copies::keep(agent, name, bundle, &enrolment.anchors, args.force);
    for copy in &copies.written {
        cli::host::copied(copy)?;
    }
    let (loaded, hooks) = debt::pay(agent, name, &enrolment.anchors, copies.problem.as_deref()).await;
    cli::host::loading(&loaded, &hooks, agent.now())?;
    if let Some(problem) = copies.problem {
        bail!("a copy is out of date: {problem}");
    }
    if let Some(note) = agent.ownership_note() {
        cli::host::note(&note)?;
    }
    Ok(loaded.is_owed())
}

fn read_request(path: &Path) -> Result<Request, AgentError> {
    let wrong = |cause: String| AgentError::Request { path: path.to_owned(), cause };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    Request::parse(&text).map_err(wrong)
}
