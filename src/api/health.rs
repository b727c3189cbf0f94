//! What needs no identity: the trust bundle, health, the API's description; and metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, response};

use super::caller::Operator;
use super::fleet;
use super::problem::Refusal;
use super::{Api, OPENAPI};
use crate::cosigning::Standing;
use crate::expiry::ca_health;
use crate::host::HostState;
use crate::issue::IssueError;
use crate::telemetry::OPENMETRICS;
use crate::wire::{CaHealth, ClosedHealth, DeclarationHealth, Health, WitnessHealth};

/// `GET /PSF_CA.pem`
pub(super) async fn trust_bundle(State(api): State<Arc<Api>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], api.trust_bundle.clone())
}

/// What the network is told of files with a mistake: their text is for operators.
const NOT_IN_FORCE: &str = "what lies in the files is not in force; psfca check on the CA machine says why";

/// `GET /healthz`: 200 as long as the daemon answers; warnings are in the body.
pub(super) async fn healthz(
    State(api): State<Arc<Api>>,
    operator: Result<Operator, Refusal>,
) -> response::Json<Health> {
    let now = api.ca.clock.now();
    let in_force = api.ca.declaration.current();
    let ca: Vec<CaHealth> = api
        .ca
        .authorities
        .certificates()
        .each()
        .map(|(kind, certificate)| ca_health(kind, certificate.not_after(), now))
        .collect();
    let problem = api.ca.declaration.problem();
    let closed = api.ca.store.closed();
    let witness = api.ca.checkpoints.witness();
    let witness = witness.map(|Standing { name, size, problem }| WitnessHealth { name, size, problem });
    let cosigned = witness.as_ref().is_none_or(|witness| witness.problem.is_none());
    let good = problem.is_none() && cosigned && ca.iter().all(|ca| ca.warning.is_none());
    Json(Health {
        status: if closed.is_some() {
            "closed"
        } else if good {
            "ok"
        } else {
            "warning"
        }
        .to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        declaration: DeclarationHealth {
            sha256: in_force.declaration.digest(),
            since: in_force.since,
            names: in_force.declaration.services().len(),
            problem_since: problem.as_ref().map(|problem| problem.since),
            problem: problem.map(|problem| if operator.is_ok() { problem.text } else { NOT_IN_FORCE.to_owned() }),
        },
        ca,
        ledger_size: api.ca.store.head().size,
        witness,
        closed: closed.map(|closed| ClosedHealth { since: closed.since, restored_size: closed.restoration.size }),
    })
}

/// `GET /readyz`: 200 when a certificate could be recorded now, 503 when not.
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, Refusal> {
    api.ca.require_open().map_err(IssueError::from)?;
    api.ca.store.probe().await?;
    Ok("ready\n")
}

/// `GET /openapi.json`
pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

/// `GET /metrics`, on the admin socket.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    for (kind, certificate) in api.ca.authorities.certificates().each() {
        api.metrics.ca_ends(kind, certificate.not_after().unix());
    }
    let hosts = api.ca.store.hosts();
    for state in HostState::ALL {
        api.metrics.hosts(state, hosts.iter().filter(|host| host.state == state).count());
    }
    // A ledger that cannot be read is told by others; what is known otherwise is worth having then.
    if let Ok(counts) = fleet::counts(&api).await {
        api.metrics.fleet(counts);
    }
    api.metrics.at_work(api.throttle.at_work());
    if let Some(standing) = api.ca.checkpoints.witness() {
        api.metrics.witness(&standing.name, standing.problem.is_none());
    }
    let store = &api.ca.store;
    match api.metrics.print(store.head().size, store.commits(), api.ca.declaration.problem().is_none()) {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
