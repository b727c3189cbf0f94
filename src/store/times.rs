//! Where to look for a time or an end: the range of the times in each whole tile of 256 entries, and the last end.

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

impl Range {
    /// Every index.
    pub(super) const ALL: Self = Self { start: 0, end: i64::MAX };
}

/// Where entries can match by their indices, times and ends, newest first. One range, as long as clocks go forward;
/// whatever a clock that was wrong for a while wrote, and what lasts longer than all others, lies in a range of its own.
pub(super) fn ranges(connection: &Connection, query: &AuditQuery, now: Timestamp) -> Result<Vec<Range>, StoreError> {
    let cursor = query.before.filter(|_| query.expiring_before.is_none());
    let end = cursor.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
    if (query.since, query.until, query.expiring_before) == (None, None, None) {
        return Ok(vec![Range { end, ..Range::ALL }]);
    }
    const WIDTH: i64 = TILE_WIDTH as i64;
    let whole: i64 = connection
        .prepare_cached("SELECT coalesce(max(idx) + 1, 0) FROM tile_time")?
        .query_row([], |row| row.get(0))?;
    // The tile that is not whole yet has no row, so its entries are looked at themselves.
    let mut ranges = vec![Range { start: whole * WIDTH, end }];
    let mut statement = connection.prepare_cached(
        "SELECT idx FROM tile_time WHERE latest >= ?1 AND earliest < ?2 AND idx < ?3 AND (?4 IS NULL OR last_end >= ?4)
         ORDER BY idx DESC",
    )?;
    let (since, until) = (query.since.map_or(i64::MIN, Timestamp::unix), query.until.map_or(i64::MAX, Timestamp::unix));
    let last_end = query.expiring_before.map(|_| now.unix());
    let mut rows = statement.query(params![since, until, end / WIDTH + 1, last_end])?;
    while let Some(row) = rows.next()? {
        let start = row.get::<_, i64>(0)? * WIDTH;
        match ranges.last_mut() {
            Some(last) if last.start == start + WIDTH => last.start = start,
            _ => ranges.push(Range { start, end: end.min(start + WIDTH) }),
        }
    }
    Ok(ranges)
}

/// Keeps the range of the times in each tile, and the last end there; `index` is that of the entry being appended, which
/// has no row in another table yet.
pub(super) fn note_times(
    connection: &Connection,
    index: u64,
    at: Timestamp,
    end: Option<Timestamp>,
) -> Result<(), StoreError> {
    if !(index + 1).is_multiple_of(TILE_WIDTH) {
        return Ok(());
    }
    let tile = index / TILE_WIDTH;
    connection
        .prepare_cached(
            "INSERT INTO tile_time (idx, earliest, latest, last_end)
             SELECT ?1, min(recorded), max(recorded), max(not_after) FROM (
                 SELECT ?3 AS recorded, ?4 AS not_after
                 UNION ALL SELECT recorded, not_after FROM certificate WHERE idx >= ?2
                 UNION ALL SELECT recorded, NULL FROM event WHERE idx >= ?2)",
        )?
        .execute(params![tile, tile * TILE_WIDTH, at.unix(), end.map(Timestamp::unix)])?;
    Ok(())
}

/// Refuses a ledger whose last index is not that of so many entries, by the tiles that it has: a search would go through
/// all that are not there.
pub(super) fn require_whole(connection: &Connection, size: u64) -> Result<(), StoreError> {
    let tiles: u64 = connection.query_row("SELECT count(*) FROM tile_time", [], |row| row.get(0))?;
    if tiles == size / TILE_WIDTH {
        return Ok(());
    }
    Err(StoreError::Damaged(format!("by its last entry it has {size} entries, and it has the times of {tiles} tiles")))
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
            let end = (tile != 4).then_some(if tile == 0 { 9_000_000 } else { tile * 3_600 + 7_200 });
            let row = (tile, tile * 3_600, latest, end);
            connection.execute("INSERT INTO tile_time VALUES (?1, ?2, ?3, ?4)", row).unwrap();
        }
        let found = |since, before| {
            let query = AuditQuery { since: Some(Timestamp::from_unix(since)), before, ..AuditQuery::default() };
            let found = ranges(&connection, &query, Timestamp::from_unix(0)).unwrap();
            found.iter().map(|range| (range.start / 256, range.end)).collect::<Vec<_>>()
        };
        assert_eq!(found(7 * 3_600, None), [(7, i64::MAX), (1, 512)]);
        assert_eq!(found(900_000, None), [(9, i64::MAX), (1, 512)]);
        assert_eq!(found(2_000_000, None), [(9, i64::MAX)]);
        assert_eq!(found(0, Some(700)), [(9, 700), (0, 700)], "nothing is beyond the cursor");
        let expiring = |now| {
            let query = AuditQuery { expiring_before: Some(Timestamp::from_unix(i64::MAX)), ..AuditQuery::default() };
            let found = ranges(&connection, &query, Timestamp::from_unix(now)).unwrap();
            found.iter().map(|range| (range.start / 256, range.end)).collect::<Vec<_>>()
        };
        assert_eq!(expiring(8 * 3_600), [(6, i64::MAX), (0, 256)], "a tile from which on none has ended, and a CA's");
        assert_eq!(expiring(0), [(5, i64::MAX), (0, 1_024)], "where no certificate is, none ends");
    }
}
