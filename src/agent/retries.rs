//! What is remembered from run to run of what the CA was asked for in vain, so that a timer does not ask again too
//! soon, and still says each time what is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{AgentError, read_if_there};
use crate::durable;
use crate::name::DnsName;
use crate::renewal::machine::Retry;
use crate::report::{Asked, Unasked};
use crate::terminal::cut;

const FILE: &str = "retries.json";
/// Longest error that is kept, in characters.
const MAX_ERROR: usize = 1_000;

/// Which certificate.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// The host's identity.
    Identity,
    /// That of a service name.
    Name(&'a DnsName),
}

/// The last time that the CA was asked in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// When, how often, and until when it rests.
    pub retry: Retry,
    /// Why it was in vain.
    pub error: String,
    /// The exit code for that error alone.
    pub code: u8,
}

impl Attempt {
    /// The same, to be told.
    #[must_use]
    pub fn told(&self) -> Asked {
        let Retry { failures, asked, until } = self.retry;
        Asked { times: failures, last: asked, until, error: self.error.clone() }
    }
}

/// The file. Nothing in it is needed: without it the CA is asked at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Attempt>,
    names: BTreeMap<DnsName, Attempt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unasked: Option<Unasked>,
}

/// All that was asked for in vain.
#[derive(Debug)]
pub struct Retries {
    path: PathBuf,
    stored: Stored,
}

impl Retries {
    /// Reads the file; a damaged one is as none, and comes with a remark.
    #[must_use]
    pub fn load(state: &Path) -> (Self, Option<String>) {
        let path = state.join(FILE);
        let read = read_if_there(&path).map_err(|error| error.to_string()).and_then(|text| match text {
            None => Ok(Stored::default()),
            Some(text) => serde_json::from_slice(&text).map_err(|error| {
                format!("{} is damaged ({error}); every name that is due is asked for", path.display())
            }),
        });
        match read {
            Ok(stored) => (Self { path, stored }, None),
            Err(remark) => (Self { path, stored: Stored::default() }, Some(remark)),
        }
    }

    /// What is remembered of one certificate.
    #[must_use]
    pub fn of(&self, subject: Subject<'_>) -> Option<&Attempt> {
        match subject {
            Subject::Identity => self.stored.identity.as_ref(),
            Subject::Name(name) => self.stored.names.get(name),
        }
    }

    /// Remembers it durably, at once: a run that is killed later has asked all the same.
    ///
    /// # Errors
    /// [`AgentError::State`].
    pub fn remember(&mut self, subject: Subject<'_>, attempt: Option<Attempt>) -> Result<(), AgentError> {
        if self.of(subject) == attempt.as_ref() {
            return Ok(());
        }
        let attempt = attempt.map(|attempt| Attempt { error: cut(&attempt.error, MAX_ERROR).into_owned(), ..attempt });
        match (subject, attempt) {
            (Subject::Identity, attempt) => self.stored.identity = attempt,
            (Subject::Name(name), Some(attempt)) => drop(self.stored.names.insert(name.clone(), attempt)),
            (Subject::Name(name), None) => drop(self.stored.names.remove(name)),
        }
        self.save()
    }

    /// Why the CA did not say at the last run which names this host may have; none when it did.
    #[must_use]
    pub const fn unasked(&self) -> Option<&Unasked> {
        self.stored.unasked.as_ref()
    }

    /// Remembers whether the CA said at this run which names this host may have.
    ///
    /// # Errors
    /// [`AgentError::State`].
    pub fn note_unasked(&mut self, unasked: Option<Unasked>) -> Result<(), AgentError> {
        if self.stored.unasked == unasked {
            return Ok(());
        }
        self.stored.unasked = unasked;
        self.save()
    }

    fn save(&self) -> Result<(), AgentError> {
        let failed = |cause: String| AgentError::State { path: self.path.clone(), cause };
        let text = serde_json::to_vec_pretty(&self.stored).map_err(|error| failed(error.to_string()))?;
        durable::replace(&self.path, &text, 0o600).map_err(|error| failed(error.to_string()))
    }
}
