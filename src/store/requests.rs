//! Keys that ask to be a host and have nothing to show for it: they wait until an operator has
//! compared fingerprints. Anybody can ask, so what is kept is bounded, and so are its events.

use std::net::IpAddr;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use tokio::sync::oneshot::Sender;

use super::tiles::Edge;
use super::verbs::{Verb, append_event};
use super::{Host, Projection, RecordError, Store, StoreError, hosts, identities, read, restoration};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::{EnrolledBy, KeyDecision, KeyRequest, RequestAction, RequestState};
use crate::ledger::Event;
use crate::name::HostName;
use crate::source::Source;

/// How long a request waits, how long an approval can be used, and how long a rejection is told.
pub const REQUEST_LIFETIME: Duration = Duration::from_secs(86_400);
/// Requests that wait at one time.
const MAX_WAITING: u64 = 256;
/// Requests of one address (IPv6: of one /64) within [`REQUEST_LIFETIME`] that nobody approved.
const MAX_OF_ADDRESS: u64 = 8;

/// A row of `enrollment_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollmentRequest {
    /// The host that the key would be.
    pub host: HostName,
    /// SHA-256 of the public key.
    pub key_sha256: Digest,
    /// The network that it came from: an address, or the /64 of one.
    pub address: IpAddr,
    /// What became of it.
    pub state: RequestState,
    /// Since when.
    pub since: Timestamp,
    /// Who decided.
    pub operator_uid: Option<u32>,
}

/// A request on its way into the store.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// Now.
    pub at: Timestamp,
    /// The host that the key would be.
    pub host: HostName,
    /// SHA-256 of the public key, whose possession was proven.
    pub key_sha256: Digest,
    /// Where it comes from.
    pub from: Source,
}

/// What a key that asks is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nobody has decided yet; nobody will after this moment.
    Waiting {
        /// When the request is dropped.
        expires: Timestamp,
    },
    /// An operator has approved it.
    Approved {
        /// Who.
        operator_uid: u32,
    },
}

/// A decision on its way into the store.
#[derive(Debug, Clone)]
pub struct NewDecision {
    /// Now.
    pub at: Timestamp,
    /// What was decided.
    pub action: RequestAction,
    /// About which host and key, and by whom.
    pub decision: KeyDecision,
}

impl Store {
    /// What is told to a key that asks to be a host. A new request is recorded, one that is known is not.
    ///
    /// # Errors
    /// The host is known already, the request was rejected, there are too many; or the store failed.
    pub async fn ask_enrollment(&self, new: NewRequest) -> Result<Asked, RecordError> {
        let (host, key, at) = (new.host.clone(), new.key_sha256, new.at);
        let known = self.read(move |connection| standing(connection, &host, key, at)).await?;
        match known {
            Some(asked) => asked,
            None => self.ask(|reply| Box::new(Ask { new, outcome: Err(StoreError::Closed.into()), reply })).await?,
        }
    }

    /// The requests that wait or were decided within a day, oldest first.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn enrollment_requests(&self, now: Timestamp) -> Result<Vec<EnrollmentRequest>, StoreError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY since, host, key_sha256"))?;
            let rows = statement.query_map([], request_row)?.collect::<Result<Vec<_>, _>>()?;
            Ok(rows.into_iter().filter(|row| row.counts(now)).collect())
        })
        .await
    }

    /// Approves or rejects a request; says whether that is a change.
    ///
    /// # Errors
    /// [`RecordError::NoSuchRequest`], the host is known meanwhile, or the store failed.
    pub async fn decide_request(&self, new: NewDecision) -> Result<bool, RecordError> {
        self.ask(|reply| Box::new(Decide { new, outcome: Err(StoreError::Closed.into()), reply })).await?
    }
}

const SELECT: &str = "SELECT host, key_sha256, address, state, since, operator_uid FROM enrollment_request";

impl EnrollmentRequest {
    /// When it is dropped.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.since.plus(REQUEST_LIFETIME)
    }

    fn counts(&self, now: Timestamp) -> bool {
        now < self.expires()
    }
}

fn request_row(row: &Row<'_>) -> rusqlite::Result<EnrollmentRequest> {
    let (address, state): (String, String) = (row.get(2)?, row.get(3)?);
    let unreadable =
        |column| rusqlite::Error::InvalidColumnType(column, "text".to_owned(), rusqlite::types::Type::Text);
    Ok(EnrollmentRequest {
        host: read::host_name(row, 0)?,
        key_sha256: read::digest(row, 1)?,
        address: address.parse().map_err(|_| unreadable(2))?,
        state: RequestState::parse(&state).ok_or_else(|| unreadable(3))?,
        since: Timestamp::from_unix(row.get(4)?),
        operator_uid: row.get(5)?,
    })
}

fn request(connection: &Connection, host: &HostName, key: Digest) -> Result<Option<EnrollmentRequest>, StoreError> {
    let sql = format!("{SELECT} WHERE host = ?1 AND key_sha256 = ?2");
    let row = connection.prepare_cached(&sql)?.query_row(params![host.as_str(), key.as_bytes()], request_row);
    Ok(row.optional()?)
}

/// What a key is told without writing anything; none where it asks for the first time.
fn standing(
    connection: &Connection,
    host: &HostName,
    key: Digest,
    now: Timestamp,
) -> Result<Option<Result<Asked, RecordError>>, StoreError> {
    // The answer may have been lost on its way.
    if let Some((EnrolledBy::Approval { operator_uid }, enrolled)) = identities::enrollment(connection, host)?
        && enrolled == key
        && let Some(host) = read::host(connection, host)?
        && may_be_lost(connection, &host, now)?
    {
        return Ok(Some(Ok(Asked::Approved { operator_uid })));
    }
    match hosts::require_unknown(connection, host) {
        Ok(()) => {}
        Err(RecordError::Store(error)) => return Err(error),
        Err(refusal) => return Ok(Some(Err(refusal))),
    }
    let Some(request) = request(connection, host, key)?.filter(|request| request.counts(now)) else { return Ok(None) };
    Ok(Some(match (request.state, request.operator_uid) {
        (RequestState::Approved, Some(operator_uid)) => Ok(Asked::Approved { operator_uid }),
        (RequestState::Rejected, _) => Err(RecordError::RequestRejected(request.host)),
        _ => Ok(Asked::Waiting { expires: request.expires() }),
    }))
}

/// The key was approved for the host, by this operator.
pub(super) fn require_approved(
    transaction: &Transaction<'_>,
    host: &HostName,
    key: Digest,
    by: u32,
    now: Timestamp,
) -> Result<(), RecordError> {
    let found = request(transaction, host, key)?.filter(|request| request.counts(now));
    match found.map(|request| (request.state, request.operator_uid)) {
        Some((RequestState::Approved, Some(uid))) if uid == by => Ok(()),
        _ => Err(RecordError::NoSuchRequest(host.clone())),
    }
}

/// Whether the answer to the host's enrolment may still be on its way or lost, so that its key is given it again: for a
/// day, and not once the host was shut out since. After that the key is one that the host had, and no way to an identity.
pub(super) fn may_be_lost(connection: &Connection, host: &Host, now: Timestamp) -> Result<bool, StoreError> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM event WHERE host = ?1 AND idx > ?2
               AND event IN ('host_disabled', 'host_frozen', 'host_removed'))";
    let served =
        connection.prepare_cached(sql)?.query_row(params![host.name.as_str(), host.enrollment], |row| row.get(0));
    Ok(served? && now < host.enrolled.plus(REQUEST_LIFETIME))
}

/// The host is enrolled: whoever else asked to be it has nothing to wait for.
pub(super) fn forget(transaction: &Transaction<'_>, host: &HostName) -> Result<(), StoreError> {
    transaction.prepare_cached("DELETE FROM enrollment_request WHERE host = ?1")?.execute([host.as_str()])?;
    Ok(())
}

/// [`Store::ask_enrollment`], for a request that was not known.
struct Ask {
    new: NewRequest,
    outcome: Result<Asked, RecordError>,
    reply: Sender<Result<Asked, RecordError>>,
}

impl Ask {
    fn record(&self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<Asked, RecordError> {
        let NewRequest { at, host, key_sha256, from } = self.new.clone();
        restoration::require_open(transaction)?;
        // Another of its requests may have been quicker.
        if let Some(asked) = standing(transaction, &host, key_sha256, at)? {
            return asked;
        }
        let (address, oldest) = (from.address(), at.minus(REQUEST_LIFETIME).unix());
        let count = |condition: &str| -> Result<u64, StoreError> {
            let sql = format!("SELECT count(*) FROM enrollment_request WHERE since > ?1 AND {condition}");
            let mut statement = transaction.prepare_cached(&sql)?;
            Ok(match condition.contains("?2") {
                true => statement.query_row(params![oldest, address.to_string()], |row| row.get(0))?,
                false => statement.query_row([oldest], |row| row.get(0))?,
            })
        };
        if count("state = 'waiting'")? >= MAX_WAITING {
            return Err(RecordError::RequestsFull);
        }
        if count("state <> 'approved' AND address = ?2")? >= MAX_OF_ADDRESS {
            return Err(RecordError::RequestsOfAddress(from));
        }
        append_event(
            transaction,
            edge,
            at,
            Event::HostRequested(KeyRequest { host: host.clone(), key_sha256, address }),
        )?;
        let sql = "DELETE FROM enrollment_request WHERE since <= ?1";
        transaction.prepare_cached(sql).and_then(|mut s| s.execute([oldest])).map_err(StoreError::from)?;
        let (state, operator_uid) = (RequestState::Waiting, None);
        let row = EnrollmentRequest { host, key_sha256, address, state, since: at, operator_uid };
        write(transaction, &row)?;
        Ok(Asked::Waiting { expires: row.expires() })
    }
}

fn write(transaction: &Transaction<'_>, row: &EnrollmentRequest) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO enrollment_request (host, key_sha256, address, state, since, operator_uid)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            row.host.as_str(),
            row.key_sha256.as_bytes(),
            row.address.to_string(),
            row.state.as_str(),
            row.since.unix(),
            row.operator_uid
        ])?;
    Ok(())
}

impl Verb for Ask {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        self.outcome = match self.record(transaction, edge) {
            Err(RecordError::Store(error)) => return Err(error),
            outcome => outcome,
        };
        Ok(())
    }

    fn committed(self: Box<Self>, _: &mut Projection) {
        let _ = self.reply.send(self.outcome);
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error.into()));
    }
}

/// [`Store::decide_request`].
struct Decide {
    new: NewDecision,
    outcome: Result<bool, RecordError>,
    reply: Sender<Result<bool, RecordError>>,
}

impl Decide {
    fn record(&self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<bool, RecordError> {
        let NewDecision { at, action, decision } = self.new.clone();
        let KeyDecision { host, key_sha256, operator_uid } = decision.clone();
        restoration::require_open(transaction)?;
        hosts::require_unknown(transaction, &host)?;
        let found = request(transaction, &host, key_sha256)?.filter(|request| request.counts(at));
        let request = found.ok_or(RecordError::NoSuchRequest(host))?;
        let state = RequestState::after(action);
        if request.state == state {
            return Ok(false);
        }
        append_event(transaction, edge, at, Event::request_decided(action, decision))?;
        write(transaction, &EnrollmentRequest { state, since: at, operator_uid: Some(operator_uid), ..request })?;
        Ok(true)
    }
}

impl Verb for Decide {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        self.outcome = match self.record(transaction, edge) {
            Err(RecordError::Store(error)) => return Err(error),
            outcome => outcome,
        };
        Ok(())
    }

    fn committed(self: Box<Self>, _: &mut Projection) {
        let _ = self.reply.send(self.outcome);
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error.into()));
    }
}
