//! Whose a file is that lies where a bundle is to go.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::pem_file::{Content, strict_blocks};

/// Whether `text` is a whole file of somebody else's. Every block of it is whole, keys and certificates are in
/// it, and none of `anchors` signed any of them: a bundle of ours has an issuing CA that one of them did sign,
/// also when it is cut off between two blocks. What is torn is nobody's, and may be replaced.
#[must_use]
pub fn is_foreign(text: &[u8], anchors: &[CertificateDer<'_>]) -> bool {
    let Ok(blocks) = strict_blocks(text) else { return false };
    let of_somebody =
        |content: &Content| matches!(content, Content::Certificate(_) | Content::PrivateKey(_) | Content::EncryptedKey);
    let of_ours = |content: &Content| match content {
        Content::Certificate(der) => anchors.iter().any(|anchor| signed_by(der, anchor)),
        _ => false,
    };
    blocks.iter().any(|block| of_somebody(&block.content)) && !blocks.iter().any(|block| of_ours(&block.content))
}

fn signed_by(certificate: &[u8], anchor: &[u8]) -> bool {
    let (Ok((_, certificate)), Ok((_, anchor))) =
        (X509Certificate::from_der(certificate), X509Certificate::from_der(anchor))
    else {
        return false;
    };
    certificate.issuer() == anchor.subject() && certificate.verify_signature(Some(anchor.public_key())).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::fixture::{Hierarchy, LeafSpec, dns};

    #[test]
    fn what_is_whole_and_none_of_ours_is_somebody_elses_and_what_is_torn_is_nobodys() {
        let (ours, theirs) = (Hierarchy::new("PSF_CA"), Hierarchy::new("PSF_CA"));
        let names = dns(&["a.psf.io"]);
        let anchors = [ours.root_der()];
        let bundle = |ca: &Hierarchy| ca.bundle(&LeafSpec::server(&names));
        let (mine, other) = (bundle(&ours), bundle(&theirs));
        let foreign = |text: &str| is_foreign(text.as_bytes(), &anchors);
        assert!(foreign(&other.to_pem()) && foreign(&other.chain().to_pem()) && foreign(&other.key().to_pem()));
        assert!(!foreign(&mine.to_pem()) && !foreign(&mine.chain().to_pem()));
        // Ours with another key beside it is ours and damaged.
        assert!(!foreign(&(mine.chain().to_pem() + &other.key().to_pem())));
        for torn in ["", "torn", &other.to_pem()[..other.to_pem().len() - 40], &mine.to_pem()[..900]] {
            assert!(!foreign(torn), "{torn}");
        }
    }
}
