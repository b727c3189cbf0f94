//! The verdict "this host may have this", with everything that it allows and the rule that said so.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::digest::Digest;
use crate::name::{DnsName, HostName, RoleName};
use crate::profile::{KeyKind, Lifetime, SubjectAltNames, Usages};
use crate::serial::Serial;

/// A line of a declaration, for people: `ca-config/tls.yaml:31`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// The file as the operator named it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Why a grant was given; recorded in the ledger with every certificate.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", try_from = "FlatRule")]
pub enum Rule {
    /// The declaration: `name` lists `role`, and the role's pattern matches the host.
    Declaration {
        /// Which declaration, by its hash.
        declaration: Digest,
        /// Where the name lists the role.
        listed: Place,
        /// The role that matched first.
        role: RoleName,
        /// Where the role is defined.
        defined: Place,
        /// The role's pattern as written.
        pattern: Arc<str>,
    },
    /// A one-time token that an operator made for this host.
    Token {
        /// SHA-256 of the token's secret.
        token: Digest,
    },
    /// An operator compared the fingerprint of the host's key and approved it.
    Approval {
        /// Who: the uid at the other end of the admin socket.
        operator_uid: u32,
    },
    /// The host signed with the key of its Salt minion, which Salt's master has accepted.
    SaltKey {
        /// SHA-256 of that public key.
        salt_key: Digest,
    },
    /// The host's own identity asked for its successor.
    Identity {
        /// The serial of that identity; none in what an older psfca wrote.
        #[serde(skip_serializing_if = "Option::is_none")]
        renewed: Option<Serial>,
    },
    /// `server_names` in `ca.yaml`: the daemon's own certificate.
    ServerNames,
    /// `psfca init`: the CA's own certificates.
    Init,
}

/// A [`Rule`] as one object: serde reads a tagged enum by way of a map of values, which takes longer
/// than everything else that is done with an entry.
#[derive(serde::Deserialize)]
struct FlatRule {
    by: By,
    declaration: Option<Digest>,
    listed: Option<Place>,
    role: Option<RoleName>,
    defined: Option<Place>,
    pattern: Option<Arc<str>>,
    token: Option<Digest>,
    renewed: Option<Serial>,
    operator_uid: Option<u32>,
    salt_key: Option<Digest>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    Declaration,
    Token,
    Approval,
    SaltKey,
    Identity,
    ServerNames,
    Init,
}

impl TryFrom<FlatRule> for Rule {
    type Error = &'static str;

    fn try_from(flat: FlatRule) -> Result<Self, Self::Error> {
        let FlatRule { by, declaration, listed, role, defined, pattern, token, renewed, operator_uid, salt_key } = flat;
        Ok(match by {
            By::Declaration => Self::Declaration {
                declaration: declaration.ok_or("missing field `declaration`")?,
                listed: listed.ok_or("missing field `listed`")?,
                role: role.ok_or("missing field `role`")?,
                defined: defined.ok_or("missing field `defined`")?,
                pattern: pattern.ok_or("missing field `pattern`")?,
            },
            By::Token => Self::Token { token: token.ok_or("missing field `token`")? },
            By::Approval => Self::Approval { operator_uid: operator_uid.ok_or("missing field `operator_uid`")? },
            By::SaltKey => Self::SaltKey { salt_key: salt_key.ok_or("missing field `salt_key`")? },
            By::Identity => Self::Identity { renewed },
            By::ServerNames => Self::ServerNames,
            By::Init => Self::Init,
        })
    }
}

impl Rule {
    /// The role of a declaration that allowed it.
    #[must_use]
    pub const fn role(&self) -> Option<&RoleName> {
        match self {
            Self::Declaration { role, .. } => Some(role),
            Self::Token { .. }
            | Self::Approval { .. }
            | Self::SaltKey { .. }
            | Self::Identity { .. }
            | Self::ServerNames
            | Self::Init => None,
        }
    }
}

/// What kind of certificate it is; decides the issuer and the shape of the names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateKind {
    /// For a service, signed by the issuing CA.
    Service,
    /// A host's identity, signed by the identity CA.
    Identity,
    /// The daemon's own server certificate, signed by the issuing CA.
    Daemon,
    /// The root that clients trust, signed by itself.
    Root,
    /// The issuing CA, signed by the root.
    IssuingCa,
    /// The root of host identities, signed by itself.
    IdentityCa,
}

impl CertificateKind {
    /// Every kind, the most frequent first.
    const ALL: [Self; 6] = [Self::Service, Self::Identity, Self::Daemon, Self::Root, Self::IssuingCa, Self::IdentityCa];

    /// Reads what [`CertificateKind::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether other certificates are signed by it.
    #[must_use]
    pub const fn is_ca(self) -> bool {
        matches!(self, Self::Root | Self::IssuingCa | Self::IdentityCa)
    }

    /// For people and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Identity => "identity",
            Self::Daemon => "daemon",
            Self::Root => "root",
            Self::IssuingCa => "issuing_ca",
            Self::IdentityCa => "identity_ca",
        }
    }
}

/// A permission to issue one certificate. Its fields are private: a grant comes only from the
/// declaration in force, from an accepted enrolment, or from `ca.yaml` (rule R2).
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    kind: CertificateKind,
    host: Option<HostName>,
    name: String,
    alt_names: SubjectAltNames,
    usages: Usages,
    lifetime: Lifetime,
    key: KeyKind,
    ca_made_key: bool,
    rule: Rule,
}

/// What the declaration says about one name, as far as a certificate is concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceTerms {
    /// More DNS names the certificate is valid for.
    pub aliases: Vec<DnsName>,
    /// Addresses the certificate is valid for.
    pub ip: Vec<IpAddr>,
    /// What it may be used for.
    pub usages: Usages,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// The key it is for.
    pub key: KeyKind,
    /// Whether the CA may make that key.
    pub ca_made_key: bool,
}

impl Grant {
    /// For `policy` alone: `host` may have `name` on the terms of the declaration.
    pub(crate) fn service(host: &HostName, name: &DnsName, terms: &ServiceTerms, rule: Rule) -> Self {
        let mut dns = vec![name.clone()];
        dns.extend(terms.aliases.iter().filter(|alias| *alias != name).cloned());
        Self {
            kind: CertificateKind::Service,
            host: Some(host.clone()),
            name: name.as_str().to_owned(),
            alt_names: SubjectAltNames { dns, ip: terms.ip.clone(), uri: None },
            usages: terms.usages,
            lifetime: terms.lifetime,
            key: terms.key,
            ca_made_key: terms.ca_made_key,
            rule,
        }
    }

    /// For `enroll` alone: `host` may have an identity in `trust_domain`.
    pub(crate) fn identity(host: &HostName, trust_domain: &DnsName, lifetime: Lifetime, rule: Rule) -> Self {
        Self {
            kind: CertificateKind::Identity,
            host: Some(host.clone()),
            name: host.as_str().to_owned(),
            alt_names: SubjectAltNames { uri: Some(identity_uri(trust_domain, host)), ..SubjectAltNames::default() },
            usages: Usages::Client,
            lifetime,
            key: KeyKind::EcdsaP256,
            ca_made_key: false,
            rule,
        }
    }

    /// For `config` alone: the daemon may serve under the `server_names` of `ca.yaml`.
    pub(crate) fn daemon(alt_names: SubjectAltNames, lifetime: Lifetime) -> Self {
        let name = alt_names.dns.first().map(ToString::to_string);
        let name = name.or_else(|| alt_names.ip.first().map(ToString::to_string)).unwrap_or_default();
        Self {
            kind: CertificateKind::Daemon,
            host: None,
            name,
            alt_names,
            usages: Usages::Server,
            lifetime,
            key: KeyKind::EcdsaP256,
            ca_made_key: true,
            rule: Rule::ServerNames,
        }
    }

    /// The kind of certificate.
    #[must_use]
    pub const fn kind(&self) -> CertificateKind {
        self.kind
    }

    /// The host that may have it; none for the daemon itself.
    #[must_use]
    pub const fn host(&self) -> Option<&HostName> {
        self.host.as_ref()
    }

    /// The name in the subject: a service name, or the host's for an identity.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Exactly the names the certificate carries.
    #[must_use]
    pub const fn alt_names(&self) -> &SubjectAltNames {
        &self.alt_names
    }

    /// Exactly the usages the certificate carries.
    #[must_use]
    pub const fn usages(&self) -> Usages {
        self.usages
    }

    /// How long the certificate lives, counted from issue.
    #[must_use]
    pub const fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// The kind of key the certificate is for.
    #[must_use]
    pub const fn key(&self) -> KeyKind {
        self.key
    }

    /// Whether the CA may make the key and hand it out in the bundle.
    #[must_use]
    pub const fn ca_made_key(&self) -> bool {
        self.ca_made_key
    }

    /// The rule that gave the grant.
    #[must_use]
    pub const fn rule(&self) -> &Rule {
        &self.rule
    }
}

/// The SPIFFE-style URI by which a host is known: `spiffe://psf.io/host/pg0.iad1.psf.io`.
#[must_use]
pub fn identity_uri(trust_domain: &DnsName, host: &HostName) -> String {
    format!("spiffe://{trust_domain}/host/{host}")
}
