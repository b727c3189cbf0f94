//! What psfca may replace: one rule for bundles and their copies.
//!
//! Free is what is not there or empty. Ours is what a certificate of this CA is in, whole or torn, and whatever is not
//! whole at a place where psfca has put a file before: a disk may have torn that one. Everything else is somebody
//! else's, and only a person's `--force` replaces it.
//!
//! The places where psfca has put files stand in `written.json` in the state directory, each before its first file is
//! there.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::files::{self, Links, Unread};
use super::install::InstallError;
use super::{Agent, read_if_there};
use crate::ca::provenance::{Origin, origin};
use crate::durable;
use crate::name::DnsName;

const FILE: &str = "written.json";

/// What lies at `path` that is somebody else's; none where a file may go there. What is no regular file is for
/// whoever installs to refuse.
#[must_use]
pub fn others(agent: &Agent<'_>, path: &Path, anchors: &[CertificateDer<'_>]) -> Option<String> {
    others_in(agent, path, &files::read(path, Links::Refused), anchors)
}

/// The same of what was just read there.
#[must_use]
pub fn others_in(
    agent: &Agent<'_>,
    path: &Path,
    read: &Result<(Metadata, Zeroizing<Vec<u8>>), Unread>,
    anchors: &[CertificateDer<'_>],
) -> Option<String> {
    let what = match read {
        Err(Unread::Absent | Unread::Failed(_)) => return None,
        Err(Unread::Unfit(_)) if !path.symlink_metadata().is_ok_and(|found| found.is_file()) => return None,
        Err(Unread::Unfit(cause)) => cause.clone(),
        Ok((_, content)) => match origin(content, anchors) {
            Origin::Nothing | Origin::Ours => return None,
            Origin::Foreign => return Some("what lies there is whole and was not issued by this CA".to_owned()),
            Origin::Unknown => format!("{} bytes without a certificate of this CA", content.len()),
        },
    };
    let written = places(agent).is_ok_and(|places| places.contains(&absolute(path)));
    (!written).then(|| format!("what lies there was not written by psfca ({what})"))
}

/// Refuses to replace what is somebody else's, for the name whose bundle or copy is to go there.
///
/// # Errors
/// [`InstallError::Unsafe`] says what lies there, and how to go on.
pub fn spare(
    agent: &Agent<'_>,
    path: &Path,
    name: &DnsName,
    anchors: &[CertificateDer<'_>],
) -> Result<(), InstallError> {
    match others(agent, path, anchors) {
        Some(what) => Err(InstallError::Unsafe { path: path.to_owned(), cause: left_alone(&what, name) }),
        None => Ok(()),
    }
}

/// What to say of it.
#[must_use]
pub fn left_alone(what: &str, name: &DnsName) -> String {
    format!("{what}, so it is left alone; if it may go, remove it, or replace it with: psfca issue {name} --force")
}

/// Writes down that psfca puts a file at `path`, before it does.
///
/// # Errors
/// [`InstallError`]; then nothing is to be put there.
pub fn remember(agent: &Agent<'_>, path: &Path) -> Result<(), InstallError> {
    // A damaged list is as none: at worst a person is asked about something torn.
    let mut places = places(agent).unwrap_or_default();
    if !places.insert(absolute(path)) {
        return Ok(());
    }
    save(agent, &places)
}

/// Forgets a place whose file was removed: what comes there next is not ours.
pub fn forget(agent: &Agent<'_>, path: &Path) {
    if let Ok(mut places) = places(agent)
        && places.remove(&absolute(path))
    {
        // If it stays, something torn at that place is replaced, and nothing that is whole.
        let _ = save(agent, &places);
    }
}

fn places(agent: &Agent<'_>) -> Result<BTreeSet<PathBuf>, ()> {
    let text = read_if_there(&agent.settings.state.join(FILE)).map_err(drop)?;
    text.map_or(Ok(BTreeSet::new()), |text| serde_json::from_slice(&text).map_err(drop))
}

fn save(agent: &Agent<'_>, places: &BTreeSet<PathBuf>) -> Result<(), InstallError> {
    let path = agent.settings.state.join(FILE);
    let failed = |cause| InstallError::Io { path: path.clone(), step: "write down where files go", cause };
    let text = serde_json::to_vec_pretty(places).map_err(|error| failed(error.into()))?;
    durable::replace(&path, &text, 0o600).map_err(failed)
}

/// The same place, wherever the settings were named from.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
