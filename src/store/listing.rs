//! What the audit lists: a page of entries by any filter, each by an index of its own.
//!
//! Certificates and other events lie in two tables, so a page is two ordered queries, merged. Their
//! indexes are written in the transaction that appends the entry. Times are not in the order of
//! indices (clocks are set back, requests overtake each other), and the listing is in the order of
//! indices; so a filter by time first asks `tile_time` where to look.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::times::{Range, ranges};
use super::{Store, StoreError, read};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ledger::{Entry, Event};
use crate::name::RoleName;
use crate::wire::{AuditQuery, CertificateState, EventKind};

/// Most entries in one page.
const MAX_PAGE: u32 = 1_000;
/// Entries in a page when nothing was said.
const PAGE: u32 = 100;
/// Certificates of one name or role that are few enough to be put in order of their ends.
const FEW: u32 = 2_000;
/// Most certificates whose ends are looked at to find the first of them.
const MANY: u32 = 100_000;

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
    let mut page = Vec::new();
    for mut range in ranges(connection, query)? {
        let mut found = Vec::new();
        let by = By::of(connection, query, &mut range, now)?;
        for select in [certificates(query, by, &range, now), events(query, &range)].into_iter().flatten() {
            // One row more than the page tells whether there is a next page.
            found.extend(select.run(connection, limit + 1 - page.len())?);
        }
        if query.expiring_before.is_none() {
            found.sort_by_key(|entry| std::cmp::Reverse(entry.index));
        }
        page.extend(found);
        if page.len() > limit {
            break;
        }
    }
    let more = page.len() > limit;
    page.truncate(limit);
    let next = if more { page.last().map(|last| last.index) } else { None };
    Ok((page, next))
}

/// In the order of ends an index says nothing by itself: what comes after it is known where it is listed. That may
/// have ended, or been signed, since the page before.
fn require_listed(connection: &Connection, query: &AuditQuery, before: u64) -> Result<(), StoreError> {
    let start = i64::try_from(before).unwrap_or(i64::MAX);
    let query = AuditQuery { before: None, state: None, ..query.clone() };
    let range = Range { start, end: start.saturating_add(1) };
    let select = certificates(&query, By::Index, &range, Timestamp::from_unix(0));
    let found = select.map_or(Ok(Vec::new()), |select| select.run(connection, 1))?;
    if found.is_empty() { Err(StoreError::NotListed(before)) } else { Ok(()) }
}

/// A query over one table.
struct Select {
    /// What is read, from which table by which index.
    from: String,
    conditions: Vec<&'static str>,
    values: Vec<Value>,
    order: &'static str,
}

impl Select {
    fn new(from: String, range: &Range) -> Self {
        let conditions = vec!["listed.idx >= ?", "listed.idx < ?"];
        Self { from, conditions, values: vec![range.start.into(), range.end.into()], order: "listed.idx DESC" }
    }

    fn filter(&mut self, condition: &'static str, value: impl Into<Value>) {
        self.conditions.push(condition);
        self.values.push(value.into());
    }

    fn times(&mut self, query: &AuditQuery) {
        if let Some(since) = query.since {
            self.filter("listed.recorded >= ?", since.unix());
        }
        if let Some(until) = query.until {
            self.filter("listed.recorded < ?", until.unix());
        }
    }

    fn sql(&self) -> String {
        // CROSS JOIN keeps the order of the tables: first the index, then the entries that it names.
        format!(
            "SELECT entry.idx, entry.bytes, entry.leaf_hash, {} CROSS JOIN entry ON entry.idx = listed.idx
             WHERE {} ORDER BY {} LIMIT ?",
            self.from,
            self.conditions.join(" AND "),
            self.order
        )
    }

    fn run(mut self, connection: &Connection, limit: usize) -> Result<Vec<StoredEntry>, StoreError> {
        let mut statement = connection.prepare_cached(&self.sql())?;
        self.values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
        let mut rows = statement.query(rusqlite::params_from_iter(self.values))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(stored_entry(row)?);
        }
        Ok(found)
    }
}

/// By which index certificates are looked for: that of what selects most. SQLite has no statistics
/// here and would guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Serial,
    Host,
    State,
    Name,
    Role,
    End,
    Index,
}

impl By {
    fn of(connection: &Connection, query: &AuditQuery, range: &mut Range, now: Timestamp) -> Result<Self, StoreError> {
        Ok(match query {
            _ if query.serial.is_some() => Self::Serial,
            _ if query.host.is_some() => Self::Host,
            _ if query.state == Some(CertificateState::Recorded) => Self::State,
            AuditQuery { expiring_before: Some(end), .. } => Self::expiring(connection, query, range, now, *end)?,
            _ if query.name.is_some() => Self::Name,
            _ if query.role.is_some() => Self::Role,
            _ => Self::Index,
        })
    }

    /// A name or a role of which little ends soon is looked for by itself, from the first on that does, and then
    /// put in order; of one that is common, enough is met soon in the order of ends.
    fn expiring(
        connection: &Connection,
        query: &AuditQuery,
        range: &mut Range,
        now: Timestamp,
        end: Timestamp,
    ) -> Result<Self, StoreError> {
        let role = query.role.as_ref().map(RoleName::as_str);
        let columns = [(Self::Name, "name", query.name.as_deref()), (Self::Role, "role", role)];
        if columns.iter().all(|(.., value)| value.is_none()) {
            return Ok(Self::End);
        }
        let ending = "SELECT min(idx), count(*) FROM (SELECT idx FROM certificate INDEXED BY certificate_by_end
                          WHERE dropped = 0 AND not_after >= ?1 AND not_after < ?2 LIMIT ?3)";
        let (first, count): (Option<i64>, u32) = connection
            .prepare_cached(ending)?
            .query_row(params![now.unix(), end.unix(), MANY], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if count < MANY {
            range.start = range.start.max(first.unwrap_or(range.end));
        }
        for (by, column, value) in columns {
            let Some(value) = value else { continue };
            let counted = format!(
                "SELECT count(*) FROM (SELECT 1 FROM certificate INDEXED BY certificate_by_{column}
                     WHERE {column} = ?1 AND idx >= ?2 AND idx < ?3 LIMIT ?4)"
            );
            let count: u32 = connection
                .prepare_cached(&counted)?
                .query_row(params![value, range.start, range.end, FEW], |row| row.get(0))?;
            if count < FEW {
                return Ok(by);
            }
        }
        Ok(Self::End)
    }

    const fn clause(self) -> &'static str {
        match self {
            Self::Serial => "INDEXED BY certificate_by_serial",
            Self::Host => "INDEXED BY certificate_by_host",
            Self::State => "INDEXED BY certificate_by_state",
            Self::Name => "INDEXED BY certificate_by_name",
            Self::Role => "INDEXED BY certificate_by_role",
            Self::End => "INDEXED BY certificate_by_end",
            Self::Index => "NOT INDEXED",
        }
    }
}

/// What has to hold beside the index that is gone by is looked up in its own, which takes a fraction of
/// the time that the row in the table takes.
macro_rules! also {
    ($column:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM certificate AS other INDEXED BY certificate_by_",
            $column,
            " WHERE other.",
            $column,
            " = ? AND other.idx = listed.idx)"
        )
    };
}

/// The query over certificates; none when nothing there can match.
fn certificates(query: &AuditQuery, by: By, range: &Range, now: Timestamp) -> Option<Select> {
    if query.event.is_some_and(|event| event != EventKind::Certificate) {
        return None;
    }
    let mut select =
        Select::new(format!("listed.released, listed.dropped FROM certificate AS listed {}", by.clause()), range);
    select.times(query);
    if let Some(serial) = &query.serial {
        select.filter("listed.serial = ?", serial.octets().to_vec());
    }
    if let Some(host) = &query.host {
        select.filter("listed.host = ?", host.as_str().to_owned());
    }
    if let Some(name) = &query.name {
        select.filter(if by == By::Name { "listed.name = ?" } else { also!("name") }, name.clone());
    }
    if let Some(role) = &query.role {
        select.filter(if by == By::Role { "listed.role = ?" } else { also!("role") }, role.as_str().to_owned());
    }
    if let Some(state) = query.state {
        // As a constant, so that SQLite sees that the index has it.
        select.conditions.push(match state {
            CertificateState::Recorded => "listed.released = 0",
            CertificateState::Issued => "listed.released = 1",
        });
    }
    if let Some(end) = query.expiring_before {
        select.order = "listed.not_after, listed.idx";
        // Only what ended long ago has no body; the index leaves that out.
        select.conditions.push("listed.dropped = 0");
        select.filter("listed.not_after >= ?", now.unix());
        select.filter("listed.not_after < ?", end.unix());
        if let Some(before) = query.before {
            let after = "(listed.not_after, listed.idx) > (SELECT not_after, idx FROM certificate WHERE idx = ?)";
            select.filter(after, i64::try_from(before).unwrap_or(i64::MAX));
        }
    }
    Some(select)
}

/// The query over all other events; none when nothing there can match.
fn events(query: &AuditQuery, range: &Range) -> Option<Select> {
    let AuditQuery { event, name, host, role, state, since: _, until: _, expiring_before, serial, before: _, limit: _ } =
        query;
    let certificates_alone =
        name.is_some() || role.is_some() || state.is_some() || expiring_before.is_some() || serial.is_some();
    if certificates_alone || *event == Some(EventKind::Certificate) {
        return None;
    }
    let index = match (host, event) {
        (Some(_), _) => "INDEXED BY event_by_host",
        (None, Some(_)) => "INDEXED BY event_by_kind",
        (None, None) => "NOT INDEXED",
    };
    let mut select = Select::new(format!("NULL, NULL FROM event AS listed {index}"), range);
    select.times(query);
    if let Some(host) = host {
        select.filter("listed.host = ?", host.as_str().to_owned());
    }
    if let Some(event) = event {
        select.filter("listed.event = ?", event.as_str().to_owned());
    }
    Some(select)
}

fn stored_entry(row: &Row<'_>) -> Result<StoredEntry, StoreError> {
    let index: u64 = row.get(0)?;
    let Entry { time, event, .. } = Entry::decode(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
    let state = match (row.get(3)?, row.get(4)?) {
        (Some(released), Some(dropped)) => Some(StoredState { released, dropped }),
        _ => None,
    };
    if state.is_some() != matches!(event, Event::Certificate(_)) {
        return Err(StoreError::Damaged(format!("entry {index} is not what the listing takes it for")));
    }
    Ok(StoredEntry { index, time, event, leaf_hash: read::digest(row, 2)?, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SQLite does for `query`, a line for each step.
    fn plan(connection: &Connection, query: &AuditQuery) -> Vec<String> {
        let mut range = Range { start: 0, end: i64::MAX };
        let now = Timestamp::from_unix(0);
        let by = By::of(connection, query, &mut range, now).unwrap();
        let mut steps = Vec::new();
        for select in [certificates(query, by, &range, now), events(query, &range)].into_iter().flatten() {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", select.sql())).unwrap();
            let parameters = vec![Value::Null; statement.parameter_count()];
            let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap();
            steps.extend(rows.map(|row| row.unwrap()));
        }
        steps
    }

    #[test]
    fn every_filter_goes_by_an_index_that_is_in_order_already() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(super::super::schema::TABLES).unwrap();
        let queries = [
            ("", "listed USING INTEGER PRIMARY KEY"),
            (r#""event":"certificate""#, "listed USING INTEGER PRIMARY KEY"),
            (r#""event":"declaration""#, "INDEX event_by_kind (event=? AND rowid"),
            (r#""since":"2026-11-21T00:00:00Z","until":"2026-11-22T00:00:00Z""#, "listed USING INTEGER PRIMARY KEY"),
            (r#""name":"lb.psf.io""#, "INDEX certificate_by_name (name=? AND rowid"),
            (r#""host":"lb0.psf.io""#, "INDEX certificate_by_host (host=? AND rowid"),
            (r#""host":"lb0.psf.io","event":"token_made""#, "INDEX event_by_host (host=? AND rowid"),
            (r#""role":"lb""#, "INDEX certificate_by_role (role=? AND rowid"),
            (r#""serial":"0102""#, "INDEX certificate_by_serial (serial=?"),
            (r#""name":"lb.psf.io","role":"lb""#, "COVERING INDEX certificate_by_role (role=? AND rowid=?"),
            (r#""state":"recorded""#, "INDEX certificate_by_state (released=? AND rowid"),
            (r#""state":"issued""#, "listed USING INTEGER PRIMARY KEY"),
            (r#""expiring_before":"2026-11-22T00:00:00Z""#, "INDEX certificate_by_end (not_after>? AND not_after<?)"),
            (r#""expiring_before":"2026-11-22T00:00:00Z","before":7"#, "INDEX certificate_by_end"),
        ];
        for (query, expected) in queries {
            let steps = plan(&connection, &serde_json::from_str(&format!("{{{query}}}")).unwrap());
            assert!(steps.iter().any(|step| step.contains(expected)), "{query}: {steps:?}");
            for step in &steps {
                assert!(!step.contains("TEMP B-TREE") && !step.starts_with("SCAN"), "{query}: {steps:?}");
            }
        }
    }
}
