//! What came back, whole.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::ClientError;
use crate::terminal::{cut_owned, printable};
use crate::wire::Problem;

/// Longest text of the other end that is shown, in characters; a reason of ours has some hundred.
const MAX_SHOWN: usize = 2_000;

/// A whole answer.
#[derive(Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body. It may hold a private key, so [`Answer`]'s Debug leaves it out.
    pub body: Bytes,
    pub(super) server: String,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

impl Answer {
    /// The answer, when its status is 2xx.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's problem document, or one made from the status.
    pub fn ok(self) -> Result<Self, ClientError> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(ClientError::Refused { problem: Box::new(self.problem()), retry_after: self.retry_after() })
    }

    /// How long the server asks to be left alone: `Retry-After` in seconds (RFC 9110, section 10.2.3). A date there
    /// is not taken: it would be held against this machine's clock.
    fn retry_after(&self) -> Option<Duration> {
        self.header(RETRY_AFTER.as_str())?.trim().parse().ok().map(Duration::from_secs)
    }

    /// The problem that the answer is (RFC 9457), its texts fit to be shown; one made from the status when
    /// the body is none.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let told = serde_json::from_slice(&self.body).map(|Problem { kind, title, status, detail }| Problem {
            kind: shown(&kind),
            title: shown(&title),
            status,
            detail: shown(&detail),
        });
        told.unwrap_or_else(|_| Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: format!("{} answered {} and gave no reason", self.server, self.status),
        })
    }

    /// Reads a JSON body.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] when it is not the JSON that is expected.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| self.malformed(error))
    }

    /// A header's value as text, when it is there and printable.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// This answer makes no sense, because of `cause`.
    pub fn malformed(&self, cause: impl std::fmt::Display) -> ClientError {
        ClientError::Malformed { server: self.server.clone(), cause: shown(&cause.to_string()) }
    }
}

/// A text of the other end: it may be anybody's, and it reaches terminals and logs.
fn shown(text: &str) -> String {
    cut_owned(printable(text).into_owned(), MAX_SHOWN)
}
