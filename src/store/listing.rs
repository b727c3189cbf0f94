//! What the audit lists: a page of entries by any filter.
//!
//! Certificates and other events lie in two tables, so the places of a page come from two ordered searches, merged; then
//! each entry is read. Times are not in the order of indices (clocks are set back, requests overtake each other), and the
//! listing is in the order of indices; so a filter by time or end first asks `tile_time` where to look.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::selection::{By, Place, certificates, events};
use super::times::{Range, ranges};
use super::{Store, StoreError, read};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ledger::{Entry, Event};
use crate::wire::AuditQuery;

/// Most entries in one page.
const MAX_PAGE: u32 = 1_000;
/// Entries in a page when nothing was said.
const PAGE: u32 = 100;

/// An entry as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its index.
    pub index: u64,
    /// When it was written.
    pub time: Timestamp,
    /// What it says.
    pub event: Event,
    /// Its leaf hash.
    pub leaf_hash: Digest,
    /// How it stands; of a certificate alone.
    pub state: Option<StoredState>,
}

/// How a recorded certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredState {
    /// Whether its signature was stored.
    pub released: bool,
    /// Whether its body was dropped after its retention.
    pub dropped: bool,
}

/// What a certificate's entry is the record of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBody {
    /// The recorded bytes.
    pub tbs: Vec<u8>,
    /// The signature, once it was stored.
    pub signature: Option<Vec<u8>>,
}

impl Store {
    /// One page of entries and the cursor of the next page: newest first, or what ends first first
    /// where the query asks for what expires.
    ///
    /// # Errors
    /// When the store fails or an entry does not parse.
    pub async fn entries(
        &self,
        query: AuditQuery,
        now: Timestamp,
    ) -> Result<(Vec<StoredEntry>, Option<u64>), StoreError> {
        self.read_at_leisure(move |connection| page(connection, &query, now)).await
    }

    /// The body of the certificate at `index`; none where there is no such certificate, or no body any more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn body(&self, index: u64) -> Result<Option<StoredBody>, StoreError> {
        self.read_at_leisure(move |connection| {
            let mut statement = connection.prepare_cached("SELECT tbs, signature FROM body WHERE idx = ?1")?;
            let body = |row: &Row<'_>| Ok(StoredBody { tbs: row.get(0)?, signature: row.get(1)? });
            Ok(statement.query_row([index], body).optional()?)
        })
        .await
    }
}

pub(super) fn page(
    connection: &Connection,
    query: &AuditQuery,
    now: Timestamp,
) -> Result<(Vec<StoredEntry>, Option<u64>), StoreError> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE) as usize;
    if let (Some(_), Some(before)) = (query.expiring_before, query.before) {
        require_listed(connection, query, before)?;
    }
    let ranges = ranges(connection, query, now)?;
    let by = By::of(connection, query, &ranges)?;
    let mut places = Vec::new();
    for select in [certificates(query, by, now), events(query)].into_iter().flatten() {
        // One more than the page tells whether there is a next page.
        places.extend(select.run(connection, &ranges, limit + 1)?);
    }
    places.sort_unstable();
    let more = places.len() > limit;
    places.truncate(limit);
    let page = places.into_iter().map(|Place { index, .. }| stored_entry(connection, index));
    let page = page.collect::<Result<Vec<_>, _>>()?;
    let next = if more { page.last().map(|last| last.index) } else { None };
    Ok((page, next))
}

/// In the order of ends an index says nothing by itself: what comes after it is known where it is listed. That may
/// have ended, or been signed, since the page before.
fn require_listed(connection: &Connection, query: &AuditQuery, before: u64) -> Result<(), StoreError> {
    let start = i64::try_from(before).unwrap_or(i64::MAX);
    let query = AuditQuery { before: None, state: None, ..query.clone() };
    let range = Range { start, end: start.saturating_add(1) };
    let select = certificates(&query, By::Index, Timestamp::from_unix(0));
    let found = select.map_or(Ok(Vec::new()), |select| select.run(connection, &[range], 1))?;
    if found.is_empty() { Err(StoreError::NotListed(before)) } else { Ok(()) }
}

/// The entry at `index`, and how it stands.
pub(super) fn stored_entry(connection: &Connection, index: i64) -> Result<StoredEntry, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT entry.idx, bytes, leaf_hash, released, dropped FROM entry LEFT JOIN certificate USING (idx)
         WHERE entry.idx = ?1",
    )?;
    let mut rows = statement.query([index])?;
    let missing = || StoreError::Damaged(format!("entry {index} is missing"));
    let row = rows.next()?.ok_or_else(missing)?;
    let Entry { time, event, .. } = Entry::decode(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
    let state = match (row.get(3)?, row.get(4)?) {
        (Some(released), Some(dropped)) => Some(StoredState { released, dropped }),
        _ => None,
    };
    if state.is_some() != matches!(event, Event::Certificate(_)) {
        return Err(StoreError::Damaged(format!("entry {index} is not what the listing takes it for")));
    }
    Ok(StoredEntry { index: row.get(0)?, time, event, leaf_hash: read::digest(row, 2)?, state })
}
