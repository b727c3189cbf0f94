//! Where the indexes by name, host and role have to be searched: segment by segment, newest first.

use rusqlite::Connection;

use super::StoreError;
use super::times::Range;

/// Entries in a segment, as a power of two; the definitions of those indexes say it too. Longer segments would let more
/// pages change with each commit, shorter ones let a search for what is rare ask more of them.
const SHIFT: u32 = 12;

/// SQL for the segment of an index, to the letter as those definitions have it.
macro_rules! segment {
    ($index:literal) => {
        concat!($index, " >> 12")
    };
}
pub(super) use segment;

/// The segment in which the entry at `index` lies.
pub(super) const fn segment_of(index: i64) -> i64 {
    index >> SHIFT
}

/// The parts of `ranges` that lie in one segment each and have entries, newest first as those are.
pub(super) fn segments(connection: &Connection, ranges: &[Range]) -> Result<impl Iterator<Item = Range>, StoreError> {
    let last: Option<i64> = connection.prepare_cached("SELECT max(idx) FROM entry")?.query_row([], |row| row.get(0))?;
    let size = last.map_or(0, |last| last.saturating_add(1));
    Ok(ranges.iter().flat_map(move |range| {
        let (start, end) = (range.start.max(0), range.end.min(size));
        let segments = if start < end { segment_of(start)..segment_of(end - 1) + 1 } else { 0..0 };
        segments
            .rev()
            .map(move |segment| Range { start: start.max(segment << SHIFT), end: end.min((segment + 1) << SHIFT) })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_come_newest_first_and_leave_nothing_of_a_range_out() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(super::super::schema::TABLES).unwrap();
        let of = |ranges: &[Range]| {
            segments(&connection, ranges).unwrap().map(|range| (range.start, range.end)).collect::<Vec<_>>()
        };
        let found = |start, end| of(&[Range { start, end }]);
        assert_eq!(found(0, i64::MAX), []);
        for index in [0, 10_000] {
            connection.execute("INSERT INTO entry VALUES (?1, x'', x'')", [index]).unwrap();
        }
        assert_eq!(found(0, i64::MAX), [(8_192, 10_001), (4_096, 8_192), (0, 4_096)]);
        assert_eq!(found(4_095, 8_192), [(4_096, 8_192), (4_095, 4_096)]);
        assert_eq!(found(5_000, 5_001), [(5_000, 5_001)]);
        assert_eq!(found(5_000, 5_000), []);
        assert_eq!(found(10_001, i64::MAX), []);
        let two = [Range { start: 9_000, end: i64::MAX }, Range { start: 4_000, end: 5_000 }];
        assert_eq!(of(&two), [(9_000, 10_001), (4_096, 5_000), (4_000, 4_096)]);
    }

    #[test]
    fn the_indexes_are_by_segments_of_this_length() {
        assert_eq!(segment!("idx"), format!("idx >> {SHIFT}"));
        let expected = concat!("ON certificate (", segment!("idx"), ", ");
        assert_eq!(super::super::schema::TABLES.matches(expected).count(), 3);
    }
}
