//! A witness' word on a checkpoint (C2SP tlog-cosignature, Ed25519): "at this time, this was the largest
//! head of that ledger that I had seen, and it continues all the others".

use std::fmt;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::note::{NoteError, check_name, key_hash, key_text, parse_key, signature_by, signature_line};
use crate::clock::Timestamp;
use crate::text::serde_as_text;

/// The signature type of timestamped Ed25519 cosignatures in key hashes and key texts.
const TYPE: u8 = 4;

/// The public key by which cosignatures are verified, written as `NAME+HASH+KEY`.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    key: [u8; 32],
}

impl WitnessKey {
    /// Reads `NAME+HASH+KEY`. The key of a ledger is of another type and is refused.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, key) = parse_key(text, TYPE)?;
        Ok(Self { name, key })
    }

    /// The witness' name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When this witness cosigned the checkpoint in `note`. Other signatures are not looked at.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`] when it did not, [`NoteError::WrongSignature`] when it did not sign this.
    pub fn verify(&self, note: &str) -> Result<Timestamp, NoteError> {
        let (text, blob) = signature_by(note, &self.name, key_hash(&self.name, TYPE, &self.key))?;
        let wrong = || NoteError::WrongSignature(self.name.clone());
        let (time, signature) = blob.split_first_chunk().ok_or_else(wrong)?;
        let time = i64::try_from(u64::from_be_bytes(*time)).map_err(|_| wrong())?;
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(message(time, text).as_bytes(), signature)
            .map_err(|_| wrong())?;
        Ok(Timestamp::from_unix(time))
    }
}

/// What a cosignature is made over.
fn message(time: i64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, TYPE, &self.key))
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(WitnessKey);

/// The private key of a witness.
pub struct WitnessSigner {
    key: WitnessKey,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for WitnessSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, pair: _ } = self;
        write!(f, "WitnessSigner({key}, ..)")
    }
}

impl WitnessSigner {
    /// Takes an Ed25519 key in PKCS#8, DER.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn from_pkcs8(name: &str, der: &[u8]) -> Result<Self, NoteError> {
        check_name(name)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| NoteError::Key)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Key)?;
        Ok(Self { key: WitnessKey { name: name.to_owned(), key }, pair })
    }

    /// The public half.
    #[must_use]
    pub const fn key(&self) -> &WitnessKey {
        &self.key
    }

    /// The signature line that goes below a checkpoint with this text (all of it above the empty line,
    /// with its last newline).
    #[must_use]
    pub fn cosign(&self, text: &str, at: Timestamp) -> String {
        let time = at.unix();
        let signature = self.pair.sign(message(time, text).as_bytes());
        let blob = [&time.to_be_bytes()[..], signature.as_ref()].concat();
        signature_line(&self.key.name, key_hash(&self.key.name, TYPE, &self.key.key), &blob)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ledger::note::{NoteSigner, NoteVerifier};

    pub(crate) fn witness(name: &str) -> WitnessSigner {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        WitnessSigner::from_pkcs8(name, pkcs8.as_ref()).unwrap()
    }

    const TEXT: &str = "psf.io/PSF_CA\n1\nhash\n";

    fn note() -> String {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        NoteSigner::from_pkcs8("psf.io/PSF_CA", pkcs8.as_ref()).unwrap().sign(TEXT)
    }

    #[test]
    fn a_cosignature_says_when_and_by_whom() {
        let (witness, note, at) = (witness("witness.psf.io/w1"), note(), Timestamp::from_unix(1_795_255_200));
        let cosigned = note.clone() + &witness.cosign(TEXT, at);
        assert_eq!(witness.key().verify(&cosigned), Ok(at));
        assert_eq!(witness.key().verify(&note), Err(NoteError::Unsigned("witness.psf.io/w1".to_owned())));
        let other = super::tests::witness("witness.psf.io/w1");
        let Err(NoteError::Unsigned(by)) = other.key().verify(&cosigned) else { panic!("another key") };
        assert!(by.starts_with("witness.psf.io/w1 with the key hash "), "{by}");
        assert_eq!(WitnessKey::parse(&witness.key().to_string()).as_ref(), Ok(witness.key()));
    }

    #[test]
    fn no_changed_character_of_a_cosigned_note_is_believed() {
        let witness = witness("w");
        let line = witness.cosign(TEXT, Timestamp::from_unix(1_795_255_200));
        let note = format!("{TEXT}\n{line}");
        for at in 0..note.len() {
            for flip in [1, 2, 4, 32] {
                let mut changed = note.clone().into_bytes();
                changed[at] ^= flip;
                let Ok(changed) = String::from_utf8(changed) else { continue };
                assert!(witness.key().verify(&changed).is_err(), "character {at}: {changed}");
            }
        }
    }

    #[test]
    fn the_key_of_a_ledger_is_no_witness_and_the_other_way_round() {
        let witness = witness("w").key().to_string();
        assert_eq!(NoteVerifier::parse(&witness), Err(NoteError::Key));
        let ledger = NoteVerifier::new("w", [7; 32]).unwrap().to_string();
        assert_eq!(WitnessKey::parse(&ledger), Err(NoteError::Key));
    }
}
