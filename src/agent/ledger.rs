//! What this host has seen of the CA's ledger, and what it demands of every answer: the certificate
//! is in the ledger, and the ledger continues the one that was seen before.
//!
//! The key that signs the ledger, and a first checkpoint, lie in the enrolment, so they always belong
//! to its identity. The newest checkpoint lies beside it, and counts only under the same key. What was
//! seen is taken back by an enrolment, or by a root's word (`recovery`), and by nothing else.

mod error;
mod recovery;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};

pub use error::LedgerError;
use rustls::pki_types::CertificateDer;

use super::identity::Enrolment;
use super::servers::Servers;
use super::settings::LedgerPolicy;
use super::{Agent, AgentError, read_if_there};
use crate::ca::bundle::Leaf;
use crate::client::{Answer, ClientError};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::durable;
use crate::grant::CertificateKind;
use crate::ledger::checkpoint::{Checkpoint, InclusionProof, ProofError};
use crate::ledger::cosignature::WitnessKey;
use crate::ledger::note::NoteVerifier;
use crate::ledger::tree::verify_consistency;
use crate::ledger::{CertificateRecord, Entry, Event};
use crate::name::HostName;
use crate::report::{LedgerRecovery, LedgerStatus, LedgerTrouble};
use crate::wire::{Consistency, LEDGER_KEY_HEADER, PROOF_HEADER};

const FILE: &str = "ledger.json";

/// What an answer is about, besides the certificate itself.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What kind of certificate.
    pub kind: CertificateKind,
    /// The service name, or the host's name for an identity.
    pub name: &'a str,
    /// This host.
    pub host: &'a HostName,
    /// Whether the CA was asked to make the key.
    pub ca_made_key: bool,
}

/// A checkpoint that this host has seen, and by whose key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The key that signs this ledger's checkpoints.
    pub key: NoteVerifier,
    /// The checkpoint, as it was signed.
    pub checkpoint: String,
    /// When it was seen.
    pub at: Timestamp,
    /// The newest recovery that was obeyed; an older one is not obeyed any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<LedgerRecovery>,
}

impl Seen {
    /// Takes the ledger's key from the answer to an enrolment, and holds the answer to it.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn first(
        answer: &Answer,
        leaf: &Leaf,
        asked: &Asked<'_>,
        witness: Option<&WitnessKey>,
        at: Timestamp,
    ) -> Result<Self, LedgerError> {
        let key = answer.header(LEDGER_KEY_HEADER).and_then(|text| NoteVerifier::parse(text).ok());
        let key = key.ok_or(LedgerError::NoHeader(LEDGER_KEY_HEADER))?;
        let proof = recorded(answer, leaf, asked, &key)?.witnessed(witness)?;
        Ok(Self { key, checkpoint: proof.checkpoint, at, recovered: None })
    }

    /// Reads the checkpoint.
    ///
    /// # Errors
    /// [`ProofError`] when it is not signed by the key beside it.
    pub fn head(&self) -> Result<Checkpoint, ProofError> {
        Checkpoint::open(&self.checkpoint, &self.key)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    seen: Seen,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

/// What this host remembers of the ledger.
#[derive(Debug)]
pub struct Memory {
    state: PathBuf,
    policy: LedgerPolicy,
    anchors: Vec<CertificateDer<'static>>,
    witness: Option<WitnessKey>,
    seen: Seen,
    head: Checkpoint,
    /// What was wrong with the last answer.
    trouble: Option<String>,
    /// The recovery that was obeyed in this run.
    news: Option<LedgerRecovery>,
}

impl Memory {
    /// Reads what is remembered beside `enrolment`; that of another CA does not count.
    ///
    /// # Errors
    /// [`AgentError::State`] when it is damaged.
    pub fn load(agent: &Agent<'_>, enrolment: &Enrolment) -> Result<Self, AgentError> {
        let path = agent.settings.state.join(FILE);
        let damaged = |cause: String| AgentError::State {
            path: path.clone(),
            cause: format!(
                "it is damaged ({cause}); remove it, and psfca goes on from the checkpoint of {}",
                enrolment.ledger.at
            ),
        };
        let stored = match read_if_there(&path)? {
            Some(text) => Some(serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?),
            None => None,
        };
        let Stored { seen, trouble } = stored
            .filter(|stored: &Stored| stored.seen.key == enrolment.ledger.key)
            .unwrap_or_else(|| Stored { seen: enrolment.ledger.clone(), trouble: None });
        let head = seen.head().map_err(|error| damaged(error.to_string()))?;
        let (state, policy) = (agent.settings.state.clone(), agent.settings.ledger_policy);
        let witness = agent.settings.witness.clone();
        Ok(Self { state, policy, anchors: enrolment.anchors.clone(), witness, seen, head, trouble, news: None })
    }

    /// What was seen last.
    #[must_use]
    pub const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// For `psfca status`.
    #[must_use]
    pub fn status(&self) -> LedgerStatus {
        LedgerStatus {
            origin: self.head.origin.clone(),
            size: self.head.size,
            seen: self.seen.at,
            checkpoint: self.seen.checkpoint.clone(),
            recovered: self.seen.recovered.clone(),
            problem: self.trouble.clone(),
        }
    }

    /// What is wrong with the ledger, as of the last answer.
    #[must_use]
    pub fn trouble(&self) -> Option<LedgerTrouble> {
        let refused = self.policy == LedgerPolicy::Refuse;
        self.trouble.as_ref().map(|problem| LedgerTrouble { problem: problem.clone(), refused })
    }

    /// The recovery that was obeyed in this run, to be said once and loudly.
    #[must_use]
    pub const fn news(&self) -> Option<&LedgerRecovery> {
        self.news.as_ref()
    }

    /// Where the last answer was in trouble, asks for the ledger's head alone and judges that: a
    /// timer that runs into the same wall four times an hour must not make an entry each time.
    ///
    /// # Errors
    /// [`AgentError::Ledger`] when it still is, [`AgentError::Client`] when the CA does not answer.
    pub async fn before_asking(&mut self, client: &mut Servers, what: &str, now: Timestamp) -> Result<(), AgentError> {
        if self.trouble.is_none() {
            return Ok(());
        }
        self.before_removing(client, what, now).await
    }

    /// Asks for the ledger's head alone and judges that: a CA by whose word nothing is installed has nothing removed
    /// either.
    ///
    /// # Errors
    /// As [`Memory::before_asking`].
    pub async fn before_removing(
        &mut self,
        client: &mut Servers,
        what: &str,
        now: Timestamp,
    ) -> Result<(), AgentError> {
        let answer = client.send(Method::GET, "/v1/ledger/checkpoint", "", "", Bytes::new()).await?.ok()?;
        let note = String::from_utf8_lossy(&answer.body).into_owned();
        let witness = self.witness.clone();
        let open = |key: &NoteVerifier| match Checkpoint::open(&note, key) {
            Ok(head) => Proven { head, checkpoint: note.clone() }.witnessed(witness.as_ref()),
            Err(error) => Err(LedgerError::of_proof(error, key)),
        };
        self.judge(client, what, open, now).await
    }

    /// Holds an answer to the ledger, before anything of it is used, and remembers its checkpoint.
    ///
    /// # Errors
    /// [`AgentError::Ledger`] says why nothing of it may be used.
    pub async fn accept(
        &mut self,
        client: &mut Servers,
        answer: &Answer,
        leaf: &Leaf,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> Result<(), AgentError> {
        let witness = self.witness.clone();
        self.judge(client, asked.name, |key| recorded(answer, leaf, asked, key)?.witnessed(witness.as_ref()), now).await
    }

    /// The one place where the policy counts. `open` reads an answer by the ledger's key.
    async fn judge(
        &mut self,
        client: &mut Servers,
        what: &str,
        open: impl Fn(&NoteVerifier) -> Result<Proven, LedgerError>,
        now: Timestamp,
    ) -> Result<(), AgentError> {
        let past = self.past();
        let judged = match past.hold(client, open(past.key)).await {
            Err(trouble) if trouble.may_be_recovered() => self.after_recovery(client, open, trouble, now).await,
            held => held.map(|proven| {
                let Seen { key, recovered, .. } = self.seen.clone();
                (Seen { key, checkpoint: proven.checkpoint, at: now, recovered }, proven.head)
            }),
        };
        match judged {
            Ok((seen, head)) => self.remember(seen, head),
            Err(LedgerError::Unanswered(error)) => Err(error.into()),
            // What was seen before stays what the ledger is held to, so this is said until it ends.
            Err(error) if error.is_of_the_past() && self.policy == LedgerPolicy::Alarm => {
                self.trouble = Some(error.to_string());
                self.save()
            }
            Err(cause) => {
                self.trouble = Some(cause.to_string());
                // If this is not stored, the next run only finds out by an answer of its own.
                let _ = self.save();
                Err(AgentError::Ledger { what: what.to_owned(), cause })
            }
        }
    }

    /// Writes down again what is written down. Where that fails nothing is to be asked for: what cannot be remembered is
    /// not installed, and would only be one entry more in the ledger.
    ///
    /// # Errors
    /// [`AgentError::State`].
    pub fn rewrite(&self) -> Result<(), AgentError> {
        self.save()
    }

    const fn past(&self) -> Past<'_> {
        Past { key: &self.seen.key, size: self.head.size, root: self.head.root, at: self.seen.at }
    }

    fn save(&self) -> Result<(), AgentError> {
        let stored = Stored { seen: self.seen.clone(), trouble: self.trouble.clone() };
        write(&self.state.join(FILE), &stored)
    }
}

/// What an answer is held to.
#[derive(Debug, Clone, Copy)]
struct Past<'p> {
    /// The key that signs the ledger's checkpoints.
    key: &'p NoteVerifier,
    /// The size of a head.
    size: u64,
    /// Its root.
    root: Digest,
    /// When it was seen.
    at: Timestamp,
}

impl Past<'_> {
    /// What was proven, if its head continues this one.
    async fn hold(&self, client: &mut Servers, proven: Result<Proven, LedgerError>) -> Result<Proven, LedgerError> {
        let proven = proven?;
        self.continues(client, &proven.head).await.map(|()| proven)
    }

    async fn continues(&self, client: &mut Servers, head: &Checkpoint) -> Result<(), LedgerError> {
        let (now, seen, at) = (head.size, self.size, self.at);
        let forked = |cause: &str| LedgerError::Forked { now, seen, at, cause: cause.to_owned() };
        if now < seen {
            return Err(LedgerError::WentBack { now, seen, at });
        }
        if now == seen {
            return if head.root == self.root { Ok(()) } else { Err(forked("they have another root")) };
        }
        let path = format!("/v1/ledger/consistency?old={seen}&new={now}");
        let proof: Consistency = match client.get_json(&path).await {
            Ok(proof) => proof,
            // A CA that signed this size can prove it; that it has no proof is an answer too.
            Err(ClientError::Refused { problem, .. }) if matches!(problem.status, 400 | 404) => {
                return Err(forked(&format!("it gives no proof ({:.200})", problem.detail)));
            }
            Err(error) => return Err(error.into()),
        };
        match verify_consistency(seen, self.root, now, head.root, &proof.hashes) {
            true => Ok(()),
            false => Err(forked("its proof is wrong")),
        }
    }
}

/// Starts anew with `seen`, at an enrolment.
///
/// # Errors
/// [`AgentError::State`].
pub fn begin(state: &Path, seen: &Seen) -> Result<(), AgentError> {
    write(&state.join(FILE), &Stored { seen: seen.clone(), trouble: None })
}

/// For an enrolment: how the ledger fails to continue what was remembered before it, if it is the
/// same ledger. The enrolment stands all the same: a person with a token vouches for the CA.
pub(super) async fn break_with(before: Memory, client: &mut Servers, seen: &Seen) -> Option<LedgerError> {
    if before.seen.key != seen.key {
        return None;
    }
    before.past().continues(client, &seen.head().ok()?).await.err().filter(LedgerError::is_of_the_past)
}

fn write(path: &Path, stored: &Stored) -> Result<(), AgentError> {
    let failed = |cause: String| AgentError::State { path: path.to_owned(), cause };
    let text = serde_json::to_vec_pretty(stored).map_err(|error| failed(error.to_string()))?;
    durable::replace(path, &text, 0o600).map_err(|error| failed(error.to_string()))
}

struct Proven {
    head: Checkpoint,
    checkpoint: String,
}

impl Proven {
    /// Refuses a head that the witness, where one is wanted, has not cosigned.
    fn witnessed(self, witness: Option<&WitnessKey>) -> Result<Self, LedgerError> {
        match witness.map(|witness| witness.verify(&self.checkpoint).map_err(|error| (witness, error))) {
            Some(Err((witness, error))) => Err(LedgerError::NotWitnessed(witness.name().to_owned(), error)),
            _ => Ok(self),
        }
    }
}

/// That the answer's proof shows this very certificate to be in the ledger that `key` signs.
fn recorded(answer: &Answer, leaf: &Leaf, asked: &Asked<'_>, key: &NoteVerifier) -> Result<Proven, LedgerError> {
    let text = answer.header(PROOF_HEADER).and_then(|text| STANDARD.decode(text).ok());
    let text = text.and_then(|text| String::from_utf8(text).ok()).ok_or(LedgerError::NoHeader(PROOF_HEADER))?;
    let proof = InclusionProof::parse(&text).map_err(LedgerError::Proof)?;
    let head = proof.verify(key).map_err(|error| LedgerError::of_proof(error, key))?;
    let Event::Certificate(record) = Entry::decode(&proof.entry)?.event else {
        return Err(LedgerError::OtherEntry("kind"));
    };
    match difference(&record, leaf, asked) {
        Some(what) => Err(LedgerError::OtherEntry(what)),
        None => Ok(Proven { head, checkpoint: proof.checkpoint }),
    }
}

/// The first thing in which an entry and a certificate differ. The hash of the to-be-signed bytes
/// says it all; the rest is what people read in the ledger, which must not be told otherwise.
fn difference(record: &CertificateRecord, leaf: &Leaf, asked: &Asked<'_>) -> Option<&'static str> {
    let same = [
        ("kind", record.kind == asked.kind),
        ("name", record.name == asked.name),
        ("host", record.host.as_ref() == Some(asked.host)),
        ("serial number", record.serial == leaf.serial),
        ("beginning", record.not_before == leaf.not_before),
        ("end", record.not_after == leaf.not_after),
        ("key", record.key_sha256 == Digest::of(&leaf.spki)),
        ("maker of its key", record.ca_made_key == asked.ca_made_key),
        ("certificate", record.tbs_sha256 == leaf.tbs_sha256),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
}

#[cfg(test)]
mod tests;
