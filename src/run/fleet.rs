//! `psfca fleet`

use std::process::ExitCode;

use super::hosts::with_client;
use crate::agent::AgentError;
use crate::cli;
use crate::cli::fleet::{Fleet, Totals};
use crate::client::Client;
use crate::clock::{Clock as _, SystemClock};
use crate::wire::{FleetPage, FleetQuery, Holder, LagReason};

/// The exit code for a certificate that ended or will soon, and should have been renewed; as `psfca renew` has it.
const CRITICAL: u8 = 5;

/// Says how every name stands on every host.
pub(super) fn run(args: &Fleet) -> anyhow::Result<ExitCode> {
    with_client(args.as_host, args.host_config.as_deref(), &args.config, async |client| show(client, args).await)
}

async fn show(client: &mut Client, args: &Fleet) -> anyhow::Result<ExitCode> {
    let (host, name) = (args.host.clone(), args.name.clone());
    let mut query = FleetQuery { host, name, lagging: args.lagging, ..FleetQuery::default() };
    let (mut totals, mut entries) = (Totals::default(), Vec::new());
    loop {
        let page: FleetPage = client.get_json(&path(&query)).await.map_err(AgentError::from)?;
        let lags = || page.entries.iter().filter_map(|entry| entry.lag);
        totals.seen += page.seen;
        totals.lagging += lags().count();
        totals.never_issued += lags().filter(|lag| lag.why == LagReason::NeverIssued).count();
        totals.critical += lags().filter(|lag| lag.critical).count();
        totals.first_end = totals.first_end.into_iter().chain(page.first_end).min_by_key(|end| end.not_after);
        // Programs get each page as it comes, and people the newest trouble first.
        if args.json {
            cli::fleet::print_json(&page.entries)?
        } else {
            entries.extend(page.entries)
        }
        let Some(Holder { host, name }) = page.next else { break };
        (query.after_host, query.after_name) = (Some(host), Some(name));
    }
    if !args.json {
        cli::fleet::print_table(entries, &totals, SystemClock.now())?;
    }
    Ok(if totals.critical > 0 { ExitCode::from(CRITICAL) } else { ExitCode::SUCCESS })
}

/// Names of hosts and services need no encoding.
fn path(query: &FleetQuery) -> String {
    let FleetQuery { host, name, lagging, after_host, after_name } = query;
    let text = |value: Option<&str>| value.map(ToOwned::to_owned);
    let fields = [
        ("host", text(host.as_ref().map(|host| host.as_str()))),
        ("name", text(name.as_ref().map(|name| name.as_str()))),
        ("lagging", lagging.then(|| "true".to_owned())),
        ("after_host", text(after_host.as_ref().map(|host| host.as_str()))),
        ("after_name", text(after_name.as_ref().map(|name| name.as_str()))),
    ];
    let fields = fields.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
    format!("/v1/fleet?{}", fields.collect::<Vec<_>>().join("&"))
}
