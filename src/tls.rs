//! Every TLS choice of this project, for both ends: TLS 1.3 only (but for probes of services), ring, HTTP/1.1, no resumption.
//!
//! No tickets and no session cache: a resumed session would skip the check of the peer's chain,
//! so a host that was disabled or whose identity ran out could stay. Time inside rustls comes
//! from our [`Clock`] (rule R7).

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, PeerIncompatible};
use rustls::{RootCertStore, ServerConfig, SignatureScheme};

use self::grace::InGrace;
use crate::clock::{Clock, Timestamp};
use crate::digest::Digest;
use crate::token;

mod grace;
pub mod presented;

/// The only protocol that is spoken inside TLS (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Chain and key do not belong together, or the key is of no use.
    #[error("this certificate and key cannot be used for TLS: {}", explain(.0))]
    Credentials(rustls::Error),
    /// A certificate that was to be trusted is none.
    #[error("a trusted root cannot be used: {}", explain(.0))]
    Anchor(rustls::Error),
    /// There is nothing to trust, so nothing could ever be verified.
    #[error("there is no root to trust")]
    NoAnchor,
    /// The verifier of client certificates cannot be made.
    #[error("client certificates cannot be verified: {0}")]
    ClientVerifier(String),
    /// The name of the server cannot stand in a certificate.
    #[error("{0} is no name that a server certificate could carry")]
    Name(String),
}

/// The daemon's side. `chain` is sent as it is: leaf, issuing CA and, for hosts that come with a
/// token, the root. A client certificate is optional; one that is sent must be signed by one of
/// `identity_roots` itself, be within its dates or ended no longer ago than `grace`, and allow client
/// authentication, or the handshake fails.
///
/// # Errors
/// [`TlsError`] when chain and key do not match or a root is no certificate.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    identity_roots: &[CertificateDer<'_>],
    clock: Arc<dyn Clock>,
    grace: Duration,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(root_store(identity_roots)?, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError::ClientVerifier(error.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(RustlsTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Credentials)?
        .with_client_cert_verifier(Arc::new(InGrace { verifier: Arc::new(WithoutIntermediates(verifier)), grace }))
        .with_single_cert(chain, key)
        .map_err(TlsError::Credentials)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The host's side: the server must chain to one of `anchors` and carry the name that is
/// connected to. `identity` is this host's client certificate.
///
/// # Errors
/// [`TlsError`] when there is no anchor, or identity and key do not match.
pub fn client_config(
    anchors: &[CertificateDer<'_>],
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(RustlsTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Credentials)?
        .with_root_certificates(root_store(anchors)?);
    let config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(TlsError::Credentials)?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(finish_client(config)))
}

/// First trust: the server must present a root whose DER hashes to `root`, chain to it and carry
/// the name that is connected to. All of it is verified within the handshake, so no request is
/// ever made unverified. The second value tells the root once a handshake has succeeded.
///
/// # Errors
/// [`TlsError`] when the library refuses the configuration.
pub fn pinned_client_config(
    root: Digest,
    named_by: NamedBy,
    clock: Arc<dyn Clock>,
) -> Result<(Arc<ClientConfig>, PinnedRoot), TlsError> {
    let provider = provider();
    let learned = PinnedRoot::default();
    let verifier = PinnedVerifier { root, named_by, provider: provider.clone(), learned: learned.clone() };
    let config = ClientConfig::builder_with_details(provider, Arc::new(RustlsTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Credentials)?
        .dangerous() // The verifier below is the stock one, after it has found its anchor.
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((Arc::new(finish_client(config)), learned))
}

/// The root that a pinned handshake was verified against.
#[derive(Debug, Clone, Default)]
pub struct PinnedRoot(Arc<OnceLock<CertificateDer<'static>>>);

impl PinnedRoot {
    /// The root's DER, once a handshake has succeeded.
    #[must_use]
    pub fn get(&self) -> Option<&CertificateDer<'static>> {
        self.0.get()
    }
}

/// The name that a server's certificate has to carry, for rustls.
///
/// # Errors
/// [`TlsError::Name`] when rustls does not accept the name.
pub fn peer_name(name: &token::ServerName) -> Result<ServerName<'static>, TlsError> {
    match name {
        token::ServerName::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
        token::ServerName::Dns(dns) => {
            ServerName::try_from(dns.as_str().to_owned()).map_err(|_| TlsError::Name(dns.to_string()))
        }
    }
}

/// What a TLS failure means, for people.
#[must_use]
pub fn explain(error: &rustls::Error) -> String {
    use rustls::AlertDescription as Alert;
    let moment = |time: &UnixTime| Timestamp::from_unix(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            CertificateError::ExpiredContext { not_after, time } => {
                format!("the certificate expired: {}", moment(not_after).with_distance(moment(time)))
            }
            CertificateError::NotValidYetContext { not_before, time } => format!(
                "the certificate is not valid before {}; is this machine's clock right?",
                moment(not_before).with_distance(moment(time))
            ),
            CertificateError::UnknownIssuer => "its certificate comes from no root that is trusted here".to_owned(),
            CertificateError::NotValidForNameContext { expected, presented } => {
                format!("its certificate is for {}, not for {}", list_names(presented), expected.to_str())
            }
            CertificateError::BadEncoding => "its certificate is not correctly encoded".to_owned(),
            CertificateError::BadSignature => {
                "its certificate comes from no root that is trusted here, though from one of that name, or was changed"
                    .to_owned()
            }
            CertificateError::Other(other) => other.to_string(),
            other => other.to_string(),
        },
        rustls::Error::AlertReceived(Alert::CertificateExpired) => "it says that our identity has expired".to_owned(),
        rustls::Error::AlertReceived(Alert::UnknownCA | Alert::DecryptError | Alert::BadCertificate) => {
            "it does not know the identity CA that made our identity".to_owned()
        }
        rustls::Error::AlertReceived(Alert::ProtocolVersion) => "it does not speak TLS 1.3".to_owned(),
        rustls::Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic) => {
            "it does not speak TLS 1.3".to_owned()
        }
        other => other.to_string(),
    }
}

/// rustls tells each name as `DnsName("ca.psf.io")`; people want what is between the quotes.
fn list_names(presented: &[String]) -> String {
    let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
    match presented {
        [] => "no name".to_owned(),
        names => names.iter().map(bare).collect::<Vec<_>>().join(", "),
    }
}

fn finish_client(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn root_store(roots: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, TlsError> {
    if roots.is_empty() {
        return Err(TlsError::NoAnchor);
    }
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone().into_owned()).map_err(TlsError::Anchor)?;
    }
    Ok(Arc::new(store))
}

/// Our clock in the form that rustls asks for.
struct RustlsTime(Arc<dyn Clock>);

impl fmt::Debug for RustlsTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RustlsTime")
    }
}

impl TimeProvider for RustlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().unix()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// The stock verifier, which sees none of the CA certificates that a client sends: it would not hold them to the path
/// length 0 of the identity CA, because it takes no more from a root than name and key.
#[derive(Debug)]
struct WithoutIntermediates(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for WithoutIntermediates {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.verify_client_cert(end_entity, &[], now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Finds the pinned root among what the server presents and leaves the rest to the stock verifier.
#[derive(Debug)]
struct PinnedVerifier {
    root: Digest,
    named_by: NamedBy,
    provider: Arc<CryptoProvider>,
    learned: PinnedRoot,
}

/// What names the root that a first connection must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// A token.
    Token,
    /// A person, on the command line or in the settings.
    Fingerprint,
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "the token",
            Self::Fingerprint => "--ca-fingerprint (or ca_fingerprint in the settings)",
        })
    }
}

/// The server did not show the root that is named.
#[derive(Debug, thiserror::Error)]
#[error("it did not show the root that {1} names (SHA-256 {0}): another CA answers here, or that is for another one")]
struct PinNotShown(Digest, NamedBy);

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let root = intermediates.iter().find(|certificate| Digest::of(certificate) == self.root).ok_or_else(|| {
            CertificateError::Other(rustls::OtherError(Arc::new(PinNotShown(self.root, self.named_by))))
        })?;
        let mut anchors = RootCertStore::empty();
        anchors.add(root.clone().into_owned())?;
        let stock = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let verified = stock.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        // A second handshake verifies against the same bytes, so what is kept first stays right.
        let _ = self.learned.0.set(root.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
