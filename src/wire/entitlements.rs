//! What a host may have.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{DnsName, HostName, RoleName};
use crate::profile::{KeyKind, Usages};

/// One name that the calling host may have: an element of `GET /v1/certs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entitlement {
    /// The service name.
    pub name: DnsName,
    /// Every DNS name the certificate will carry.
    pub dns: Vec<DnsName>,
    /// Every address the certificate will carry.
    pub ip: Vec<std::net::IpAddr>,
    /// What it may be used for.
    pub usages: Usages,
    /// How long it will live.
    pub lifetime_seconds: u64,
    /// The key the host has to make.
    pub key: KeyKind,
    /// Whether the CA may make the key instead.
    pub ca_made_key: bool,
    /// The role that gives it.
    pub role: RoleName,
}

/// `GET /v1/certs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entitlements {
    /// The host that asked, as its identity says.
    pub host: HostName,
    /// What it may have, by name.
    pub certs: Vec<Entitlement>,
    /// The SHA-256 of each root in `PSF_CA.pem` (DER), so that nobody has to ask for that as well; empty in the
    /// answer of a daemon that does not say (0.1.0).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<Digest>,
}
