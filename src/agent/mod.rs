//! The host's side: an identity, the bundles of the services, and the trust bundle.
//!
//! `enroll` gets the identity, `obtain` gets one certificate and checks it, `placement` says where it
//! goes, `install` puts files in place and `copies` the copies of them (`password` reads what a keystore is closed with), `renew` does it for everything
//! that is due, `files` reads and `directory` writes where others may interfere, `ledger` holds every answer to the CA's ledger, `status` tells how things stand, `reporting` tells the CA.
//! `claims` knows what may be replaced, `debt` keeps what services still have to load, `hooks` tells them, and `probe` lets them prove it.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::accounts;
use crate::ca::bundle::BundleError;
use crate::client::ClientError;
use crate::clock::{Clock, Timestamp};
use crate::name::{DnsName, HostName};
use crate::profile::KeyKind;
use crate::random::Random;
use crate::report::LEDGER;
use crate::tls::{self, TlsError};
use crate::token::{ServerAddress, TokenError};

pub mod anchor;
pub mod approval;
pub mod claims;
pub mod copies;
pub mod debt;
pub mod directory;
pub mod enroll;
pub mod files;
pub mod hooks;
pub mod identity;
pub mod install;
pub mod key;
pub mod ledger;
pub mod obtain;
pub mod password;
pub mod placement;
pub mod probe;
pub mod prune;
pub mod renew;
pub mod reporting;
pub mod retries;
pub mod salt;
pub mod servers;
pub mod settings;
pub mod status;
pub mod strays;
pub mod system_trust;

use files::{Links, Unread};
use identity::Enrolment;
use install::{InstallError, Ownership};
use ledger::LedgerError;
use placement::Place;
use servers::Servers;
use settings::{Settings, SettingsError};

/// Why the agent could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The CA was not reached, not trusted, or said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A certificate that came is not what was asked for; nothing was installed.
    #[error("what the CA sent for {what} is not used: {cause}")]
    BadAnswer {
        /// The name that was asked for.
        what: String,
        /// What is wrong with it.
        cause: BundleError,
    },
    /// The CA's ledger is not what it must be; nothing was installed.
    #[error("{cause}; nothing was installed for {what}; tell whoever runs the CA")]
    Ledger {
        /// What was asked for.
        what: String,
        /// What is wrong with the ledger.
        cause: LedgerError,
    },
    /// A file could not be put in place.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// TLS cannot be set up with what is in the state directory.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no identity yet.
    #[error(
        "this host is not enrolled: {0} holds no identity; make a token on the CA machine (psfca token HOST) and give it to: psfca enroll"
    )]
    NotEnrolled(PathBuf),
    /// The state directory is another host's.
    #[error("{0}")]
    AnotherHost(String),
    /// A token that was spent, at a host that has an identity.
    #[error(
        "this host is enrolled already, as {host}, until {until}; the token was spent before, by this host or another; \
         to enrol again takes a new one: psfca token {host} --replace"
    )]
    EnrolledAlready {
        /// The host, as its identity says.
        host: HostName,
        /// The identity's end.
        until: Timestamp,
    },
    /// The state directory holds something that cannot be used.
    #[error("{path} cannot be used: {cause}")]
    State {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Another run is at work.
    #[error("another psfca is at work on {0}; wait until it ends")]
    Busy(PathBuf),
    /// The CA's trust bundle is not the one that this host trusts.
    #[error("{0}")]
    Trust(String),
    /// Nothing here makes keys of this kind.
    #[error(
        "{name} wants a key of kind {kind}, which psfca does not make; make one yourself, and a request for it, and use: psfca issue {name} --csr FILE"
    )]
    KeyNotMadeHere {
        /// The service name.
        name: String,
        /// The kind.
        kind: KeyKind,
    },
    /// Key generation failed.
    #[error("no key could be made: {0}")]
    Key(String),
    /// The request given with `--csr` is none.
    #[error("{path} is no certificate request: {cause}")]
    Request {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

impl AgentError {
    /// A file or directory that the system refuses. What belongs to the host belongs to root.
    pub(crate) fn state(path: &Path, error: &std::io::Error) -> Self {
        let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
        let hint = if denied && !rustix::process::geteuid().is_root() { "; run this as root (sudo)" } else { "" };
        Self::State { path: path.to_owned(), cause: format!("{error}{hint}") }
    }

    /// The exit code for this error alone: 3 denied, 4 CA unreachable, 6 its ledger, 1 anything local.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) if error.is_denial() => 3,
            Self::EnrolledAlready { .. } => 3,
            Self::Client(error) if error.is_outage() => 4,
            // An answer that cannot be used is the CA's fault, and the old bundle stays.
            Self::BadAnswer { .. } => 4,
            // Not an outage: it does not end by itself, and somebody has to look at it.
            Self::Ledger { .. } => LEDGER,
            _ => 1,
        }
    }
}

/// What every command of the agent works with.
pub struct Agent<'a> {
    /// The host's settings.
    pub settings: &'a Settings,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For the names of temporary files, and the salts of keystores.
    pub random: &'a dyn Random,
    /// Whether this process may give files away (it runs as root).
    pub privileged: bool,
}

impl Agent<'_> {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes the state directory, closed to others, and takes its lock, which ends with the value
    /// that is returned: two runs at once would only undo each other's work.
    ///
    /// # Errors
    /// [`AgentError::Busy`] when another run holds the lock, [`AgentError::State`] otherwise.
    pub fn lock(&self) -> Result<File, AgentError> {
        let directory = &self.settings.state;
        install::make_directory(directory, 0o700)?;
        self.check_state()?;
        let path = directory.join("lock");
        let state = |cause: std::io::Error| AgentError::state(&path, &cause);
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = options.map_err(state)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(AgentError::Busy(directory.clone())),
            Err(TryLockError::Error(cause)) => Err(state(cause)),
        }
    }

    /// Refuses a state directory in which somebody else could put another identity or other anchors. One
    /// that is absent is nobody's.
    ///
    /// # Errors
    /// [`AgentError::State`] says whose it is, or what to do.
    pub fn check_state(&self) -> Result<(), AgentError> {
        let path = &self.settings.state;
        let refuse = |cause| Err(AgentError::State { path: path.clone(), cause });
        let found = match std::fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(AgentError::state(path, &error)),
        };
        let ourselves = rustix::process::geteuid().as_raw();
        if found.uid() != ourselves {
            let [owner, us] = [found.uid(), ourselves].map(accounts::user_name);
            let hint = if ourselves == 0 { "" } else { "; run this as root (sudo)" };
            return refuse(format!("it holds this host's identity and belongs to {owner}, not to {us}{hint}"));
        }
        if found.mode() & 0o022 != 0 {
            let path = path.display();
            return refuse(format!(
                "it holds this host's identity, and others may write to it; run: chmod go-w {path}"
            ));
        }
        Ok(())
    }

    /// Connects as this host, to the first daemon that answers and is trusted.
    ///
    /// # Errors
    /// The last daemon's [`ClientError`].
    pub async fn connect(&self, enrolment: &Enrolment) -> Result<Servers, AgentError> {
        self.check_state()?;
        let identity = &enrolment.identity;
        let credentials = (identity.chain().certificates().to_vec(), identity.key().to_rustls());
        let config = tls::client_config(&enrolment.anchors, Some(credentials), self.clock.clone())?;
        let known = std::slice::from_ref(&enrolment.server);
        let servers: &[ServerAddress] = if self.settings.server.is_empty() { known } else { &self.settings.server };
        self.connect_to(servers, config).await
    }

    async fn connect_to(
        &self,
        servers: &[ServerAddress],
        config: Arc<rustls::ClientConfig>,
    ) -> Result<Servers, AgentError> {
        let nowhere = || AgentError::NotEnrolled(self.settings.state.clone());
        Servers::connect(servers, config).await.map_err(|error| error.map_or_else(nowhere, AgentError::from))
    }

    /// Whose the file at `place` is to be. Without the right to give files away that is left alone.
    ///
    /// # Errors
    /// [`InstallError::Unknown`] when the settings name nobody.
    pub fn ownership(&self, place: &Place) -> Result<Ownership, InstallError> {
        let Place { owner, group, mode, path: _ } = place;
        if self.privileged { Ownership::resolve(owner, group, *mode) } else { Ok(Ownership::mode(*mode)) }
    }

    /// Owners and groups in the settings that this machine does not know, of the bundles and copies of `names`.
    #[must_use]
    pub fn unknown_accounts<'n>(&self, names: impl Iterator<Item = &'n DnsName>) -> Vec<String> {
        let mut problems = Vec::new();
        for name in names {
            let placement = &self.settings.placement;
            let bundle = placement.bundle(name);
            let places = std::iter::once(&bundle).chain(placement.copies(name).iter().map(|copy| &copy.place));
            let unknown = places.filter_map(|place| self.ownership(place).err());
            let unknown: BTreeSet<_> = unknown.map(|error| format!("{name}: {error}")).collect();
            problems.extend(unknown);
        }
        problems
    }

    /// What to tell people about ownership, when it is left alone.
    #[must_use]
    pub fn ownership_note(&self) -> Option<String> {
        let Place { owner, group, .. } = &self.settings.placement.default;
        (!self.privileged)
            .then(|| format!("not running as root, so files keep this user as their owner, not {owner}:{group}"))
    }
}

/// Reads a file that may be absent.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, AgentError> {
    match files::read(path, Links::Followed) {
        Ok((_, mut content)) => Ok(Some(std::mem::take(&mut *content))),
        Err(Unread::Absent) => Ok(None),
        Err(Unread::Unfit(cause)) => Err(AgentError::State { path: path.to_owned(), cause }),
        Err(Unread::Failed(error)) => Err(AgentError::state(path, &error)),
    }
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
