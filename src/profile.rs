//! What certificates look like: key kinds, usages, lifetimes, subjects. Values only, no verdicts.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::name::DnsName;

/// How far `not_before` lies in the past, so that a host whose clock is slow can use what it gets.
pub const BACKDATE: Duration = Duration::from_secs(3_600);

/// The shortest lifetime that leaves time for two renewal attempts at a 15 minute timer.
pub const SHORTEST_LIFETIME: Duration = Duration::from_secs(2 * 3_600);

/// How long an identity lives.
pub const IDENTITY_LIFETIME: Lifetime = Lifetime::days(std::num::NonZeroU32::MIN.saturating_add(29));

/// Longest `commonName` (RFC 5280, appendix A.1: ub-common-name).
pub const MAX_COMMON_NAME: usize = 64;

/// The kind of key that a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// ECDSA on NIST P-256; the default.
    #[default]
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// RSA of 2048 to 8192 bits, only from a host's own CSR: nothing here makes RSA keys.
    Rsa,
}

impl KeyKind {
    /// Every kind, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519, Self::Rsa];

    /// As it is written in a declaration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
        }
    }

    /// Reads what a declaration says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a certificate may be used for (extended key usage, RFC 5280 section 4.2.1.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usages {
    /// `serverAuth`; the default.
    Server,
    /// `clientAuth`.
    Client,
    /// `serverAuth` and `clientAuth`.
    Both,
}

impl Usages {
    /// Whether `serverAuth` is among them.
    #[must_use]
    pub const fn server(self) -> bool {
        matches!(self, Self::Server | Self::Both)
    }

    /// Whether `clientAuth` is among them.
    #[must_use]
    pub const fn client(self) -> bool {
        matches!(self, Self::Client | Self::Both)
    }
}

impl fmt::Display for Usages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Both => "server, client",
        })
    }
}

/// How long a certificate lives from the moment of issue: whole seconds, at least two hours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lifetime(Duration);

impl Lifetime {
    /// Accepts lengths of two hours and more; fractions of a second are dropped.
    #[must_use]
    pub fn new(length: Duration) -> Option<Self> {
        (length >= SHORTEST_LIFETIME).then(|| Self(Duration::from_secs(length.as_secs())))
    }

    /// A whole number of days, at least one.
    #[must_use]
    pub const fn days(days: std::num::NonZeroU32) -> Self {
        Self(Duration::from_secs(86_400 * days.get() as u64))
    }

    /// The length.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let text = match (days, rest / 3_600, rest % 3_600 / 60) {
            (1, 0, 0) => "1 day".to_owned(),
            (days, 0, 0) => format!("{days} days"),
            (0, hours, 0) => format!("{hours} hours"),
            (0, hours, minutes) => format!("{hours} h {minutes} min"),
            (days, hours, 0) => format!("{days} d {hours} h"),
            (days, hours, minutes) => format!("{days} d {hours} h {minutes} min"),
        };
        f.pad(&text)
    }
}

/// The parts of a distinguished name that every certificate of this CA shares: `cert_opts`.
/// Each is absent or within the bounds of RFC 5280, appendix A.1.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SubjectFields {
    /// `C`: two capital letters.
    pub country: Option<String>,
    /// `ST`, at most 128 characters.
    pub state: Option<String>,
    /// `L`, at most 128 characters.
    pub locality: Option<String>,
    /// `O`, at most 64 characters.
    pub organization: Option<String>,
    /// `OU`, at most 64 characters.
    pub organizational_unit: Option<String>,
    /// `emailAddress`, at most 255 ASCII characters; only on CA certificates.
    pub email: Option<String>,
}

/// The names a certificate is valid for (subjectAltName, RFC 5280 section 4.2.1.6).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SubjectAltNames {
    /// `dNSName` entries, in the order in which they are written.
    pub dns: Vec<DnsName>,
    /// `iPAddress` entries.
    pub ip: Vec<IpAddr>,
    /// A `uniformResourceIdentifier`, only on host identities.
    pub uri: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_printed_in_the_unit_people_wrote() {
        let of = |seconds| Lifetime::new(Duration::from_secs(seconds)).unwrap().to_string();
        assert_eq!(of(86_400), "1 day");
        assert_eq!(of(90 * 86_400), "90 days");
        assert_eq!(of(7_200), "2 hours");
        assert_eq!(of(9_000), "2 h 30 min");
        assert_eq!(of(129_600), "1 d 12 h");
        assert_eq!(Lifetime::new(Duration::from_secs(7_199)), None);
    }

    #[test]
    fn key_kinds_read_back_what_they_write() {
        for kind in KeyKind::ALL {
            assert_eq!(KeyKind::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
