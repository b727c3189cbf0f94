//! `POST /v1/tokens` and `POST /v1/reopen`, on the admin socket.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::Api;
use super::caller::Operator;
use super::decision::Decision;
use super::problem::Refusal;
use crate::policy::entitlements;
use crate::restoration::Confirmation;
use crate::store::NewConfirmation;
use crate::token::EnrollmentToken;
use crate::wire::{ReopenRequest, TokenAnswer, TokenRequest};

/// A new token, whole: it is shown once and only its hash is kept.
pub(super) async fn make_token(
    State(api): State<Arc<Api>>,
    operator: Operator,
    body: Result<Json<TokenRequest>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(TokenRequest { host, replace }) = body.map_err(|error| Refusal::Malformed(error.body_text()))?;
    let (secret, expires) = api.ca.make_token(&host, replace, operator.uid).await?;
    let root = api.ca.authorities.root().fingerprint();
    let token = EnrollmentToken { address: api.address.clone(), root, secret };
    let names = entitlements(&api.ca.declaration.current().declaration, &host).len();
    let mut response = Json(TokenAnswer { token: token.expose().to_string(), expires, names }).into_response();
    response.extensions_mut().insert(Decision::TokenMade { host: host.to_string() });
    Ok(response)
}

/// Opens a CA that was restored, once an operator has counted its enabled hosts.
pub(super) async fn reopen(
    State(api): State<Arc<Api>>,
    operator: Operator,
    body: Result<Json<ReopenRequest>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(ReopenRequest { hosts }) = body.map_err(|error| Refusal::Malformed(error.body_text()))?;
    let confirmation = Confirmation { hosts, operator_uid: operator.uid };
    api.ca.store.reopen(NewConfirmation { at: api.ca.clock.now(), confirmation }).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.extensions_mut().insert(Decision::Reopened { hosts });
    Ok(response)
}
