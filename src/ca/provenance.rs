//! Whose a file is that lies where a bundle is to go.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::bundle::Bundle;
use super::pem_file::{self, Block, Content, PemError, Place};
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

/// Whose a file is, by what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// There is nothing in it.
    Nothing,
    /// A certificate of this CA is in it; whole or torn, in PEM, in PKCS#12 or in the manifest of a secret.
    Ours,
    /// A whole PEM file with keys and certificates, and none of this CA.
    Foreign,
    /// Nobody can tell: it is torn, or something else altogether.
    Unknown,
}

/// Finds out whose a file with this content is. A bundle of ours has an issuing CA in it that one of `anchors` signed,
/// also when it is cut off behind that. The anchors themselves say nothing: everybody may keep them.
#[must_use]
pub fn origin(content: &[u8], anchors: &[CertificateDer<'_>]) -> Origin {
    if content.trim_ascii().is_empty() {
        return Origin::Nothing;
    }
    let in_pem = |text: &[u8]| {
        let blocks = pem_file::blocks(text).unwrap_or_default();
        blocks.iter().flatten().any(|block| is_of(&block.content, anchors))
    };
    if in_pem(content) || in_der(content, anchors) || secret(content).is_some_and(|text| in_pem(&text)) {
        return Origin::Ours;
    }
    if is_foreign(content) { Origin::Foreign } else { Origin::Unknown }
}

/// Whether keys or certificates are in PEM text and every block of it is whole. A key of a kind that psfca does not
/// read, or under a passphrase, is whole too.
fn is_foreign(text: &[u8]) -> bool {
    let Ok(blocks) = pem_file::blocks(text) else { return false };
    let is_key = |place: &Place| place.label.ends_with("PRIVATE KEY");
    let mut of_somebody = false;
    for block in &blocks {
        of_somebody |= match block {
            Ok(Block { content, .. }) => {
                matches!(content, Content::Certificate(_) | Content::PrivateKey(_) | Content::EncryptedKey)
            }
            Err(PemError::Content { place, .. } | PemError::Base64 { place, .. }) if is_key(place) => true,
            Err(_) => return false,
        };
    }
    of_somebody
}

fn is_of(content: &Content, anchors: &[CertificateDer<'_>]) -> bool {
    let Content::Certificate(der) = content else { return false };
    !anchors.contains(der) && anchors.iter().any(|anchor| signed_by(der, anchor))
}

/// Looks for certificates in DER, as they stand in a keystore: unencrypted, wherever that is.
fn in_der(content: &[u8], anchors: &[CertificateDer<'_>]) -> bool {
    // A certificate is a SEQUENCE of 256 bytes and more; so is a keystore.
    let is_long = |at: &[u8]| matches!(at, [0x30, 0x82, ..]);
    is_long(content)
        && (0..content.len()).map(|at| &content[at..]).filter(|at| is_long(at)).any(|at| {
            X509Certificate::from_der(at).is_ok_and(|(rest, _)| {
                let der = CertificateDer::from(&at[..at.len() - rest.len()]);
                !anchors.contains(&der) && anchors.iter().any(|anchor| signed_by(&der, anchor))
            })
        })
}

/// The certificates of a Kubernetes secret, PEM.
fn secret(content: &[u8]) -> Option<Vec<u8>> {
    let manifest: serde_json::Value = serde_json::from_slice(content).ok()?;
    STANDARD.decode(manifest.get("data")?.get("tls.crt")?.as_str()?).ok()
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
    use crate::ca::pkcs12;
    use crate::random::SystemRandom;

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
        let foreign = |text: &str| origin(text.as_bytes(), &anchors) == Origin::Foreign;
        assert!(foreign(&other.to_pem()) && foreign(&other.chain().to_pem()) && foreign(&other.key().to_pem()));
        assert!(!foreign(&mine.to_pem()) && !foreign(&mine.chain().to_pem()));
        // Ours with another key beside it is ours and damaged.
        assert!(!foreign(&(mine.chain().to_pem() + &other.key().to_pem())));
        for torn in ["", "torn", &other.to_pem()[..other.to_pem().len() - 40], &mine.to_pem()[..900]] {
            assert!(!foreign(torn), "{torn}");
        }
    }
    #[test]
    fn what_is_ours_is_ours_in_every_form_whole_or_torn_and_what_anybody_may_keep_is_not() {
        let (ours, theirs) = (Hierarchy::new("PSF_CA"), Hierarchy::new("PSF_CA"));
        let names = dns(&["a.psf.io"]);
        let anchors = [ours.root_der()];
        let forms = |ca: &Hierarchy| {
            let bundle = ca.bundle(&LeafSpec::server(&names));
            let (key, chain) = (bundle.key().to_pem(), bundle.chain().to_pem());
            let keystore = pkcs12::seal(&bundle, &pkcs12::Password::conventional(), &SystemRandom).unwrap();
            let secret = serde_json::json!({"kind": "Secret", "data": {"tls.crt": STANDARD.encode(&chain)}});
            [bundle.to_pem().as_bytes().to_vec(), [key.as_bytes(), chain.as_bytes()].concat(), keystore]
                .into_iter()
                .chain([secret.to_string().into_bytes()])
                .collect::<Vec<_>>()
        };
        let of = |content: &[u8]| origin(content, &anchors);
        for form in forms(&ours) {
            assert_eq!(of(&form), Origin::Ours, "{}", String::from_utf8_lossy(&form));
        }
        let [bundle, key_first, keystore, _] = &forms(&ours)[..] else { panic!("four forms") };
        let cut = |form: &[u8]| of(&form[..form.len() - 20]);
        // What is cut off within the issuing CA proves nothing.
        assert_eq!([bundle, keystore, key_first].map(|form| cut(form)), [Origin::Ours, Origin::Ours, Origin::Unknown]);
        let [bundle, key_first, keystore, secret] = &forms(&theirs)[..] else { panic!("four forms") };
        assert_eq!([bundle, key_first].map(|form| of(form)), [Origin::Foreign; 2]);
        assert_eq!([keystore, secret].map(|form| of(form)), [Origin::Unknown; 2]);
        assert_eq!([&b""[..], b" \n"].map(of), [Origin::Nothing; 2]);
        assert_eq!([&b"myhostname = mail.psf.io\n"[..], b"torn", b"\x30\x82"].map(of), [Origin::Unknown; 3]);
        let roots = pem_file::certificates_to_pem([&ours.root_der(), &theirs.root_der()]);
        assert_eq!((of(roots.as_bytes()), of(&ours.root_der())), (Origin::Foreign, Origin::Unknown));
        // Old OpenSSL's form of an encrypted key, which nobody here can read.
        let old = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
        assert_eq!(of(old.as_bytes()), Origin::Foreign);
    }
}
