//! Certificate serial numbers (RFC 5280, section 4.1.2.2).

use std::fmt;

use crate::clock::Timestamp;
use crate::digest::{hex, parse_hex_into};
use crate::random::{NoRandomness, Random};
use crate::text::serde_as_text;

/// Octets of randomness in a serial that we make: 112 bits, above the 96 that rule out collisions
/// and prediction.
const RANDOM_OCTETS: usize = 14;

/// Most octets of a serial (RFC 5280, section 4.1.2.2).
const MAX_OCTETS: usize = 20;

/// A positive serial number of at most 20 octets, big-endian, without leading zeros.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial {
    /// Zeros behind the number.
    octets: [u8; MAX_OCTETS],
    length: u8,
}

/// A text or byte string that is no serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is written as 1 to 40 hexadecimal digits and is not zero")]
pub struct NotASerial;

impl Serial {
    /// A new serial: four octets of seconds, so that the store appends instead of scattering,
    /// then 112 random bits; at most 145 bits, so always positive and below 20 octets.
    ///
    /// # Errors
    /// [`NoRandomness`] when `random` fails.
    pub fn generate(now: Timestamp, random: &dyn Random) -> Result<Self, NoRandomness> {
        // After 2106 the seconds wrap, which costs order in the index and nothing else.
        let seconds = (now.unix() & 0xffff_ffff) as u32;
        let mut octets = [0; 4 + RANDOM_OCTETS];
        octets[..4].copy_from_slice(&seconds.to_be_bytes());
        random.fill(&mut octets[4..])?;
        // A zero clock and zero randomness would make the serial zero, which RFC 5280 forbids.
        Self::from_octets(&octets).map_err(|NotASerial| NoRandomness)
    }

    /// Takes big-endian octets; leading zeros are dropped.
    ///
    /// # Errors
    /// [`NotASerial`] when the value is zero or longer than 20 octets.
    pub fn from_octets(octets: &[u8]) -> Result<Self, NotASerial> {
        let start = octets.iter().position(|&b| b != 0).ok_or(NotASerial)?;
        let value = &octets[start..];
        let mut octets = [0; MAX_OCTETS];
        octets.get_mut(..value.len()).ok_or(NotASerial)?.copy_from_slice(value);
        // At most 20.
        Ok(Self { octets, length: value.len() as u8 })
    }

    /// Reads hexadecimal digits, with or without colons, as `openssl x509 -serial` prints them.
    ///
    /// # Errors
    /// [`NotASerial`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotASerial> {
        // As it is written here: a ledger is full of it.
        let mut octets = [0; MAX_OCTETS];
        if let Some(octets) = octets.get_mut(..text.len() / 2)
            && parse_hex_into(text.as_bytes(), octets).is_some()
        {
            return Self::from_octets(octets);
        }
        let plain = text.bytes().filter(|octet| *octet != b':');
        // Behind zeros, so that an odd number of digits is none.
        let (mut digits, mut octets) = ([b'0'; 64], [0; 32]);
        let start = digits.len().checked_sub(plain.clone().count()).ok_or(NotASerial)?;
        digits[start..].iter_mut().zip(plain).for_each(|(to, from)| *to = from);
        parse_hex_into(&digits, &mut octets).ok_or(NotASerial)?;
        Self::from_octets(&octets)
    }

    /// The magnitude, big-endian, without leading zeros (DER adds one where the top bit is set).
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex(self.octets()))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Serial {
    type Err = NotASerial;
    fn from_str(text: &str) -> Result<Self, NotASerial> {
        Self::parse(text)
    }
}

serde_as_text!(Serial);

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);
    impl Random for Fixed {
        fn fill(&self, out: &mut [u8]) -> Result<(), NoRandomness> {
            out.fill(self.0);
            Ok(())
        }
    }

    #[test]
    fn a_serial_is_positive_short_and_ordered_by_time() {
        let at = |seconds| Serial::generate(Timestamp::from_unix(seconds), &Fixed(0xff)).unwrap();
        assert!(at(1_700_000_000) < at(1_700_000_001));
        assert!(at(u32::MAX.into()).octets().len() <= 19);
        assert!(Serial::generate(Timestamp::from_unix(0), &Fixed(0)).is_err());
    }

    #[test]
    fn a_serial_reads_what_openssl_prints() {
        let serial = Serial::parse("0A:0B").unwrap();
        assert_eq!(serial, Serial::parse("a0b").unwrap());
        assert_eq!(serial.to_string(), "0a0b");
        for bad in ["", "0", "xyz", &"1".repeat(41)] {
            assert_eq!(Serial::parse(bad), Err(NotASerial), "{bad}");
        }
    }
}
