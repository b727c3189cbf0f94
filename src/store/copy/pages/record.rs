//! Records: a row's values, one after the other, after a header that says what each of them is.

/// A value, as it lies in a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) enum Value<'r> {
    Null,
    Integer(i64),
    Real,
    /// In UTF-8, if it is what it says to be.
    Text(&'r [u8]),
    Blob(&'r [u8]),
}

/// SQLite's number of one to nine octets at the beginning of `octets`, and what follows it.
#[inline(always)]
pub(super) fn varint(octets: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = octets.split_first()?;
    if *first < 0x80 {
        return Some((u64::from(*first), rest));
    }
    long_varint(octets)
}

#[cold]
#[inline(never)]
fn long_varint(mut octets: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for _ in 0..8 {
        let (octet, rest) = octets.split_first()?;
        octets = rest;
        value = value << 7 | u64::from(octet & 0x7f);
        if *octet < 0x80 {
            return Some((value, octets));
        }
    }
    // The ninth has eight bits.
    let (octet, rest) = octets.split_first()?;
    Some((value << 8 | u64::from(*octet), rest))
}

/// The values of a record that has this many and nothing else.
pub(in super::super) fn read<const N: usize>(record: &[u8]) -> Option<[Value<'_>; N]> {
    let mut values = Values::new(record)?;
    let mut read = [Value::Null; N];
    for value in &mut read {
        *value = values.next()?;
    }
    values.is_over().then_some(read)
}

/// Whether a record can be read, however many values it has.
pub(super) fn is_sound(record: &[u8]) -> bool {
    let Some(mut values) = Values::new(record) else { return false };
    while !values.kinds.is_empty() {
        if values.next().is_none() {
            return false;
        }
    }
    values.is_over()
}

/// What is left of a record.
struct Values<'r> {
    kinds: &'r [u8],
    octets: &'r [u8],
}

impl<'r> Values<'r> {
    #[inline]
    fn new(record: &'r [u8]) -> Option<Self> {
        let (length, after) = varint(record)?;
        // The header's length counts itself.
        let (header, octets) = record.split_at_checked(usize::try_from(length).ok()?)?;
        let kinds = header.get(record.len() - after.len()..)?;
        Some(Self { kinds, octets })
    }

    #[inline(always)]
    fn next(&mut self) -> Option<Value<'r>> {
        let (kind, kinds) = varint(self.kinds)?;
        self.kinds = kinds;
        if let Some(twice) = kind.checked_sub(12) {
            let octets = self.take(usize::try_from(twice / 2).ok()?)?;
            return Some(if twice % 2 == 0 { Value::Blob(octets) } else { Value::Text(octets) });
        }
        Some(match kind {
            0 => Value::Null,
            1..=4 => Value::Integer(integer(self.take(kind as usize)?)),
            5 => Value::Integer(integer(self.take(6)?)),
            6 => Value::Integer(integer(self.take(8)?)),
            7 => self.take(8).map(|_| Value::Real)?,
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            // Reserved.
            _ => return None,
        })
    }

    #[inline]
    fn take(&mut self, length: usize) -> Option<&'r [u8]> {
        let (octets, rest) = self.octets.split_at_checked(length)?;
        self.octets = rest;
        Some(octets)
    }

    const fn is_over(&self) -> bool {
        self.kinds.is_empty() && self.octets.is_empty()
    }
}

/// A whole number with its sign, big-endian.
fn integer(octets: &[u8]) -> i64 {
    let negative = octets.first().is_some_and(|first| *first >= 0x80);
    octets.iter().fold(if negative { -1 } else { 0 }, |value, octet| value << 8 | i64::from(*octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_read_as_sqlite_writes_them() {
        for (octets, value) in [
            (&[0x00][..], 0),
            (&[0x7f], 127),
            (&[0x81, 0x00], 128),
            (&[0xff, 0x7f], 16_383),
            (&[0x81, 0x80, 0x00], 16_384),
            (&[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 1 << 49),
            (&[0xff; 9], u64::MAX),
        ] {
            assert_eq!(varint(octets), Some((value, &[][..])), "{value}");
            assert_eq!(varint(&octets[..octets.len() - 1]), None);
        }
        assert_eq!(varint(&[0x80, 0x05, 0x07]), Some((5, &[7][..])));
        for value in [0, 1, -1, 127, -128, 8_388_607, -8_388_608, i64::MAX, i64::MIN] {
            assert_eq!(integer(&value.to_be_bytes()), value);
        }
        assert_eq!((integer(&[0xff]), integer(&[0x80, 0, 0]), integer(&[])), (-1, -8_388_608, 0));
    }

    #[test]
    fn a_record_has_the_values_that_are_asked_for_and_nothing_else() {
        let record = [6, 0, 9, 1, 17, 14, 0xfe, b'h', b'i', 0];
        let values = [Value::Null, Value::Integer(1), Value::Integer(-2), Value::Text(b"hi"), Value::Blob(b"\0")];
        assert_eq!(read(&record), Some(values));
        assert!(is_sound(&record));
        assert_eq!(read::<4>(&record), None);
        assert_eq!(read::<6>(&record), None);
        let longer = [&record[..], b"x"].concat();
        for other in [&record[..9], &longer, &[], &[0], &[1], &[2, 10], &[2, 1], &[7, 0, 9, 1, 17, 14, 0xfe]] {
            assert_eq!(read::<5>(other), None, "{other:?}");
        }
        for unsound in [&record[..9], &longer, &[], &[0], &[2, 10], &[2, 11], &[2, 1], &[3, 0x80], &[200, 1]] {
            assert!(!is_sound(unsound), "{unsound:?}");
        }
        assert!(is_sound(&[1]));
        assert_eq!(read(&[2, 7, 0, 0, 0, 0, 0, 0, 0, 0]), Some([Value::Real]));
    }
}
