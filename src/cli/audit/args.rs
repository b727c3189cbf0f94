//! The words of `psfca audit`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::CaConfigFile;
use crate::clock::Timestamp;
use crate::ledger::note::NoteVerifier;
use crate::name::{HostName, RoleName};
use crate::serial::Serial;
use crate::wire::{CertificateState, EventKind};

/// `psfca audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// What to do
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// `psfca audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List what the CA did, newest first
    List(AuditList),
    /// Show one certificate, and why it was issued; or any entry
    Show(AuditShow),
    /// Show which line of which declaration allowed a certificate
    Why(AuditWhy),
    /// Print the newest signed checkpoint of the ledger
    Checkpoint(AuditCheckpoint),
    /// Check a ledger whole, offline and without changing it
    Verify(AuditVerify),
    /// Write the ledger as tiles (C2SP tlog-tiles) that others can verify without psfca
    Export(AuditExport),
}

/// Words for `--event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum EventWord {
    /// A certificate was recorded
    Certificate,
    /// A declaration was put in force
    Declaration,
    /// An operator made a token
    TokenMade,
    /// A host was let in
    HostEnrolled,
    /// Bodies of certificates were dropped after their retention
    BodiesDropped,
    /// A request was refused
    Refused,
    /// An operator with the root's key gave up what was lost
    Recovered,
    /// An operator disabled a host
    HostDisabled,
    /// An operator enabled a host
    HostEnabled,
    /// An operator removed a host
    HostRemoved,
    /// Two keys asked to renew one identity of a host
    HostFrozen,
    /// A key asked to be a host
    HostRequested,
    /// An operator approved the key
    HostApproved,
    /// An operator rejected the key
    HostRejected,
    /// The accepted key of a Salt minion was imported
    SaltKeyImported,
    /// The key of a Salt minion is accepted no longer
    SaltKeyRemoved,
    /// The ledger was restored from a backup
    Restored,
    /// An operator has confirmed the hosts after that
    Reopened,
}

impl From<EventWord> for EventKind {
    fn from(word: EventWord) -> Self {
        match word {
            EventWord::Certificate => Self::Certificate,
            EventWord::Declaration => Self::Declaration,
            EventWord::TokenMade => Self::TokenMade,
            EventWord::HostEnrolled => Self::HostEnrolled,
            EventWord::BodiesDropped => Self::BodiesDropped,
            EventWord::Refused => Self::Refused,
            EventWord::Recovered => Self::Recovered,
            EventWord::HostDisabled => Self::HostDisabled,
            EventWord::HostEnabled => Self::HostEnabled,
            EventWord::HostRemoved => Self::HostRemoved,
            EventWord::HostFrozen => Self::HostFrozen,
            EventWord::HostRequested => Self::HostRequested,
            EventWord::HostApproved => Self::HostApproved,
            EventWord::HostRejected => Self::HostRejected,
            EventWord::SaltKeyImported => Self::SaltKeyImported,
            EventWord::SaltKeyRemoved => Self::SaltKeyRemoved,
            EventWord::Restored => Self::Restored,
            EventWord::Reopened => Self::Reopened,
        }
    }
}

/// Words for `--state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateWord {
    /// Recorded, and no signature stored: it may or may not have left the CA
    Recorded,
    /// Recorded and signed
    Issued,
}

impl From<StateWord> for CertificateState {
    fn from(word: StateWord) -> Self {
        match word {
            StateWord::Recorded => Self::Recorded,
            StateWord::Issued => Self::Issued,
        }
    }
}

/// A moment as people say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A time, or the beginning of a day in UTC.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

impl Moment {
    fn parse(text: &str) -> Result<Self, String> {
        let day = || Timestamp::parse(&format!("{text}T00:00:00Z"));
        match (Timestamp::parse(text).or_else(|_| day()), span(text)) {
            (Ok(time), _) => Ok(Self::At(time)),
            (_, Ok(age)) => Ok(Self::Ago(age)),
            _ => Err("neither a time (2026-11-21T00:00:00Z), a date (2026-11-21) nor an age (7d)".to_owned()),
        }
    }

    /// Which moment that is.
    #[must_use]
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(age) => now.minus(age),
        }
    }
}

fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "no span of time like 36h or 7d".to_owned())
}

/// `psfca audit list`
#[derive(Debug, Args)]
pub struct AuditList {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// Only entries of this kind
    #[arg(long, value_enum)]
    pub event: Option<EventWord>,
    /// Only certificates with this name
    #[arg(long)]
    pub name: Option<String>,
    /// Only what is about this host
    #[arg(long)]
    pub host: Option<HostName>,
    /// Only certificates that this role allowed
    #[arg(long)]
    pub role: Option<RoleName>,
    /// Only the certificate with this serial number, in hexadecimal
    #[arg(long)]
    pub serial: Option<Serial>,
    /// Only certificates in this state
    #[arg(long, value_enum)]
    pub state: Option<StateWord>,
    /// Recorded at or after: a time (2026-11-21T00:00:00Z), the beginning of a day (2026-11-21, UTC) or an age (36h, 7d)
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    pub since: Option<Moment>,
    /// Recorded before: a time, the beginning of a day or an age
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    pub until: Option<Moment>,
    /// Only certificates still valid, but not for longer than this (12h, 7d); what ends first comes first
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub expiring_within: Option<Duration>,
    /// Go on after the entry with this index, the last of the page before
    #[arg(long, value_name = "INDEX")]
    pub before: Option<u64>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Print one JSON object per line
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print comma-separated values (RFC 4180) with a header
    #[arg(long)]
    pub csv: bool,
}

/// `psfca audit show`
#[derive(Debug, Args)]
pub struct AuditShow {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// The certificate's serial number, in hexadecimal
    #[arg(required_unless_present = "entry", conflicts_with = "entry")]
    pub serial: Option<Serial>,
    /// Show this entry of the ledger, whatever it is about
    #[arg(long, value_name = "INDEX")]
    pub entry: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `psfca audit why`
#[derive(Debug, Args)]
pub struct AuditWhy {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// The certificate's serial number, in hexadecimal
    pub serial: Serial,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `psfca audit checkpoint`
#[derive(Debug, Args)]
pub struct AuditCheckpoint {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// Print the key that verifies checkpoints (NAME+HASH+KEY) instead
    #[arg(long)]
    pub key: bool,
}

/// `psfca audit verify`
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// A ledger's file, or the state directory it lies in
    #[arg(value_name = "FILE", required_unless_present = "state", conflicts_with = "state")]
    pub file: Option<PathBuf>,
    /// The state directory
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// A signed checkpoint that this ledger must continue; - reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// The key that signed the checkpoint, NAME+HASH+KEY (otherwise: that of the state directory)
    #[arg(long, value_name = "VERIFIER", requires = "against", value_parser = NoteVerifier::parse)]
    pub key: Option<NoteVerifier>,
    /// Leave out the certificates' signatures, which take most of the time
    #[arg(long)]
    pub without_signatures: bool,
    /// Print one JSON object per line: each difference, then the summary
    #[arg(long)]
    pub json: bool,
}

/// `psfca audit export`
#[derive(Debug, Args)]
pub struct AuditExport {
    /// The CA's configuration: its admin socket, and the ledger's name
    #[command(flatten)]
    pub config: CaConfigFile,
    /// Where the tiles go; an earlier export there is continued
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Read this state directory instead of asking the daemon
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_a_date_in_utc_or_an_age() {
        let now = Timestamp::parse("2026-11-27T12:00:00Z").unwrap();
        for (text, moment) in [
            ("2026-11-21T09:30:00Z", "2026-11-21T09:30:00Z"),
            ("2026-11-27", "2026-11-27T00:00:00Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("36h", "2026-11-26T00:00:00Z"),
        ] {
            assert_eq!(Moment::parse(text).unwrap().from(now).to_string(), moment, "{text}");
        }
        for text in ["", "yesterday", "2026-02-29", "2026-11-27T12", "27.11.2026", "7"] {
            assert!(Moment::parse(text).is_err(), "{text}");
        }
    }
}
