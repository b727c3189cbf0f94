//! A request that was refused, as the ledger and the audit say it. Nothing in it is a text that a stranger
//! chose: what is said of a caller without an identity is an address and a reason.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::{DnsName, HostName};

/// Why a request was refused. Mistakes in the form of a request and failures of the CA are none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// The connection showed no identity where one is needed.
    NoIdentity,
    /// The host of the identity is not enrolled.
    NotEnrolled,
    /// The host is disabled.
    Disabled,
    /// Two keys asked to renew one identity of the host.
    Frozen,
    /// The identity is past its end, or, where its renewal was asked for, past its grace.
    IdentityExpired,
    /// The host has enrolled again since the identity was issued.
    IdentityReplaced,
    /// The declaration does not give the name to the host.
    Denied,
    /// The declaration does not let the CA make the key.
    NoCaMadeKey,
    /// The key of the request is of the wrong kind, weak, or not shown to be the caller's.
    BadKey,
    /// No such token was ever made.
    TokenUnknown,
    /// The token is past its hour.
    TokenExpired,
    /// Another key has spent the token.
    TokenSpent,
    /// The token does not replace, and the host is enrolled.
    AlreadyEnrolled,
    /// An operator has rejected the key, or its approval has run out.
    NotApproved,
    /// As many keys ask to be hosts as may wait.
    RequestsFull,
    /// It is not signed by the accepted key of the host's Salt minion, or there is none.
    BadSignature,
    /// The challenge was answered before, has ended, or is not this daemon's.
    BadChallenge,
    /// A host asked for what operators alone may see.
    NotAnOperator,
}

impl RefusalReason {
    /// As it is written in entries and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoIdentity => "no_identity",
            Self::NotEnrolled => "not_enrolled",
            Self::Disabled => "disabled",
            Self::Frozen => "frozen",
            Self::IdentityExpired => "identity_expired",
            Self::IdentityReplaced => "identity_replaced",
            Self::Denied => "denied",
            Self::NoCaMadeKey => "no_ca_made_key",
            Self::BadKey => "bad_key",
            Self::TokenUnknown => "token_unknown",
            Self::TokenExpired => "token_expired",
            Self::TokenSpent => "token_spent",
            Self::AlreadyEnrolled => "already_enrolled",
            Self::NotApproved => "not_approved",
            Self::RequestsFull => "requests_full",
            Self::BadSignature => "bad_signature",
            Self::BadChallenge => "bad_challenge",
            Self::NotAnOperator => "not_an_operator",
        }
    }
}

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRequest {
    /// Why.
    pub reason: RefusalReason,
    /// The host that asked, by its identity or by the token that it had; none for a stranger.
    pub host: Option<HostName>,
    /// The name that it asked for.
    pub name: Option<DnsName>,
    /// Where the connection came from.
    pub address: IpAddr,
}

/// A refused request in the ledger, and how many were refused beside it without an entry of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalRecord {
    /// Why.
    pub reason: RefusalReason,
    /// The host that asked; none for a stranger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The name that it asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DnsName>,
    /// Where the connection came from.
    pub address: IpAddr,
    /// How often the same host was refused the same for the same reason since the last entry of that.
    pub repeated: u64,
    /// How many others were refused without an entry since the last entry of any refusal.
    pub omitted: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_written_alike_in_entries_and_in_tables() {
        use RefusalReason as R;
        for reason in [
            R::NoIdentity,
            R::NotEnrolled,
            R::Disabled,
            R::Frozen,
            R::IdentityExpired,
            R::IdentityReplaced,
            R::Denied,
            R::NoCaMadeKey,
            R::BadKey,
            R::TokenUnknown,
            R::TokenExpired,
            R::TokenSpent,
            R::AlreadyEnrolled,
            R::NotApproved,
            R::RequestsFull,
            R::BadSignature,
            R::BadChallenge,
            R::NotAnOperator,
        ] {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.as_str()));
        }
    }
}
