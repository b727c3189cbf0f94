//! `/v1/requests` on the admin socket: keys that ask to be hosts, and what operators decide.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};

use super::Api;
use super::caller::Operator;
use super::decision::Decision;
use super::problem::Refusal;
use crate::enrollment::KeyDecision;
use crate::name::HostName;
use crate::policy::entitlements;
use crate::store::NewDecision;
use crate::wire::{PendingRequest, PendingRequests, RequestAnswer, RequestDecision};

/// The requests of one day, with what people need to make and compare more.
pub(super) async fn list(State(api): State<Arc<Api>>, _: Operator) -> Result<Json<PendingRequests>, Refusal> {
    let found = api.ca.store.enrollment_requests(api.ca.clock.now()).await?;
    let in_force = api.ca.declaration.current();
    let requests = found.into_iter().map(|request| PendingRequest {
        expires: request.expires(),
        names: entitlements(&in_force.declaration, &request.host).len(),
        host: request.host,
        key_sha256: request.key_sha256,
        address: request.address,
        state: request.state,
        since: request.since,
        operator_uid: request.operator_uid,
    });
    Ok(Json(PendingRequests {
        ca_fingerprint: api.ca.authorities.root().fingerprint(),
        server: api.address.clone(),
        requests: requests.collect(),
    }))
}

/// Approves or rejects a key.
pub(super) async fn decide(
    State(api): State<Arc<Api>>,
    operator: Operator,
    host: Result<Path<HostName>, PathRejection>,
    body: Result<Json<RequestDecision>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Path(host) = host.map_err(|error| Refusal::Malformed(error.to_string()))?;
    let Json(RequestDecision { action, key_sha256 }) = body.map_err(|error| Refusal::Malformed(error.body_text()))?;
    let decision = KeyDecision { host: host.clone(), key_sha256, operator_uid: operator.uid };
    let new = NewDecision { at: api.ca.clock.now(), action, decision };
    let changed = api.ca.store.decide_request(new).await?;
    let mut response = Json(RequestAnswer { changed }).into_response();
    if changed {
        response.extensions_mut().insert(Decision::RequestDecided { host: host.to_string(), action });
    }
    Ok(response)
}
