//! The anchors as roots of the whole system (`system_trust: true`), by Debian's `update-ca-certificates`: it wants each
//! in a file of its own below `/usr/local/share/ca-certificates`, and makes of them what OpenSSL, GnuTLS and others read.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::process::Command;

use super::install::{self, InstallError, Ownership};
use super::{Agent, AgentError, read_if_there};
use crate::ca::pem_file;
use crate::terminal::cut_owned;

const COMMAND: &str = "/usr/sbin/update-ca-certificates";
/// It takes seconds; with Java's key store some more.
const PATIENCE: Duration = Duration::from_secs(120);
/// Everybody may read roots.
const MODE: u32 = 0o644;
/// Longest part of what the command said that is told on, in characters.
const MAX_SAID: usize = 500;

/// Where the system keeps its roots.
#[derive(Debug, Clone)]
pub struct SystemStore {
    /// Where an administrator puts roots.
    local: PathBuf,
    /// All roots in one file.
    bundle: PathBuf,
    /// For the command, where it is not to work on the system's own.
    arguments: Vec<String>,
}

impl Default for SystemStore {
    fn default() -> Self {
        Self {
            local: "/usr/local/share/ca-certificates".into(),
            bundle: "/etc/ssl/certs/ca-certificates.crt".into(),
            arguments: Vec::new(),
        }
    }
}

/// What there is to do.
#[derive(Debug, Default)]
struct Work {
    /// Files to be written: path and text.
    write: Vec<(PathBuf, String)>,
    /// Files of anchors that are none any more.
    remove: Vec<PathBuf>,
    /// Whether something is replaced or removed, so that links have to be made anew.
    fresh: bool,
    /// Whether the one file of all roots lacks an anchor.
    lacking: bool,
}

impl SystemStore {
    /// Another system's: `local` is where its administrator puts roots, `bundle` has all roots, and the command is told so by
    /// `arguments`.
    #[must_use]
    pub const fn at(local: PathBuf, bundle: PathBuf, arguments: Vec<String>) -> Self {
        Self { local, bundle, arguments }
    }

    /// Makes the system trust exactly these anchors of ours; tells whether it had to. What is there already costs a look.
    ///
    /// # Errors
    /// [`AgentError::Trust`] or [`AgentError::Install`].
    pub async fn keep(&self, agent: &Agent<'_>, anchors: &[CertificateDer<'_>]) -> Result<bool, AgentError> {
        let work = self.work(anchors)?;
        if work.is_none() {
            return Ok(false);
        }
        let owner = if agent.privileged { Ownership::resolve("0", "0", MODE)? } else { Ownership::mode(MODE) };
        for (path, text) in &work.write {
            install::install(path, text.as_bytes(), &owner, agent.random)?;
        }
        for path in &work.remove {
            let failed = |cause| InstallError::Io { path: path.clone(), step: "remove it", cause };
            std::fs::remove_file(path).map_err(failed)?;
        }
        self.update(work.fresh).await?;
        match self.work(anchors)?.is_none() {
            true => Ok(true),
            false => Err(AgentError::Trust(format!(
                "{COMMAND} ended well, and {} still lacks this host's anchors",
                self.bundle.display()
            ))),
        }
    }

    /// What is wrong, for `psfca status`.
    ///
    /// # Errors
    /// [`AgentError::State`] where a file cannot be read.
    pub fn problem(&self, anchors: &[CertificateDer<'_>]) -> Result<Option<String>, AgentError> {
        let told =
            || "the system does not trust this host's anchors as it should; sudo psfca renew sees to it".to_owned();
        Ok((!self.work(anchors)?.is_none()).then(told))
    }

    fn work(&self, anchors: &[CertificateDer<'_>]) -> Result<Work, AgentError> {
        let mut work = Work::default();
        let names =
            (1..).map(|number| if number == 1 { "psfca.crt".to_owned() } else { format!("psfca-{number}.crt") });
        let mut wanted = Vec::new();
        for (anchor, name) in anchors.iter().zip(names) {
            let (path, text) = (self.local.join(name), pem_file::certificates_to_pem([anchor]));
            let there = read_if_there(&path)?;
            if there.as_deref() != Some(text.as_bytes()) {
                work.fresh |= there.is_some();
                work.write.push((path.clone(), text));
            }
            wanted.push(path);
        }
        let entries = std::fs::read_dir(&self.local).into_iter().flatten().flatten();
        let of_ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number = name.strip_prefix("psfca-").and_then(|rest| rest.strip_suffix(".crt"));
            number.is_some_and(|number| number.parse::<usize>().is_ok())
        };
        work.remove =
            entries.map(|entry| entry.path()).filter(|path| of_ours(path) && !wanted.contains(path)).collect();
        work.fresh |= !work.remove.is_empty();
        // A run that was killed between the files and the command has left it as it was before.
        let bundle = read_if_there(&self.bundle)?.unwrap_or_default();
        let roots = pem_file::certificates(&bundle).unwrap_or_default();
        work.lacking = anchors.iter().any(|anchor| !roots.contains(anchor));
        Ok(work)
    }

    async fn update(&self, fresh: bool) -> Result<(), AgentError> {
        let failed = |cause: String| AgentError::Trust(format!("{COMMAND} failed: {cause}"));
        let mut command = Command::new(COMMAND);
        command.args(fresh.then_some("--fresh")).args(&self.arguments).stdin(Stdio::null()).kill_on_drop(true);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        let running = tokio::time::timeout(PATIENCE, command.output());
        let output = match running.await {
            Ok(output) => output.map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    failed("it is not there; Debian's package ca-certificates has it".into())
                }
                _ => failed(error.to_string()),
            })?,
            Err(_) => return Err(failed(format!("it took more than {} s", PATIENCE.as_secs()))),
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        Err(failed(format!("{}; {}", output.status, cut_owned(said, MAX_SAID))))
    }
}

impl Work {
    fn is_none(&self) -> bool {
        self.write.is_empty() && self.remove.is_empty() && !self.lacking
    }
}
