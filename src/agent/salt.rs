//! A Salt minion's key in exchange for an identity: the master has accepted it, so this host is known.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Method;
use hyper::body::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PSS_SHA256, RsaKeyPair};
use zeroize::{Zeroize as _, Zeroizing};

use super::enroll::{Enrolled, FirstTrust, complete, first_contact};
use super::{Agent, AgentError, identity, key};
use crate::name::HostName;
use crate::salt::message;
use crate::wire::{ChallengeAnswer, PEM_CHAIN, SaltEnrollRequest};

/// A minion's private key. It signs one challenge and is otherwise left alone.
pub struct MinionKey(RsaKeyPair);

impl std::fmt::Debug for MinionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MinionKey(..)")
    }
}

impl MinionKey {
    /// Reads PEM, PKCS#1 (as Salt writes it) or PKCS#8.
    ///
    /// # Errors
    /// [`AgentError::State`] when the file cannot be read or holds no RSA key of 2048 to 4096 bits.
    pub fn read(path: &Path) -> Result<Self, AgentError> {
        let wrong = |cause: &str| AgentError::State { path: path.to_owned(), cause: cause.to_owned() };
        let text = Zeroizing::new(std::fs::read(path).map_err(|error| AgentError::state(path, &error))?);
        // What pem says of a text may quote it.
        let block = pem::parse(text.as_slice()).map_err(|_| wrong("it is no PEM file"))?;
        let label = block.tag().to_owned();
        let mut der = block.into_contents();
        let pair = match label.as_str() {
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
            _ => {
                der.zeroize();
                return Err(wrong("it holds no RSA private key in the clear (PKCS#1 or PKCS#8)"));
            }
        };
        der.zeroize();
        pair.map(Self).map_err(|error| wrong(&format!("it holds no RSA key of 2048 to 4096 bits ({error})")))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, AgentError> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        let failed = |_| AgentError::Key("the minion's key does not sign".to_owned());
        self.0.sign(&RSA_PSS_SHA256, &SystemRandom::new(), message, &mut signature).map_err(failed)?;
        Ok(signature)
    }
}

/// Enrols this host as `host`, whose minion key the CA has imported.
///
/// # Errors
/// [`AgentError`]; with [`AgentError::Client`] the CA did not answer or said no.
pub async fn enroll(
    agent: &Agent<'_>,
    trust: &FirstTrust,
    host: &HostName,
    minion: &MinionKey,
) -> Result<Enrolled, AgentError> {
    let _lock = agent.lock()?;
    let mut contact = first_contact(agent, trust).await?;
    let json = "application/json";
    let answer = contact.client.send(Method::POST, "/v1/enroll/challenge", "", json, Bytes::new()).await?.ok()?;
    let ChallengeAnswer { challenge, .. } = answer.json()?;
    let nonce = URL_SAFE_NO_PAD.decode(&challenge).map_err(|error| answer.malformed(error))?;

    // On disk before anybody is asked: the CA gives the same key the same answer.
    let key = identity::pending_key(&agent.settings.state)?;
    let signature = minion.sign(&message(trust.root, host, &nonce, key.spki()))?;
    let signature = URL_SAFE_NO_PAD.encode(signature);
    let ask = SaltEnrollRequest { host: host.clone(), csr: key::request(&key)?, challenge, signature };
    let body = serde_json::to_vec(&ask).map_err(|error| AgentError::Key(error.to_string()))?;
    let answer = contact.client.send(Method::POST, "/v1/enroll/salt", json, PEM_CHAIN, body).await?.ok()?;
    complete(agent, contact, &answer, key, Some(host), true).await
}
