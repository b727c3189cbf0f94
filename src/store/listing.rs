//! What the audit lists: a page of entries by any filter, each by an index of its own.
//!
//! Certificates and other events lie in two tables, so a page is two ordered queries, merged. Times
//! are not in the order of indices (clocks are set back, requests overtake each other), and the
//! listing is in the order of indices; so a filter by time first asks `tile_time` where to look.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Store, StoreError, read};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ledger::tree::TILE_WIDTH;
use crate::ledger::{Entry, Event};
use crate::wire::{AuditQuery, CertificateState, EventKind};

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
    /// What lies beside it; of a certificate alone.
    pub body: Option<StoredBody>,
}

/// What lies beside a certificate's entry.
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
        self.read(move |connection| page(connection, &query, now)).await
    }
}

pub(super) fn page(
    connection: &Connection,
    query: &AuditQuery,
    now: Timestamp,
) -> Result<(Vec<StoredEntry>, Option<u64>), StoreError> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE) as usize;
    let range = Range::of(connection, query)?;
    let mut page = Vec::new();
    for select in [certificates(query, &range, now), events(query, &range)].into_iter().flatten() {
        // One row more than the page tells whether there is a next page.
        page.extend(select.run(connection, limit + 1)?);
    }
    if query.expiring_before.is_none() {
        page.sort_by_key(|entry| std::cmp::Reverse(entry.index));
    }
    let more = page.len() > limit;
    page.truncate(limit);
    let next = if more { page.last().map(|last| last.index) } else { None };
    Ok((page, next))
}

/// Indices outside of which nothing can match: `start` up to, not including, `end`.
struct Range {
    start: i64,
    end: i64,
}

impl Range {
    fn of(connection: &Connection, query: &AuditQuery) -> Result<Self, StoreError> {
        let mut range = Self { start: 0, end: i64::MAX };
        let clamp = |index: u64| i64::try_from(index).unwrap_or(i64::MAX);
        if query.expiring_before.is_none() {
            range.end = query.before.map_or(i64::MAX, clamp);
        }
        let tile = |sql: &str, time: Timestamp| -> Result<Option<u64>, StoreError> {
            Ok(connection.prepare_cached(sql)?.query_row([time.unix()], |row| row.get(0)).optional()?)
        };
        let whole = || -> Result<u64, StoreError> {
            let sql = "SELECT coalesce(max(idx) + 1, 0) FROM tile_time";
            Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
        };
        if let Some(since) = query.since {
            let first = match tile("SELECT idx FROM tile_time WHERE latest >= ?1 ORDER BY idx LIMIT 1", since)? {
                Some(first) => first,
                None => whole()?,
            };
            range.start = clamp(first * TILE_WIDTH);
        }
        if let Some(until) = query.until {
            // The tile that is not whole yet has no row, so its entries are looked at themselves.
            let partial = clamp(whole()? * TILE_WIDTH);
            let sql = "SELECT EXISTS (SELECT 1 FROM certificate WHERE idx >= ?1 AND recorded < ?2)
                           OR EXISTS (SELECT 1 FROM event WHERE idx >= ?1 AND recorded < ?2)";
            let within: bool =
                connection.prepare_cached(sql)?.query_row(params![partial, until.unix()], |row| row.get(0))?;
            if !within {
                let last = tile("SELECT idx FROM tile_time WHERE earliest < ?1 ORDER BY idx DESC LIMIT 1", until)?;
                range.end = range.end.min(last.map_or(0, |last| clamp((last + 1) * TILE_WIDTH)));
            }
        }
        Ok(range)
    }
}

/// Keeps the range of the times in each tile; `index` is that of the entry being appended.
pub(super) fn note_time(connection: &Connection, index: u64, at: Timestamp) -> Result<(), StoreError> {
    if !(index + 1).is_multiple_of(TILE_WIDTH) {
        return Ok(());
    }
    let tile = index / TILE_WIDTH;
    connection
        .prepare_cached(
            "INSERT INTO tile_time (idx, earliest, latest)
             SELECT ?1, min(recorded), max(recorded) FROM (
                 SELECT ?3 AS recorded
                 UNION ALL SELECT recorded FROM certificate WHERE idx >= ?2
                 UNION ALL SELECT recorded FROM event WHERE idx >= ?2)",
        )?
        .execute(params![tile, tile * TILE_WIDTH, at.unix()])?;
    Ok(())
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

/// The query over certificates; none when nothing there can match.
fn certificates(query: &AuditQuery, range: &Range, now: Timestamp) -> Option<Select> {
    if query.event.is_some_and(|event| event != EventKind::Certificate) {
        return None;
    }
    // One index, by what selects most: SQLite has no statistics here and would guess.
    let index = match query {
        _ if query.serial.is_some() => "INDEXED BY certificate_by_serial",
        _ if query.host.is_some() => "INDEXED BY certificate_by_host",
        _ if query.state == Some(CertificateState::Recorded) => "INDEXED BY certificate_by_state",
        _ if query.expiring_before.is_some() => "INDEXED BY certificate_by_end",
        _ if query.name.is_some() => "INDEXED BY certificate_by_name",
        _ if query.role.is_some() => "INDEXED BY certificate_by_role",
        _ if query.state == Some(CertificateState::Issued) => "INDEXED BY certificate_by_state",
        _ => "NOT INDEXED",
    };
    let mut select = Select::new(format!("listed.tbs, listed.signature FROM certificate AS listed {index}"), range);
    select.times(query);
    if let Some(serial) = &query.serial {
        select.filter("listed.serial = ?", serial.octets().to_vec());
    }
    if let Some(host) = &query.host {
        select.filter("listed.host = ?", host.as_str().to_owned());
    }
    if let Some(name) = &query.name {
        select.filter("listed.name = ?", name.clone());
    }
    if let Some(role) = &query.role {
        select.filter("listed.role = ?", role.as_str().to_owned());
    }
    if let Some(state) = query.state {
        select.filter("(listed.signature IS NULL) = ?", i64::from(state == CertificateState::Recorded));
    }
    if let Some(end) = query.expiring_before {
        select.order = "listed.not_after, listed.idx";
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
    let tbs: Option<Vec<u8>> = row.get(3)?;
    if tbs.is_some() != matches!(event, Event::Certificate(_)) {
        return Err(StoreError::Damaged(format!("entry {index} is not what the listing takes it for")));
    }
    let signature = row.get(4)?;
    let body = tbs.map(|tbs| StoredBody { tbs, signature });
    Ok(StoredEntry { index, time, event, leaf_hash: read::digest(row, 2)?, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SQLite does for `query`, a line for each step.
    fn plan(connection: &Connection, query: &AuditQuery) -> Vec<String> {
        let range = Range { start: 0, end: i64::MAX };
        let mut steps = Vec::new();
        for select in
            [certificates(query, &range, Timestamp::from_unix(0)), events(query, &range)].into_iter().flatten()
        {
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
            (r#""state":"recorded""#, "INDEX certificate_by_state (<expr>=? AND rowid"),
            (r#""state":"issued""#, "INDEX certificate_by_state (<expr>=? AND rowid"),
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
