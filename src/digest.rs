//! SHA-256 values and how they are written: fingerprints, declaration and ledger hashes.

use std::fmt;

use crate::text::serde_as_text;

/// A SHA-256 value, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 value is written as 64 hexadecimal digits")]
pub struct NotADigest;

impl Digest {
    /// SHA-256 of `bytes` (FIPS 180-4).
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_parts(&[bytes])
    }

    /// SHA-256 of the concatenation of `parts`.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for part in parts {
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Self(out)
    }

    /// Takes 32 bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits, with or without colons between the octets.
    ///
    /// # Errors
    /// [`NotADigest`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        // As it is written here, or as other programs do.
        let read = match <&[u8; 64]>::try_from(text.as_bytes()) {
            Ok(digits) => parse_hex_into(digits, &mut bytes),
            Err(_) => parse_hex_into(text.replace(':', "").as_bytes(), &mut bytes),
        };
        read.map(|()| Self(bytes)).ok_or(NotADigest)
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// Reads an even number of hexadecimal digits.
#[must_use]
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let mut octets = vec![0; text.len() / 2];
    parse_hex_into(text.as_bytes(), &mut octets).map(|()| octets)
}

/// Reads twice as many hexadecimal digits as there are `octets`; none when there are more or fewer.
///
/// Without a branch for each digit, which no processor could foresee, and without a table, so that many
/// are read at once: a ledger is read by the million.
pub(crate) fn parse_hex_into(digits: &[u8], octets: &mut [u8]) -> Option<()> {
    let (pairs, odd) = digits.as_chunks::<2>();
    if pairs.len() != octets.len() || !odd.is_empty() {
        return None;
    }
    let mut seen = 0;
    for (octet, [high, low]) in octets.iter_mut().zip(pairs) {
        let (high, low) = (value(*high), value(*low));
        seen |= high | low;
        *octet = high << 4 | low & 0xf;
    }
    (seen < 16).then_some(())
}

/// What an octet stands for as a hexadecimal digit; 16 for what is none.
const fn value(digit: u8) -> u8 {
    let (decimal, letter) = (digit.wrapping_sub(b'0'), (digit | 0x20).wrapping_sub(b'a'));
    if decimal < 10 {
        decimal
    } else if letter < 6 {
        letter + 10
    } else {
        16
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(Digest);

/// A [`Digest`] that people compare, written in groups: `3f2a91c0-…`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(pub Digest);

impl Fingerprint {
    /// Reads all 64 hexadecimal digits of one; case, and how they are grouped (by `-`, `:` or white space), do not
    /// matter.
    ///
    /// # Errors
    /// [`NotADigest`] for anything else; the beginning of one is not enough.
    pub fn parse(text: &str) -> Result<Self, NotADigest> {
        let digits: String = text.chars().filter(|c| !matches!(c, '-' | ':') && !c.is_ascii_whitespace()).collect();
        Digest::parse(&digits).map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, group) in self.0.0.chunks(4).enumerate() {
            write!(f, "{}{}", if n == 0 { "" } else { "-" }, hex(group))?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = NotADigest;
    fn from_str(text: &str) -> Result<Self, NotADigest> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_compared_whole_whatever_its_case_and_grouping() {
        let fingerprint = Fingerprint(Digest::of(b"abc"));
        let text = fingerprint.to_string();
        assert_eq!(text, "ba7816bf-8f01cfea-414140de-5dae2223-b00361a3-96177a9c-b410ff61-f20015ad");
        let plain = text.replace('-', "");
        for same in
            [text.to_uppercase(), plain.clone(), text.replace('-', ":"), text.replace('-', " "), format!(" {plain}\n")]
        {
            assert_eq!(Fingerprint::parse(&same), Ok(fingerprint), "{same}");
        }
        for other in [&plain[..62], &text[..62], "", "ba7816bf", &format!("{plain}00"), &plain.replace('b', "g")] {
            assert_eq!(Fingerprint::parse(other), Err(NotADigest), "{other}");
        }
    }

    #[test]
    fn a_digest_reads_back_what_it_writes() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        assert_eq!(Digest::of_parts(&[b"a", b"bc"]), digest);
        assert_eq!(Digest::parse("ba78"), Err(NotADigest));
        assert_eq!(Digest::parse("zz"), Err(NotADigest));
    }
}
