//! Keys are made on the host and stay there (rule R6); only a request leaves it.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, SignatureAlgorithm};

use super::AgentError;
use crate::ca::pem_file::PrivateKey;
use crate::profile::KeyKind;

/// Makes a key of `kind` for `name`.
///
/// # Errors
/// [`AgentError::KeyNotMadeHere`] for RSA, [`AgentError::Key`] when the system gives no randomness.
pub fn generate(kind: KeyKind, name: &str) -> Result<PrivateKey, AgentError> {
    let algorithm: &'static SignatureAlgorithm = match kind {
        KeyKind::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyKind::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyKind::Ed25519 => &rcgen::PKCS_ED25519,
        KeyKind::Rsa => return Err(AgentError::KeyNotMadeHere { name: name.to_owned(), kind }),
    };
    let key = KeyPair::generate_for(algorithm).map_err(|error| AgentError::Key(error.to_string()))?;
    PrivateKey::from_pkcs8(key.serialize_der()).map_err(AgentError::Key)
}

/// A PKCS#10 request for `key`, PEM. It asks for nothing: names and usages come from the grant.
///
/// # Errors
/// [`AgentError::Key`] when the key is not in PKCS#8 form.
pub fn request(key: &PrivateKey) -> Result<String, AgentError> {
    let unusable = |cause: String| AgentError::Key(cause);
    let pkcs8 = key.pkcs8().ok_or_else(|| unusable("the key is not in PKCS#8 form".to_owned()))?;
    let pair = KeyPair::try_from(pkcs8).map_err(|error| unusable(error.to_string()))?;
    let mut params = CertificateParams::default();
    // rcgen's default is a name of its own.
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&pair).and_then(|request| request.pem());
    request.map_err(|error| unusable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

    use super::*;
    use crate::ca::pem_file::{Content, strict_blocks};

    #[test]
    fn every_kind_that_is_made_here_gives_a_signed_request_for_nothing() {
        for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519] {
            let key = generate(kind, "a.psf.io").unwrap();
            let pem = request(&key).unwrap();
            let Content::Request(der) = &strict_blocks(pem.as_bytes()).unwrap()[0].content else { panic!("{pem}") };
            let (_, parsed) = X509CertificationRequest::from_der(der).unwrap();
            parsed.verify_signature().unwrap();
            assert_eq!(parsed.certification_request_info.subject_pki.raw, key.spki());
            assert_eq!(parsed.certification_request_info.subject.iter().count(), 0);
        }
        let error = generate(KeyKind::Rsa, "a.psf.io").unwrap_err();
        assert!(error.to_string().contains("psfca issue a.psf.io --csr FILE"), "{error}");
    }
}
