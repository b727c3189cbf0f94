//! Copies of a bundle, in the forms that services want. A copy is made again whenever it is not what
//! the bundle says, so nothing has to be remembered and a run that was killed is made good by the next.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, fchown, symlink,
};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use zeroize::Zeroizing;

use super::install::{self, InstallError, Ownership};
use super::placement::{Copy, Layout};
use super::{Agent, AgentError, read_if_there};
use crate::ca::bundle::Bundle;
use crate::ca::pem_file::certificates_to_pem;
use crate::durable;
use crate::name::DnsName;

/// The entries of a `split` directory and of a Kubernetes secret.
const ENTRIES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// Writes each copy that is not what `bundle` says; returns those.
///
/// # Errors
/// [`InstallError`]; what was there before still is.
pub fn keep(
    agent: &Agent<'_>,
    name: &DnsName,
    bundle: &Bundle,
    anchors: &[CertificateDer<'_>],
) -> Result<Vec<PathBuf>, InstallError> {
    let mut written = Vec::new();
    for copy in agent.settings.placement.copies(name) {
        let wanted = Form::of(copy.layout, name, bundle, anchors);
        let owner = agent.ownership(&copy.place)?;
        if wanted.lies_at(copy, &owner) {
            continue;
        }
        match wanted {
            Form::File(content) => install::install(&copy.place.path, content.as_bytes(), &owner, agent.random)?,
            Form::Directory(entries) => switch(agent, copy, &entries, &owner)?,
        }
        written.push(copy.place.path.clone());
    }
    Ok(written)
}

/// The same for the bundle that is installed; nothing where there is none that is whole.
///
/// # Errors
/// [`AgentError`] when the bundle cannot be read or a copy not be written.
pub fn keep_installed(
    agent: &Agent<'_>,
    name: &DnsName,
    anchors: &[CertificateDer<'_>],
) -> Result<Vec<PathBuf>, AgentError> {
    match installed(agent, name)? {
        Some(bundle) => Ok(keep(agent, name, &bundle, anchors)?),
        None => Ok(Vec::new()),
    }
}

/// The first copy that is not what the installed bundle says.
///
/// # Errors
/// [`AgentError`] when the bundle cannot be read or the settings name nobody.
pub fn stale(agent: &Agent<'_>, name: &DnsName, anchors: &[CertificateDer<'_>]) -> Result<Option<PathBuf>, AgentError> {
    let Some(bundle) = installed(agent, name)? else { return Ok(None) };
    for copy in agent.settings.placement.copies(name) {
        if !Form::of(copy.layout, name, &bundle, anchors).lies_at(copy, &agent.ownership(&copy.place)?) {
            return Ok(Some(copy.place.path.clone()));
        }
    }
    Ok(None)
}

fn installed(agent: &Agent<'_>, name: &DnsName) -> Result<Option<Bundle>, AgentError> {
    let placement = &agent.settings.placement;
    if placement.copies(name).is_empty() {
        return Ok(None);
    }
    let text = read_if_there(&placement.bundle(name).path)?.map(Zeroizing::new);
    Ok(text.and_then(|text| Bundle::parse(&text).ok()))
}

/// What a copy has to hold.
enum Form {
    File(Zeroizing<String>),
    /// In the order of [`ENTRIES`].
    Directory([Zeroizing<String>; 3]),
}

impl Form {
    fn of(layout: Layout, name: &DnsName, bundle: &Bundle, anchors: &[CertificateDer<'_>]) -> Self {
        let (chain, key) = (Zeroizing::new(bundle.chain().to_pem()), bundle.key().to_pem());
        let entries = || [chain.clone(), key.clone(), Zeroizing::new(certificates_to_pem(anchors))];
        match layout {
            Layout::Combined => Self::File(bundle.to_pem()),
            Layout::KeyFirst => Self::File(Zeroizing::new(key.to_string() + &chain)),
            Layout::Split => Self::Directory(entries()),
            Layout::KubernetesSecret => Self::File(secret(name, &entries())),
        }
    }

    /// Whether `copy` holds this and is whose it should be.
    fn lies_at(&self, copy: &Copy, owner: &Ownership) -> bool {
        let holds = |path: &Path, wanted: &str| {
            let whose = fs::metadata(path).is_ok_and(|found| {
                found.is_file()
                    && found.mode() & 0o7777 == owner.mode
                    && owner.user.is_none_or(|user| user == found.uid())
                    && owner.group.is_none_or(|group| group == found.gid())
            });
            whose && fs::read(path).map(Zeroizing::new).is_ok_and(|found| *found == wanted.as_bytes())
        };
        match self {
            Self::File(wanted) => holds(&copy.place.path, wanted),
            Self::Directory(wanted) => {
                ENTRIES.iter().zip(wanted).all(|(entry, wanted)| holds(&copy.place.path.join(entry), wanted))
            }
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
    install::check_link_place(link)?;
    let failed = |step| move |cause| InstallError::Io { path: link.clone(), step, cause };
    let before = fs::read_link(link).ok();
    let fresh = install::temporary_beside(link, agent.random)?;
    let temporary = install::temporary_beside(link, agent.random)?;
    let made = (|| {
        DirBuilder::new().mode(0o700).create(&fresh).map_err(failed("make the directory"))?;
        for (entry, text) in ENTRIES.iter().zip(entries) {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh.join(entry));
            let mut file = file.map_err(failed("make a file"))?;
            file.write_all(text.as_bytes()).map_err(failed("write"))?;
            fchown(&file, owner.user, owner.group).map_err(failed("set the owner"))?;
            file.set_permissions(Permissions::from_mode(owner.mode)).map_err(failed("set the mode"))?;
            file.sync_all().map_err(failed("fsync"))?;
        }
        // Who may read the files may go through the directory.
        chown(&fresh, owner.user, owner.group).map_err(failed("set the owner"))?;
        let pass = owner.mode | ((owner.mode & 0o440) >> 2);
        fs::set_permissions(&fresh, Permissions::from_mode(pass)).map_err(failed("set the mode"))?;
        durable::sync_directory_of(&fresh.join(ENTRIES[0])).map_err(failed("fsync of the directory"))?;
        let target = fresh.file_name().unwrap_or_default();
        symlink(target, &temporary).map_err(failed("make the link"))?;
        fs::rename(&temporary, link).map_err(failed("rename"))
    })();
    if made.is_err() {
        // Best effort: what stays is cleared by the next run.
        let _ = fs::remove_file(&temporary);
        let _ = fs::remove_dir_all(&fresh);
        return made;
    }
    durable::sync_directory_of(link).map_err(failed("fsync of the directory"))?;
    let kept = [fresh.file_name(), before.as_deref().and_then(Path::file_name)];
    let directory = link.parent().unwrap_or(Path::new("."));
    for old in install::marked(directory, |of| link.file_name().is_some_and(|name| name == of)) {
        if !kept.contains(&old.file_name()) {
            // If it stays, the next switch tries again.
            let _ = fs::remove_dir_all(&old);
        }
    }
    Ok(())
}
