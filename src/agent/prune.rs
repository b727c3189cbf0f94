//! Removes the bundle of a name that this host may no longer have, and its copies: what this CA issued, where psfca put
//! it, and nothing else.

use std::path::PathBuf;

use rustls::pki_types::CertificateDer;

use super::files::{self, Links};
use super::install::{self, InstallError};
use super::{Agent, AgentError, claims, copies};
use crate::ca::provenance;
use crate::name::DnsName;

/// Removes the bundle of `name` and its copies; returns what was removed. The bundle goes last: as long as it is there,
/// the next run knows what its copies are.
///
/// # Errors
/// [`AgentError`] where something is not what this CA issued, or the system refuses; the bundle is still there, but where
/// only a directory stays that looks like one of a `split` copy.
pub fn prune(agent: &Agent<'_>, name: &DnsName, anchors: &[CertificateDer<'_>]) -> Result<Vec<PathBuf>, AgentError> {
    let removed = remove(agent, name, anchors).map_err(InstallError::of_removal)?;
    for path in &removed {
        claims::forget(agent, path);
    }
    Ok(removed)
}

fn remove(agent: &Agent<'_>, name: &DnsName, anchors: &[CertificateDer<'_>]) -> Result<Vec<PathBuf>, InstallError> {
    let place = agent.settings.placement.bundle(name);
    let foreign = |cause: &str| InstallError::Unsafe { path: place.path.clone(), cause: cause.to_owned() };
    let (_, text) = files::read(&place.path, Links::Refused).map_err(|_| foreign("it cannot be read any more"))?;
    let bundle = provenance::own_bundle(&text, anchors, agent.now());
    let bundle = bundle.ok_or_else(|| foreign("this CA did not issue what lies there"))?;
    let (mut removed, cleared) = copies::remove(agent, name, &bundle, anchors)?;
    let directory = install::check_place(&place.path, &agent.ownership(&place)?)?;
    let failed = |cause| InstallError::Io { path: place.path.clone(), step: "remove it", cause };
    directory.remove(install::file_name(&place.path)?).map_err(failed)?;
    directory.sync().map_err(failed)?;
    removed.push(place.path.clone());
    // Said once all is gone that can go: it may stay for ever.
    cleared.map(|()| removed)
}
