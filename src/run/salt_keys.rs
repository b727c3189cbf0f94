//! `psfca host import-salt`: reads the accepted keys of a Salt master and hands them to the daemon.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, OFlags};

use super::hosts::{send, with_admin_socket};
use crate::agent::AgentError;
use crate::ca::salt_key::{MAX_PEM, SaltKey};
use crate::cli;
use crate::cli::hosts::{HostImportSalt, Hosts};
use crate::name::HostName;
use crate::wire::{MAX_SALT_KEYS, SaltKeys, SaltKeysAnswer};

/// Where Salt keeps the keys that were accepted; those beside it were not.
const ACCEPTED: &str = "minions";

/// Imports what is good, and says what is not.
pub(super) fn run(args: &Hosts, import: &HostImportSalt) -> anyhow::Result<ExitCode> {
    let (keys, bad) = read(&import.directory.join(ACCEPTED))?;
    // The wrong directory, or one that was emptied, looks the same as a master without minions.
    let missing = keys.is_empty() && !import.allow_empty;
    if !missing {
        let body = serde_json::to_vec(&SaltKeys { keys })?;
        with_admin_socket(args, &import.config, async |client| {
            let answer: SaltKeysAnswer = send(client, "/v1/salt-keys", body).await.map_err(AgentError::from)?;
            Ok(cli::hosts::print_salt_keys(answer)?)
        })?;
    }
    for problem in &bad {
        cli::host::note(problem)?;
    }
    if missing {
        let shown = import.directory.join(ACCEPTED);
        bail!(
            "{} holds no key, and an import is the whole set, so every key would be accepted no longer; nothing was \
             imported; if that is meant: --allow-empty",
            shown.display()
        );
    }
    Ok(if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The keys by host, in PEM, and what is wrong with the other files.
fn read(directory: &Path) -> anyhow::Result<(BTreeMap<HostName, String>, Vec<String>)> {
    let shown = directory.display();
    let metadata = std::fs::symlink_metadata(directory)
        .with_context(|| format!("{shown} cannot be read; DIR is the master's, such as /etc/salt/pki/master"))?;
    if !metadata.is_dir() {
        bail!("{shown} is no directory; DIR is the master's, such as /etc/salt/pki/master");
    }
    let (mut keys, mut bad) = (BTreeMap::new(), Vec::new());
    for entry in std::fs::read_dir(directory).with_context(|| format!("{shown} cannot be read"))? {
        let name = entry.with_context(|| format!("{shown} cannot be read"))?.file_name();
        let name = name.to_string_lossy();
        // Salt keeps a cache of its own among the keys.
        if name.starts_with('.') {
            continue;
        }
        if keys.len() + bad.len() >= MAX_SALT_KEYS {
            bail!("{shown} has more than {MAX_SALT_KEYS} files; nothing was imported");
        }
        match key(directory, &name) {
            Ok((host, pem)) => {
                keys.insert(host, pem);
            }
            Err(problem) => bad.push(format!("{}: {problem}; it is not imported", name.escape_debug())),
        }
    }
    bad.sort();
    Ok((keys, bad))
}

/// One file: its name is the host, its content the key.
fn key(directory: &Path, name: &str) -> Result<(HostName, String), String> {
    let host = HostName::parse(name).map_err(|error| format!("that is no host name: {error}"))?;
    let text = read_plain(&directory.join(name)).map_err(|error| error.to_string())?;
    SaltKey::from_pem(&text).map_err(|error| error.to_string())?;
    let pem = String::from_utf8(text).map_err(|_| "it is no text".to_owned())?;
    Ok((host, pem))
}

/// A regular file, not what a link leads to, and at most one octet more than a key may have.
fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    // Without NONBLOCK to open a pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::LOOP => io::Error::other("it is a symbolic link"),
        error => error.into(),
    })?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(MAX_PEM as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}
