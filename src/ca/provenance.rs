//! Whose a file is that lies where a bundle is to go.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::bundle::Bundle;
use super::pem_file::{Content, strict_blocks};
use crate::clock::Timestamp;

/// The bundle in `text`, when it is whole and this CA issued it: its certificate leads to one of `anchors`, now or, where
/// it has ended, at its end.
#[must_use]
pub fn own_bundle(text: &[u8], anchors: &[CertificateDer<'_>], now: Timestamp) -> Option<Bundle> {
    let bundle = Bundle::parse(text).ok()?;
    let leaf = bundle.leaf();
    let then = now.min(leaf.not_after).max(leaf.not_before);
    bundle.chain().leads_to(anchors, then).then_some(bundle)
}

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
    use crate::ca::fixture::{Hierarchy, LeafSpec, dns, now};

    #[test]
    fn a_bundle_is_of_the_ca_that_its_own_certificate_leads_to_also_when_it_has_ended() {
        let (ours, theirs) = (Hierarchy::new("PSF_CA"), Hierarchy::new("PSF_CA"));
        let names = dns(&["a.psf.io"]);
        let anchors = [ours.root_der()];
        let [mine, other] = [&ours, &theirs].map(|ca| ca.bundle(&LeafSpec::server(&names)));
        let is_ours = |text: &str, when| own_bundle(text.as_bytes(), &anchors, when).is_some();
        let year = std::time::Duration::from_secs(365 * 86_400);
        for when in [now(), now().plus(year), now().minus(year)] {
            assert!(is_ours(&mine.to_pem(), when) && !is_ours(&other.to_pem(), when), "{when}");
        }
        // An issuing CA of ours beside it makes nobody's certificate ours.
        let issuing = crate::ca::pem_file::certificates_to_pem(&mine.chain().certificates()[1..]);
        assert!(!is_ours(&(other.to_pem().to_string() + &issuing), now()));
        assert!(!is_ours(&mine.chain().to_pem(), now()) && !is_ours("torn", now()));
    }

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
