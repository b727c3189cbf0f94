//! Who calls, as the connection says: the request itself is never asked.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Refusal;
use super::{Api, RENEWAL};
use crate::ca::identity::{HostIdentity, Peer};
use crate::issue::IdentityError;

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

/// Where a caller on the network comes from.
pub(super) struct Address(pub(super) IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Address {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match parts.extensions.get::<Peer>() {
            Some(Peer::Network { address, .. }) => Ok(Self(address.ip())),
            _ => Err(Refusal::Internal),
        }
    }
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
