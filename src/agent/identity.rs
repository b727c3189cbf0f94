//! What a host knows about itself: its identity, where the CA is, and which roots it trusts.
//!
//! All of it is one file, replaced in one step, so that a crash never leaves an identity of one
//! enrolment beside the roots of another (rule R9).

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::ledger::Seen;
use super::{AgentError, key, read_if_there};
use crate::ca::bundle::{Bundle, BundleError, Chain, Expected};
use crate::ca::pem_file::{self, Content, PrivateKey};
use crate::clock::Timestamp;
use crate::durable;
use crate::name::HostName;
use crate::profile::{KeyKind, SubjectAltNames, Usages};
use crate::renewal::Validity;
use crate::token::ServerAddress;
use crate::wire::Entitlements;

const ENROLMENT: &str = "enrolment.json";
const PENDING_KEY: &str = "pending-key.pem";
const ENTITLEMENTS: &str = "entitlements.json";

/// An enrolled host.
#[derive(Debug)]
pub struct Enrolment {
    /// Where it enrolled.
    pub server: ServerAddress,
    /// The roots that it trusts.
    pub anchors: Vec<CertificateDer<'static>>,
    /// Its client certificate, with the key.
    pub identity: Bundle,
    /// Its name, as the identity says.
    pub host: HostName,
    /// The ledger's key, and a checkpoint that was seen with the identity.
    pub ledger: Seen,
}

/// The file. It holds a key, so it has no Debug and is erased after use.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    server: ServerAddress,
    anchors: String,
    identity: String,
    // None in what a psfca without a ledger wrote.
    ledger: Option<Seen>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.identity.zeroize();
    }
}

impl Enrolment {
    /// Reads the enrolment from the state directory.
    ///
    /// # Errors
    /// [`AgentError::NotEnrolled`] when there is none, [`AgentError::State`] when it is damaged.
    pub fn load(state: &Path) -> Result<Self, AgentError> {
        let path = state.join(ENROLMENT);
        let content = read_if_there(&path)?.ok_or_else(|| AgentError::NotEnrolled(state.to_owned()))?;
        let content = Zeroizing::new(content);
        let damaged = |cause: String| AgentError::State {
            path: path.clone(),
            cause: format!("it is damaged ({cause}); enrol again with a new token made with --replace"),
        };
        // serde's message may quote the file, and with it the key: only the place is told.
        let stored: Stored =
            serde_json::from_slice(&content).map_err(|error| damaged(format!("no JSON at line {}", error.line())))?;
        let identity = Bundle::parse(stored.identity.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        let anchors = pem_file::certificates(stored.anchors.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        let host = host_of(identity.chain()).map_err(|error| damaged(error.to_string()))?;
        let ledger = stored.ledger.clone().ok_or_else(|| damaged("it has no key of the CA's ledger".to_owned()))?;
        Ok(Self { server: stored.server.clone(), anchors, identity, host, ledger })
    }

    /// Writes the enrolment in one step; the one before stays until then.
    ///
    /// # Errors
    /// [`AgentError::State`].
    pub fn save(&self, state: &Path) -> Result<(), AgentError> {
        let stored = Stored {
            server: self.server.clone(),
            anchors: pem_file::certificates_to_pem(&self.anchors),
            identity: self.identity.to_pem().to_string(),
            ledger: Some(self.ledger.clone()),
        };
        let text = serde_json::to_vec_pretty(&stored).map_err(|error| failed(state.join(ENROLMENT), &error))?;
        save(&state.join(ENROLMENT), &Zeroizing::new(text))
    }

    /// The dates of the identity.
    #[must_use]
    pub fn validity(&self) -> Validity {
        let leaf = self.identity.leaf();
        Validity::new(leaf.not_before, leaf.not_after, &leaf.serial)
    }
}

/// The host that an identity names: exactly one URI, `spiffe://TRUST-DOMAIN/host/HOST`.
///
/// # Errors
/// [`BundleError::Names`] for anything else.
pub fn host_of(chain: &Chain) -> Result<HostName, BundleError> {
    let names = &chain.leaf().names;
    let only = names.first().filter(|_| names.len() == 1);
    let path = only.and_then(|uri| uri.strip_prefix("spiffe://")).and_then(|rest| rest.split_once("/host/"));
    path.and_then(|(_, host)| HostName::parse(host).ok()).ok_or_else(|| BundleError::Names {
        found: names.iter().cloned().collect::<Vec<_>>().join(", "),
        expected: "a host's identity (spiffe://…/host/…)".to_owned(),
    })
}

/// Checks an identity that came over a verified connection: the key fits, it leads to the identity
/// CA that came with it, is for clients, and is valid now.
///
/// # Errors
/// [`BundleError`].
pub fn accept(answer: &[u8], key: PrivateKey, now: Timestamp) -> Result<(Bundle, HostName), BundleError> {
    let identity = Bundle::new(Chain::parse(answer)?, key)?;
    let host = host_of(identity.chain())?;
    let uri = identity.leaf().names.first().cloned();
    let names = SubjectAltNames { uri, ..SubjectAltNames::default() };
    let expected = Expected { alt_names: &names, exactly: true, usages: Some(Usages::Client) };
    // The identity CA is in no trust bundle: the host only shows the identity and never relies on it.
    let root = identity.chain().certificates().last().cloned();
    identity.check(root.as_slice(), &expected, now)?;
    Ok((identity, host))
}

/// The key that the next identity is asked for with. It is on disk before anybody is asked, and it
/// stays the same until the answer is stored, so that a lost answer costs nothing (rule R9).
///
/// # Errors
/// [`AgentError::State`].
pub fn pending_key(state: &Path) -> Result<PrivateKey, AgentError> {
    let path = state.join(PENDING_KEY);
    if let Some(text) = read_if_there(&path)?.map(Zeroizing::new)
        && let Ok([block]) = pem_file::strict_blocks(&text).as_deref_mut()
        && let Content::PrivateKey(key) = std::mem::replace(&mut block.content, Content::Other)
    {
        return Ok(key);
    }
    let key = key::generate(KeyKind::EcdsaP256, "the identity")?;
    save(&path, key.to_pem().as_bytes())?;
    Ok(key)
}

/// Forgets the pending key, once the identity with it is stored.
pub fn forget_pending_key(state: &Path) {
    // If it stays, the next identity is for the same key, which is harmless.
    let _ = std::fs::remove_file(state.join(PENDING_KEY));
}

/// What the CA last said that this host may have; none when it was never asked, or unreadable.
#[must_use]
pub fn known_entitlements(state: &Path) -> Option<Entitlements> {
    serde_json::from_slice(&read_if_there(&state.join(ENTITLEMENTS)).ok()??).ok()
}

/// Forgets what the CA said of another host.
pub fn forget_entitlements(state: &Path) {
    // If it stays, it is replaced when the CA is next asked.
    let _ = std::fs::remove_file(state.join(ENTITLEMENTS));
}

/// Keeps what the CA said, for when it cannot be asked.
///
/// # Errors
/// [`AgentError::State`].
pub fn keep_entitlements(state: &Path, entitlements: &Entitlements) -> Result<(), AgentError> {
    let path = state.join(ENTITLEMENTS);
    if known_entitlements(state).as_ref() == Some(entitlements) {
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(entitlements).map_err(|error| failed(path.clone(), &error))?;
    save(&path, &text)
}

fn save(path: &Path, content: &[u8]) -> Result<(), AgentError> {
    durable::replace(path, content, 0o600).map_err(|error| failed(path.to_owned(), &error))
}

fn failed(path: PathBuf, cause: &dyn fmt::Display) -> AgentError {
    AgentError::State { path, cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::fixture::{Hierarchy, LeafSpec, dns, now};

    fn names() -> SubjectAltNames {
        SubjectAltNames { uri: Some("spiffe://psf.io/host/pg0.iad1.psf.io".to_owned()), ..Default::default() }
    }

    fn answer(ca: &Hierarchy, names: &SubjectAltNames, key: &PrivateKey) -> String {
        let spec = LeafSpec { usages: Usages::Client, ..LeafSpec::server(names) };
        let pair = rcgen::KeyPair::try_from(key.pkcs8().unwrap()).unwrap();
        ca.sign_by_root(&spec, &pair).to_pem()
    }

    #[test]
    fn an_enrolment_survives_being_stored_and_never_shows_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let ca = Hierarchy::new("identities");
        let key = pending_key(directory.path()).unwrap();
        assert_eq!(pending_key(directory.path()).unwrap().spki(), key.spki());
        let text = answer(&ca, &names(), &key);
        let (identity, host) = accept(text.as_bytes(), key, now()).unwrap();
        assert_eq!(host.as_str(), "pg0.iad1.psf.io");
        let server = ServerAddress::parse("ca.psf.io:8443").unwrap();
        let signer = crate::agent::fixture::FakeLedger::new();
        let ledger =
            Seen { key: signer.verifier().clone(), checkpoint: signer.checkpoint(), at: now(), recovered: None };
        let enrolment = Enrolment { server, anchors: vec![ca.root_der()], identity, host, ledger };
        enrolment.save(directory.path()).unwrap();
        let read = Enrolment::load(directory.path()).unwrap();
        assert_eq!(read.identity.to_pem(), enrolment.identity.to_pem());
        assert_eq!((read.host, read.anchors, read.ledger), (enrolment.host, enrolment.anchors, enrolment.ledger));

        std::fs::write(directory.path().join(ENROLMENT), r#"{"identity": "SECRET""#).unwrap();
        let error = Enrolment::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("it is damaged") && !error.contains("SECRET"), "{error}");
        let nowhere = Enrolment::load(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(nowhere.starts_with("this host is not enrolled"), "{nowhere}");
    }

    #[test]
    fn an_identity_for_another_key_or_of_another_form_is_refused() {
        let ca = Hierarchy::new("identities");
        let new_key = || key::generate(KeyKind::EcdsaP256, "x").unwrap();
        let (mine, other) = (new_key(), new_key());
        let text = answer(&ca, &names(), &other);
        assert_eq!(accept(text.as_bytes(), mine, now()).unwrap_err(), BundleError::KeyMismatch);
        let text = answer(&ca, &dns(&["pg0.iad1.psf.io"]), &other);
        assert!(matches!(accept(text.as_bytes(), other, now()), Err(BundleError::Names { .. })));
    }
}
