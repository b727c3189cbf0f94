//! The one-time enrolment token: where the CA is, which root it must prove to have, and a secret.
//!
//! Written as `psfca1.ADDRESS.ROOT.SECRET`, each part in base64url without padding. It is a
//! password until it is spent: it is read from standard input or a file, never from argv.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::name::DnsName;
use crate::random::{NoRandomness, Random};
use crate::text::serde_as_text;

const PREFIX: &str = "psfca1";
/// Longest text that is looked at: an address of 260 characters, two times 32 bytes, three dots.
const MAX_TEXT: usize = 512;

/// The host part of an address or of a server certificate: a DNS name or an IP address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerName {
    /// A DNS name.
    Dns(DnsName),
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
}

impl ServerName {
    /// Reads a DNS name or an IP address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Self::Ip).ok().or_else(|| DnsName::parse(text).map(Self::Dns).ok())
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "{name}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

/// Where a CA daemon answers: `ca.psf.io:8443`. The name is what its certificate must carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerAddress {
    /// The name or address to connect to and to verify.
    pub name: ServerName,
    /// The TCP port.
    pub port: u16,
}

/// A text that is not `NAME:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address like ca.psf.io:8443")]
pub struct NotAnAddress(String);

impl ServerAddress {
    /// Reads `NAME:PORT`, with an optional `https://` in front.
    ///
    /// # Errors
    /// [`NotAnAddress`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotAnAddress> {
        let refuse = || NotAnAddress(text.chars().take(80).collect());
        let bare = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
        let (name, port) = bare.rsplit_once(':').ok_or_else(refuse)?;
        let name = ServerName::parse(name).ok_or_else(refuse)?;
        let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(refuse)?;
        Ok(Self { name, port })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

serde_as_text!(ServerAddress);

/// The 256-bit secret of a token. Only its hash is ever stored by the CA.
#[derive(Clone)]
pub struct TokenSecret(Zeroizing<[u8; 32]>);

impl TokenSecret {
    /// A fresh secret.
    ///
    /// # Errors
    /// [`NoRandomness`] when `random` fails.
    pub fn generate(random: &dyn Random) -> Result<Self, NoRandomness> {
        let mut secret = Zeroizing::new([0; 32]);
        random.fill(secret.as_mut())?;
        Ok(Self(secret))
    }

    /// Reads base64url without padding, as it stands in an enrolment request.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] for anything but 32 bytes.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        Ok(Self(Zeroizing::new(decode_32(text)?)))
    }

    /// Base64url without padding; whoever holds this text can enrol.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_ref()))
    }

    /// What the CA stores and looks up.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of_parts(&[b"psfca enrolment token\0", self.0.as_ref()])
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

/// Why a text is not an enrolment token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Another kind of text altogether.
    #[error("this is not an enrolment token: it does not begin with \"psfca1.\"")]
    NotAToken,
    /// Cut short, or damaged on the way.
    #[error("the enrolment token is incomplete or damaged; copy it whole, on one line")]
    Malformed,
}

/// A whole enrolment token.
#[derive(Clone, Debug)]
pub struct EnrollmentToken {
    /// Where to enrol.
    pub address: ServerAddress,
    /// SHA-256 of the DER of the root certificate that the server must chain to.
    pub root: Digest,
    /// The secret that is spent.
    pub secret: TokenSecret,
}

impl EnrollmentToken {
    /// Reads a token; white space around it is ignored.
    ///
    /// # Errors
    /// [`TokenError`] says whether the text is another thing or a damaged token.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let rest = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.')).ok_or(TokenError::NotAToken)?;
        if text.len() > MAX_TEXT {
            return Err(TokenError::Malformed);
        }
        let mut parts = rest.split('.');
        let (Some(address), Some(root), Some(secret), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        let address = URL_SAFE_NO_PAD.decode(address).map_err(|_| TokenError::Malformed)?;
        let address = std::str::from_utf8(&address).map_err(|_| TokenError::Malformed)?;
        Ok(Self {
            address: ServerAddress::parse(address).map_err(|_| TokenError::Malformed)?,
            root: Digest::from_bytes(decode_32(root)?),
            secret: TokenSecret::parse(secret)?,
        })
    }

    /// The text to hand to the host, by a way that only the host can read.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let address = URL_SAFE_NO_PAD.encode(self.address.to_string());
        let root = URL_SAFE_NO_PAD.encode(self.root.as_bytes());
        Zeroizing::new(format!("{PREFIX}.{address}.{root}.{}", *self.secret.expose()))
    }
}

fn decode_32(text: &str) -> Result<[u8; 32], TokenError> {
    let mut out = [0; 32];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut out) {
        Ok(32) => Ok(out),
        _ => Err(TokenError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    fn token() -> EnrollmentToken {
        EnrollmentToken {
            address: ServerAddress::parse("ca.psf.io:8443").unwrap(),
            root: Digest::of(b"root"),
            secret: TokenSecret::generate(&SystemRandom).unwrap(),
        }
    }

    #[test]
    fn a_token_survives_being_copied() {
        let token = token();
        let read = EnrollmentToken::parse(&format!("  {}\n", *token.expose())).unwrap();
        assert_eq!((read.address, read.root), (token.address, token.root));
        assert_eq!(read.secret.hash(), token.secret.hash());
    }

    #[test]
    fn a_cut_or_foreign_text_is_refused() {
        let text = token().expose();
        for cut in 7..text.len() {
            assert!(EnrollmentToken::parse(&text[..cut]).is_err(), "{cut}");
        }
        assert_eq!(EnrollmentToken::parse("hvs.CAESI").unwrap_err(), TokenError::NotAToken);
        assert_eq!(EnrollmentToken::parse(&format!("{}.x", *text)).unwrap_err(), TokenError::Malformed);
    }

    #[test]
    fn a_token_is_never_printed_by_accident() {
        let token = token();
        assert!(!format!("{token:?}").contains(token.secret.expose().as_str()));
    }

    #[test]
    fn addresses_of_every_form_are_read() {
        for (text, shown) in [
            ("ca.psf.io:8443", "ca.psf.io:8443"),
            ("https://ca.psf.io:1/", "ca.psf.io:1"),
            ("[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(ServerAddress::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["ca.psf.io", "ca.psf.io:0", "ca.psf.io:99999", ":1", "a b:1", "http://x:1"] {
            assert!(ServerAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
