//! Gets the witness' word on the ledger's heads, one request for all answers that wait at a time.
//!
//! An answer waits for it for a bounded time and leaves without it otherwise: whether that will do is for
//! the host to say. The witness is asked about the newest head there is, by whoever comes first;
//! everybody who waited meanwhile gets a proof under that head.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;

use crate::client::{Answer, Client, ClientError};
use crate::clock::{Clock, Timestamp};
use crate::config::WitnessConfig;
use crate::digest::Digest;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::note::NoteVerifier;
use crate::ledger::witness::AddCheckpoint;
use crate::root_statement::{Remembered, SignedRecovery};
use crate::store::{Head, Store, StoreError};

/// How long an answer waits for a cosignature.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the witness is left alone after a failure, so that not every answer waits for nothing.
const REST: Duration = Duration::from_secs(5);
/// Requests about one head: the first tells where the witness stands, the second is from there.
const ATTEMPTS: usize = 4;
/// Lines of an answer that are looked at, and how long one may be, in octets.
const MAX_LINES: usize = 16;
const MAX_LINE: usize = 512;

/// Why there is no cosignature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CosignError {
    /// It did not answer, or not in time.
    #[error("the witness cannot be asked: {0}")]
    Away(String),
    /// The ledger went back.
    #[error(
        "THE LEDGER WENT BACK: the witness has cosigned {cosigned} entries and there are {here}; this daemon runs on an old copy, or another one runs on a newer; hosts that have seen more refuse it as well: docs/recovery.md"
    )]
    WentBack {
        /// By the witness.
        cosigned: u64,
        /// In this ledger.
        here: u64,
    },
    /// The ledger is another than the one that was cosigned.
    #[error(
        "THE LEDGER WAS FORKED: it does not continue the {cosigned} entries that the witness has cosigned; it was changed, or went back and grew again, or another daemon runs on a copy of it: docs/recovery.md"
    )]
    Forked {
        /// By the witness.
        cosigned: u64,
    },
    /// Something that no signature of the witness goes with, so that it is no alarm.
    #[error(
        "the witness, or whoever answers in its place, says that {0}; that is not signed and proves nothing: look at the \
         witness' own log, docs/recovery.md"
    )]
    Hearsay(String),
    /// It answered something else.
    #[error("the witness does not cosign: {0}")]
    Refused(String),
    /// The ledger could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ClientError> for CosignError {
    fn from(error: ClientError) -> Self {
        Self::Away(error.to_string())
    }
}

/// A head with its checkpoint, signed by the ledger and cosigned by the witness.
#[derive(Debug, Clone)]
pub struct CosignedHead {
    /// The head.
    pub head: Head,
    /// The note.
    pub note: String,
}

/// How it stands with the witness, for health and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The witness' name.
    pub name: String,
    /// The size that it cosigned last, as far as is known.
    pub size: Option<u64>,
    /// Why the newest head is not cosigned.
    pub problem: Option<String>,
}

/// Makes the ledger's own note of a head.
type Sign<'s> = &'s (dyn Fn(Head) -> String + Sync);

/// The witness as the daemon sees it.
pub struct Cosigner {
    witness: WitnessConfig,
    ledger: NoteVerifier,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    line: tokio::sync::Mutex<Line>,
    standing: Mutex<Standing>,
}

/// One request at a time.
#[derive(Default)]
struct Line {
    client: Option<Client>,
    newest: Option<CosignedHead>,
    /// The size from which the witness goes on, as far as is known.
    cosigned: u64,
    rest_until: Option<Timestamp>,
}

impl std::fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cosigner({:?})", self.witness)
    }
}

impl Cosigner {
    /// Asks this witness about the ledger with this key.
    #[must_use]
    pub fn new(witness: WitnessConfig, ledger: NoteVerifier, store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        let standing = Standing { name: witness.key.name().to_owned(), size: None, problem: None };
        Self { witness, ledger, store, clock, line: tokio::sync::Mutex::default(), standing: Mutex::new(standing) }
    }

    /// How it stands with the witness.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A cosigned head that has at least the entries of `head`, if it can be had within two seconds; `sign`
    /// makes the ledger's own note.
    pub async fn cosigned(&self, head: Head, sign: impl Fn(Head) -> String + Sync) -> Option<CosignedHead> {
        let asked = tokio::time::timeout(PATIENCE, async {
            let mut line = self.line.lock().await;
            if let Some(newest) = line.newest.as_ref().filter(|newest| newest.head.size >= head.size) {
                return Some(newest.clone());
            }
            let now = self.clock.now();
            if line.rest_until.is_some_and(|until| now < until) {
                return None;
            }
            // In case this is given up on its way: nobody tries at once again.
            line.rest_until = Some(now.plus(REST));
            let newest = self.store.head();
            let outcome = self.ask(&mut line, newest, &sign).await;
            self.note(&outcome);
            let cosigned = outcome.ok()?;
            (line.rest_until, line.newest) = (None, Some(cosigned.clone()));
            Some(cosigned)
        });
        match asked.await {
            Ok(cosigned) => cosigned,
            Err(_) => {
                let slow = format!("no answer within {} s", PATIENCE.as_secs());
                self.note(&Err(CosignError::Away(slow)));
                None
            }
        }
    }

    /// Keeps the standing, and says what is new about it.
    fn note(&self, outcome: &Result<CosignedHead, CosignError>) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(cosigned) => {
                if standing.problem.take().is_some() {
                    tracing::info!(size = cosigned.head.size, "the witness cosigns again");
                }
                standing.size = Some(cosigned.head.size);
            }
            Err(error) => {
                let text = error.to_string();
                if standing.problem.as_ref() != Some(&text) {
                    match error {
                        CosignError::WentBack { .. } | CosignError::Forked { .. } => tracing::error!("{text}"),
                        _ => tracing::warn!("{text}; answers go out without its cosignature"),
                    }
                }
                standing.problem = Some(text);
            }
        }
    }

    /// Gets `head` cosigned. A connection that was kept may have been closed meanwhile, which only shows
    /// now, so that is no failure yet.
    async fn ask(&self, line: &mut Line, head: Head, sign: Sign<'_>) -> Result<CosignedHead, CosignError> {
        // Taken out, so that a connection on which an answer may still come is never used again.
        let mut kept = line.client.take();
        if let Some(client) = &mut kept {
            match self.ask_over(client, &mut line.cosigned, head, sign).await {
                Err(CosignError::Away(_)) => {}
                outcome => {
                    line.client = kept;
                    return outcome;
                }
            }
        }
        let mut client = Client::connect_tcp(&self.witness.url.address).await?;
        let outcome = self.ask_over(&mut client, &mut line.cosigned, head, sign).await;
        line.client = Some(client).filter(|_| !matches!(outcome, Err(CosignError::Away(_))));
        outcome
    }

    /// Asks from wherever the witness stands, which `cosigned` says afterwards.
    async fn ask_over(
        &self,
        client: &mut Client,
        cosigned: &mut u64,
        head: Head,
        sign: Sign<'_>,
    ) -> Result<CosignedHead, CosignError> {
        let note = &*sign(head);
        // At first it is not known where the witness stands. What the root said comes before heads, since a head that
        // does not continue what was given up looks like a fork; a witness that obeyed it already passes it over.
        let mut recovered = *cosigned == 0 && self.recover(client, cosigned).await?;
        for _ in 0..ATTEMPTS {
            let old = *cosigned;
            let said = match self.store.consistency(old, head.size).await? {
                None => format!("it has cosigned {old} entries, of which there are {} here", head.size),
                Some(proof) => {
                    let request = AddCheckpoint { old, proof, checkpoint: note.to_owned() };
                    let answer = self.post(client, "/add-checkpoint", request.to_text()).await?;
                    match (answer.status.as_u16(), size(&answer)) {
                        (200, _) => {
                            let taken = self.take(&answer, head, note)?;
                            *cosigned = head.size;
                            return Ok(taken);
                        }
                        (409, Some(size)) if size != old => {
                            *cosigned = size;
                            continue;
                        }
                        (409 | 422, _) => {
                            format!("the ledger does not continue the {old} entries that it has cosigned")
                        }
                        _ => return Err(refused(&answer)),
                    }
                }
            };
            // The root's word moves the witness as it moves hosts.
            if std::mem::replace(&mut recovered, true) || !self.recover(client, cosigned).await? {
                // Whoever said where it stands, it is asked anew the next time.
                *cosigned = 0;
                return Err(self.proven(client, head, sign).await.unwrap_or(CosignError::Hearsay(said)));
            }
        }
        *cosigned = 0;
        Err(CosignError::Refused("it says each time that it stands elsewhere".to_owned()))
    }

    /// Shows the witness the newest recovery; whether there is one and the witness obeyed it just now.
    async fn recover(&self, client: &mut Client, cosigned: &mut u64) -> Result<bool, CosignError> {
        let Some(statement) = self.store.recovery().await? else { return Ok(false) };
        let answer = self.post(client, "/recover-log", statement).await?;
        let obeyed = size(&answer).filter(|_| answer.status.is_success());
        *cosigned = obeyed.unwrap_or(*cosigned);
        Ok(obeyed.is_some())
    }

    /// What the head proves that the witness cosigned last: its refusal is not signed, but that is, by the ledger and by
    /// the witness. None where there is no such head, where this ledger continues it, or where a recovery gave it up.
    async fn proven(&self, client: &mut Client, head: Head, sign: Sign<'_>) -> Option<CosignError> {
        let origin = self.ledger.name();
        let path = format!("{}/{}/checkpoint", self.witness.url.prefix, Digest::of(origin.as_bytes()));
        let answer = client.send(Method::GET, &path, "", "", "").await.ok()?;
        let note = std::str::from_utf8(&answer.body).ok().filter(|_| answer.status.is_success())?;
        let seen = self.witness.key.verify(note).ok()?;
        let Checkpoint { size, root, .. } = Checkpoint::open(note, &self.ledger).ok()?;
        let here = self.store.root_of(size).await.ok()?;
        if here == Some(root) {
            return None;
        }
        // An old answer may come from before a recovery, which the witness obeyed since.
        let given_up = self.store.recovery().await.ok()?.and_then(|text| SignedRecovery::parse(&text).ok());
        let remembered = Remembered { origin, size, root, seen, obeyed: None };
        let given_up = given_up.is_some_and(|given_up| given_up.claim().judge(&remembered, self.clock.now()).is_ok());
        if given_up {
            return None;
        }
        let Some(root) = here else { return Some(CosignError::WentBack { cosigned: size, here: head.size }) };
        // Two signed heads of one size: that is what the witness, or anybody, can see a fork by.
        let checkpoint = sign(Head { size, root });
        let request = AddCheckpoint { old: size, proof: Vec::new(), checkpoint };
        let _ = self.post(client, "/add-checkpoint", request.to_text()).await;
        Some(CosignError::Forked { cosigned: size })
    }

    async fn post(&self, client: &mut Client, path: &str, body: String) -> Result<Answer, CosignError> {
        let path = format!("{}{path}", self.witness.url.prefix);
        Ok(client.send(Method::POST, &path, "text/plain; charset=utf-8", "", body).await?)
    }

    /// The note with the one line below that is the cosignature. Nothing else of the answer goes on to hosts.
    fn take(&self, answer: &Answer, head: Head, note: &str) -> Result<CosignedHead, CosignError> {
        let lines = std::str::from_utf8(&answer.body).unwrap_or_default().lines().take(MAX_LINES);
        let notes = lines.filter(|line| line.len() <= MAX_LINE).map(|line| format!("{note}{line}\n"));
        let mut cosigned = notes.filter(|note| self.witness.key.verify(note).is_ok());
        let none = || CosignError::Refused(format!("in its answer there is no cosignature by {}", self.witness.key));
        cosigned.next().map(|note| CosignedHead { head, note }).ok_or_else(none)
    }
}

fn size(answer: &Answer) -> Option<u64> {
    std::str::from_utf8(&answer.body).ok()?.trim_end().parse().ok()
}

fn refused(answer: &Answer) -> CosignError {
    let said: String = String::from_utf8_lossy(&answer.body).chars().filter(|c| !c.is_control()).take(200).collect();
    CosignError::Refused(format!("{} {said}", answer.status))
}
