//! What an index has, or has to have, as a number: two of them are equal only where the rows are.

use std::cmp::Ordering;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use crate::store::StoreError;

/// Turns keys into numbers below [`PRIME`], by a secret that nobody knows.
#[derive(Debug, Clone)]
pub(super) struct Keyed(RandomState);

impl Keyed {
    pub(super) fn new() -> Self {
        Self(RandomState::new())
    }

    pub(super) fn number(&self, key: Key<'_>) -> u64 {
        let mut hasher = self.0.build_hasher();
        // What kind of key it is always comes last, so that nothing else is written alike.
        let kind = match key {
            Key::Number(number) => {
                hasher.write_i64(number);
                0
            }
            Key::Text(octets) => {
                hasher.write(octets);
                1
            }
            Key::Octets(octets) => {
                hasher.write(octets);
                2
            }
            Key::Pair(first, second) => return pair(self.number(Key::Text(first)), self.number(Key::Text(second))),
        };
        hasher.write_u8(kind);
        hasher.finish() % PRIME
    }
}

/// The number of a pair by those of its parts.
pub(super) const fn pair(first: u64, second: u64) -> u64 {
    (2 * first + second) % PRIME
}

/// Keys and indices as a multiset: how many rows, and the product of key + index over all of them modulo a prime.
/// Where the rows differ, the products are different polynomials of the keys' numbers, and those of n rows are equal
/// by chance with a probability of n / 2⁶¹ at most (Schwartz and Zippel).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    rows: u64,
    product: u64,
}

/// 2⁶¹ - 1, a prime.
const PRIME: u64 = (1 << 61) - 1;

impl Content {
    pub(super) const NONE: Self = Self { rows: 0, product: 1 };

    /// Adds a row: the number of its key, and its index, below [`PRIME`].
    pub(super) fn add(&mut self, key: u64, index: u64) {
        let product = u128::from(self.product) * u128::from((key + index) % PRIME);
        // 2⁶¹ is 1 modulo the prime, so the upper bits count as the lower ones do.
        self.product = ((product as u64 & PRIME) + (product >> 61) as u64) % PRIME;
        self.rows += 1;
    }
}

/// An index as large as an entry may have.
pub(super) fn numbered(index: i64) -> Option<u64> {
    u64::try_from(index).ok().filter(|index| *index < PRIME)
}

/// In SQLite's order of types: a search for a text does not find the same octets as a BLOB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'r> {
    Number(i64),
    Text(&'r [u8]),
    Octets(&'r [u8]),
    /// Two texts.
    Pair(&'r [u8], &'r [u8]),
}

impl<'r> Key<'r> {
    /// The key of a row of an index over one column or two. None for what no index has: NULL, and pairs of anything
    /// but texts.
    fn of(row: &'r Row<'_>, columns: usize) -> Result<Option<Self>, rusqlite::Error> {
        if columns == 2 {
            return Ok(match (row.get_ref(0)?, row.get_ref(1)?) {
                (ValueRef::Text(first), ValueRef::Text(second)) => Some(Self::Pair(first, second)),
                _ => None,
            });
        }
        Ok(match row.get_ref(0)? {
            ValueRef::Integer(number) => Some(Self::Number(number)),
            ValueRef::Text(octets) => Some(Self::Text(octets)),
            ValueRef::Blob(octets) => Some(Self::Octets(octets)),
            ValueRef::Null | ValueRef::Real(_) => None,
        })
    }
}

/// The key of the row before.
struct Last {
    /// The key, but for its octets.
    kind: Key<'static>,
    octets: [Vec<u8>; 2],
}

impl Last {
    /// Before all rows: a number that no column has.
    const NONE: Self = Self { kind: Key::Number(i64::MIN), octets: [Vec::new(), Vec::new()] };

    fn key(&self) -> Key<'_> {
        let [first, second] = &self.octets;
        match self.kind {
            Key::Number(number) => Key::Number(number),
            Key::Text(_) => Key::Text(first),
            Key::Octets(_) => Key::Octets(first),
            Key::Pair(..) => Key::Pair(first, second),
        }
    }

    fn set(&mut self, key: Key<'_>) {
        let none: &[u8] = &[];
        let (kind, first, second) = match key {
            Key::Number(number) => (Key::Number(number), none, none),
            Key::Text(octets) => (Key::Text(none), octets, none),
            Key::Octets(octets) => (Key::Octets(none), octets, none),
            Key::Pair(first, second) => (Key::Pair(none, none), first, second),
        };
        self.kind = kind;
        for (last, octets) in self.octets.iter_mut().zip([first, second]) {
            last.clear();
            last.extend_from_slice(octets);
        }
    }
}

/// None when the index is out of order, a search in it would then miss what it has, or has rows that no table has.
pub(super) fn content_of_index(
    connection: &Connection,
    sql: &str,
    keyed: &Keyed,
) -> Result<Option<Content>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count() - 1;
    let mut rows = statement.query([])?;
    let (mut content, mut last, mut last_index) = (Content::NONE, Last::NONE, 0);
    let mut number = keyed.number(last.key());
    while let Some(row) = rows.next()? {
        let index = numbered(row.get(columns)?);
        let (Some(index), Some(key)) = (index, Key::of(row, columns)?) else { return Ok(None) };
        match last.key().cmp(&key) {
            Ordering::Less => {
                last.set(key);
                number = keyed.number(key);
            }
            Ordering::Equal if last_index < index => {}
            Ordering::Equal | Ordering::Greater => return Ok(None),
        }
        content.add(number, index);
        last_index = index;
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_other_keys_kinds_or_indices_are_another_content() {
        let keyed = Keyed::new();
        let content = |rows: &[(Key<'_>, u64)]| {
            let mut content = Content::NONE;
            rows.iter().for_each(|(key, index)| content.add(keyed.number(*key), *index));
            content
        };
        let (a, b) = (Key::Text(b"a"), Key::Text(b"b"));
        let expected = content(&[(a, 1), (a, 2), (b, 3)]);
        assert_eq!(content(&[(b, 3), (a, 2), (a, 1)]), expected);
        for other in [
            &[(a, 1), (a, 2)][..],
            &[(a, 1), (a, 2), (b, 4)],
            &[(a, 1), (a, 3), (b, 2)],
            &[(a, 1), (a, 1), (b, 3)],
            &[(a, 1), (a, 2), (Key::Octets(b"b"), 3)],
            &[(a, 1), (a, 2), (Key::Text(b"b\0"), 3)],
            &[(a, 1), (a, 2), (Key::Octets(b"b\0"), 3)],
            &[(a, 1), (a, 2), (Key::Pair(b"b", b""), 3)],
            &[(a, 1), (a, 2), (Key::Number(98), 3)],
        ] {
            assert_ne!(content(other), expected);
        }
        let pairs =
            |first, second, third, fourth| content(&[(Key::Pair(first, second), 1), (Key::Pair(third, fourth), 2)]);
        assert_ne!(pairs(b"a", b"b", b"c", b"d"), pairs(b"b", b"a", b"c", b"d"));
        assert_ne!(pairs(b"a", b"b", b"c", b"d"), pairs(b"a", b"d", b"c", b"b"));
        assert_eq!(numbered(i64::try_from(PRIME).unwrap()), None);
    }

    #[test]
    fn the_same_octets_as_a_text_and_as_octets_are_two_keys_of_an_index() {
        let (connection, keyed) = (Connection::open_in_memory().unwrap(), Keyed::new());
        let content = |rows: &str| {
            let sql = format!("SELECT column1, column2 FROM (VALUES {rows})");
            content_of_index(&connection, &sql, &keyed).unwrap()
        };
        let texts = content("('a', 1), ('web', 2), ('web', 5)");
        assert!(texts.is_some());
        for other in ["('a', 1), ('web', 2), (x'776562', 5)", "('a', 1), (x'776562', 2), (x'776562', 5)"] {
            assert!(content(other).is_some() && content(other) != texts, "{other}");
        }
        for disordered in [
            "('web', 2), ('a', 1)",
            "('a', 2), ('a', 1)",
            "('a', 2), ('a', 2)",
            "('a', 1), (0, 2)",
            "(x'61', 1), ('a', 2)",
        ] {
            assert_eq!(content(disordered), None, "{disordered}");
        }
        assert_eq!(content("('a', -1)"), None);
        assert_eq!(content("(NULL, 1)"), None);
    }
}
