//! What a server presented, whether it was accepted or not: for a probe, which has to say what is wrong.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::{RustlsTime, TlsError, provider, root_store};
use crate::clock::Clock;

/// The server's own certificate, once it was seen.
#[derive(Debug, Clone, Default)]
pub struct Presented(Arc<OnceLock<CertificateDer<'static>>>);

impl Presented {
    /// Its DER; none when the handshake did not come that far.
    #[must_use]
    pub fn get(&self) -> Option<&CertificateDer<'static>> {
        self.0.get()
    }
}

/// For one connection to a local service, whatever it speaks inside TLS: it must chain to one of `anchors` and carry
/// the name that is asked for, as for a client with `sslmode=verify-full`. Only here TLS 1.2 is spoken, which is the most
/// that some services do: nginx before 1.23.4, unless told otherwise.
///
/// # Errors
/// [`TlsError`] when there is no anchor.
pub fn probe_config(
    anchors: &[CertificateDer<'_>],
    clock: Arc<dyn Clock>,
) -> Result<(Arc<ClientConfig>, Presented), TlsError> {
    let provider = provider();
    let stock = WebPkiServerVerifier::builder_with_provider(root_store(anchors)?, provider.clone())
        .build()
        .map_err(|error| TlsError::ClientVerifier(error.to_string()))?;
    let presented = Presented::default();
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(RustlsTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Credentials)?
        .dangerous() // The verifier below is the stock one, which is asked in any case.
        .with_custom_certificate_verifier(Arc::new(Keeping { stock, presented: presented.clone() }))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok((Arc::new(config), presented))
}

/// The stock verifier, which keeps what it was shown.
#[derive(Debug)]
struct Keeping {
    stock: Arc<dyn ServerCertVerifier>,
    presented: Presented,
}

impl ServerCertVerifier for Keeping {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let _ = self.presented.0.set(end_entity.clone().into_owned());
        self.stock.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.stock.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.stock.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.stock.supported_verify_schemes()
    }
}
