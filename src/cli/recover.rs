//! The words of `psfca recover`, and what it says.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use crate::cli::CaConfigFile;
use crate::root_statement::Recovery;

/// `psfca recover`
#[derive(Debug, Args)]
pub struct Recover {
    /// The CA's configuration
    #[command(flatten)]
    pub config: CaConfigFile,
    /// The newest that any host has seen: a number of entries, or a file with a checkpoint
    #[arg(long, value_name = "CHECKPOINT|SIZE")]
    pub seen: String,
    /// The root's key, where it was put elsewhere (psfca init --root-key)
    #[arg(long, value_name = "FILE")]
    pub root_key: Option<PathBuf>,
    /// Read the passphrase for --root-key from this file instead of the terminal
    #[arg(long, value_name = "FILE", requires = "root_key")]
    pub passphrase_file: Option<PathBuf>,
    /// Make a new key for the ledger's checkpoints, because the old one was lost or stolen
    #[arg(long)]
    pub new_ledger_key: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// What is about to be given up.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The ledger.
    pub origin: &'a str,
    /// Entries that it has.
    pub size: u64,
    /// Entries that are given up.
    pub given_up: u64,
    /// Whether the ledger's key is replaced.
    pub new_ledger_key: bool,
}

/// Says what is about to be given up.
///
/// # Errors
/// When standard output is closed.
pub fn print_plan(plan: &Plan<'_>) -> io::Result<()> {
    let Plan { origin, size, given_up, new_ledger_key } = *plan;
    let mut out = io::stdout().lock();
    writeln!(out, "The ledger {origin} has {size} entries here, and hosts have seen up to {given_up}.")?;
    writeln!(out, "A host that has seen up to {given_up} entries which do not lead to this ledger will forget them,")?;
    writeln!(
        out,
        "and hold the CA to this ledger from now on. What was recorded there alone is in no audit any more:"
    )?;
    writeln!(
        out,
        "certificates that were issued stay valid until they end, hosts enrolled then enrol again, and what was"
    )?;
    writeln!(
        out,
        "disabled then is not. If you do not know why the ledger is shorter than what hosts have seen, stop here."
    )?;
    if new_ledger_key {
        writeln!(
            out,
            "The key that signs the ledger's checkpoints is replaced; what the old one signs counts no more."
        )?;
    }
    Ok(())
}

/// Asks whether to go on; only the word yes does.
///
/// # Errors
/// When the terminal is gone.
pub fn confirmed() -> io::Result<bool> {
    write!(io::stdout().lock(), "Type yes to give it up: ")?;
    io::stdout().lock().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Says what was done and what comes next.
///
/// # Errors
/// When standard output is closed.
pub fn print_done(recovery: &Recovery, new_ledger_key: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "Recovered: a head of {} entries stands in the place of up to {} (entry {} of the ledger, {})",
        recovery.size, recovery.given_up, recovery.size, recovery.time
    )?;
    if new_ledger_key {
        writeln!(out, "The ledger's key is now")?;
        writeln!(out, "  {}", recovery.ledger_key)?;
        writeln!(
            out,
            "Keep it where the old one was kept (ledger.pub) and keep the old one beside it, for checkpoints of"
        )?;
        writeln!(
            out,
            "before. Put it into the witness.yaml of each witness, and restart the witness before the daemon."
        )?;
    }
    writeln!(out, "Next: systemctl start psfca; hosts go on by themselves at their next renewal, and say so")
}
