//! The trust bundle that applications read. It comes from enrolment, and TLS alone never changes
//! it (rule R10).

use std::collections::BTreeSet;

use hyper::Method;
use hyper::body::Bytes;
use rustls::pki_types::CertificateDer;

use super::install::{self, Ownership};
use super::servers::Servers;
use super::{Agent, AgentError, read_if_there};
use crate::ca::pem_file;
use crate::digest::Digest;
use crate::tls::NamedBy;

/// Everybody may read roots.
const MODE: u32 = 0o644;

/// Asks a daemon for its trust bundle.
///
/// # Errors
/// [`AgentError::Client`] when it does not answer with one.
pub async fn fetch(client: &mut Servers) -> Result<Vec<CertificateDer<'static>>, AgentError> {
    let answer = client.send(Method::GET, "/PSF_CA.pem", "", "", Bytes::new()).await?.ok()?;
    Ok(pem_file::certificates(&answer.body).map_err(|error| answer.malformed(error))?)
}

/// Refuses a daemon that serves another trust bundle than this host trusts. It has `told` the SHA-256 of each root,
/// with its other answer; one that did not (0.1.0) is asked for the bundle itself.
///
/// # Errors
/// [`AgentError::Trust`] tells both.
pub async fn same_roots(
    client: &mut Servers,
    trusted: &[CertificateDer<'_>],
    told: &[Digest],
) -> Result<(), AgentError> {
    if !told.is_empty() {
        return compare_digests(&digests(trusted), &told.iter().copied().collect());
    }
    match fetch(client).await {
        Ok(served) => compare(trusted, &served),
        // That it cannot be had just now says nothing about it.
        Err(_) => Ok(()),
    }
}

/// Refuses a trust bundle other than the one that this host trusts.
///
/// # Errors
/// [`AgentError::Trust`] tells both.
pub fn compare(trusted: &[CertificateDer<'_>], served: &[CertificateDer<'_>]) -> Result<(), AgentError> {
    compare_digests(&digests(trusted), &digests(served))
}

fn digests(of: &[CertificateDer<'_>]) -> BTreeSet<Digest> {
    of.iter().map(|der| Digest::of(der)).collect()
}

fn compare_digests(trusted: &BTreeSet<Digest>, served: &BTreeSet<Digest>) -> Result<(), AgentError> {
    if trusted == served {
        return Ok(());
    }
    let list = |of: &BTreeSet<Digest>| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(AgentError::Trust(format!(
        "the CA serves another trust bundle than this host trusts, and it is refused: a connection alone may not \
         change what this host trusts; trusted are the roots with SHA-256 {}, served are {}; ask the operators, and \
         if the change is meant, enrol again with a new token, made with --replace",
        list(trusted),
        list(served)
    )))
}

/// Refuses a trust bundle that is not the one root that a token, or a person, names. That vouches for that root
/// alone: whatever else a daemon serves beside it is only the daemon's word (rule R10).
///
/// # Errors
/// [`AgentError::Trust`] tells what was served.
pub fn compare_at_first_trust(
    root: &CertificateDer<'_>,
    named_by: NamedBy,
    served: &[CertificateDer<'_>],
) -> Result<(), AgentError> {
    let root = Digest::of(root);
    let others: BTreeSet<_> = served.iter().map(|der| Digest::of(der)).filter(|digest| *digest != root).collect();
    if others.is_empty() && !served.is_empty() {
        return Ok(());
    }
    let unused = if named_by == NamedBy::Token { ", and the token was not used" } else { "" };
    Err(AgentError::Trust(format!(
        "the CA serves another trust bundle than the root that {named_by} names, and it is refused; nothing was asked \
         for{unused}; {named_by} names the root with SHA-256 {root}, served {} besides; one root is all that it can \
         vouch for; ask the operators whether somebody changed what their CA serves",
        match others.iter().map(ToString::to_string).collect::<Vec<_>>() {
            others if others.is_empty() => "is nothing".to_owned(),
            others => format!("are the roots {}", others.join(", ")),
        }
    )))
}

/// Writes the trust bundle if it is not there; what is there is left alone when it is whole.
/// Tells whether it was written.
///
/// # Errors
/// [`AgentError::Trust`] when the file holds other roots, [`AgentError::Install`].
pub fn keep(agent: &Agent<'_>, anchors: &[CertificateDer<'static>]) -> Result<bool, AgentError> {
    let path = &agent.settings.trust_bundle;
    let there = read_if_there(path)?;
    // A damaged file is of no use to anybody, so it is replaced like a missing one.
    if let Some(found) = there.and_then(|text| pem_file::certificates(&text).ok()) {
        return compare(anchors, &found).map(|()| false).map_err(|_| {
            AgentError::Trust(format!(
                "{} holds other roots than this host enrolled with; it is left as it is; if nobody meant that, remove \
                 it and run psfca renew",
                path.display()
            ))
        });
    }
    write(agent, anchors).map(|()| true)
}

/// Writes the trust bundle, whatever is there.
///
/// # Errors
/// [`AgentError::Install`].
pub fn write(agent: &Agent<'_>, anchors: &[CertificateDer<'static>]) -> Result<(), AgentError> {
    let path = &agent.settings.trust_bundle;
    if let Some(directory) = path.parent() {
        install::make_directory(directory, 0o755)?;
    }
    let owner =
        if agent.privileged { Ownership { user: Some(0), group: Some(0), mode: MODE } } else { Ownership::mode(MODE) };
    Ok(install::install(path, pem_file::certificates_to_pem(anchors).as_bytes(), &owner, agent.random)?)
}
