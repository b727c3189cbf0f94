//! Puts declarations in force: at the start, on SIGHUP, and when the files change. A bad
//! declaration never replaces a good one, not even across a restart (rule R3).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::declaration_files::{ReadError, Stamp, read_declaration};
use crate::clock::{Clock, Timestamp};
use crate::config::CaConfig;
use crate::declaration::{Declaration, Rules};
use crate::diagnostic::{Diagnostics, SourceFile};
use crate::in_force::{DeclarationSlot, InForce};
use crate::issue::CertificateAuthority;
use crate::store::{NewDeclaration, Store};

/// Most mistakes of which log and health tell.
const MAX_MISTAKES: usize = 10;
/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(2);

/// The declaration to begin with: what lies in the files, or else what was in force last.
pub(super) async fn first(config: &CaConfig, store: &Store, clock: &dyn Clock) -> anyhow::Result<DeclarationSlot> {
    let problem = match read(config).await {
        Ok((declaration, files)) => {
            let now = clock.now();
            put_in_force(store, now, &declaration, &files).await?;
            // An unchanged declaration is in force since it was first put there, not since this start.
            let since = store.declaration().await?.map_or(now, |stored| stored.since);
            return Ok(DeclarationSlot::new(InForce { declaration, since }));
        }
        Err(problem) => problem,
    };
    let stored = store.declaration().await?;
    let Some(stored) = stored else {
        bail!("there is no declaration to work by: {problem}; psfca check shows every mistake with its place");
    };
    let files: Vec<_> = stored.files.into_iter().map(|(path, text)| SourceFile::new(&path, text)).collect();
    let (declaration, _) = Declaration::parse(&files, &Rules::of(config))
        .map_err(|mistakes| anyhow::anyhow!(summary(&mistakes)))
        .with_context(|| format!("{problem}; and what was in force last does not fit ca.yaml any more"))?;
    tracing::error!(%problem, since = %stored.since, "the declaration in the files is bad; the last good one stays in force");
    let slot = DeclarationSlot::new(InForce { declaration, since: stored.since });
    slot.set_problem(problem, clock.now());
    Ok(slot)
}

/// What waits for a new declaration. It begins before the first one is read, so that neither a
/// SIGHUP nor a change between that reading and the waiting is lost.
pub(super) struct Watch {
    hangup: Signal,
    handled: Vec<Option<Stamp>>,
}

impl Watch {
    /// Takes the first look.
    pub(super) fn begin(config: &CaConfig) -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, handled: look(config) })
    }

    /// Reloads on SIGHUP at once, and on a change of the files once they have settled; never ends.
    pub(super) async fn keep_up(mut self, config: CaConfig, ca: Arc<CertificateAuthority>) {
        let mut seen = self.handled.clone();
        loop {
            let asked = tokio::select! {
                _ = self.hangup.recv() => true,
                () = tokio::time::sleep(POLL) => false,
            };
            let now = look(&config);
            // Files that changed since the last look may still be being written.
            let settled = seen == now;
            if asked || (settled && self.handled != now) {
                match reload(&config, &ca).await {
                    Ok(()) => self.handled.clone_from(&now),
                    // Nothing is wrong with the files, so nobody will change them: the next round tries again.
                    Err(error) => refuse(&ca, format!("{error:#}")),
                }
            }
            seen = now;
        }
    }
}

fn look(config: &CaConfig) -> Vec<Option<Stamp>> {
    config.declaration.iter().map(|path| Stamp::of(path)).collect()
}

/// An error is the store's; bad files are told and done with.
async fn reload(config: &CaConfig, ca: &CertificateAuthority) -> anyhow::Result<()> {
    let slot = &ca.declaration;
    match read(config).await {
        Ok((declaration, _)) if declaration.digest() == slot.current().declaration.digest() => {
            slot.clear_problem();
            tracing::info!("the declaration is unchanged");
        }
        Ok((declaration, files)) => {
            let (since, sha256, names) = (ca.clock.now(), declaration.digest(), declaration.services().len());
            put_in_force(&ca.store, since, &declaration, &files).await?;
            // At once: from the commit on, what was judged by the old one is refused and judged again.
            let before = slot.replace(InForce { declaration, since });
            tokio::task::spawn_blocking(move || drop(before));
            tracing::info!(%sha256, names, "a new declaration is in force");
        }
        Err(problem) => refuse(ca, problem),
    }
    Ok(())
}

fn refuse(ca: &CertificateAuthority, problem: String) {
    tracing::error!(%problem, "the new declaration is not in force; the last good one stays");
    ca.declaration.set_problem(problem, ca.clock.now());
}

/// Records the declaration, unless it is the one in force already.
async fn put_in_force(
    store: &Store,
    at: Timestamp,
    declaration: &Declaration,
    files: &[SourceFile],
) -> anyhow::Result<()> {
    let files = files.iter().map(|file| (file.path().to_owned(), file.text().to_owned())).collect();
    let new = NewDeclaration { at, sha256: declaration.digest(), names: declaration.services().len(), files };
    store.put_in_force(new).await.context("the declaration could not be recorded")
}

/// Reads the files; what is wrong with them comes back as one line.
async fn read(config: &CaConfig) -> Result<(Declaration, Vec<SourceFile>), String> {
    let config = config.clone();
    // A large declaration takes a while, in which requests go on.
    let outcome = tokio::task::spawn_blocking(move || read_declaration(&config)).await;
    match outcome.map_err(|error| error.to_string())? {
        Ok((declaration, files, remarks)) => {
            for remark in remarks.iter() {
                tracing::warn!("{}", remark.one_line());
            }
            if remarks.omitted() > 0 {
                tracing::warn!("and {} more remarks", remarks.omitted());
            }
            Ok((declaration, files))
        }
        Err(error) => Err(match error {
            ReadError::Mistakes(mistakes) => summary(&mistakes),
            ReadError::Files(_) => error.to_string().replace('\n', "; "),
        }),
    }
}

/// The first mistakes on one line; `psfca check` shows more of them at leisure.
fn summary(mistakes: &Diagnostics) -> String {
    mistakes.summary(MAX_MISTAKES)
}
