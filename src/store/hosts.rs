//! What an operator does to a host, and what a host has.

use rusqlite::{Connection, Transaction, params};
use tokio::sync::oneshot::Sender;

use super::listing::{StoredEntry, stored_entry};
use super::segments::{segment, segments};
use super::tiles::Edge;
use super::times::Range;
use super::verbs::{Verb, append_event};
use super::{Host, Projection, RecordError, Store, StoreError, read};
use crate::clock::Timestamp;
use crate::host::{HostAction, HostChange, HostState};
use crate::ledger::Event;
use crate::name::HostName;

/// Most certificates of a host that are listed.
const MOST_LISTED: usize = 100;

/// Certificates of a host that are still valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillValid {
    /// The newest of them, at most 100, by name, and of each name the newest first.
    pub newest: Vec<StoredEntry>,
    /// How many there are beside these.
    pub more: u64,
    /// When the last of all of them ends.
    pub last_end: Option<Timestamp>,
}

/// Why a host was not changed. Nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// It was never enrolled.
    #[error("{0} is not known here: it was never enrolled")]
    Unknown(HostName),
    /// It was removed, so there is nothing to enable or disable.
    #[error("{0} was removed; it has to enrol again: psfca token {0} --replace")]
    Removed(HostName),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A change on its way into the store.
#[derive(Debug, Clone)]
pub struct NewHostState {
    /// Now.
    pub at: Timestamp,
    /// What to do.
    pub action: HostAction,
    /// To which host, by whom and why.
    pub change: HostChange,
}

impl Store {
    /// Changes a host; from the commit on, records for a host that is not enabled are refused.
    /// Returns the host as it is then, and whether that is a change. A host that is disabled or
    /// removed loses its tokens.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn change_host(&self, new: NewHostState) -> Result<(Host, bool), HostError> {
        self.ask(|reply| Box::new(ChangeHost { new, outcome: Err(HostError::Store(StoreError::Closed)), reply }))
            .await?
    }

    /// At most `limit` hosts that were enrolled once, by name, from `first` on.
    ///
    /// # Errors
    /// When the store fails or a row does not parse.
    pub async fn hosts_from(&self, first: Option<HostName>, limit: usize) -> Result<Vec<Host>, StoreError> {
        self.read_at_leisure(move |connection| {
            let first = first.as_ref().map_or("", HostName::as_str);
            read::hosts_from(connection, first, i64::try_from(limit).unwrap_or(i64::MAX))
        })
        .await
    }

    /// Every certificate that was recorded for `host` and is valid at `now`: the newest in full, the others counted.
    ///
    /// # Errors
    /// When the store fails or an entry does not parse.
    pub async fn certificates_of(&self, host: &HostName, now: Timestamp) -> Result<StillValid, StoreError> {
        let host = host.clone();
        self.read_at_leisure(move |connection| still_valid(connection, &host, now)).await
    }
}

/// Looks at all that the host ever had, and keeps no more than is listed.
fn still_valid(connection: &Connection, host: &HostName, now: Timestamp) -> Result<StillValid, StoreError> {
    let sql = concat!(
        "SELECT idx, name, not_after FROM certificate INDEXED BY certificate_by_host WHERE ",
        segment!("idx"),
        " = ",
        segment!("?1"),
        " AND host = ?3 AND idx >= ?1 AND idx < ?2 AND not_after >= ?4 ORDER BY idx DESC"
    );
    let mut statement = connection.prepare_cached(sql)?;
    let (mut listed, mut more, mut last_end) = (Vec::new(), 0, None);
    for Range { start, end } in segments(connection, &[Range::ALL])? {
        let mut rows = statement.query(params![start, end, host.as_str(), now.unix()])?;
        while let Some(row) = rows.next()? {
            last_end = last_end.max(Some(Timestamp::from_unix(row.get(2)?)));
            if listed.len() < MOST_LISTED {
                listed.push((row.get::<_, String>(1)?, std::cmp::Reverse(row.get::<_, i64>(0)?)));
            } else {
                more += 1;
            }
        }
    }
    listed.sort();
    let newest = listed.into_iter().map(|(_, index)| stored_entry(connection, index.0));
    Ok(StillValid { newest: newest.collect::<Result<_, _>>()?, more, last_end })
}

/// [`Store::change_host`].
struct ChangeHost {
    new: NewHostState,
    outcome: Result<(Host, bool), HostError>,
    reply: Sender<Result<(Host, bool), HostError>>,
}

impl ChangeHost {
    fn change(&self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(Host, bool), HostError> {
        let NewHostState { at, action, change } = &self.new;
        let Some(host) = read::host(transaction, &change.host)? else {
            return Err(HostError::Unknown(change.host.clone()));
        };
        let Some(state) = host.state.after(*action) else { return Err(HostError::Removed(host.name)) };
        if state == host.state {
            return Ok((host, false));
        }
        append_event(transaction, edge, *at, Event::host_changed(*action, change.clone()))?;
        let host = Host { state, since: *at, ..host };
        write(transaction, &host)?;
        // A token that was made before would undo what was decided now.
        if *action != HostAction::Enable {
            void_tokens(transaction, &host.name)?;
        }
        Ok((host, true))
    }
}

/// Voids every token of a host.
pub(super) fn void_tokens(transaction: &Transaction<'_>, host: &HostName) -> Result<(), StoreError> {
    transaction.prepare_cached("DELETE FROM token WHERE host = ?1")?.execute([host.as_str()])?;
    Ok(())
}

/// Writes a host's row.
pub(super) fn write(transaction: &Transaction<'_>, host: &Host) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO host (name, state, since, enrolled, idx) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            host.name.as_str(),
            host.state.as_str(),
            host.since.unix(),
            host.enrolled.unix(),
            host.enrollment
        ])?;
    Ok(())
}

/// The host was never enrolled: what a token needs that does not replace.
pub(super) fn require_unknown(connection: &Connection, host: &HostName) -> Result<(), RecordError> {
    match read::host(connection, host)? {
        None => Ok(()),
        Some(Host { name, state: HostState::Enabled, .. }) => Err(RecordError::AlreadyEnrolled(name)),
        Some(Host { name, state, .. }) => Err(RecordError::KeptOut(name, state)),
    }
}

/// The host is served.
pub(super) fn require_enabled(transaction: &Transaction<'_>, host: &HostName) -> Result<Host, RecordError> {
    let Some(found) = read::host(transaction, host)? else { return Err(RecordError::HostUnknown(host.clone())) };
    match found.state {
        HostState::Enabled => Ok(found),
        HostState::Disabled => Err(RecordError::HostDisabled(found.name)),
        HostState::Frozen => Err(RecordError::HostFrozen(found.name)),
        HostState::Removed => Err(RecordError::HostRemoved(found.name)),
    }
}

impl Verb for ChangeHost {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        self.outcome = match self.change(transaction, edge) {
            Err(HostError::Store(error)) => return Err(error),
            outcome => outcome,
        };
        Ok(())
    }

    fn committed(self: Box<Self>, projection: &mut Projection) {
        if let Ok((host, true)) = &self.outcome {
            projection.hosts.insert(host.name.clone(), host.clone());
        }
        let _ = self.reply.send(self.outcome);
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error.into()));
    }
}
