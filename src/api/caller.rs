//! Who calls, as the connection says: the request itself is never asked.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Refusal;
use super::{Api, RENEWAL};
use crate::ca::identity::{HostIdentity, Peer};
use crate::host::OperatorName;
use crate::issue::IdentityError;
use crate::name::HostName;
use crate::source::Source;

/// A caller with a host's identity. Whether it is served is asked by the spine.
pub(super) struct WithIdentity(pub(super) HostIdentity);

impl<S: Send + Sync> FromRequestParts<S> for WithIdentity {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match parts.extensions.get::<Peer>() {
            Some(Peer::Network { identity: Some(identity), .. }) => Ok(Self(identity.clone())),
            _ => Err(Refusal::NoIdentity),
        }
    }
}

/// Where a caller on the network comes from.
pub(super) struct From(pub(super) Source);

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match parts.extensions.get::<Peer>() {
            Some(Peer::Network { address, .. }) => Ok(Self(address.ip().into())),
            _ => Err(Refusal::NoSuchPath),
        }
    }
}

/// A connection with an identity that has ended, and is let in for a while, reaches its renewal alone.
pub(super) async fn confine(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if let Some(Peer::Network { identity: Some(identity), .. }) = request.extensions().get::<Peer>()
        && api.ca.clock.now() > identity.not_after
        && (request.method() != Method::POST || request.uri().path() != RENEWAL)
    {
        let ended = IdentityError::Expired { host: identity.host.clone(), end: identity.not_after };
        return Refusal::Identity(ended).into_response();
    }
    next.run(request).await
}

/// A caller on the admin socket.
pub(super) struct Operator {
    pub(super) uid: u32,
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match parts.extensions.get::<Peer>() {
            Some(Peer::Operator { uid }) => Ok(Self { uid: *uid }),
            _ => Err(Refusal::NotAnOperator),
        }
    }
}

/// Someone who may look after hosts: an operator on the admin socket, or a host that ca.yaml names under `operators`.
pub(super) enum HostKeeper {
    Operator(Operator),
    Host(HostName),
}

impl HostKeeper {
    /// As the ledger tells it.
    pub(super) fn name(self) -> OperatorName {
        match self {
            Self::Operator(operator) => OperatorName::OperatorUid(operator.uid),
            Self::Host(host) => OperatorName::OperatorHost(host),
        }
    }
}

impl FromRequestParts<Arc<Api>> for HostKeeper {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        match parts.extensions.get::<Peer>() {
            Some(Peer::Operator { uid }) => Ok(Self::Operator(Operator { uid: *uid })),
            Some(Peer::Network { identity: Some(identity), .. }) => {
                let host = api.ca.admit(identity).await?;
                if api.operators.contains(host) { Ok(Self::Host(host.clone())) } else { Err(Refusal::NotAHostKeeper) }
            }
            _ => Err(Refusal::NoIdentity),
        }
    }
}

/// Anyone who may read the audit listing: an operator everything, a host its own.
pub(super) enum Auditor {
    Operator,
    Host(HostIdentity),
}

impl<S: Send + Sync> FromRequestParts<S> for Auditor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match parts.extensions.get::<Peer>() {
            Some(Peer::Operator { .. }) => Ok(Self::Operator),
            Some(Peer::Network { identity: Some(identity), .. }) => Ok(Self::Host(identity.clone())),
            _ => Err(Refusal::NoIdentity),
        }
    }
}
