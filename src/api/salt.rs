//! `POST /v1/salt-keys` on the admin socket: the accepted keys of Salt minions.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse as _, Response};

use super::Api;
use super::caller::Operator;
use super::decision::Decision;
use super::problem::Refusal;
use crate::ca::salt_key::SaltKey;
use crate::store::{NewSaltKeys, SaltKeysImported};
use crate::wire::{MAX_SALT_KEYS, SaltKeys, SaltKeysAnswer};

/// Most bytes of a whole set: twenty thousand keys of 4096 bits in PEM.
pub(super) const MAX_BODY: usize = 32 << 20;

/// Makes the keys in the body the accepted ones. One that is unfit refuses them all: the tool that
/// sends them has looked at each before.
pub(super) async fn import(
    State(api): State<Arc<Api>>,
    operator: Operator,
    body: Result<Json<SaltKeys>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(SaltKeys { keys }) = body.map_err(|error| Refusal::Malformed(error.body_text()))?;
    if keys.len() > MAX_SALT_KEYS {
        return Err(Refusal::Malformed(format!("{} keys are more than {MAX_SALT_KEYS}", keys.len())));
    }
    let mut accepted = BTreeMap::new();
    for (host, pem) in keys {
        let key = SaltKey::from_pem(pem.as_bytes()).map_err(|error| Refusal::Malformed(format!("{host}: {error}")))?;
        accepted.insert(host, key.spki().to_vec());
    }
    let new = NewSaltKeys { at: api.ca.clock.now(), keys: accepted, operator_uid: operator.uid };
    let SaltKeysImported { imported, removed, unchanged } = api.ca.store.import_salt_keys(new).await?;
    let mut response = Json(SaltKeysAnswer { imported, removed, unchanged }).into_response();
    response.extensions_mut().insert(Decision::SaltKeys { imported, removed });
    Ok(response)
}
