//! Whether a root statement is by a root: the other half of [`super::signer::Authority::state`].

use rustls::pki_types::CertificateDer;

use super::certificate::CaCertificate;
use crate::root_statement::{Recovery, SignedRecovery, StatementError, key_id};

/// Reads a recovery that one of `anchors` has signed. An anchor with a key of another kind than
/// ECDSA P-256 or P-384 signs none.
///
/// # Errors
/// [`StatementError`].
pub fn recovery(text: &str, anchors: &[CertificateDer<'_>]) -> Result<Recovery, StatementError> {
    let roots: Vec<CaCertificate> = anchors.iter().filter_map(|der| CaCertificate::from_der(der).ok()).collect();
    recovery_by(text, &roots)
}

/// As [`recovery`], by roots that were read before.
///
/// # Errors
/// [`StatementError`].
pub fn recovery_by(text: &str, roots: &[CaCertificate]) -> Result<Recovery, StatementError> {
    SignedRecovery::parse(text)?.verified(|id, text, signature| {
        roots.iter().any(|root| key_id(root.spki()) == id && root.has_signed(text, signature))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ca::fixture::{Hierarchy, now};
    use crate::ca::key_file;
    use crate::ca::signer::{Authority, CaKey};
    use crate::digest::Digest;
    use crate::ledger::note::NoteVerifier;
    use crate::profile::KeyKind;
    use crate::random::SystemRandom;

    fn statement() -> Recovery {
        Recovery {
            given_up: 30,
            given_up_root: None,
            size: 12,
            root: Digest::of(b"head"),
            ledger_key: NoteVerifier::new("psf.io/PSF_CA", [7; 32]).unwrap(),
            time: now(),
        }
    }

    /// A CA that can sign, as if read from its files.
    pub(crate) fn authority(certificate: &[u8], key: &rcgen::KeyPair) -> Authority {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        key_file::write_new(&path, &key.serialize_der()).unwrap();
        Authority::load(CaCertificate::from_der(certificate).unwrap(), &path).unwrap()
    }

    #[test]
    fn a_statement_is_believed_by_those_who_trust_its_root_and_nobody_else() {
        let (ours, other) = (Hierarchy::new("PSF_CA"), Hierarchy::new("PSF_CA"));
        let text = authority(&ours.root_der(), ours.root.key()).state(statement()).unwrap().to_text();
        assert_eq!(recovery(&text, &[other.root_der(), ours.root_der()]), Ok(statement()));
        assert_eq!(recovery(&text, &[other.root_der()]), Err(StatementError::NotByARoot));
        assert_eq!(recovery(&text, &[]), Err(StatementError::NotByARoot));
        // The daemon has the issuing CA's key, and that one signs no statements.
        let issuing = authority(ours.issuing.der(), ours.issuing.key()).state(statement()).unwrap().to_text();
        assert_eq!(recovery(&issuing, &[ours.root_der()]), Err(StatementError::NotByARoot));
    }

    #[test]
    fn no_changed_octet_is_believed() {
        let ours = Hierarchy::new("PSF_CA");
        let text = authority(&ours.root_der(), ours.root.key()).state(statement()).unwrap().to_text();
        let anchors = [ours.root_der()];
        for at in 0..text.len() {
            for flip in [1, 2, 16, 32] {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= flip;
                let Ok(changed) = String::from_utf8(changed) else { continue };
                assert!(recovery(&changed, &anchors).is_err(), "octet {at}: {changed}");
            }
            assert!(text.get(..at).is_none_or(|cut| recovery(cut, &anchors).is_err()), "cut at {at}");
        }
    }

    #[test]
    fn a_root_key_that_was_carried_away_signs_when_its_passphrase_is_given() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384] {
            let _ = std::fs::remove_file(&path);
            CaKey::generate(kind).unwrap().store_encrypted(&path, "correct horse battery", &SystemRandom).unwrap();
            let key = CaKey::load_encrypted(&path, "correct horse battery").unwrap();
            assert!(matches!(CaKey::load_encrypted(&path, "another"), Err(key_file::KeyError::Passphrase(_))));
            assert!(matches!(CaKey::load(&path), Err(key_file::KeyError::Unreadable { .. })));
            // It is the key of another certificate, so it signs nothing here.
            let root = CaCertificate::from_der(&Hierarchy::new("PSF_CA").root_der()).unwrap();
            assert_ne!(key.subject_key().spki(), root.spki());
            let refused = Authority::load_encrypted(root, &path, "correct horse battery");
            assert!(matches!(refused, Err(key_file::KeyError::Mismatch(_))));
        }
    }
}
