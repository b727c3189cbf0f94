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
        // As it is written here, or as other programs do.
        if text.len() == 64 {
            Self::of_digits(text.bytes())
        } else {
            Self::of_digits(text.bytes().filter(|b| *b != b':'))
        }
    }

    fn of_digits(mut digits: impl Iterator<Item = u8>) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            *byte = octet(&mut digits).ok_or(NotADigest)?;
        }
        if digits.next().is_some() { Err(NotADigest) } else { Ok(Self(bytes)) }
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Reads an even number of hexadecimal digits.
#[must_use]
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let mut digits = text.bytes();
    (0..text.len() / 2).map(|_| octet(&mut digits)).collect()
}

/// The octet that the next two hexadecimal digits stand for.
fn octet(digits: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let mut digit = || match digits.next()? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        digit @ b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    Some(digit()? << 4 | digit()?)
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
