//! The way on after the CA lost a part of its ledger: a root's word, and nothing less (rule R10).
//! `root_statement` has the rule and the argument for it.

use hyper::Method;
use hyper::body::Bytes;

use super::{LedgerError, Memory, Past, Proven, Seen};
use crate::agent::AgentError;
use crate::agent::identity::Enrolment;
use crate::agent::servers::Servers;
use crate::ca::statement;
use crate::clock::Timestamp;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::note::NoteVerifier;
use crate::report::LedgerRecovery;
use crate::root_statement::Remembered;

impl Memory {
    /// In `trouble`: asks for the newest recovery, and holds the answer to that where it is to be obeyed.
    /// Nothing changes unless the ledger continues the head that the root vouches for.
    pub(super) async fn after_recovery(
        &self,
        client: &mut Servers,
        open: impl Fn(&NoteVerifier) -> Result<Proven, LedgerError>,
        trouble: LedgerError,
        now: Timestamp,
    ) -> Result<(Seen, Checkpoint), LedgerError> {
        let Some(text) = fetch(client).await else { return Err(trouble) };
        let not = |why: String| LedgerError::NotRecovered { trouble: Box::new(trouble), why };
        let recovery = match statement::recovery(&text, &self.anchors) {
            Ok(recovery) => recovery,
            Err(error) => return Err(not(error.to_string())),
        };
        let remembered = Remembered {
            origin: self.seen.key.name(),
            size: self.head.size,
            root: self.head.root,
            seen: self.seen.at,
            obeyed: self.seen.recovered.as_ref().map(|recovered| recovered.statement),
        };
        if let Err(error) = recovery.judge(&remembered, now) {
            return Err(not(error.to_string()));
        }
        let past = Past { key: &recovery.ledger_key, size: recovery.size, root: recovery.root, at: recovery.time };
        let proven = match past.hold(client, open(past.key)).await {
            Ok(proven) => proven,
            Err(LedgerError::Unanswered(error)) => return Err(error.into()),
            Err(error) => return Err(not(error.to_string())),
        };
        let recovered = LedgerRecovery {
            statement: recovery.time,
            obeyed: now,
            seen: self.head.size,
            size: recovery.size,
            new_key: recovery.ledger_key != self.seen.key,
        };
        let (key, checkpoint) = (recovery.ledger_key, proven.checkpoint);
        Ok((Seen { key, checkpoint, at: now, recovered: Some(recovered) }, proven.head))
    }

    /// Remembers a head durably. Another key goes into the enrolment first: after a crash between
    /// the two files the older one counts no more, and the enrolment has all that is needed.
    pub(super) fn remember(&mut self, seen: Seen, head: Checkpoint) -> Result<(), AgentError> {
        if seen.key != self.seen.key {
            let mut enrolment = Enrolment::load(&self.state)?;
            enrolment.ledger = seen.clone();
            enrolment.save(&self.state)?;
        }
        if seen.recovered != self.seen.recovered {
            self.news.clone_from(&seen.recovered);
        }
        (self.seen, self.head, self.trouble) = (seen, head, None);
        self.save()
    }
}

/// The newest recovery; none where the CA has none to show, or cannot show it just now: the ledger
/// is in trouble either way, and the next run asks again.
async fn fetch(client: &mut Servers) -> Option<String> {
    let answer = client.send(Method::GET, "/v1/ledger/recovery", "", "", Bytes::new()).await.ok()?.ok().ok()?;
    String::from_utf8(answer.body.to_vec()).ok()
}

#[cfg(test)]
mod tests;
