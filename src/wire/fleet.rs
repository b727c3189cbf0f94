//! What hosts say of their certificates, and what operators see of all of them.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::host::Remark;
use crate::name::{DnsName, HostName};
use crate::serial::Serial;

/// Most names in one [`HostReport`].
pub const MAX_REPORTED: usize = 256;

/// `POST /v1/report`: what the calling host has. It takes the place of what the host said before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// This goes on with the report before it, which did not have room for all names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// At most [`MAX_REPORTED`].
    pub names: Vec<NameReport>,
}

/// What a host says of one name. Fields that this version does not know are passed over, so that the agent may be newer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameReport {
    /// The service name.
    pub name: DnsName,
    /// The serial number of what is installed.
    pub serial: Serial,
    /// Its end.
    pub not_after: Timestamp,
    /// How far it is.
    #[serde(flatten)]
    pub deployment: Deployment,
}

/// How far an installed certificate is on its way to those who connect to the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Deployment {
    /// In place. Whether a service has loaded it is not known: there is neither a hook nor a probe.
    Installed,
    /// In place, and the service was not told yet, or does not serve it yet.
    Owed {
        /// Since when.
        since: Timestamp,
        /// How often it was tried.
        attempts: u32,
        /// What went wrong the last time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Remark>,
    },
    /// The hooks succeeded, and there is no probe.
    Hooked {
        /// When they did.
        since: Timestamp,
    },
    /// A probe saw the service with this serial.
    Served {
        /// When it did first.
        since: Timestamp,
    },
}

impl Deployment {
    /// As it is written in tables and queries.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Owed { .. } => "owed",
            Self::Hooked { .. } => "hooked",
            Self::Served { .. } => "served",
        }
    }
}

/// The answer to a [`HostReport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// Names that were kept.
    pub kept: usize,
    /// Names of which the ledger has no certificate for this host; they were passed over.
    pub unknown: usize,
}

/// Filters of `GET /v1/fleet`; all that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetQuery {
    /// Only this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Only this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DnsName>,
    /// Only what lags.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lagging: bool,
    /// What follows this host and [`Self::after_name`], from [`FleetPage::next`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_host: Option<HostName>,
    /// The name to [`Self::after_host`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_name: Option<DnsName>,
}

/// `GET /v1/fleet`: some names on their hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetPage {
    /// By host, then by name.
    pub entries: Vec<FleetEntry>,
    /// How many the filters by host and name let through, lagging or not.
    pub seen: usize,
    /// Of those, what ends first if nothing is renewed any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_end: Option<FirstEnd>,
    /// Ask for what follows these; absent on the last page. A page may be empty and not the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Holder>,
}

/// A name on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// The host.
    pub host: HostName,
    /// The service name.
    pub name: DnsName,
}

/// The first certificate to end among those that the CA would renew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstEnd {
    /// When.
    pub not_after: Timestamp,
    /// Whose.
    #[serde(flatten)]
    pub holder: Holder,
}

/// A name on a host: its newest certificate, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetEntry {
    /// Whose.
    #[serde(flatten)]
    pub holder: Holder,
    /// The newest that the ledger has for them; none where there never was one.
    #[serde(flatten)]
    pub certificate: Option<FleetCertificate>,
    /// Whether the declaration in force still gives the name to the host.
    pub allowed: bool,
    /// What the host said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<FleetReport>,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
}

/// The newest certificate of a name on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetCertificate {
    /// Its serial number.
    pub serial: Serial,
    /// When it was issued.
    pub issued: Timestamp,
    /// When the host should renew it.
    pub due: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
}

/// What a host said of a name, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetReport {
    /// When it said so.
    pub at: Timestamp,
    /// The serial number of what it has installed.
    pub serial: Serial,
    /// Its end, as the host says.
    pub not_after: Timestamp,
    /// How far that is.
    #[serde(flatten)]
    pub deployment: Deployment,
}

/// Why a name on a host is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// Why.
    pub why: LagReason,
    /// Since when.
    pub since: Timestamp,
    /// Whether a certificate ended, or will soon, that should have been renewed.
    pub critical: bool,
}

/// In the order in which the first that holds is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LagReason {
    /// An operator disabled the host.
    HostDisabled,
    /// Two keys claim to be the host.
    HostFrozen,
    /// The newest certificate has ended.
    Expired,
    /// Less than a quarter of its life is left.
    ExpiresSoon,
    /// The host has a certificate that the ledger does not have for it and this name.
    UnknownSerial,
    /// The service does not have the certificate yet.
    Owed,
    /// It should have been renewed some time ago.
    Overdue,
    /// The host has an older one, which is due.
    OlderSerial,
    /// The host never said that it has any.
    Unreported,
    /// The host may have one and never got any.
    NeverIssued,
}
