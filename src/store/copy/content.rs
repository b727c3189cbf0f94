//! What an index has, or has to have, as a number: two of them are equal only where the rows are.

use std::cmp::Ordering;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use super::pages::record::{self, Value};
use crate::store::segments::segment_of;

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
            // Its segment follows from the index.
            Key::Text(octets) | Key::Within(_, octets) => {
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

    /// Adds a row: the number of its key, and its index, both below [`PRIME`].
    pub(super) fn add(&mut self, key: u64, index: u64) {
        let product = u128::from(self.product) * u128::from(below_prime(key + index));
        // 2⁶¹ is 1 modulo the prime, so the upper bits count as the lower ones do.
        self.product = below_prime((product as u64 & PRIME) + (product >> 61) as u64);
        self.rows += 1;
    }
}

/// What is left of a number below twice the prime.
const fn below_prime(number: u64) -> u64 {
    if number < PRIME { number } else { number - PRIME }
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
    /// A text within a segment.
    Within(i64, &'r [u8]),
}

impl<'r> Key<'r> {
    /// The key of a row of an index over one column or two, and its index. None for what no index has: NULL, pairs of
    /// anything but texts, and what does not lie in its segment.
    pub(super) fn of_row(record: &'r [u8], columns: usize) -> Option<(Self, u64)> {
        let (key, index) = match columns {
            2 => match record::read(record)? {
                [Value::Text(first), Value::Text(second), index] => (Self::Pair(first, second), index),
                [Value::Integer(segment), Value::Text(octets), index] => (Self::Within(segment, octets), index),
                _ => return None,
            },
            _ => match record::read(record)? {
                [Value::Integer(number), index] => (Self::Number(number), index),
                [Value::Text(octets), index] => (Self::Text(octets), index),
                [Value::Blob(octets), index] => (Self::Octets(octets), index),
                [Value::Null | Value::Real, _] => return None,
            },
        };
        match (key, index) {
            (Self::Within(segment, _), Value::Integer(index)) if segment_of(index) != segment => None,
            (_, Value::Integer(index)) => Some((key, numbered(index)?)),
            _ => None,
        }
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
            Key::Within(number, _) => Key::Within(number, first),
        }
    }

    fn set(&mut self, key: Key<'_>) {
        let none: &[u8] = &[];
        let (kind, first, second) = match key {
            Key::Number(number) => (Key::Number(number), none, none),
            Key::Text(octets) => (Key::Text(none), octets, none),
            Key::Octets(octets) => (Key::Octets(none), octets, none),
            Key::Pair(first, second) => (Key::Pair(none, none), first, second),
            Key::Within(number, octets) => (Key::Within(number, none), octets, none),
        };
        self.kind = kind;
        for (last, octets) in self.octets.iter_mut().zip([first, second]) {
            last.clear();
            last.extend_from_slice(octets);
        }
    }
}

/// What an index has, from its first row on.
pub(super) struct InOrder<'k> {
    keyed: &'k Keyed,
    /// None when the index is out of order, a search in it would then miss what it has, or has rows that no table has.
    content: Option<Content>,
    last: Last,
    /// That of the last key.
    number: u64,
    last_index: u64,
}

impl<'k> InOrder<'k> {
    pub(super) fn new(keyed: &'k Keyed) -> Self {
        let last = Last::NONE;
        Self { keyed, content: Some(Content::NONE), number: keyed.number(last.key()), last, last_index: 0 }
    }

    /// Adds the next row; none is one that no index has.
    pub(super) fn add(&mut self, row: Option<(Key<'_>, u64)>) {
        let (Some(content), Some((key, index))) = (&mut self.content, row) else {
            self.content = None;
            return;
        };
        match self.last.key().cmp(&key) {
            Ordering::Less => {
                self.last.set(key);
                self.number = self.keyed.number(key);
            }
            Ordering::Equal if self.last_index < index => {}
            Ordering::Equal | Ordering::Greater => {
                self.content = None;
                return;
            }
        }
        content.add(self.number, index);
        self.last_index = index;
    }

    pub(super) fn end(self) -> Option<Content> {
        self.content
    }
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
        let keyed = Keyed::new();
        // As an index has them: kinds of the values, octets, and an index of one octet.
        let content = |rows: &[(u8, &[u8], u8)]| {
            let mut content = InOrder::new(&keyed);
            for (kind, octets, index) in rows {
                let record = [&[3, *kind, 1], *octets, &[*index]].concat();
                content.add(Key::of_row(&record, 1));
            }
            content.end()
        };
        let (text, octets) = (|length: u8| 13 + 2 * length, |length: u8| 12 + 2 * length);
        let texts = content(&[(text(1), b"a", 1), (text(3), b"web", 2), (text(3), b"web", 5)]);
        assert!(texts.is_some());
        for other in [
            [(text(1), &b"a"[..], 1), (text(3), b"web", 2), (octets(3), b"web", 5)],
            [(text(1), b"a", 1), (octets(3), b"web", 2), (octets(3), b"web", 5)],
        ] {
            assert!(content(&other).is_some() && content(&other) != texts, "{other:?}");
        }
        for disordered in [
            [(text(3), &b"web"[..], 2), (text(1), b"a", 1)],
            [(text(1), b"a", 2), (text(1), b"a", 1)],
            [(text(1), b"a", 2), (text(1), b"a", 2)],
            [(text(1), b"a", 1), (1, b"\0", 2)],
            [(octets(1), b"a", 1), (text(1), b"a", 2)],
        ] {
            assert_eq!(content(&disordered), None, "{disordered:?}");
        }
        assert_eq!(content(&[(text(1), b"a", 0xff)]), None, "a negative index");
        assert_eq!(content(&[(0, b"", 1)]), None);
        assert!(content(&[(1, &[9], 1)]).is_some());
        let pair = |second: u8| {
            Key::of_row(&[4, 15, second, 1, b'a', b'b', 7], 2).map(|(key, index)| (key == Key::Pair(b"a", b"b"), index))
        };
        assert_eq!((pair(15), pair(14)), (Some((true, 7)), None));
    }

    #[test]
    fn a_text_in_a_segment_is_in_order_by_both_and_lies_in_that_of_its_index() {
        let keyed = Keyed::new();
        // A segment, a text, and an index of two octets.
        let content = |rows: &[(u8, u8, u16)]| {
            let mut content = InOrder::new(&keyed);
            for (segment, text, index) in rows {
                let record = [&[4, 1, 15, 2, *segment, *text][..], &index.to_be_bytes()].concat();
                content.add(Key::of_row(&record, 2));
            }
            content.end()
        };
        let expected = content(&[(0, b'a', 7), (0, b'b', 5), (1, b'a', 4_096), (1, b'a', 5_000)]);
        let mut same = Content::NONE;
        for (text, index) in [(b"a", 5_000), (b"a", 4_096), (b"a", 7), (b"b", 5)] {
            same.add(keyed.number(Key::Text(text)), index);
        }
        assert_eq!(expected, Some(same));
        for none in [
            &[(0, b'b', 5), (0, b'a', 7)][..],
            &[(1, b'a', 4_096), (0, b'b', 5)],
            &[(0, b'a', 7), (0, b'a', 5)],
            &[(0, b'a', 4_096)],
            &[(1, b'a', 4_095)],
        ] {
            assert_eq!(content(none), None, "{none:?}");
        }
    }
}
