//! `host.yaml`: every setting has a default, so most hosts need no file at all.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::placement::{self, Place, Placement, RawName};
use crate::digest::{Digest, Fingerprint};
use crate::ledger::cosignature::WitnessKey;
use crate::name::DnsName;
use crate::token::ServerAddress;

/// Where the settings are when nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/psfca/host.yaml";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read, or was named by someone and is not there.
    #[error("{path} cannot be read: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It is not what settings look like.
    #[error("{path} is wrong: {cause}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        cause: String,
    },
}

/// A host's settings; every path is absolute or relative to the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Daemons to try, in this order; empty: the address that came with the token.
    pub server: Vec<ServerAddress>,
    /// SHA-256 of the CA's root, for a host that asks without a token.
    pub ca_fingerprint: Option<Digest>,
    /// The directory of the host's identity.
    pub state: PathBuf,
    /// Where the bundles go, and whose they are.
    pub placement: Placement,
    /// The trust bundle that applications read.
    pub trust_bundle: PathBuf,
    /// What becomes of answers when the CA's ledger does not continue what this host has seen.
    pub ledger_policy: LedgerPolicy,
    /// Whether what this host may no longer have is removed without a word of a person.
    pub prune: bool,
    /// Whether the whole system is to trust the anchors (`update-ca-certificates`).
    pub system_trust: bool,
    /// The file that was read, or would have been.
    pub file: PathBuf,
    /// The directory of the hooks.
    pub hooks: PathBuf,
    /// How long a hook may take.
    pub hook_timeout: Duration,
    /// The witness without whose cosignature no head of the ledger is accepted.
    pub witness: Option<WitnessKey>,
}

/// What a host does when the CA's ledger does not continue what it has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerPolicy {
    /// Nothing is installed.
    #[default]
    Refuse,
    /// Everything is installed all the same, and the trouble is reported.
    Alarm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    server: Vec<ServerAddress>,
    ca_fingerprint: Option<String>,
    state: PathBuf,
    bundles: PathBuf,
    trust_bundle: PathBuf,
    owner: String,
    group: String,
    mode: String,
    ledger_policy: LedgerPolicy,
    names: BTreeMap<DnsName, RawName>,
    prune: bool,
    system_trust: bool,
    witness: Option<WitnessKey>,
    hooks: PathBuf,
    hook_timeout: String,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            server: Vec::new(),
            ca_fingerprint: None,
            state: "/var/lib/psfca-host".into(),
            bundles: "/etc/ssl/private".into(),
            trust_bundle: "/etc/ssl/certs/PSF_CA.pem".into(),
            owner: "root".into(),
            group: "ssl-cert".into(),
            mode: "0640".into(),
            ledger_policy: LedgerPolicy::default(),
            names: BTreeMap::new(),
            prune: false,
            system_trust: false,
            witness: None,
            hooks: "/etc/psfca/hooks.d".into(),
            hook_timeout: "60s".into(),
        }
    }
}

impl Settings {
    /// Reads the file that was `given`, or else [`DEFAULT_FILE`]; where that one is absent the
    /// defaults apply. Relative paths in a file start at its directory.
    ///
    /// # Errors
    /// [`SettingsError`] when a given file is absent, or either is not good.
    pub fn read(given: Option<&Path>) -> Result<Self, SettingsError> {
        let path = given.unwrap_or(Path::new(DEFAULT_FILE));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == ErrorKind::NotFound && given.is_none() => Self::parse("", path),
            Err(cause) => Err(SettingsError::Unreadable { path: path.to_owned(), cause }),
        }
    }

    /// Reads settings as they stand in the file `path`.
    ///
    /// # Errors
    /// [`SettingsError::Wrong`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let wrong = |cause: String| SettingsError::Wrong { path: path.to_owned(), cause };
        // A file of comments alone is null to YAML and means the defaults to people.
        let raw: Option<Raw> = serde_yaml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let raw = raw.unwrap_or_default();
        let ca_fingerprint = raw.ca_fingerprint.as_deref().map(Fingerprint::parse).transpose();
        let ca_fingerprint = ca_fingerprint.map_err(|error| wrong(format!("ca_fingerprint: {error}")))?;
        let base = path.parent().unwrap_or(Path::new(""));
        let mode = placement::parse_mode(&raw.mode).map_err(wrong)?;
        let default = Place { path: base.join(raw.bundles), owner: raw.owner, group: raw.group, mode };
        Ok(Self {
            server: raw.server,
            ca_fingerprint: ca_fingerprint.map(|Fingerprint(digest)| digest),
            state: base.join(raw.state),
            placement: placement::read(default, raw.names, base).map_err(wrong)?,
            trust_bundle: base.join(raw.trust_bundle),
            ledger_policy: raw.ledger_policy,
            prune: raw.prune,
            system_trust: raw.system_trust,
            witness: raw.witness,
            file: path.to_owned(),
            hooks: base.join(raw.hooks),
            hook_timeout: hook_timeout(&raw.hook_timeout).map_err(wrong)?,
        })
    }
}

fn hook_timeout(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(3_600);
    let time = humantime::parse_duration(text).ok().filter(|time| !time.is_zero() && *time <= most);
    time.ok_or_else(|| format!("hook_timeout {text:?} is no time of up to an hour like 60s or 2m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_means_the_defaults() {
        let defaults = Settings::parse("", Path::new("/nonexistent/host.yaml")).unwrap();
        let Place { path, owner, group, mode } = &defaults.placement.default;
        assert_eq!(path, Path::new("/etc/ssl/private"));
        assert_eq!((owner.as_str(), group.as_str(), *mode), ("root", "ssl-cert", 0o640));
        assert_eq!(Settings::parse("# nothing\n", Path::new("/nonexistent/host.yaml")).unwrap(), defaults);
    }

    #[test]
    fn a_file_that_somebody_named_has_to_be_there() {
        let error = Settings::read(Some(Path::new("/nonexistent/host.yaml"))).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/host.yaml cannot be read: No such file"), "{error}");
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let text = "server: ['ca.psf.io:8443']\nbundles: private\nmode: '0600'\nledger_policy: alarm\n";
        let read = Settings::parse(text, Path::new("/tmp/demo/host.yaml")).unwrap();
        let place = &read.placement.default;
        assert_eq!(place.path, Path::new("/tmp/demo/private"));
        assert_eq!((place.mode, read.server.len(), read.ledger_policy), (0o600, 1, LedgerPolicy::Alarm));
    }

    #[test]
    fn mistakes_name_the_file_and_what_is_wrong() {
        let error = |text: &str| Settings::parse(text, Path::new("host.yaml")).unwrap_err().to_string();
        assert!(error("stat: /x\n").starts_with("host.yaml is wrong: unknown field `stat`"), "{}", error("stat: /x\n"));
        for mode in ["0644", "4640", "0040", "rw"] {
            assert!(error(&format!("mode: '{mode}'\n")).contains("would not do for a private key"), "{mode}");
        }
        assert!(error("ledger_policy: off\n").contains("`refuse` or `alarm`"), "{}", error("ledger_policy: off\n"));
        assert!(
            error("ca_fingerprint: 3f2a\n").contains("64 hexadecimal digits"),
            "{}",
            error("ca_fingerprint: 3f2a\n")
        );
        for time in ["0s", "2h", "soon"] {
            assert!(error(&format!("hook_timeout: {time}\n")).contains("like 60s or 2m"), "{time}");
        }
        assert!(error("server: [nowhere]\n").contains("is not an address like"));
    }
}
