//! What the declaration in force gives, and the text of each that ever was.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::name::DnsName;

/// `GET /v1/ciphers` and `GET /v1/ciphers/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CipherPolicy {
    /// The name that was asked for; none for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DnsName>,
    /// Whether the name has no line of its own, so that this is the default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_default: bool,
    /// One line for the configuration of a service, as OpenSSL reads it.
    pub ciphers: String,
}

/// `GET /v1/declarations/{sha256}` on the admin socket: a declaration that is or was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclarationText {
    /// Its hash.
    pub sha256: Digest,
    /// When it was last put in force.
    pub since: Timestamp,
    /// Whether it is the one in force now.
    pub in_force: bool,
    /// Its files, in their order.
    pub files: Vec<DeclarationFile>,
}

/// A file of a declaration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclarationFile {
    /// The path as the operator named it.
    pub path: String,
    /// The whole text.
    pub text: String,
}
