//! An identity for a host that has none, in exchange for a token; and what every way in shares. The first
//! connection is verified against a root that is named beforehand, so nothing is ever sent to, or taken
//! from, anybody else.

use hyper::Method;
use rustls::pki_types::CertificateDer;
use zeroize::{Zeroize as _, Zeroizing};

use super::identity::{self, Enrolment};
use super::ledger::{self, Asked, LedgerError, Memory, Seen};
use super::servers::Servers;
use super::{Agent, AgentError, anchor, key};
use crate::ca::bundle::{Bundle, BundleError};
use crate::ca::pem_file::PrivateKey;
use crate::client::{Answer, ClientError};
use crate::digest::Digest;
use crate::grant::CertificateKind;
use crate::name::HostName;
use crate::token::{EnrollmentToken, ServerAddress};
use crate::wire::{EnrollRequest, PEM_CHAIN, Problem};
use crate::{tls, wire};

pub use crate::tls::NamedBy;

/// What an enrolment came to.
#[derive(Debug)]
pub struct Enrolled {
    /// The enrolment, as it is stored.
    pub enrolment: Enrolment,
    /// Whether the trust bundle's file was written; `renew` will write it otherwise.
    pub trust: Result<(), AgentError>,
    /// How the ledger fails to continue what this host had seen of it before.
    pub ledger_break: Option<LedgerError>,
}

/// Where the CA is, and which root it must prove to have.
#[derive(Debug, Clone)]
pub struct FirstTrust {
    /// Daemons to try, in this order.
    pub servers: Vec<ServerAddress>,
    /// SHA-256 of the root's DER.
    pub root: Digest,
    /// What names it.
    pub named_by: NamedBy,
}

/// A first connection: to a daemon that has proven to have the root that was named, and that serves no other.
pub(super) struct Contact {
    pub(super) client: Servers,
    server: ServerAddress,
    root: CertificateDer<'static>,
}

/// Connects to the first daemon that answers, and asks it for nothing but its trust bundle: one that is not to be
/// taken at its word gets no request.
pub(super) async fn first_contact(agent: &Agent<'_>, trust: &FirstTrust) -> Result<Contact, AgentError> {
    let mut last = None;
    for server in &trust.servers {
        let (config, pinned) = tls::pinned_client_config(trust.root, trust.named_by, agent.clock.clone())?;
        match agent.connect_to(std::slice::from_ref(server), config).await {
            Ok(mut client) => {
                let root = pinned.get().cloned();
                let root = root.ok_or_else(|| AgentError::Trust(format!("{server} showed no root")))?;
                anchor::compare_at_first_trust(&root, trust.named_by, &anchor::fetch(&mut client).await?)?;
                return Ok(Contact { client, server: server.clone(), root });
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| AgentError::NotEnrolled(agent.settings.state.clone()), AgentError::from))
}

/// Enrols this host. It trusts the root that the token names and nothing else. An identity that it has
/// stays until the new one is whole, and that of another host for good unless a person says so (`replace`). What it had
/// seen of the ledger is forgotten: a person with a token vouches for the CA.
///
/// # Errors
/// [`AgentError`]; with [`AgentError::Client`] the CA did not answer or said no.
pub async fn enroll(agent: &Agent<'_>, token: &EnrollmentToken, replace: bool) -> Result<Enrolled, AgentError> {
    let _lock = agent.lock()?;
    let trust = FirstTrust { servers: vec![token.address.clone()], root: token.root, named_by: NamedBy::Token };
    let mut contact = first_contact(agent, &trust).await?;

    // On disk before the token is spent: the CA answers the same key again, so nothing is lost
    // with the answer.
    let key = identity::pending_key(&agent.settings.state)?;
    let mut ask = EnrollRequest { secret: token.secret.expose().to_string(), csr: key::request(&key)? };
    let body = Zeroizing::new(serde_json::to_vec(&ask).map_err(|error| AgentError::Key(error.to_string()))?);
    ask.secret.zeroize();
    let sent = contact.client.send(Method::POST, "/v1/enroll", "application/json", PEM_CHAIN, body.to_vec()).await;
    let answer = sent?.ok().map_err(|error| spent(agent, error))?;
    complete(agent, contact, &answer, key, None, replace).await
}

/// A spent token says nothing to whoever runs the command once more, where all is well.
fn spent(agent: &Agent<'_>, error: ClientError) -> AgentError {
    let is_spent = |problem: &Problem| problem.kind.ends_with(":bad-token") && problem.detail.contains("spent");
    match (&error, Enrolment::load(&agent.settings.state)) {
        (ClientError::Refused { problem, .. }, Ok(there))
            if is_spent(problem) && agent.now() <= there.validity().not_after =>
        {
            AgentError::EnrolledAlready { until: there.validity().not_after, host: there.host }
        }
        _ => error.into(),
    }
}

/// Refuses to take the identity of another host than `wanted` from this state directory, before anybody is asked.
///
/// # Errors
/// [`AgentError::AnotherHost`].
pub fn spare_another(agent: &Agent<'_>, wanted: &HostName) -> Result<(), AgentError> {
    match another(agent, wanted) {
        Some(here) => Err(AgentError::AnotherHost(format!(
            "this machine is enrolled as {here}; nobody was asked to let it be {wanted}; if it is to become that, say: \
             psfca enroll --replace"
        ))),
        None => Ok(()),
    }
}

fn another(agent: &Agent<'_>, wanted: &HostName) -> Option<HostName> {
    let there = Enrolment::load(&agent.settings.state).ok()?;
    (there.host != *wanted).then_some(there.host)
}

/// What every way in ends with: the identity is checked, and stored with the roots and the ledger's
/// key. `wanted` is the host that was asked for; a token says only now whose it is, and an identity of another host
/// stays unless that is meant (`replace`).
pub(super) async fn complete(
    agent: &Agent<'_>,
    contact: Contact,
    answer: &Answer,
    key: PrivateKey,
    wanted: Option<&HostName>,
    replace: bool,
) -> Result<Enrolled, AgentError> {
    let state = &agent.settings.state;
    let Contact { server, root, .. } = contact;
    let bad = |cause| AgentError::BadAnswer { what: "this host's identity".to_owned(), cause };
    let (identity, host) = identity::accept(&answer.body, key, agent.now()).map_err(bad)?;
    if let Some(expected) = wanted.filter(|wanted| **wanted != host) {
        return Err(bad(BundleError::Names { found: host.to_string(), expected: expected.to_string() }));
    }

    let another = another(agent, &host);
    if let Some(here) = another.as_ref().filter(|_| !replace) {
        // It is for that host's identity, and must not be what this one is renewed with.
        identity::forget_pending_key(state);
        return Err(AgentError::AnotherHost(format!(
            "this machine is enrolled as {here}, and the token is for {host}; nothing was changed here, and the token \
             is spent; make another (psfca token {host} --replace), and where this machine is to become {host}, give \
             it to: psfca enroll --replace"
        )));
    }

    let asked = Asked { kind: CertificateKind::Identity, name: host.as_str(), host: &host, ca_made_key: false };
    let witness = agent.settings.witness.as_ref();
    let ledger = Seen::first(answer, identity.leaf(), &asked, witness, agent.now())
        .map_err(|cause| AgentError::Ledger { what: host.to_string(), cause })?;
    let enrolment = Enrolment { server, anchors: vec![root], identity, host, ledger };
    let before = Enrolment::load(state).and_then(|before| Memory::load(agent, &before));
    enrolment.save(state)?;
    ledger::begin(state, &enrolment.ledger)?;
    identity::forget_pending_key(state);
    if another.is_some() {
        identity::forget_entitlements(state);
    }
    let trust = anchor::write(agent, &enrolment.anchors);
    let ledger_break = match before {
        Ok(before) => ledger_break(agent, &enrolment, before).await,
        Err(_) => None,
    };
    Ok(Enrolled { enrolment, trust, ledger_break })
}

/// Asked with the new identity, since the ledger is for hosts. No answer is no trouble: the
/// enrolment is done, and this is only to be told.
async fn ledger_break(agent: &Agent<'_>, enrolment: &Enrolment, before: Memory) -> Option<LedgerError> {
    let mut client = agent.connect(enrolment).await.ok()?;
    ledger::break_with(before, &mut client, &enrolment.ledger).await
}

/// Exchanges the identity for its successor and stores that; the old one stays until then.
///
/// # Errors
/// [`AgentError`]; the old identity is then still in place.
pub(super) async fn next_identity(
    agent: &Agent<'_>,
    client: &mut Servers,
    enrolment: &Enrolment,
    memory: &mut Memory,
) -> Result<Bundle, AgentError> {
    let state = &agent.settings.state;
    // With an identity that has ended nothing but its renewal can be asked for; the same key is given
    // the same answer, so that asking again costs the ledger nothing.
    let ended = enrolment.validity().not_after < agent.now();
    if !ended {
        memory.before_asking(client, enrolment.host.as_str(), agent.now()).await?;
    }
    let key = identity::pending_key(state)?;
    let request = key::request(&key)?;
    let answer = client.send(Method::POST, "/v1/identity", wire::PKCS10, PEM_CHAIN, request).await?.ok()?;
    let bad = |cause| AgentError::BadAnswer { what: "this host's identity".to_owned(), cause };
    let (identity, host) = identity::accept(&answer.body, key, agent.now()).map_err(bad)?;
    if host != enrolment.host {
        let (found, expected) = (host.to_string(), enrolment.host.to_string());
        return Err(bad(BundleError::Names { found, expected }));
    }
    let (server, anchors) = (enrolment.server.clone(), enrolment.anchors.clone());
    let mut next = Enrolment { server, anchors, identity, host, ledger: memory.seen().clone() };
    let asked =
        Asked { kind: CertificateKind::Identity, name: next.host.as_str(), host: &next.host, ca_made_key: false };
    match ended {
        // What the ledger has to prove besides is asked with the new identity.
        true => {
            let mut client = agent.connect(&next).await?;
            memory.accept(&mut client, &answer, next.identity.leaf(), &asked, agent.now()).await?;
        }
        false => memory.accept(client, &answer, next.identity.leaf(), &asked, agent.now()).await?,
    }
    next.ledger = memory.seen().clone();
    next.save(state)?;
    identity::forget_pending_key(state);
    Ok(next.identity)
}
