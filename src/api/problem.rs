//! Every way in which a request is refused, as a problem document (RFC 9457). One match, without
//! a wildcard: a new error does not compile until somebody has decided what it is.

use std::any::Any;
use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::decision::Decision;
use super::refused::Noted;
use crate::challenge::ChallengeError;
use crate::clock::describe;
use crate::digest::Digest;
use crate::issue::{IdentityError, IssueError};
use crate::name::{DnsName, HostName, NameError};
use crate::source::Source;
use crate::store::{HostError, RecordError, ReopenError, StoreError};
use crate::token::TokenError;
use crate::wire::{PROBLEM, Problem};

/// When to come again after a 503: such troubles last a moment or much longer.
const UNAVAILABLE_FOR: Duration = Duration::from_secs(5);
/// When to ask again where too many keys wait for an operator: it takes one to make room.
const FULL_FOR: Duration = Duration::from_secs(300);
/// When to come again while a restored CA is closed: it takes a person to reopen it.
const CLOSED_FOR: Duration = Duration::from_secs(300);

/// Why a request gets no answer but a problem.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this needs a host identity, and the connection showed none; run psfca enroll on the host first")]
    NoIdentity,
    #[error("this can be done on the admin socket only")]
    NotAnOperator,
    #[error("this is for the admin socket and for the hosts that ca.yaml names under operators")]
    NotAHostKeeper,
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error("{error}")]
    NotIssued { name: DnsName, error: IssueError },
    /// The host is what a caller says it is that has shown nothing yet.
    #[error(transparent)]
    NotLetIn(IssueError),
    #[error("the name in the path is no DNS name: {0}")]
    Name(#[from] NameError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Reopen(#[from] ReopenError),
    #[error("the body must be a PKCS#10 request of type application/pkcs10, or empty")]
    MediaType,
    #[error("the request cannot be read: {0}")]
    Malformed(String),
    #[error("the body is larger than this daemon accepts")]
    TooLarge,
    #[error("the ledger has {head} entries; nothing can be said of {size}, or of a larger size before a smaller one")]
    NoSuchSize { size: u64, head: u64 },
    #[error("the declaration in force has no cipher list for this, and no `default` under tls.ciphers")]
    NoCiphers,
    #[error("nothing of this ledger was ever given up")]
    NoRecovery,
    #[error("no declaration with hash {0} was ever in force here")]
    NoSuchDeclaration(Digest),
    #[error("there is nothing at this path; GET /openapi.json says what there is")]
    NoSuchPath,
    #[error("this path does not take that method; GET /openapi.json says which it takes")]
    NoSuchMethod,
    #[error(
        "{host} asks for more certificates than limits.issue_burst and limits.issue_per_second in ca.yaml allow; it may \
         go on in {}", describe(*.after)
    )]
    TooManyRequests { host: HostName, after: Duration },
    #[error("{host} reports too often what it has; it may do so again in {}", describe(*.after))]
    TooManyReports { host: HostName, after: Duration },
    #[error("{host} asks too often for its part of the audit; it may do so again in {}", describe(*.after))]
    TooManyListings { host: HostName, after: Duration },
    #[error(
        "more enrolments are tried from {from} than limits.enroll_burst and limits.enroll_per_minute in ca.yaml allow; \
         the next may come in {}", describe(*.after)
    )]
    TooManyEnrolments { from: Source, after: Duration },
    #[error("the CA has more to do than it can; hosts whose certificates are about to end go first")]
    Overloaded,
    #[error("the request took longer than this daemon allows")]
    TooSlow,
    #[error("the daemon failed on this request; its log says more")]
    Internal,
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        Self::Issue(error.into())
    }
}

impl Refusal {
    /// Status, stable name, and the name for people.
    fn describe(&self) -> (StatusCode, &'static str, &'static str) {
        const UNAVAILABLE: (StatusCode, &str, &str) =
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The CA cannot do this just now");
        const CLOSED: (StatusCode, &str, &str) =
            (StatusCode::SERVICE_UNAVAILABLE, "closed", "The CA was restored and is closed");
        const FROZEN: (StatusCode, &str, &str) = (StatusCode::FORBIDDEN, "frozen", "Two keys claim to be this host");
        const BAD_SIGNATURE: (StatusCode, &str, &str) =
            (StatusCode::FORBIDDEN, "bad-signature", "Not signed by the accepted Salt minion key");
        const REPLACED: (StatusCode, &str, &str) = (StatusCode::FORBIDDEN, "replaced", "The host has a newer identity");
        const INTERNAL: (StatusCode, &str, &str) =
            (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The CA failed on this request");
        match self {
            Self::NoIdentity => (StatusCode::UNAUTHORIZED, "no-identity", "No host identity"),
            Self::NotAnOperator | Self::NotAHostKeeper => {
                (StatusCode::FORBIDDEN, "not-an-operator", "For operators only")
            }
            Self::Identity(error)
            | Self::Issue(IssueError::Identity(error))
            | Self::NotLetIn(IssueError::Identity(error))
            | Self::NotIssued { error: IssueError::Identity(error), .. } => match error {
                IdentityError::Expired { .. } => {
                    (StatusCode::FORBIDDEN, "identity-expired", "The host's identity has expired")
                }
                IdentityError::Unknown(_) | IdentityError::Removed(_) => {
                    (StatusCode::FORBIDDEN, "not-enrolled", "The host is not enrolled")
                }
                IdentityError::Replaced(_) => REPLACED,
                IdentityError::Disabled(_) => (StatusCode::FORBIDDEN, "disabled", "The host is disabled"),
                IdentityError::Frozen(_) => FROZEN,
                IdentityError::Store(_) => UNAVAILABLE,
            },
            Self::Issue(error) | Self::NotLetIn(error) | Self::NotIssued { error, .. } => match error {
                IssueError::Identity(_) | IssueError::Denied(_) => {
                    (StatusCode::FORBIDDEN, "denied", "The declaration does not allow this")
                }
                IssueError::Key(_) => (StatusCode::BAD_REQUEST, "bad-key", "The key is not certified"),
                IssueError::NoCaMadeKey { .. } => {
                    (StatusCode::FORBIDDEN, "no-ca-made-key", "The host makes this key itself")
                }
                IssueError::Build(_) => (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "cannot-be-built",
                    "The certificate cannot be built within the CA's own limits",
                ),
                IssueError::Record(error) => match error {
                    RecordError::HostUnknown(_) | RecordError::HostRemoved(_) => {
                        (StatusCode::FORBIDDEN, "not-enrolled", "The host is not enrolled")
                    }
                    RecordError::NoSuchRequest(_) => {
                        (StatusCode::NOT_FOUND, "no-such-request", "No such key asks to be this host")
                    }
                    RecordError::SaltKeyNotAccepted(_) => BAD_SIGNATURE,
                    RecordError::RequestRejected(_) => {
                        (StatusCode::FORBIDDEN, "rejected", "An operator has rejected this key")
                    }
                    RecordError::RequestsFull | RecordError::RequestsOfAddress(_) => {
                        (StatusCode::TOO_MANY_REQUESTS, "requests-full", "Too many keys ask to be hosts")
                    }
                    RecordError::HostFrozen(_) => FROZEN,
                    RecordError::IdentityReplaced(_) => REPLACED,
                    RecordError::HostDisabled(_) => (StatusCode::FORBIDDEN, "disabled", "The host is disabled"),
                    RecordError::TokenUnknown | RecordError::TokenExpired { .. } | RecordError::TokenSpent(_) => {
                        (StatusCode::FORBIDDEN, "bad-token", "The token cannot be used")
                    }
                    RecordError::AlreadyEnrolled(_) | RecordError::KeptOut(..) => {
                        (StatusCode::CONFLICT, "already-enrolled", "The host is known already")
                    }
                    RecordError::Closed => CLOSED,
                    RecordError::DeclarationChanged | RecordError::Store(_) => UNAVAILABLE,
                },
                IssueError::Signature(_) => BAD_SIGNATURE,
                IssueError::Challenge(ChallengeError::Busy) | IssueError::Random(_) => UNAVAILABLE,
                IssueError::Challenge(_) => (StatusCode::FORBIDDEN, "bad-challenge", "The challenge does not count"),
                IssueError::Lint(_) | IssueError::Entry(_) | IssueError::Sign(_) => INTERNAL,
            },
            Self::Name(_) => (StatusCode::BAD_REQUEST, "bad-name", "Not a name"),
            Self::Token(_) => (StatusCode::BAD_REQUEST, "bad-token", "The token cannot be used"),
            Self::Store(_) | Self::Host(HostError::Store(_)) | Self::Reopen(ReopenError::Store(_)) => UNAVAILABLE,
            Self::Reopen(ReopenError::NotClosed) => (StatusCode::CONFLICT, "not-closed", "The CA is open"),
            Self::Reopen(ReopenError::WrongNumber { .. }) => {
                (StatusCode::CONFLICT, "wrong-number", "Not the number of enabled hosts")
            }
            Self::Host(HostError::Unknown(_)) => (StatusCode::NOT_FOUND, "no-such-host", "The host is not known"),
            Self::Host(HostError::Removed(_)) => (StatusCode::CONFLICT, "removed", "The host was removed"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Not a certificate request"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed", "The request cannot be read"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::NoSuchSize { .. } => (StatusCode::NOT_FOUND, "no-such-size", "The ledger never had this size"),
            Self::NoCiphers => (StatusCode::NOT_FOUND, "no-ciphers", "No cipher list"),
            Self::NoRecovery => (StatusCode::NOT_FOUND, "no-recovery", "There was no recovery"),
            Self::NoSuchDeclaration(_) => (StatusCode::NOT_FOUND, "no-such-declaration", "Never in force"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "no-such-path", "Nothing here"),
            Self::NoSuchMethod => (StatusCode::METHOD_NOT_ALLOWED, "no-such-method", "Not this way"),
            Self::TooManyRequests { .. } | Self::TooManyReports { .. } | Self::TooManyListings { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "The host asks too often")
            }
            Self::TooManyEnrolments { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-enrolments", "Too many enrolments from one address")
            }
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The CA has too much to do"),
            Self::TooSlow => (StatusCode::SERVICE_UNAVAILABLE, "too-slow", "The request took too long"),
            Self::Internal => INTERNAL,
        }
    }
}

impl Refusal {
    /// When the same request may do better; none where it will not by itself.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { after, .. }
            | Self::TooManyReports { after, .. }
            | Self::TooManyListings { after, .. }
            | Self::TooManyEnrolments { after, .. } => Some(*after),
            Self::Issue(IssueError::Record(RecordError::Closed))
            | Self::NotLetIn(IssueError::Record(RecordError::Closed))
            | Self::NotIssued { error: IssueError::Record(RecordError::Closed), .. } => Some(CLOSED_FOR),
            _ => match self.describe().0 {
                StatusCode::SERVICE_UNAVAILABLE => Some(UNAVAILABLE_FOR),
                StatusCode::TOO_MANY_REQUESTS => Some(FULL_FOR),
                _ => None,
            },
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, name, title) = self.describe();
        let retry_after = self.retry_after();
        let problem = Problem {
            kind: format!("urn:psfca:problem:{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
        };
        let refused = Decision::Refused { reason: name, detail: problem.detail.clone(), noted: Noted::of(&self) };
        let mut response = (status, Json(problem)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        if let Some(after) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        response.extensions_mut().insert(refused);
        response
    }
}

pub(super) async fn no_such_path() -> Refusal {
    Refusal::NoSuchPath
}

pub(super) async fn no_such_method() -> Refusal {
    Refusal::NoSuchMethod
}

/// Gives a request so much time and no more.
pub(super) async fn within(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::TooSlow.into_response(),
    }
}

/// A panic is a bug; the request gets a problem and the daemon lives on.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a request handler panicked; please report this with the lines above");
    Refusal::Internal.into_response()
}
