//! Who is at the other end of a connection.

use std::net::SocketAddr;

use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, KeyUsage};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::Timestamp;
use crate::name::{DnsName, HostName};
use crate::profile::BACKDATE;
use crate::serial::Serial;
use crate::store::ShownIdentity;

/// The bit digitalSignature of key usage (RFC 5280, section 4.2.1.3), counted from the lowest.
const DIGITAL_SIGNATURE: u16 = 1;

/// A host as its client certificate names it. The chain was verified in the handshake; whether
/// the host is enabled, and the certificate still valid, is asked at each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity {
    /// The host.
    pub host: HostName,
    /// When its identity was issued.
    pub issued: Timestamp,
    /// The end of its identity.
    pub not_after: Timestamp,
    /// The serial of its identity, for the logs.
    pub serial: Serial,
}

/// A client certificate that names no host of this CA.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the client certificate is no host identity of trust domain {trust_domain}")]
pub struct NotAnIdentity {
    trust_domain: DnsName,
}

impl HostIdentity {
    /// Reads a verified client certificate: exactly one URI, `spiffe://TRUST-DOMAIN/host/HOST`,
    /// and no other name; for TLS clients, which sign with it, and for no other use.
    ///
    /// # Errors
    /// [`NotAnIdentity`] for anything else.
    pub fn from_certificate(der: &[u8], trust_domain: &DnsName) -> Result<Self, NotAnIdentity> {
        let refuse = || NotAnIdentity { trust_domain: trust_domain.clone() };
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| refuse())?;
        if !is_for_clients_alone(&certificate) {
            return Err(refuse());
        }
        let names = certificate.subject_alternative_name().ok().flatten().ok_or_else(refuse)?;
        let [GeneralName::URI(uri)] = &names.value.general_names[..] else { return Err(refuse()) };
        let rest = uri.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(trust_domain.as_str()));
        let host = rest.and_then(|rest| rest.strip_prefix("/host/")).ok_or_else(refuse)?;
        Ok(Self {
            host: HostName::parse(host).map_err(|_| refuse())?,
            issued: Timestamp::from_unix(certificate.validity().not_before.timestamp()).plus(BACKDATE),
            not_after: Timestamp::from_unix(certificate.validity().not_after.timestamp()),
            serial: Serial::from_octets(certificate.tbs_certificate.raw_serial()).map_err(|_| refuse())?,
        })
    }
}

/// Whether key usage and extended key usage are exactly those of an identity. The verifier of the handshake is content
/// with what does not forbid the use by a client.
fn is_for_clients_alone(certificate: &X509Certificate<'_>) -> bool {
    let (Ok(Some(usage)), Ok(Some(extended))) = (certificate.key_usage(), certificate.extended_key_usage()) else {
        return false;
    };
    let clients = ExtendedKeyUsage {
        any: false,
        server_auth: false,
        client_auth: true,
        code_signing: false,
        email_protection: false,
        time_stamping: false,
        ocsp_signing: false,
        other: Vec::new(),
    };
    *usage.value == KeyUsage { flags: DIGITAL_SIGNATURE } && *extended.value == clients && !certificate.is_ca()
}

impl HostIdentity {
    /// What the store asks about it.
    #[must_use]
    pub fn shown(&self) -> ShownIdentity {
        ShownIdentity { host: self.host.clone(), serial: self.serial.clone(), issued: self.issued }
    }
}

/// The other end of a connection, put beside each of its requests by the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Over TLS, with a host's identity or without any client certificate.
    Network {
        /// Where the connection comes from.
        address: SocketAddr,
        /// Who the client certificate names.
        identity: Option<HostIdentity>,
    },
    /// Over the admin socket, which only operators can open.
    Operator {
        /// The process's user, as the kernel says.
        uid: u32,
    },
}
