//! Hooks: programs of this host's administrator that tell services of a renewed bundle. The CA never says
//! what runs on a host; what does lies in `hooks.d/all` and `hooks.d/NAME`, and belongs to root.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Agent;
use super::directory::{Astray, Way};
use super::files::Links;
use crate::accounts;
use crate::ca::bundle::Bundle;
use crate::clock::describe;
use crate::loading::HookRun;
use crate::name::DnsName;

mod process;
pub mod unit;

/// The hooks of every name.
const ALL: &str = "all";
/// Where hooks find programs; nothing of the caller's environment reaches them.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The most hooks of one name; a directory with more is no directory of hooks.
const MAX_HOOKS: usize = 64;

fn refused(hook: PathBuf, why: String) -> HookRun {
    HookRun { hook, output: String::new(), error: Some(why) }
}

/// What went wrong with any of them; none when every one succeeded.
#[must_use]
pub fn failures(runs: &[HookRun]) -> Option<String> {
    let failures: Vec<_> = runs.iter().filter_map(HookRun::failure).collect();
    (!failures.is_empty()).then(|| failures.join("\n"))
}

/// Whether `name` has any hook. A directory that cannot be read counts as one, so that this is told.
#[must_use]
pub fn are_there(agent: &Agent<'_>, name: &DnsName) -> bool {
    find(agent, name).map_or(true, |hooks| !hooks.is_empty())
}

/// The hooks of `name`: first those of all names, each directory in the order of their names. What begins with a
/// dot is none.
fn find(agent: &Agent<'_>, name: &DnsName) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut hooks = Vec::new();
    for directory in [ALL, name.as_str()].map(|part| agent.settings.hooks.join(part)) {
        let mut found = match list(&directory) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err((directory, error)),
        };
        found.sort();
        hooks.append(&mut found);
    }
    Ok(hooks)
}

/// The directories of hooks of single names, whatever they are called.
#[must_use]
pub fn directories(agent: &Agent<'_>) -> Vec<String> {
    let entries = std::fs::read_dir(&agent.settings.hooks).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.path().is_dir());
    let names = directories.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name != ALL && !name.starts_with('.')).collect();
    names.sort();
    names
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            found.push(entry.path());
        }
        if found.len() > MAX_HOOKS {
            return Err(io::Error::other(format!("it holds more than {MAX_HOOKS} files")));
        }
    }
    Ok(found)
}

/// Where the program of a hook is, without any link; or why it must not run: it is no program, or somebody but root
/// (or this user) could have written it or chosen it.
fn fit(hook: &Path) -> Result<PathBuf, String> {
    let (us, path) = (rustix::process::geteuid().as_raw(), hook.display());
    let way = Way::to(hook, Some(us), Links::Followed).map_err(|astray| match astray {
        Astray::Refused(error) => format!("cannot be looked at: {error}"),
        astray => format!("is not run: {astray}"),
    })?;
    let found = way.file.metadata().map_err(|error| format!("cannot be looked at: {error}"))?;
    if !found.is_file() {
        return Err("is not run: it is no file; a hook is an executable file".to_owned());
    }
    if found.mode() & 0o111 == 0 {
        return Err(format!("is not run: it is not executable; chmod +x {path}, or move it away"));
    }
    if ![0, us].contains(&found.uid()) {
        let owner = accounts::user_name(found.uid());
        return Err(format!("is not run: it belongs to {owner}; chown {} {path}", accounts::user_name(us)));
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!("is not run: others may write to it; chmod go-w {path}"));
    }
    Ok(way.path)
}

/// Runs every hook of `name`, one after the other, in this process's own surroundings. One that fails does not stop
/// the others: they may belong to other services.
pub async fn run(agent: &Agent<'_>, name: &DnsName, bundle: &Bundle) -> Vec<HookRun> {
    let hooks = match find(agent, name) {
        Ok(hooks) => hooks,
        Err((directory, error)) => return vec![refused(directory, format!("cannot be read: {error}"))],
    };
    let mut runs = Vec::new();
    for hook in hooks {
        runs.push(match fit(&hook) {
            Err(why) => refused(hook, why),
            Ok(program) => run_one(agent, name, bundle, hook, &program).await,
        });
    }
    runs
}

async fn run_one(agent: &Agent<'_>, name: &DnsName, bundle: &Bundle, hook: PathBuf, program: &Path) -> HookRun {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let limit = agent.settings.hook_timeout;
    let leaf = bundle.leaf();
    // No link is followed again. What goes by the name that it is called by still sees that of the hook.
    let mut command = Command::new(program);
    command
        .arg0(absolute(&hook))
        .env_clear()
        .env("PATH", PATH)
        .env("PSFCA_NAME", name.as_str())
        .env("PSFCA_BUNDLE", absolute(&agent.settings.placement.bundle(name).path))
        .env("PSFCA_SERIAL", leaf.serial.to_string())
        .env("PSFCA_NOT_AFTER", leaf.not_after.to_string())
        .env("PSFCA_TRUST_BUNDLE", absolute(&agent.settings.trust_bundle))
        .current_dir("/");
    match process::run(command, limit).await {
        Ok(ran) => HookRun { hook, error: why(ran.status, limit), output: ran.output },
        Err(error) => refused(hook, format!("cannot be started: {error}")),
    }
}

fn why(status: Option<std::process::ExitStatus>, limit: Duration) -> Option<String> {
    match status {
        Some(status) if status.success() => None,
        Some(status) => Some(format!("failed ({status})")),
        None => Some(format!("was killed, because it took longer than {} (hook_timeout)", describe(limit))),
    }
}
