//! Why the store did not do what was asked.

use std::path::PathBuf;

use crate::clock::Timestamp;
use crate::host::HostState;
use crate::ledger::EntryError;
use crate::name::HostName;
use crate::source::Source;

/// The store cannot do what was asked. The text is for people and carries no secret.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the state directory open.
    #[error("{0} is in use by another psfca; stop that one first")]
    InUse(PathBuf),
    /// The file was written by a newer version.
    #[error("the ledger has schema version {found}, this psfca knows {known}; use the newer psfca")]
    Newer {
        /// What the file says.
        found: i64,
        /// What this version can read.
        known: i64,
    },
    /// The file was written by an older version, and is to be read without being changed.
    #[error(
        "the ledger has schema version {found}, this psfca reads version {known}; starting psfca serve of this version \
         once upgrades it, for good; until then the psfca that wrote it can read it"
    )]
    Older {
        /// What the file says.
        found: i64,
        /// What this version can read.
        known: i64,
    },
    /// There is no ledger where one should be.
    #[error("there is no ledger at {0}; run psfca init first")]
    Absent(PathBuf),
    /// There is no ledger where somebody said.
    #[error("there is no ledger at {0}")]
    NoFile(PathBuf),
    /// An entry that is not in the listing that is to go on after it.
    #[error("entry {0} is not in this listing, so nothing comes after it there")]
    NotListed(u64),
    /// The disk, the file or SQLite failed; nothing was released.
    #[error("the ledger cannot be read or written: {0}")]
    Unavailable(String),
    /// The store does not hold what it must.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    /// The writer has stopped.
    #[error("the ledger is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<EntryError> for StoreError {
    fn from(error: EntryError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Why a certificate was not recorded. Nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The host is not enrolled.
    #[error("{0} is not enrolled")]
    HostUnknown(HostName),
    /// The host was disabled, perhaps since the request was judged.
    #[error("{0} is disabled")]
    HostDisabled(HostName),
    /// The host was removed, perhaps since the request was judged.
    #[error("{0} was removed")]
    HostRemoved(HostName),
    /// Two keys asked to renew one identity of the host, perhaps just now.
    #[error(
        "{0} is frozen: two keys asked to renew one and the same identity, as a cloned disk or a thief would; nothing \
         is issued to it until an operator has decided (psfca host show {0})"
    )]
    HostFrozen(HostName),
    /// The host has enrolled again since this identity was issued.
    #[error("{0} has enrolled again since this identity was issued; only the newer one counts")]
    IdentityReplaced(HostName),
    /// Another declaration came in force since the request was judged: judge again.
    #[error("the declaration changed while the request was handled")]
    DeclarationChanged,
    /// No such token.
    #[error("the token is unknown: another CA made it, nobody did, or it was voided since")]
    TokenUnknown,
    /// Past its hour.
    #[error("the token expired at {at}")]
    TokenExpired {
        /// The host that it is for.
        host: HostName,
        /// Its end.
        at: Timestamp,
    },
    /// Spent by another key; the host that the token is for.
    #[error("the token was spent already, by another key")]
    TokenSpent(HostName),
    /// The host has an identity and the token may not replace it.
    #[error("{0} is enrolled already; an operator can make a replacing token: psfca token {0} --replace")]
    AlreadyEnrolled(HostName),
    /// The host was disabled or removed, and the token may not let it come back.
    #[error("{0} is {1}; an operator can make a token that lets it come back: psfca token {0} --replace")]
    KeptOut(HostName, HostState),
    /// No key with this fingerprint asks to be the host.
    #[error(
        "no key of {0} with this fingerprint is waiting; it must be the whole fingerprint, and a request is dropped after \
         a day (psfca host list --pending)"
    )]
    NoSuchRequest(HostName),
    /// An operator rejected this key.
    #[error("an operator has rejected this key for {0}")]
    RequestRejected(HostName),
    /// The host's minion key is not, or no longer, the one that signed.
    #[error("this is not signed by the accepted Salt minion key of {0}, or none was imported (psfca host import-salt)")]
    SaltKeyNotAccepted(HostName),
    /// As many keys wait as are kept.
    #[error("too many hosts wait for an operator just now; try again later, or use a token (psfca token HOST)")]
    RequestsFull,
    /// As many keys of one address wait as are kept.
    #[error(
        "{0} has too many requests of this day that nobody approved; have an operator look at them (psfca host list \
         --pending), or use a token"
    )]
    RequestsOfAddress(Source),
    /// The ledger was restored from a backup, and nobody has confirmed the hosts yet.
    #[error(
        "the CA was restored from a backup and is closed until an operator has confirmed its hosts: psfca reopen; \
         what hosts have stays valid meanwhile"
    )]
    Closed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
