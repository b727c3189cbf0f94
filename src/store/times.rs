//! Where to look for a time: the range of the times in each whole tile of 256 entries.

use rusqlite::{Connection, params};

use super::StoreError;
use crate::clock::Timestamp;
use crate::ledger::tree::TILE_WIDTH;
use crate::wire::AuditQuery;

/// Indices from `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: i64,
    pub(super) end: i64,
}

/// Where entries can match by their indices and times, newest first. One range, as long as clocks go
/// forward; whatever a clock that was wrong for a while wrote lies in a range of its own.
pub(super) fn ranges(connection: &Connection, query: &AuditQuery) -> Result<Vec<Range>, StoreError> {
    let cursor = query.before.filter(|_| query.expiring_before.is_none());
    let end = cursor.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
    if (query.since, query.until) == (None, None) {
        return Ok(vec![Range { start: 0, end }]);
    }
    const WIDTH: i64 = TILE_WIDTH as i64;
    let whole: i64 = connection
        .prepare_cached("SELECT coalesce(max(idx) + 1, 0) FROM tile_time")?
        .query_row([], |row| row.get(0))?;
    // The tile that is not whole yet has no row, so its entries are looked at themselves.
    let mut ranges = vec![Range { start: whole * WIDTH, end }];
    let mut statement = connection.prepare_cached(
        "SELECT idx FROM tile_time WHERE latest >= ?1 AND earliest < ?2 AND idx < ?3 ORDER BY idx DESC",
    )?;
    let (since, until) = (query.since.map_or(i64::MIN, Timestamp::unix), query.until.map_or(i64::MAX, Timestamp::unix));
    let mut rows = statement.query([since, until, end / WIDTH + 1])?;
    while let Some(row) = rows.next()? {
        let start = row.get::<_, i64>(0)? * WIDTH;
        match ranges.last_mut() {
            Some(last) if last.start == start + WIDTH => last.start = start,
            _ => ranges.push(Range { start, end: end.min(start + WIDTH) }),
        }
    }
    if query.expiring_before.is_some() {
        // In the order of ends, so all of them at once.
        let start = ranges.last().map_or(0, |last| last.start);
        return Ok(vec![Range { start, end }]);
    }
    Ok(ranges)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_with_a_wrong_clock_is_looked_at_by_itself_and_widens_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(super::super::schema::TABLES).unwrap();
        // Nine tiles, an hour each; in the second of them a clock was far ahead.
        for tile in 0..9 {
            let latest = if tile == 1 { 1_000_000 } else { tile * 3_600 + 3_599 };
            connection.execute("INSERT INTO tile_time VALUES (?1, ?2, ?3)", [tile, tile * 3_600, latest]).unwrap();
        }
        let found = |since, before| {
            let query = AuditQuery { since: Some(Timestamp::from_unix(since)), before, ..AuditQuery::default() };
            let found = ranges(&connection, &query).unwrap();
            found.iter().map(|range| (range.start / 256, range.end)).collect::<Vec<_>>()
        };
        assert_eq!(found(7 * 3_600, None), [(7, i64::MAX), (1, 512)]);
        assert_eq!(found(900_000, None), [(9, i64::MAX), (1, 512)]);
        assert_eq!(found(2_000_000, None), [(9, i64::MAX)]);
        assert_eq!(found(0, Some(700)), [(9, 700), (0, 700)], "nothing is beyond the cursor");
    }
}
