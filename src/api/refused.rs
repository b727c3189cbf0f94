//! Which refusals the ledger tells, and what of them. One match, without a wildcard: for a new error
//! somebody has to decide.

use super::problem::Refusal;
use crate::ca::identity::Peer;
use crate::challenge::ChallengeError;
use crate::issue::{IdentityError, IssueError};
use crate::name::{DnsName, HostName};
use crate::refusal::{RefusalReason, RefusedRequest};
use crate::store::RecordError;

/// What of a refusal is for the ledger.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    reason: RefusalReason,
    /// The host that a token is for; where the connection has an identity, that says who asks.
    host: Option<HostName>,
    name: Option<DnsName>,
}

impl Noted {
    /// None for mistakes in the form of a request and for failures of the CA.
    pub(super) fn of(refusal: &Refusal) -> Option<Self> {
        let plain = |reason| Some((reason, None));
        let (reason, host) = match refusal {
            Refusal::NoIdentity => plain(RefusalReason::NoIdentity),
            Refusal::NotAnOperator | Refusal::NotAHostKeeper => plain(RefusalReason::NotAnOperator),
            Refusal::Identity(error) => plain(identity(error)?),
            Refusal::Issue(error) | Refusal::NotIssued { error, .. } => issue(error),
            // Who has shown nothing is a stranger, whatever host it says it is.
            Refusal::NotLetIn(error) => issue(error).map(|(reason, _)| (reason, None)),
            Refusal::Host(_)
            | Refusal::Reopen(_)
            | Refusal::Name(_)
            | Refusal::Token(_)
            | Refusal::Store(_)
            | Refusal::MediaType
            | Refusal::Malformed(_)
            | Refusal::TooLarge
            | Refusal::NoSuchSize { .. }
            | Refusal::NoSuchDeclaration(_)
            | Refusal::NoCiphers
            | Refusal::NoRecovery
            | Refusal::NoSuchPath
            | Refusal::NoSuchMethod
            | Refusal::TooManyRequests { .. }
            | Refusal::TooManyReports { .. }
            | Refusal::TooManyListings { .. }
            | Refusal::TooManyEnrolments { .. }
            | Refusal::Overloaded
            | Refusal::TooSlow
            | Refusal::Internal => None,
        }?;
        let name = match refusal {
            Refusal::NotIssued { name, .. } => Some(name.clone()),
            _ => None,
        };
        Some(Self { reason, host, name })
    }

    /// With who asked, by the connection; none for an operator, whose mistakes are told to nobody else.
    pub(super) fn by(&self, peer: Option<&Peer>) -> Option<RefusedRequest> {
        let Some(Peer::Network { address, identity }) = peer else { return None };
        let host = identity.as_ref().map(|identity| identity.host.clone()).or_else(|| self.host.clone());
        let address = address.ip().to_canonical();
        Some(RefusedRequest { reason: self.reason, host, name: self.name.clone(), address })
    }
}

/// None where the store failed.
const fn identity(error: &IdentityError) -> Option<RefusalReason> {
    Some(match error {
        IdentityError::Expired { .. } => RefusalReason::IdentityExpired,
        IdentityError::Unknown(_) | IdentityError::Removed(_) => RefusalReason::NotEnrolled,
        IdentityError::Replaced(_) => RefusalReason::IdentityReplaced,
        IdentityError::Disabled(_) => RefusalReason::Disabled,
        IdentityError::Frozen(_) => RefusalReason::Frozen,
        IdentityError::Store(_) => return None,
    })
}

/// The reason, and the host that a token is for.
fn issue(error: &IssueError) -> Option<(RefusalReason, Option<HostName>)> {
    match error {
        IssueError::Identity(error) => Some((identity(error)?, None)),
        IssueError::Denied(_) => Some((RefusalReason::Denied, None)),
        IssueError::Key(_) => Some((RefusalReason::BadKey, None)),
        IssueError::Signature(_) => Some((RefusalReason::BadSignature, None)),
        IssueError::Challenge(ChallengeError::Busy) => None,
        IssueError::Challenge(_) => Some((RefusalReason::BadChallenge, None)),
        IssueError::NoCaMadeKey { .. } => Some((RefusalReason::NoCaMadeKey, None)),
        IssueError::Record(error) => match error {
            RecordError::HostUnknown(_) | RecordError::HostRemoved(_) => Some((RefusalReason::NotEnrolled, None)),
            RecordError::HostDisabled(_) => Some((RefusalReason::Disabled, None)),
            RecordError::HostFrozen(_) => Some((RefusalReason::Frozen, None)),
            RecordError::IdentityReplaced(_) => Some((RefusalReason::IdentityReplaced, None)),
            RecordError::TokenUnknown => Some((RefusalReason::TokenUnknown, None)),
            RecordError::TokenExpired { host, .. } => Some((RefusalReason::TokenExpired, Some(host.clone()))),
            RecordError::TokenSpent(host) => Some((RefusalReason::TokenSpent, Some(host.clone()))),
            RecordError::AlreadyEnrolled(host) | RecordError::KeptOut(host, _) => {
                Some((RefusalReason::AlreadyEnrolled, Some(host.clone())))
            }
            RecordError::RequestRejected(_) | RecordError::NoSuchRequest(_) => Some((RefusalReason::NotApproved, None)),
            RecordError::RequestsFull | RecordError::RequestsOfAddress(_) => Some((RefusalReason::RequestsFull, None)),
            RecordError::SaltKeyNotAccepted(_) => Some((RefusalReason::BadSignature, None)),
            RecordError::DeclarationChanged | RecordError::Closed | RecordError::Store(_) => None,
        },
        IssueError::Build(_)
        | IssueError::Random(_)
        | IssueError::Lint(_)
        | IssueError::Entry(_)
        | IssueError::Sign(_) => None,
    }
}
