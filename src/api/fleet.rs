//! `POST /v1/report` and `GET /v1/fleet`: what hosts say that they have, beside what they were given.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use tokio::sync::Mutex;

use super::Api;
use super::caller::{HostKeeper, WithIdentity};
use super::certs::read_body;
use super::problem::Refusal;
use crate::clock::Timestamp;
use crate::declaration::Declaration;
use crate::fleet::never_issued::{self, Found, Member, Stretch};
use crate::fleet::{Holding, Standing};
use crate::in_force::InForce;
use crate::issue::IssueError;
use crate::name::HostName;
use crate::policy::{Verdict, judge};
use crate::store::{Host, NewReport, StoreError};
use crate::telemetry::FleetCounts;
use crate::wire::{FleetPage, FleetQuery, Holder, HostReport, MAX_REPORTED, ReportAnswer};

/// Holders that one page looks at, and most names in it: one of 500 with the longest errors is below the MiB that a client reads.
const PAGE: usize = 500;
/// For how long a count of the whole fleet is good enough for metrics.
const COUNTED: Duration = Duration::from_secs(60);

/// Keeps what the calling host says of itself.
pub(super) async fn report(
    State(api): State<Arc<Api>>,
    WithIdentity(identity): WithIdentity,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ReportAnswer>, Refusal> {
    let at = api.ca.clock.now();
    api.throttle.report(api.ca.admit(&identity).await?, at)?;
    let report: HostReport =
        serde_json::from_slice(&read_body(body)?).map_err(|error| Refusal::Malformed(error.to_string()))?;
    if report.names.len() > MAX_REPORTED {
        return Err(Refusal::Malformed(format!("there are more than {MAX_REPORTED} names in it")));
    }
    let kept = api.ca.store.report(NewReport { at, identity: identity.shown(), report }).await;
    Ok(Json(kept.map_err(IssueError::from)?))
}

/// Names on their hosts, by host and name.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    _: HostKeeper,
    query: Result<Query<FleetQuery>, QueryRejection>,
) -> Result<Json<FleetPage>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::Malformed(error.body_text()))?;
    Ok(Json(page(&api, query).await?))
}

async fn page(api: &Api, query: FleetQuery) -> Result<FleetPage, StoreError> {
    let FleetQuery { host, name, lagging, after_host, after_name } = query;
    let after = after_host.zip(after_name).map(|(host, name)| Holder { host, name });
    let (in_force, now) = (api.ca.declaration.current(), api.ca.clock.now());
    let InForce { declaration, since } = &*in_force;
    let (holdings, end) = api.ca.store.holdings(after.clone(), host.clone(), name.clone(), PAGE).await?;
    let (after, name) = (after.as_ref(), name.as_ref());
    let stretch = Stretch { declaration, since: *since, now, after, name, most: PAGE };
    let (members, more) = members(api, host, &stretch).await?;
    let (found, next) = stretch.merge(holdings, end, &members, more);
    let mut page = FleetPage { entries: Vec::new(), seen: 0, first_end: None, next };
    for (holder, found) in found {
        let entry = match found {
            Found::NeverIssued(since) => never_issued::entry(holder, since),
            Found::Held(holding) => {
                let Some(standing) = standing(api, declaration, &holding) else { continue };
                let Some(entry) = holding.judge(standing, now) else { continue };
                let end = holding.end_without_ca(standing, now);
                page.first_end = page.first_end.into_iter().chain(end).min_by_key(|end| end.not_after);
                entry
            }
        };
        page.seen += 1;
        if entry.lag.is_some() || !lagging {
            page.entries.push(entry);
        }
    }
    Ok(page)
}

/// The hosts of a stretch, and whether others follow: the one that was asked for, or some from where it begins.
async fn members(api: &Api, host: Option<HostName>, stretch: &Stretch<'_>) -> Result<(Vec<Member>, bool), StoreError> {
    let (hosts, more) = match host {
        Some(host) => (api.ca.store.host(&host).into_iter().collect(), false),
        None => {
            let (first, limit) = (stretch.after.map(|after| after.host.clone()), stretch.hosts());
            let hosts = api.ca.store.hosts_from(first, limit).await?;
            let more = hosts.len() == limit;
            (hosts, more)
        }
    };
    let member = |Host { name: host, state, since, enrolled, .. }| Member { host, state, since, enrolled };
    Ok((hosts.into_iter().map(member).collect(), more))
}

/// None for a host that the store does not know: it has no certificates from this CA that anybody would look after.
fn standing(api: &Api, declaration: &Declaration, holding: &Holding) -> Option<Standing> {
    let Holder { host, name } = &holding.holder;
    let found = api.ca.store.host(host)?;
    let granted = match judge(declaration, host, name) {
        Verdict::Granted(grant) => Some(grant.key()),
        Verdict::Denied(_) => None,
    };
    Some(Standing { host: found.state, since: found.since, granted })
}

/// What metrics tell of the fleet; counted anew when somebody asks a while later.
#[derive(Debug, Default)]
pub struct FleetCount(Mutex<Option<(Timestamp, FleetCounts)>>);

pub(super) async fn counts(api: &Api) -> Result<FleetCounts, StoreError> {
    // Whoever else asks meanwhile waits for the same count.
    let mut counted = api.fleet.0.lock().await;
    let now = api.ca.clock.now();
    if let Some((at, counts)) = *counted
        && at <= now
        && at.until(now) < COUNTED
    {
        return Ok(counts);
    }
    let (mut counts, mut hosts) = (FleetCounts::default(), HashSet::new());
    let mut query = FleetQuery { lagging: true, ..FleetQuery::default() };
    loop {
        let FleetPage { entries, seen, first_end, next } = page(api, query.clone()).await?;
        counts.names += seen;
        counts.lagging += entries.len();
        counts.critical += entries.iter().filter(|entry| entry.lag.is_some_and(|lag| lag.critical)).count();
        counts.first_end = counts.first_end.into_iter().chain(first_end.map(|end| end.not_after)).min();
        hosts.extend(entries.into_iter().map(|entry| entry.holder.host));
        let Some(Holder { host, name }) = next else { break };
        (query.after_host, query.after_name) = (Some(host), Some(name));
    }
    counts.lagging_hosts = hosts.len();
    *counted = Some((now, counts));
    Ok(counts)
}
