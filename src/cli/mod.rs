//! What the command line looks like. Parsing and printing only; `run` does the work.

pub mod audit;
pub mod backup;
pub mod check;
pub mod fleet;
pub mod host;
pub mod hosts;
pub mod init;
pub mod inspect;
pub mod recover;
pub mod table;
pub mod token;
pub mod why;
pub mod witness;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::digest::Fingerprint;
use crate::name::{DnsName, HostName};
use crate::token::ServerAddress;

pub use audit::args::{Audit, AuditCheckpoint, AuditCommand, AuditExport, AuditList, AuditShow, AuditVerify, AuditWhy};
pub use recover::Recover;
pub use witness::Witness;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "psfca",
    version,
    about = "An internal certificate authority: declared in YAML, judged at every renewal, audited for ever",
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every subcommand: first the operator's, then the host's.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole main job in a temporary directory on loopback, showing each command
    Demo(Demo),
    /// Check the declaration: every mistake with its place, then who gets what
    #[command(after_help = "Exit codes: 0 the declaration can be used, 1 it cannot.")]
    Check(Check),
    /// Explain by the declaration's lines why a host may or may not have a name
    #[command(after_help = "Exit codes: 0 yes, 3 no, 1 the declaration cannot be used.")]
    Why(Why),
    /// Make the root, the issuing CA and the identity CA
    Init(Init),
    /// Run the CA daemon
    Serve(Serve),
    /// Make a one-time token with which HOST can enrol
    Token(Token),
    /// List, show, approve, disable, enable and remove hosts
    Host(hosts::Hosts),
    /// Show what is issued, installed and served, name by name on each host, and what lags
    #[command(
        after_help = "Exit codes: 0 nothing that should have been renewed has ended or ends soon, 5 something has, 1 or, with --as-host, 3 or 4 as `psfca renew` it could not be found out."
    )]
    Fleet(fleet::Fleet),
    /// List, explain, verify and export everything that the CA ever did
    Audit(Audit),
    /// Copy the ledger to a new file, while the daemon runs or not, and verify the copy
    #[command(after_help = "Exit codes: 0 the backup is whole and verified, 1 there is none.")]
    Backup(backup::Backup),
    /// Make a CA of a backup; it stays closed until `psfca reopen`
    #[command(after_help = "Exit codes: 0 restored, 1 nothing was.")]
    Restore(backup::Restore),
    /// Serve the hosts of a restored CA again, once they have been looked at
    #[command(after_help = "Exit codes: 0 open, 1 still closed, or never was.")]
    Reopen(backup::Reopen),
    /// Give up what the ledger lost, with the root's key, so that hosts go on
    Recover(Recover),
    /// Run a witness: a second machine whose cosignature shows that the ledger is one for all hosts
    Witness(Witness),
    /// Show what is in a PEM file and what is wrong with it
    #[command(after_help = "Exit codes: 0 all is well, 1 something is broken or expired.")]
    Inspect(Inspect),
    /// Give this host an identity, with a token, by an operator's approval or by its Salt key
    #[command(
        after_help = "Exit codes: 0 enrolled, 1 a local error, 3 denied, 4 the CA cannot be reached, 6 its ledger is not what it must be, 8 (--request) no operator has decided yet; run it again later, it goes on with the same key."
    )]
    Enroll(Enroll),
    /// Get one certificate and install its bundle
    #[command(
        after_help = "Exit codes: 0 done, 1 a local error, 3 denied, 4 the CA cannot be reached, 6 its ledger is not what it must be, 7 installed, and a hook or a proof is owed."
    )]
    Issue(Issue),
    /// Get every certificate that is due; what the timer runs
    #[command(
        after_help = "Exit codes: 0 nothing was due, or all of it was renewed; 1 a local error; 3 the CA denied something that is due; 4 something is due and the CA cannot be reached, and everything is still valid; 5 something is expired, missing or nearly so and could not be renewed; 6 the CA's ledger is not what it must be; 7 a service was not told of what is installed, or did not prove to serve it. Where several apply: the first of 5, 6, 1, 3, 7, 4."
    )]
    Renew(Renew),
    /// Run the hooks of a name now; what psfca-hook@NAME.service does
    #[command(after_help = "Exit codes: 0 every hook succeeded, 1 a local error, 7 a hook did not.")]
    Hook(Hook),
    /// Print the cipher list that the declaration has for a name, or its default
    #[command(
        after_help = "Exit codes: 0 printed, 1 a local error or a bad declaration, 3 there is none, 4 the CA cannot be reached."
    )]
    Ciphers(Ciphers),
    /// Show this host's identity, bundles and when they are due
    #[command(
        after_help = "Exit codes: 0 all is well, 1 a local error, 5 something is expired, damaged, missing or nearly so, or the CA's ledger is not what it must be, 7 a hook or a proof is owed."
    )]
    Status(Status),
}

/// Where the CA's configuration is.
#[derive(Debug, Clone, Args)]
pub struct CaConfigFile {
    /// The CA's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/psfca/ca.yaml", env = "PSFCA_CONFIG")]
    pub config: PathBuf,
}

/// Where the host's settings are.
#[derive(Debug, Clone, Args)]
pub struct HostConfigFile {
    /// This host's settings (otherwise: /etc/psfca/host.yaml, and the defaults where that is absent)
    #[arg(long, value_name = "FILE", env = "PSFCA_HOST_CONFIG")]
    pub config: Option<PathBuf>,
}

/// `psfca demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Exit after the last step instead of staying up until Ctrl-C
    #[arg(long)]
    pub once: bool,
}

/// `psfca check`
#[derive(Debug, Args)]
pub struct Check {
    /// The CA's configuration, and where its declaration is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// Check these declaration files alone, without a CA configuration
    #[arg(value_name = "DECLARATION")]
    pub files: Vec<PathBuf>,
    /// Host names, one per line, to say who gets what (otherwise: the enrolled hosts)
    #[arg(long, value_name = "FILE")]
    pub hosts: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `psfca why`
#[derive(Debug, Args)]
pub struct Why {
    /// The CA's configuration, and where its declaration is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// The service name
    pub name: DnsName,
    /// The host that asks
    pub host: HostName,
    /// Judge by these declaration files alone, without a CA configuration
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub declaration: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `psfca init`
#[derive(Debug, Args)]
pub struct Init {
    /// The CA's configuration
    #[command(flatten)]
    pub config: CaConfigFile,
    /// Write the root's key here, encrypted, instead of into the state directory
    #[arg(long, value_name = "FILE")]
    pub root_key: Option<PathBuf>,
    /// Read the passphrase for --root-key from this file instead of the terminal
    #[arg(long, value_name = "FILE", requires = "root_key")]
    pub passphrase_file: Option<PathBuf>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// For programs, one object per line
    Json,
}

/// `psfca serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// The CA's configuration
    #[command(flatten)]
    pub config: CaConfigFile,
    /// How log lines look
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}

/// `psfca token`
#[derive(Debug, Args)]
pub struct Token {
    /// The CA's configuration, and where its admin socket is
    #[command(flatten)]
    pub config: CaConfigFile,
    /// The host that may enrol with the token
    pub host: HostName,
    /// Let the token replace the identity of a host that is enrolled already
    #[arg(long)]
    pub replace: bool,
}

/// `psfca inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// A PEM file: a bundle, a trust bundle, a chain, a key or a request
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `psfca enroll`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("without_token").args(["request", "salt_key"]))]
pub struct Enroll {
    /// This host's settings
    #[command(flatten)]
    pub config: HostConfigFile,
    /// Read the token from this file instead of standard input
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Ask without a token, and wait until an operator has approved this host's key
    #[arg(long, conflicts_with = "token_file")]
    pub request: bool,
    /// Sign with the key of this machine's Salt minion, which the CA has imported
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "/etc/salt/pki/minion/minion.pem",
        conflicts_with_all = ["token_file", "request"])]
    pub salt_key: Option<PathBuf>,
    /// The name of this host, where there is no token to say it (otherwise: the machine's own)
    #[arg(long, value_name = "NAME", requires = "without_token")]
    pub host: Option<HostName>,
    /// Where the CA is, NAME:PORT (otherwise: `server` in the settings)
    #[arg(long, value_name = "ADDRESS", requires = "without_token", value_parser = ServerAddress::parse)]
    pub server: Option<ServerAddress>,
    /// SHA-256 of the CA's root (otherwise: `ca_fingerprint` in the settings)
    #[arg(long, value_name = "SHA256", requires = "without_token")]
    pub ca_fingerprint: Option<Fingerprint>,
    /// Let this machine become another host than it is enrolled as
    #[arg(long)]
    pub replace: bool,
    /// How long to wait for the operator (0s, 10m, 2h)
    #[arg(long, value_name = "SPAN", default_value = "10m", requires = "request", value_parser = humantime::parse_duration)]
    pub wait: std::time::Duration,
    /// A token by mistake, to be refused without repeating it
    #[arg(hide = true)]
    pub misplaced: Vec<std::ffi::OsString>,
}

/// `psfca issue`
#[derive(Debug, Args)]
pub struct Issue {
    /// This host's settings
    #[command(flatten)]
    pub config: HostConfigFile,
    /// The service name
    pub name: DnsName,
    /// Print the bundle instead of installing it
    #[arg(long)]
    pub stdout: bool,
    /// Replace what is there, also where this CA did not issue it
    #[arg(long, conflicts_with_all = ["stdout", "csr"])]
    pub force: bool,
    /// Let the CA make the key (the declaration must allow it with ca_made_key)
    #[arg(long, conflicts_with = "csr")]
    pub ca_made_key: bool,
    /// Send this request (PEM) and print the chain; its key stays where it is
    #[arg(long, value_name = "FILE")]
    pub csr: Option<PathBuf>,
}

/// `psfca renew`
#[derive(Debug, Args)]
pub struct Renew {
    /// This host's settings
    #[command(flatten)]
    pub config: HostConfigFile,
    /// Renew what is not due as well
    #[arg(long)]
    pub force: bool,
    /// Remove what this host may no longer have
    #[arg(long)]
    pub prune: bool,
    /// Say what would be renewed, and renew nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `psfca hook`
#[derive(Debug, Args)]
pub struct Hook {
    /// This host's settings
    #[command(flatten)]
    pub config: HostConfigFile,
    /// The service name
    pub name: DnsName,
}

/// `psfca ciphers`
#[derive(Debug, Args)]
pub struct Ciphers {
    /// This host's settings
    #[command(flatten)]
    pub config: HostConfigFile,
    /// The service name (otherwise: the default list)
    pub name: Option<DnsName>,
    /// Look into these declaration files alone instead of asking the CA
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub declaration: Vec<PathBuf>,
}

/// `psfca status`
#[derive(Debug, Args)]
pub struct Status {
    /// This host's settings
    #[command(flatten)]
    pub config: HostConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
