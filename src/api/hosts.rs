//! `/v1/hosts`: who is known, what each may have and has, and what operators do to it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};

use super::Api;
use super::caller::HostKeeper;
use super::decision::Decision;
use super::problem::Refusal;
use crate::enrollment::IdentityFork;
use crate::grant::{CertificateKind, Grant};
use crate::host::{HostAction, HostChange, HostState};
use crate::ledger::Event;
use crate::name::HostName;
use crate::policy::entitlements;
use crate::store::{Host, HostError, NewHostState, StillValid, StoreError, StoredEntry};
use crate::wire::{
    AuditQuery, CertificateState, EventKind, HostAnswer, HostCertificate, HostDetails, HostFork, HostGrant,
    HostRequest, HostSummary,
};

/// Every host that was enrolled once, by name.
pub(super) async fn list(State(api): State<Arc<Api>>, _: HostKeeper) -> Json<Vec<HostSummary>> {
    Json(api.ca.store.hosts().into_iter().map(summary).collect())
}

/// One host: its state, what it may have and why, and what it has.
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    _: HostKeeper,
    host: Result<Path<HostName>, PathRejection>,
) -> Result<Json<HostDetails>, Refusal> {
    let Path(host) = host.map_err(|error| Refusal::Malformed(error.to_string()))?;
    let found = api.ca.store.host(&host).ok_or_else(|| HostError::Unknown(host.clone()))?;
    let (change, fork) = last_change(&api, &found).await?;
    let StillValid { newest, more, last_end } = api.ca.store.certificates_of(&host, api.ca.clock.now()).await?;
    let grants = entitlements(&api.ca.declaration.current().declaration, &host);
    let enrollment = found.enrollment;
    Ok(Json(HostDetails {
        summary: summary(found),
        operator: change.as_ref().map(|change| change.operator.clone()),
        remark: change.and_then(|change| change.remark),
        fork: fork.map(HostFork::from),
        may_have: grants.iter().map(host_grant).collect(),
        has: newest.into_iter().filter_map(|stored| host_certificate(stored, enrollment)).collect(),
        has_more: more,
        last_end,
    }))
}

/// Disables, enables or removes a host. Over the network a host can only be disabled: what lets one in is for those who
/// are on the CA machine.
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    keeper: HostKeeper,
    host: Result<Path<HostName>, PathRejection>,
    body: Result<Json<HostRequest>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Path(host) = host.map_err(|error| Refusal::Malformed(error.to_string()))?;
    let Json(HostRequest { action, remark }) = body.map_err(|error| Refusal::Malformed(error.body_text()))?;
    if matches!(keeper, HostKeeper::Host(_)) && action != HostAction::Disable {
        return Err(Refusal::NotAnOperator);
    }
    let change = HostChange { host, operator: keeper.name(), remark };
    let new = NewHostState { at: api.ca.clock.now(), action, change };
    let (host, changed) = api.ca.store.change_host(new).await?;
    let name = host.name.to_string();
    let mut response = Json(HostAnswer { summary: summary(host), changed }).into_response();
    if changed {
        response.extensions_mut().insert(Decision::HostChanged { host: name, action });
    }
    Ok(response)
}

/// Why a host is not served: what an operator last did to it, or how two keys claimed to be it.
async fn last_change(api: &Api, host: &Host) -> Result<(Option<HostChange>, Option<IdentityFork>), StoreError> {
    let kind = match host.state {
        HostState::Enabled => return Ok((None, None)),
        HostState::Disabled => EventKind::HostDisabled,
        HostState::Frozen => EventKind::HostFrozen,
        HostState::Removed => EventKind::HostRemoved,
    };
    let query =
        AuditQuery { event: Some(kind), host: Some(host.name.clone()), limit: Some(1), ..AuditQuery::default() };
    let (mut entries, _) = api.ca.store.entries(query, api.ca.clock.now()).await?;
    Ok(match entries.pop().map(|entry| entry.event) {
        Some(Event::HostDisabled(change) | Event::HostRemoved(change)) => (Some(change), None),
        Some(Event::HostFrozen(fork)) => (None, Some(fork)),
        _ => (None, None),
    })
}

fn summary(host: Host) -> HostSummary {
    HostSummary { host: host.name, state: host.state, since: host.since, enrolled: host.enrolled }
}

fn host_grant(grant: &Grant) -> HostGrant {
    HostGrant {
        name: grant.name().to_owned(),
        lifetime_seconds: grant.lifetime().as_duration().as_secs(),
        usages: grant.usages(),
        key: grant.key(),
        rule: grant.rule().clone(),
    }
}

fn host_certificate(stored: StoredEntry, enrollment: u64) -> Option<HostCertificate> {
    let Event::Certificate(record) = stored.event else { return None };
    let released = stored.state.is_some_and(|state| state.released);
    let void = record.kind == CertificateKind::Identity && stored.index < enrollment;
    Some(HostCertificate {
        kind: record.kind,
        name: record.name,
        serial: record.serial,
        recorded: stored.time,
        not_after: record.not_after,
        state: if released { CertificateState::Issued } else { CertificateState::Recorded },
        void,
    })
}
