//! A token in exchange for an identity. The first connection is verified against the root that the
//! token names, so nothing is ever sent to, or taken from, anybody else.

use hyper::Method;
use zeroize::{Zeroize as _, Zeroizing};

use super::identity::{self, Enrolment};
use super::{Agent, AgentError, anchor, key};
use crate::ca::bundle::{Bundle, BundleError};
use crate::client::Client;
use crate::digest::Digest;
use crate::token::EnrollmentToken;
use crate::wire::{EnrollRequest, PEM_CHAIN};
use crate::{tls, wire};

/// Enrols this host. An identity that it has stays until the new one is whole; the error of the
/// second value is that of the trust bundle's file, which `renew` will write.
///
/// # Errors
/// [`AgentError`]; with [`AgentError::Client`] the CA did not answer or said no.
pub async fn enroll(
    agent: &Agent<'_>,
    token: &EnrollmentToken,
) -> Result<(Enrolment, Result<(), AgentError>), AgentError> {
    let state = &agent.settings.state;
    let _lock = agent.lock()?;
    let (config, pinned) = tls::pinned_client_config(token.root, agent.clock.clone())?;
    let mut client = Client::connect_tls(&token.address, config).await?;

    // On disk before the token is spent: the CA answers the same key again, so nothing is lost
    // with the answer.
    let key = identity::pending_key(state)?;
    let mut ask = EnrollRequest { secret: token.secret.expose().to_string(), csr: key::request(&key)? };
    let body = Zeroizing::new(serde_json::to_vec(&ask).map_err(|error| AgentError::Key(error.to_string()))?);
    ask.secret.zeroize();
    let answer = client.send(Method::POST, "/v1/enroll", "application/json", PEM_CHAIN, body.to_vec()).await?.ok()?;
    let (identity, host) = identity::accept(&answer.body, key, agent.now())
        .map_err(|cause| AgentError::BadAnswer { what: "this host's identity".to_owned(), cause })?;

    let anchors = anchor::fetch(&mut client).await?;
    let root = pinned.get().map(|root| Digest::of(root));
    if !anchors.iter().any(|anchor| Some(Digest::of(anchor)) == root) {
        return Err(AgentError::Trust(format!(
            "the trust bundle of {} does not hold the root that the token names; make a new token",
            token.address
        )));
    }
    let enrolment = Enrolment { server: token.address.clone(), anchors, identity, host };
    enrolment.save(state)?;
    identity::forget_pending_key(state);
    let trust = anchor::write(agent, &enrolment.anchors);
    Ok((enrolment, trust))
}

/// Exchanges the identity for its successor and stores that; the old one stays until then.
///
/// # Errors
/// [`AgentError`]; the old identity is then still in place.
pub(super) async fn next_identity(
    agent: &Agent<'_>,
    client: &mut Client,
    enrolment: &Enrolment,
) -> Result<Bundle, AgentError> {
    let state = &agent.settings.state;
    let key = identity::pending_key(state)?;
    let request = key::request(&key)?;
    let answer = client.send(Method::POST, "/v1/identity", wire::PKCS10, PEM_CHAIN, request).await?.ok()?;
    let bad = |cause| AgentError::BadAnswer { what: "this host's identity".to_owned(), cause };
    let (identity, host) = identity::accept(&answer.body, key, agent.now()).map_err(bad)?;
    if host != enrolment.host {
        let (found, expected) = (host.to_string(), enrolment.host.to_string());
        return Err(bad(BundleError::Names { found, expected }));
    }
    let next = Enrolment { server: enrolment.server.clone(), anchors: enrolment.anchors.clone(), identity, host };
    next.save(state)?;
    identity::forget_pending_key(state);
    Ok(next.identity)
}
