//! `GET /v1/ciphers` and `GET /v1/ciphers/{name}`: the cipher policy of the declaration in force.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};

use super::Api;
use super::caller::Reader;
use super::problem::Refusal;
use crate::name::DnsName;
use crate::wire::CipherPolicy;

/// The cipher list for names that have none of their own.
pub(super) async fn default(State(api): State<Arc<Api>>, reader: Reader) -> Result<Json<CipherPolicy>, Refusal> {
    policy(&api, &reader, None).await
}

/// The cipher list for one name: its own, or else the default.
pub(super) async fn of_name(
    State(api): State<Arc<Api>>,
    reader: Reader,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<CipherPolicy>, Refusal> {
    let Path(name) = name.map_err(|error| Refusal::Malformed(error.to_string()))?;
    policy(&api, &reader, Some(DnsName::parse(&name)?)).await
}

async fn policy(api: &Api, reader: &Reader, name: Option<DnsName>) -> Result<Json<CipherPolicy>, Refusal> {
    if let Reader::Host(identity) = reader {
        api.ca.admit(identity).await?;
    }
    let in_force = api.ca.declaration.current();
    let is_default = name.as_ref().is_some_and(|name| !in_force.declaration.has_own_ciphers(name));
    match in_force.declaration.ciphers(name.as_ref()) {
        Some(ciphers) => Ok(Json(CipherPolicy { ciphers: ciphers.to_owned(), name, is_default })),
        None => Err(Refusal::NoCiphers),
    }
}
