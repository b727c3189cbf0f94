//! The ledger for whoever verifies it: checkpoint and consistency proofs for hosts, tiles (C2SP
//! tlog-tiles, with the prefix `/v1/ledger`) for operators.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;

use super::Api;
use super::caller::{Auditor, Operator};
use super::problem::Refusal;
use crate::ledger::tile::TilePath;
use crate::wire::{Consistency, ConsistencyQuery, LEDGER_KEY_HEADER};

/// The newest checkpoint, as a signed note.
pub(super) async fn checkpoint(State(api): State<Arc<Api>>, auditor: Auditor) -> Result<impl IntoResponse, Refusal> {
    admit(&api, &auditor).await?;
    let note = api.ca.checkpoints.newest(api.ca.store.head()).await;
    let key = api.ca.checkpoints.verifier().to_string();
    let head = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((head, [(LEDGER_KEY_HEADER, key)], note))
}

/// The proof that one size of the ledger continues another.
pub(super) async fn consistency(
    State(api): State<Arc<Api>>,
    auditor: Auditor,
    query: Result<Query<ConsistencyQuery>, QueryRejection>,
) -> Result<Json<Consistency>, Refusal> {
    admit(&api, &auditor).await?;
    let Query(ConsistencyQuery { old, new }) = query.map_err(|error| Refusal::Malformed(error.body_text()))?;
    match api.ca.store.consistency(old, new).await? {
        Some(hashes) => Ok(Json(Consistency { old, new, hashes })),
        None => Err(Refusal::NoSuchSize { size: old.max(new), head: api.ca.store.head().size }),
    }
}

/// The newest recovery, as the root statement that a root's key has signed.
pub(super) async fn recovery(State(api): State<Arc<Api>>, auditor: Auditor) -> Result<impl IntoResponse, Refusal> {
    admit(&api, &auditor).await?;
    let statement = api.ca.store.recovery().await?.ok_or(Refusal::NoRecovery)?;
    let head = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((head, statement))
}

/// One tile of hashes or entries.
pub(super) async fn tile(
    State(api): State<Arc<Api>>,
    _: Operator,
    path: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let Path(path) = path.map_err(|error| Refusal::Malformed(error.to_string()))?;
    let path = TilePath::parse(&path).ok_or(Refusal::NoSuchPath)?;
    let tile = api.ca.store.tile(path).await?.ok_or(Refusal::NoSuchPath)?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], tile))
}

/// Operators may; a host is asked for its standing first.
async fn admit(api: &Api, auditor: &Auditor) -> Result<(), Refusal> {
    if let Auditor::Host(identity) = auditor {
        api.ca.admit(identity).await?;
    }
    Ok(())
}
