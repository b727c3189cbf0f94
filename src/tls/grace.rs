//! Client certificates that have ended not long ago. The handshake lets them through, so that a host
//! that was away can renew its identity; what else such a connection may do is decided at each request.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};

/// Another verifier, which is asked about the certificate's end where the present is too late for it.
#[derive(Debug)]
pub(super) struct InGrace {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// For how long after its end a certificate is let through.
    pub(super) grace: Duration,
}

impl ClientCertVerifier for InGrace {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let refused = match self.verifier.verify_client_cert(end_entity, intermediates, now) {
            Err(rustls::Error::InvalidCertificate(cause)) => cause,
            verdict => return verdict,
        };
        let CertificateError::ExpiredContext { not_after, .. } = &refused else { return Err(refused.into()) };
        let not_after = *not_after;
        if now.as_secs() > not_after.as_secs().saturating_add(self.grace.as_secs()) {
            return Err(refused.into());
        }
        // Everything else must hold, at the end of the certificate itself. An identity is signed by its
        // root, so there is no other certificate whose end this could be.
        match self.verifier.verify_client_cert(end_entity, &[], not_after) {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { .. })) => Err(refused.into()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
