//! Copies of a bundle, in the forms that services want. A copy is made again whenever it is not what
//! the bundle says, so nothing has to be remembered and a run that was killed is made good by the next.

use std::ffi::OsStr;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use zeroize::Zeroizing;

use super::directory::{self, Directory};
use super::files::{self, Links, Unread};
use super::install::{self, InstallError, Ownership};
use super::placement::{Copy, Layout};
use super::{Agent, AgentError, claims, debt, password};
use crate::ca::bundle::Bundle;
use crate::ca::pem_file::certificates_to_pem;
use crate::ca::pkcs12::{self, Password};
use crate::ca::provenance;
use crate::name::DnsName;

/// The entries of a `split` directory and of a Kubernetes secret.
const ENTRIES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// What became of the copies of one bundle.
#[derive(Debug, Default)]
pub struct Kept {
    /// Those that were written.
    pub written: Vec<PathBuf>,
    /// Why others are not what they should be; one of them holds no other up.
    pub problem: Option<String>,
}

/// Writes each copy that is not what `bundle` says, also over what is somebody else's where a person says so (`force`).
pub fn keep(agent: &Agent<'_>, name: &DnsName, bundle: &Bundle, anchors: &[CertificateDer<'_>], force: bool) -> Kept {
    let (mut written, mut problems) = (Vec::new(), Vec::new());
    for copy in agent.settings.placement.copies(name) {
        match keep_one(agent, name, copy, bundle, anchors, force) {
            Ok(true) => written.push(copy.place.path.clone()),
            Ok(false) => {}
            Err(error) => problems.push(error.to_string()),
        }
    }
    Kept { written, problem: (!problems.is_empty()).then(|| problems.join("; ")) }
}

/// Says whether it had to be written; after an error what was there before still is.
fn keep_one(
    agent: &Agent<'_>,
    name: &DnsName,
    copy: &Copy,
    bundle: &Bundle,
    anchors: &[CertificateDer<'_>],
    force: bool,
) -> Result<bool, InstallError> {
    let path = &copy.place.path;
    let wanted = Form::of(&copy.layout, name, bundle, anchors)?;
    let owner = agent.ownership(&copy.place)?;
    if wanted.lies_at(copy, &owner) {
        claims::remember(agent, path)?;
        return Ok(false);
    }
    // What is no link stays in a directory's way, whoever says so.
    if !force && copy.layout != Layout::Split {
        claims::spare(agent, path, name, anchors)?;
    }
    claims::remember(agent, path)?;
    debt::reopen(agent, name, &bundle.leaf().serial)?;
    match wanted {
        Form::File(content) => install::install(path, content.as_bytes(), &owner, agent.random)?,
        Form::Keystore(bundle, password) => {
            let content = pkcs12::seal(bundle, &password, agent.random)?;
            install::install(path, &content, &owner, agent.random)?;
        }
        Form::Directory(entries) => switch(agent, copy, &entries, &owner)?,
    }
    Ok(true)
}

/// The same for the bundle that is installed; nothing where there is none that is whole and that this CA issued.
pub fn keep_installed(agent: &Agent<'_>, name: &DnsName, anchors: &[CertificateDer<'_>], force: bool) -> Kept {
    match installed(agent, name, anchors) {
        Ok(Some(bundle)) => keep(agent, name, &bundle, anchors, force),
        Ok(None) => Kept::default(),
        Err(error) => Kept { problem: Some(error.to_string()), ..Kept::default() },
    }
}

/// Removes each copy that is what `bundle` says; returns those, and what stays beside them and only looks like ours.
///
/// # Errors
/// [`InstallError`] where something else lies in a copy's place: it is left there, and so is the bundle.
pub fn remove(
    agent: &Agent<'_>,
    name: &DnsName,
    bundle: &Bundle,
    anchors: &[CertificateDer<'_>],
) -> Result<(Vec<PathBuf>, Result<(), InstallError>), InstallError> {
    let (mut removed, mut cleared) = (Vec::new(), Ok(()));
    for copy in agent.settings.placement.copies(name) {
        let (path, owner) = (&copy.place.path, agent.ownership(&copy.place)?);
        if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            continue;
        }
        let form = Form::of(&copy.layout, name, bundle, anchors)?;
        let directory = match form {
            Form::File(_) | Form::Keystore(..) => install::check_place(path, &owner)?,
            Form::Directory(_) => install::check_link_place(path, &owner)?,
        };
        if !form.lies_at(copy, &owner) {
            let cause = "it is not the copy of the bundle that it should be".to_owned();
            return Err(InstallError::Unsafe { path: path.clone(), cause });
        }
        let failed = |cause| InstallError::Io { path: path.clone(), step: "remove it", cause };
        let link = install::file_name(path)?;
        directory.remove(link).map_err(failed)?;
        if matches!(form, Form::Directory(_)) {
            cleared = cleared.and(clear(&directory, path, link, &owner, None));
        }
        directory.sync().map_err(failed)?;
        removed.push(path.clone());
    }
    Ok((removed, cleared))
}

/// What is wrong with the first copy that is not what the installed bundle says.
///
/// # Errors
/// [`AgentError`] when the bundle cannot be read.
pub fn problem(
    agent: &Agent<'_>,
    name: &DnsName,
    anchors: &[CertificateDer<'_>],
) -> Result<Option<String>, AgentError> {
    let Some(bundle) = installed(agent, name, anchors)? else { return Ok(None) };
    for copy in agent.settings.placement.copies(name) {
        // Where its password cannot be read, renew says why.
        let form = Form::of(&copy.layout, name, &bundle, anchors).ok();
        // That the settings name nobody is told of them all.
        let Ok(owner) = agent.ownership(&copy.place) else { continue };
        if form.is_some_and(|form| form.lies_at(copy, &owner)) {
            continue;
        }
        let path = copy.place.path.display();
        let others = claims::others(agent, &copy.place.path, anchors).filter(|_| copy.layout != Layout::Split);
        return Ok(Some(match others {
            None => format!("its copy at {path} is missing or out of date; psfca renew writes it"),
            Some(what) => format!("its copy cannot go to {path}: {}", claims::left_alone(&what, name)),
        }));
    }
    Ok(None)
}

fn installed(agent: &Agent<'_>, name: &DnsName, anchors: &[CertificateDer<'_>]) -> Result<Option<Bundle>, AgentError> {
    let placement = &agent.settings.placement;
    if placement.copies(name).is_empty() {
        return Ok(None);
    }
    let place = placement.bundle(name);
    // Only from where it could be written: whoever turns its path round is not to get a copy of what lies elsewhere.
    let directory = match Directory::of(&place.path, &agent.ownership(&place)?) {
        Err(InstallError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        directory => directory?,
    };
    match files::read(&directory.held().join(install::file_name(&place.path)?), Links::Refused) {
        Ok((_, text)) => Ok(provenance::own_bundle(&text, anchors, agent.now())),
        Err(Unread::Absent | Unread::Unfit(_)) => Ok(None),
        Err(Unread::Failed(error)) => Err(AgentError::state(&place.path, &error)),
    }
}

/// What a copy has to hold.
enum Form<'a> {
    File(Zeroizing<String>),
    /// Encrypted, so that no two are the same.
    Keystore(&'a Bundle, Password),
    /// In the order of [`ENTRIES`].
    Directory([Zeroizing<String>; 3]),
}

impl<'a> Form<'a> {
    fn of(
        layout: &Layout,
        name: &DnsName,
        bundle: &'a Bundle,
        anchors: &[CertificateDer<'_>],
    ) -> Result<Self, InstallError> {
        let (chain, key) = (Zeroizing::new(bundle.chain().to_pem()), bundle.key().to_pem());
        let entries = || [chain.clone(), key.clone(), Zeroizing::new(certificates_to_pem(anchors))];
        Ok(match layout {
            Layout::Combined => Self::File(bundle.to_pem()),
            Layout::KeyFirst => Self::File(Zeroizing::new(key.to_string() + &chain)),
            Layout::Split => Self::Directory(entries()),
            Layout::KubernetesSecret => Self::File(secret(name, &entries())),
            Layout::Pkcs12 { password_file } => {
                Self::Keystore(bundle, password_file.as_deref().map_or(Ok(Password::conventional()), password::read)?)
            }
        })
    }

    /// Whether `copy` holds this and is whose it should be.
    fn lies_at(&self, copy: &Copy, owner: &Ownership) -> bool {
        let holds = |path: &Path, is_wanted: &dyn Fn(&[u8]) -> bool| {
            let Ok((found, content)) = files::read(path, Links::Refused) else { return false };
            found.mode() & 0o7777 == owner.mode
                && owner.user.is_none_or(|user| user == found.uid())
                && owner.group.is_none_or(|group| group == found.gid())
                && is_wanted(&content)
        };
        match self {
            Self::File(wanted) => holds(&copy.place.path, &|content| content == wanted.as_bytes()),
            Self::Keystore(bundle, password) => {
                holds(&copy.place.path, &|content| pkcs12::holds(content, bundle, password))
            }
            Self::Directory(wanted) => ENTRIES
                .iter()
                .zip(wanted)
                .all(|(entry, wanted)| holds(&copy.place.path.join(entry), &|content| content == wanted.as_bytes())),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Secret<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: Metadata<'a>,
    r#type: &'a str,
    data: std::collections::BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
}

/// JSON, which is YAML too. A DNS name is a good name for a secret.
fn secret(name: &DnsName, entries: &[Zeroizing<String>; 3]) -> Zeroizing<String> {
    let data = ENTRIES.iter().zip(entries).map(|(entry, text)| (*entry, STANDARD.encode(text.as_bytes()))).collect();
    let metadata = Metadata { name: name.as_str() };
    let secret = Secret { api_version: "v1", kind: "Secret", metadata, r#type: "kubernetes.io/tls", data };
    // Texts under texts: there is nothing in it that JSON could not say.
    Zeroizing::new(serde_json::to_string_pretty(&secret).unwrap_or_default() + "\n")
}

/// Makes a new directory beside the link and lets the link name that, in one rename: whoever opens both files
/// through the link finds a certificate and its key. The directory that the link named before stays until the
/// next time, for those who have just looked it up.
fn switch(
    agent: &Agent<'_>,
    copy: &Copy,
    entries: &[Zeroizing<String>; 3],
    owner: &Ownership,
) -> Result<(), InstallError> {
    let link = &copy.place.path;
    let directory = install::check_link_place(link, owner)?;
    let name = install::file_name(link)?;
    let failed = |step| move |cause| InstallError::Io { path: link.clone(), step, cause };
    // Cleared first, so that a kill at any step leaves no more than the directory in use and one other. If anything
    // stays, the next switch tries again.
    let cleared = clear(&directory, link, name, owner, directory.read_link(name).ok());
    let fresh = install::temporary_name(name, agent.random)?;
    let temporary = install::temporary_name(name, agent.random)?;
    let fill = || {
        let made = directory.make_directory(&fresh).map_err(failed("make the directory"))?;
        for (entry, text) in ENTRIES.iter().zip(entries) {
            let mut file = made.create(entry).map_err(failed("make a file"))?;
            file.write_all(text.as_bytes()).map_err(failed("write"))?;
            directory::give(&file, owner, owner.mode).map_err(|(step, cause)| failed(step)(cause))?;
            file.sync_all().map_err(failed("fsync"))?;
        }
        // Who may read the files may go through the directory.
        let pass = owner.mode | ((owner.mode & 0o440) >> 2);
        made.give(owner, pass).map_err(|(step, cause)| failed(step)(cause))?;
        made.sync().map_err(failed("fsync of the directory"))?;
        directory.link(&fresh, &temporary).map_err(failed("make the link"))?;
        directory.rename(&temporary, name).map_err(failed("rename"))
    };
    let made = fill();
    if made.is_err() {
        // Best effort: what stays is cleared by the next run.
        let _ = directory.remove(&temporary);
        let _ = directory.clear(&fresh, &ENTRIES, owner);
        return made;
    }
    directory.sync().map_err(failed("fsync of the directory")).and(cleared)
}

/// Removes what switches left beside `link` but for what is `in_use`. What only looks like it stays, and is an error.
fn clear(
    directory: &Directory,
    link: &Path,
    name: &str,
    owner: &Ownership,
    in_use: Option<PathBuf>,
) -> Result<(), InstallError> {
    let mut outcome = Ok(());
    for old in install::marked(&directory.held(), |of| of == name) {
        let Some(old) = old.file_name().and_then(OsStr::to_str) else { continue };
        if in_use.as_deref().and_then(Path::file_name) == Some(OsStr::new(old)) {
            continue;
        }
        if let Err(cause) = directory.clear(old, &ENTRIES, owner) {
            outcome = Err(InstallError::NotRemoved { path: link.with_file_name(old), cause: cause.to_string() });
        }
    }
    outcome
}
