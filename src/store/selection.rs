//! Which rows the listing selects: each filter by an index of its own, written in the transaction that appends the
//! entry. Those by name, host and role are searched segment by segment.

use rusqlite::types::Value;
use rusqlite::{Connection, params};

use super::StoreError;
use super::segments::{segment, segments};
use super::times::Range;
use crate::clock::Timestamp;
use crate::name::RoleName;
use crate::wire::{AuditQuery, CertificateState, EventKind};

/// Certificates of one name or role that are few enough to be put in order of their ends.
const FEW: u32 = 4_000;

/// Where an entry stands in the listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// By what the listing is ordered first, what is least first.
    order: i64,
    pub(super) index: i64,
}

/// What the listing is in the order of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    NewestFirst,
    EndsFirst,
}

/// A query over one table.
pub(super) struct Select {
    /// The table and the index by which it is read.
    from: String,
    /// Whether that index has to be searched segment by segment.
    segmented: bool,
    order: Order,
    conditions: Vec<&'static str>,
    values: Vec<Value>,
}

impl Select {
    fn new(from: String, segmented: bool) -> Self {
        let mut conditions = vec!["listed.idx >= ?1", "listed.idx < ?2"];
        if segmented {
            conditions.push(concat!(segment!("listed.idx"), " = ", segment!("?1")));
        }
        Self { from, segmented, order: Order::NewestFirst, conditions, values: Vec::new() }
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
        let (first, order) = match self.order {
            Order::NewestFirst => ("-listed.idx", "listed.idx DESC"),
            Order::EndsFirst => ("listed.not_after", "listed.not_after, listed.idx"),
        };
        format!(
            "SELECT {first}, listed.idx FROM {} WHERE {} ORDER BY {order} LIMIT ?",
            self.from,
            self.conditions.join(" AND "),
        )
    }

    /// The first `wanted` places in the order of the listing. `ranges` come newest first.
    pub(super) fn run(
        &self,
        connection: &Connection,
        ranges: &[Range],
        wanted: usize,
    ) -> Result<Vec<Place>, StoreError> {
        let mut statement = connection.prepare_cached(&self.sql())?;
        let mut found = Vec::new();
        let mut search = |Range { start, end }| {
            let bounds = [Value::from(start), end.into()].into_iter();
            let limit = Value::from(i64::try_from(wanted).unwrap_or(i64::MAX));
            let values = bounds.chain(self.values.iter().cloned()).chain([limit]);
            let mut rows = statement.query(rusqlite::params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                found.push(Place { order: row.get(0)?, index: row.get(1)? });
            }
            found.sort_unstable();
            found.truncate(wanted);
            // What ends first can be anywhere.
            Ok::<_, StoreError>(found.len() == wanted && self.order == Order::NewestFirst)
        };
        match ranges {
            _ if self.segmented => {
                for segment in segments(connection, ranges)? {
                    if search(segment)? {
                        break;
                    }
                }
            }
            // The index by the end is in order over all of them.
            [first, .., last] if self.order == Order::EndsFirst => {
                search(Range { start: last.start, end: first.end })?;
            }
            _ => {
                for range in ranges {
                    if search(*range)? {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }
}

/// By which index certificates are looked for: that of what selects most. SQLite has no statistics
/// here and would guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Serial,
    Host,
    State,
    Name,
    Role,
    End,
    Index,
}

impl By {
    /// For what may lie in these ranges.
    pub(super) fn of(connection: &Connection, query: &AuditQuery, ranges: &[Range]) -> Result<Self, StoreError> {
        Ok(match query {
            _ if query.serial.is_some() => Self::Serial,
            _ if query.host.is_some() => Self::Host,
            _ if query.state == Some(CertificateState::Recorded) => Self::State,
            _ if query.expiring_before.is_some() => Self::expiring(connection, query, ranges)?,
            _ if query.name.is_some() => Self::Name,
            _ if query.role.is_some() => Self::Role,
            _ => Self::Index,
        })
    }

    /// A name or a role of which there is little where something ends is looked for by itself, and then put in order; of
    /// one that is common, enough is met soon in the order of ends.
    fn expiring(connection: &Connection, query: &AuditQuery, ranges: &[Range]) -> Result<Self, StoreError> {
        let role = query.role.as_ref().map(RoleName::as_str);
        for (by, column, value) in [(Self::Name, "name", query.name.as_deref()), (Self::Role, "role", role)] {
            let Some(value) = value else { continue };
            if are_few(connection, column, value, ranges)? {
                return Ok(by);
            }
        }
        Ok(Self::End)
    }

    const fn is_segmented(self) -> bool {
        matches!(self, Self::Name | Self::Host | Self::Role)
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

/// Whether there are few certificates in these ranges with this value.
fn are_few(connection: &Connection, column: &str, value: &str, ranges: &[Range]) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT count(*) FROM (SELECT 1 FROM certificate INDEXED BY certificate_by_{column}
             WHERE {} = {} AND {column} = ?3 AND idx >= ?1 AND idx < ?2 LIMIT ?4)",
        segment!("idx"),
        segment!("?1")
    ))?;
    let mut count = 0;
    for Range { start, end } in segments(connection, ranges)? {
        count += statement.query_row(params![start, end, value, FEW - count], |row| row.get::<_, u32>(0))?;
        if count >= FEW {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What has to hold beside the index that is gone by is looked up in its own, which takes a fraction of
/// the time that the row in the table takes.
macro_rules! also {
    ($column:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM certificate AS other INDEXED BY certificate_by_",
            $column,
            " WHERE ",
            segment!("other.idx"),
            " = ",
            segment!("listed.idx"),
            " AND other.",
            $column,
            " = ? AND other.idx = listed.idx)"
        )
    };
}

/// The query over certificates; none when nothing there can match.
pub(super) fn certificates(query: &AuditQuery, by: By, now: Timestamp) -> Option<Select> {
    if query.event.is_some_and(|event| event != EventKind::Certificate) {
        return None;
    }
    let mut select = Select::new(format!("certificate AS listed {}", by.clause()), by.is_segmented());
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
        select.order = Order::EndsFirst;
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
pub(super) fn events(query: &AuditQuery) -> Option<Select> {
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
    let mut select = Select::new(format!("event AS listed {index}"), false);
    select.times(query);
    if let Some(host) = host {
        select.filter("listed.host = ?", host.as_str().to_owned());
    }
    if let Some(event) = event {
        select.filter("listed.event = ?", event.as_str().to_owned());
    }
    Some(select)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SQLite does for `query`, a line for each step.
    fn plan(connection: &Connection, query: &AuditQuery) -> Vec<String> {
        let now = Timestamp::from_unix(0);
        let by = By::of(connection, query, &[Range::ALL]).unwrap();
        let mut steps = Vec::new();
        for select in [certificates(query, by, now), events(query)].into_iter().flatten() {
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
            (r#""name":"lb.psf.io""#, "INDEX certificate_by_name (<expr>=? AND name=? AND rowid"),
            (r#""host":"lb0.psf.io""#, "INDEX certificate_by_host (<expr>=? AND host=? AND rowid"),
            (r#""host":"lb0.psf.io","event":"token_made""#, "INDEX event_by_host (host=? AND rowid"),
            (r#""role":"lb""#, "INDEX certificate_by_role (<expr>=? AND role=? AND rowid"),
            (r#""serial":"0102""#, "INDEX certificate_by_serial (serial=?"),
            (
                r#""name":"lb.psf.io","role":"lb""#,
                "COVERING INDEX certificate_by_role (<expr>=? AND role=? AND rowid=?",
            ),
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
