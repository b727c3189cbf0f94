//! `ca.yaml`: what the CA is called, where it listens, where its files are and which limits hold.

mod read;
mod subject;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::diagnostic::{Diagnostics, SourceFile};
use crate::grant::Grant;
use crate::ledger::cosignature::WitnessKey;
use crate::name::{DnsName, HostName};
use crate::profile::{Lifetime, SubjectAltNames, SubjectFields};
use crate::rate::{Rate, count};
use crate::token::{ServerAddress, ServerName};

/// For how long after its end an identity can be renewed when `ca.yaml` does not say.
pub const IDENTITY_GRACE: Duration = Duration::from_secs(7 * 86_400);
/// Lifetime of the daemon's own certificate, in days; it renews itself while running.
const DAEMON_DAYS: std::num::NonZeroU32 = std::num::NonZeroU32::MIN.saturating_add(6);

/// The CA's name, such as `PSF_CA`: the root's common name and the name of the trust bundle's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaName(String);

/// A text that is not a CA's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a CA's name has 1 to 64 characters out of letters, digits, '_', '-' and '.', and does not begin with a dot")]
pub struct NotACaName;

impl CaName {
    /// Accepts 1 to 64 characters of `[A-Za-z0-9_.-]`, the first of them no dot.
    ///
    /// # Errors
    /// [`NotACaName`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotACaName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('.');
        fits.then(|| Self(text.to_owned())).ok_or(NotACaName)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The kind of the CA's own keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CaKeyKind {
    /// ECDSA on NIST P-256; the default.
    #[default]
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
}

impl CaKeyKind {
    /// As it is written in `ca.yaml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
        }
    }
}

/// What one client, or all of them together, can make the daemon do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// Of these, with one host, or without an identity from one address.
    pub connections_each: usize,
    /// Bytes in a request's body.
    pub body_bytes: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for a request's header to arrive.
    pub header: Duration,
    /// Time for a whole request.
    pub request: Duration,
    /// Certificates that one host asks for.
    pub issue: Rate,
    /// Enrolments that are tried from one address.
    pub enroll: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000,
            connections_each: 100,
            body_bytes: 65_536,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            request: Duration::from_secs(30),
            issue: Rate::per_second(count(60), count(1)),
            enroll: Rate::per_minute(count(10), count(6)),
        }
    }
}

/// The witness that cosigns the ledger's heads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WitnessConfig {
    /// Where it answers: `http://witness.psf.io:8444`, perhaps with a path that comes before the protocol's.
    pub url: WitnessUrl,
    /// The key by which its cosignatures are verified.
    pub key: WitnessKey,
}

/// Where a witness answers: `http://NAME:PORT`, perhaps with a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WitnessUrl {
    /// Name and port.
    pub address: ServerAddress,
    /// What comes before the protocol's own paths; without a slash at its end.
    pub prefix: String,
}

/// A text that is not such a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is not the URL of a witness")]
pub struct NotAWitnessUrl;

impl WitnessUrl {
    /// Reads `http://NAME:PORT/PREFIX`.
    ///
    /// # Errors
    /// [`NotAWitnessUrl`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotAWitnessUrl> {
        let bare = text.strip_prefix("http://").ok_or(NotAWitnessUrl)?;
        let (address, prefix) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
        if !prefix.bytes().all(plain) || prefix.len() > 200 {
            return Err(NotAWitnessUrl);
        }
        let address = ServerAddress::parse(address).map_err(|_| NotAWitnessUrl)?;
        Ok(Self { address, prefix: prefix.trim_end_matches('/').to_owned() })
    }
}

/// All that `ca.yaml` says, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaConfig {
    /// What the CA is called (`name`).
    pub name: CaName,
    /// The other parts of its distinguished name (`cert_opts`).
    pub subject: SubjectFields,
    /// The domain in host identities, `spiffe://TRUST_DOMAIN/host/HOST` (`trust_domain`; default:
    /// the last two labels of the first DNS name among the `server_names`).
    pub trust_domain: DnsName,
    /// The kind of the CA's own keys (`ca_key`).
    pub ca_key: CaKeyKind,
    /// The files of the declaration, at least one. Relative paths have been joined to the directory
    /// of `ca.yaml` as the operator named it, so these are also the paths that messages show.
    pub declaration: Vec<PathBuf>,
    /// Where the daemon listens (`listen`).
    pub listen: SocketAddr,
    /// The names on the daemon's own certificate, at least one (`server_names`).
    pub server_names: Vec<ServerName>,
    /// What tokens tell hosts to connect to (`address`); when absent, the first server name with
    /// the port that is listened on.
    pub address: Option<ServerAddress>,
    /// The directory of keys and ledger (`state`).
    pub state_dir: PathBuf,
    /// Where the file with the trusted roots is written (`trust_bundle`; default `STATE/NAME.pem`).
    pub trust_bundle: PathBuf,
    /// The Unix socket for operators (`admin_socket`).
    pub admin_socket: PathBuf,
    /// Hosts that may list, show and disable hosts over the network (`operators`).
    pub operators: Vec<HostName>,
    /// The group that may use that socket (`admin_group`).
    pub admin_group: Option<String>,
    /// The longest lifetime a declaration may ask for (`max_days`).
    pub max_lifetime: Lifetime,
    /// The shortest outage of the CA that every declared name has to stand (`min_outage`); none: any.
    pub min_outage: Option<Duration>,
    /// How long after a certificate's end its body is kept (`retention`); none: for ever.
    pub retention: Option<Duration>,
    /// For how long after its end an identity can still be renewed (`identity_grace_days`).
    pub identity_grace: Duration,
    /// What clients can make the daemon do (`limits`).
    pub limits: Limits,
    /// Who cosigns the ledger's heads (`witness`).
    pub witness: Option<WitnessConfig>,
}

impl CaConfig {
    /// Reads `ca.yaml`. The second value of a good result holds warnings and notes.
    ///
    /// # Errors
    /// Every mistake in the file, with its place.
    pub fn parse(file: &SourceFile) -> Result<(Self, Diagnostics), Diagnostics> {
        read::config(file)
    }

    /// What the ledger is called in its checkpoints: `psf.io/PSF_CA`.
    #[must_use]
    pub fn ledger_origin(&self) -> String {
        format!("{}/{}", self.trust_domain, self.name)
    }

    /// The grant for the daemon's own server certificate: the `server_names`, for seven days.
    pub fn daemon_grant(&self) -> Grant {
        let mut alt_names = SubjectAltNames::default();
        for name in &self.server_names {
            match name {
                ServerName::Dns(name) => alt_names.dns.push(name.clone()),
                ServerName::Ip(ip) => alt_names.ip.push(*ip),
            }
        }
        Grant::daemon(alt_names, Lifetime::days(DAEMON_DAYS))
    }
}

#[cfg(test)]
mod tests;
