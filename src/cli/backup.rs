//! The words of `psfca backup`, `restore` and `reopen`, and what they say.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::CaConfigFile;
use crate::backup::BackedUp;
use crate::clock::Timestamp;
use crate::host::HostState;
use crate::restore::Restored;
use crate::verification::Finding;
use crate::wire::HostSummary;

/// Most differences of a backup that are told.
const MAX_FINDINGS: u64 = 20;

/// `psfca backup`
#[derive(Debug, Args)]
pub struct Backup {
    /// The CA's configuration, and where its state directory is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// The new file; there is no private key in it
    pub file: PathBuf,
    /// Write the private keys to this new file, encrypted; keep it away from the backups
    #[arg(long, value_name = "KEYFILE")]
    pub keys: Option<PathBuf>,
    /// Read the passphrase for --keys from this file instead of the terminal
    #[arg(long, value_name = "FILE", requires = "keys")]
    pub passphrase_file: Option<PathBuf>,
}

/// `psfca restore`
#[derive(Debug, Args)]
pub struct Restore {
    /// The CA's configuration, and where its state directory is; that must be empty
    #[command(flatten)]
    pub config: CaConfigFile,
    /// What `psfca backup` wrote
    pub file: PathBuf,
    /// What `psfca backup --keys` wrote
    #[arg(long, value_name = "KEYFILE")]
    pub keys: PathBuf,
    /// Read the passphrase for --keys from this file instead of the terminal
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// `psfca reopen`
#[derive(Debug, Args)]
pub struct Reopen {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// How many hosts are enabled, instead of being asked for it
    #[arg(long, value_name = "N")]
    pub hosts: Option<u64>,
}

/// Says how far something is, where somebody watches.
#[derive(Debug, Default)]
pub struct Progress {
    drawn: Option<(&'static str, u64)>,
}

impl Progress {
    /// So many of `all` are `done`; `what` says of what.
    pub fn tell(&mut self, what: &'static str, done: u64, all: u64) {
        let percent = done.saturating_mul(100) / all.max(1);
        if io::stderr().is_terminal() && self.drawn != Some((what, percent)) {
            self.drawn = Some((what, percent));
            let _ = write!(io::stderr(), "\r\x1b[K{what}: {percent} %");
        }
    }

    /// Clears the line.
    pub fn end(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Says what was backed up.
///
/// # Errors
/// When standard output is closed.
pub fn print_backup(args: &Backup, made: &BackedUp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let BackedUp { checkpoint, note: _, root_key } = made;
    writeln!(out, "{} entries are in {}, verified", checkpoint.size, args.file.display())?;
    writeln!(out, "  root  {}", checkpoint.root)?;
    match (&args.keys, root_key) {
        (None, _) => {
            writeln!(out, "  keys  not in it, and a restore needs them: psfca backup FILE --keys KEYFILE, once")
        }
        (Some(keys), true) => writeln!(out, "  keys  in {}, encrypted, the root's too", keys.display()),
        (Some(keys), false) => {
            writeln!(out, "  keys  in {}, encrypted; the root's is not in the state directory", keys.display())
        }
    }
}

/// One thing in a backup that does not hold.
///
/// # Errors
/// When standard error is closed.
pub fn print_finding(number: u64, finding: &Finding) -> io::Result<()> {
    let mut err = io::stderr().lock();
    match (number, finding.index) {
        (MAX_FINDINGS.., _) => Ok(()),
        (_, Some(index)) => writeln!(err, "entry {index}: {}", finding.what),
        (_, None) => writeln!(err, "{}", finding.what),
    }
}

/// Says what was restored, what may be lost, and what to do next.
///
/// # Errors
/// When standard output is closed.
pub fn print_restored(state: &Path, restored: &Restored, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Restored { size, last, enabled, root_key, .. } = restored;
    writeln!(out, "{size} entries were restored to {}; every token is void", state.display())?;
    if !root_key {
        writeln!(out, "The root's key was not among the keys; the daemon does not need it.")?;
    }
    writeln!(out, "Entries from index {size} on, if there were any, are lost: what was issued after")?;
    writeln!(out, "{} is not in this ledger, and may be valid all the same.", last.with_distance(now))?;
    writeln!(out, "A host that was disabled or removed after that is enabled again.")?;
    writeln!(out, "Nobody is let in by what was decided before: requests to enrol and approvals are void, and so")?;
    writeln!(out, "are imported Salt keys, since one of them may have been rejected after that.")?;
    writeln!(out, "Next: start the daemon. It is closed: it issues nothing to hosts until you have")?;
    writeln!(out, "  looked at the hosts ({enabled} are enabled): psfca host list")?;
    writeln!(out, "  disabled those that must not be served: psfca host disable HOST")?;
    writeln!(out, "  and confirmed the others: psfca reopen")?;
    writeln!(out, "Where hosts enrol by Salt keys, import them again: psfca host import-salt DIR")
}

/// Shows the hosts that are to be confirmed.
///
/// # Errors
/// When standard output is closed.
pub fn print_hosts(hosts: &[HostSummary], now: Timestamp) -> io::Result<()> {
    super::hosts::print_list(hosts, now)?;
    let count = |state| hosts.iter().filter(|host| host.state == state).count();
    let (enabled, disabled, removed) =
        (count(HostState::Enabled), count(HostState::Disabled), count(HostState::Removed));
    writeln!(io::stdout(), "\n{enabled} enabled, {disabled} disabled, {removed} removed.")
}

/// Asks how many hosts are enabled; none when the answer is no number.
///
/// # Errors
/// When the terminal is closed.
pub fn ask_hosts() -> io::Result<Option<u64>> {
    let mut out = io::stdout().lock();
    writeln!(out, "A host that was disabled or removed after the backup is enabled here: disable it first.")?;
    write!(out, "Type the number of enabled hosts to serve them again: ")?;
    out.flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim().parse().ok())
}

/// Says that the CA is open.
///
/// # Errors
/// When standard output is closed.
pub fn print_reopened(hosts: u64) -> io::Result<()> {
    writeln!(io::stdout(), "The CA is open again; enabled hosts: {hosts}.")
}
