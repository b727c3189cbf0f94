//! Signed notes (C2SP signed-note): a text, and below it lines with signatures that name their keys.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::digest::{Digest, hex, parse_hex};
use crate::text::serde_as_text;

/// The signature type of Ed25519 in key hashes and key texts.
const ED25519_TYPE: u8 = 1;
/// What a signature line begins with: an em dash and a space.
const SIGNATURE_START: &str = "\u{2014} ";
/// Longest note that is looked at, and most signature lines.
const MAX_NOTE: usize = 64 * 1024;
const MAX_SIGNATURES: usize = 64;

/// Why a text is no note, or not signed by the key that it should be signed by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not of the form.
    #[error("this is no signed note: {0}")]
    Malformed(&'static str),
    /// No signature of the key that was asked for: its name, and where another key of that name signed, which.
    #[error("the note is not signed by {0}")]
    Unsigned(String),
    /// A signature of that key which does not verify.
    #[error("the signature by {0} is wrong")]
    WrongSignature(String),
    /// A text that is no key.
    #[error("a note's key is written as NAME+HASH+KEY, as psfca prints it")]
    Key,
}

/// The public key by which a note is verified, written as `NAME+HASH+KEY`.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteVerifier {
    name: String,
    key: [u8; 32],
}

impl NoteVerifier {
    /// The Ed25519 key `key` under the name `name`, which has neither white space nor a plus sign.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// Reads `NAME+HASH+KEY`.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, key) = parse_key(text, ED25519_TYPE)?;
        Ok(Self { name, key })
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn hash(&self) -> [u8; 4] {
        key_hash(&self.name, ED25519_TYPE, &self.key)
    }

    /// The text of `note`, if this key has signed it. Signatures by other keys are not looked at.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open<'n>(&self, note: &'n str) -> Result<&'n str, NoteError> {
        let (text, signature) = signature_by(note, &self.name, self.hash())?;
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(text.as_bytes(), &signature)
            .map_err(|_| NoteError::WrongSignature(self.name.clone()))?;
        Ok(text)
    }

    /// `note` with the signature of this key alone, if it has signed it.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn alone(&self, note: &str) -> Result<String, NoteError> {
        let text = self.open(note)?;
        let (_, signature) = signature_by(note, &self.name, self.hash())?;
        Ok(format!("{text}\n{}", signature_line(&self.name, self.hash(), &signature)))
    }
}

impl fmt::Display for NoteVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, ED25519_TYPE, &self.key))
    }
}

impl fmt::Debug for NoteVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(NoteVerifier);

/// The private key that signs notes under a name.
pub struct NoteSigner {
    verifier: NoteVerifier,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verifier, pair: _ } = self;
        write!(f, "NoteSigner({verifier}, ..)")
    }
}

impl NoteSigner {
    /// Takes an Ed25519 key in PKCS#8, DER.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn from_pkcs8(name: &str, der: &[u8]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| NoteError::Key)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Key)?;
        Ok(Self { verifier: NoteVerifier::new(name, key)?, pair })
    }

    /// The public half.
    #[must_use]
    pub const fn verifier(&self) -> &NoteVerifier {
        &self.verifier
    }

    /// `text`, which ends in a newline, with a signature below it.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        format!("{text}\n{}", signature_line(&self.verifier.name, self.verifier.hash(), signature.as_ref()))
    }
}

/// The first four octets of SHA-256(name ‖ newline ‖ type ‖ key), by which a signature names its key.
pub(super) fn key_hash(name: &str, kind: u8, key: &[u8; 32]) -> [u8; 4] {
    let digest = Digest::of_parts(&[name.as_bytes(), b"\n", &[kind], key]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

/// A key as people hand it on: `NAME+HASH+KEY`.
pub(super) fn key_text(name: &str, kind: u8, key: &[u8; 32]) -> String {
    let blob: Vec<u8> = std::iter::once(kind).chain(*key).collect();
    format!("{name}+{}+{}", hex(&key_hash(name, kind, key)), STANDARD.encode(blob))
}

/// Reads what [`key_text`] writes, of this kind.
pub(super) fn parse_key(text: &str, kind: u8) -> Result<(String, [u8; 32]), NoteError> {
    let (name, rest) = text.trim().split_once('+').ok_or(NoteError::Key)?;
    let (hash, key) = rest.split_once('+').ok_or(NoteError::Key)?;
    let key = STANDARD.decode(key).map_err(|_| NoteError::Key)?;
    let (found, key) = key.split_first().ok_or(NoteError::Key)?;
    let key: [u8; 32] = key.try_into().map_err(|_| NoteError::Key)?;
    check_name(name)?;
    let fits = *found == kind && parse_hex(hash).as_deref() == Some(&key_hash(name, kind, &key));
    if fits { Ok((name.to_owned(), key)) } else { Err(NoteError::Key) }
}

/// A key's name is neither empty nor has it white space or a plus sign.
pub(super) fn check_name(name: &str) -> Result<(), NoteError> {
    let bad = name.is_empty() || name.chars().any(|c| c.is_whitespace() || c == '+' || c.is_control());
    if bad { Err(NoteError::Key) } else { Ok(()) }
}

/// One line below a note's text.
pub(super) fn signature_line(name: &str, hash: [u8; 4], signature: &[u8]) -> String {
    format!("{SIGNATURE_START}{name} {}\n", STANDARD.encode([&hash[..], signature].concat()))
}

/// A note's text, and the first signature that says it is by this key.
pub(super) fn signature_by<'n>(note: &'n str, name: &str, hash: [u8; 4]) -> Result<(&'n str, Vec<u8>), NoteError> {
    let (text, signatures) = split(note)?;
    let mut other = None;
    for (_, blob) in signatures.filter(|(by, _)| *by == name) {
        match blob.split_first_chunk() {
            Some((found, signature)) if *found == hash => return Ok((text, signature.to_vec())),
            Some((found, _)) => other = Some(hex(found)),
            None => {}
        }
    }
    Err(NoteError::Unsigned(match other {
        None => name.to_owned(),
        Some(other) => format!("{name} with the key hash {}, but by one of that name with {other}", hex(&hash)),
    }))
}

/// A note's text, with its last newline, and its signatures: name, key hash and signature.
fn split(note: &str) -> Result<(&str, impl Iterator<Item = (&str, Vec<u8>)>), NoteError> {
    if note.len() > MAX_NOTE || note.chars().any(|c| c.is_control() && c != '\n') {
        return Err(NoteError::Malformed("it is too long or holds control characters"));
    }
    let end = note.rfind("\n\n").ok_or(NoteError::Malformed("no empty line separates text and signatures"))?;
    let (text, below) = (&note[..=end], &note[end + 2..]);
    if !below.ends_with('\n') || below.lines().count() > MAX_SIGNATURES {
        return Err(NoteError::Malformed("the signatures do not end, or are too many"));
    }
    if below.lines().any(|line| parse_signature(line).is_none()) {
        return Err(NoteError::Malformed("a line below the text is no signature"));
    }
    Ok((text, below.lines().filter_map(parse_signature)))
}

fn parse_signature(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, blob) = line.strip_prefix(SIGNATURE_START)?.split_once(' ')?;
    let blob = STANDARD.decode(blob).ok()?;
    (!name.is_empty() && blob.len() > 4).then_some((name, blob))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn signer(name: &str) -> NoteSigner {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        NoteSigner::from_pkcs8(name, pkcs8.as_ref()).unwrap()
    }

    #[test]
    fn the_published_example_verifies() {
        // From the signed-note specification of the Go checksum database.
        let key = NoteVerifier::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert!(key.open(note).unwrap().starts_with("If you think"));
        assert_eq!(key.to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    }

    #[test]
    fn a_changed_text_signature_or_key_is_refused() {
        let signer = signer("psf.io/PSF_CA");
        let note = signer.sign("psf.io/PSF_CA\n1\nhash\n");
        assert_eq!(signer.verifier().open(&note).unwrap(), "psf.io/PSF_CA\n1\nhash\n");
        let changed = note.replacen("\n1\n", "\n2\n", 1);
        assert!(matches!(signer.verifier().open(&changed), Err(NoteError::WrongSignature(_))));
        let other = self::signer("psf.io/PSF_CA");
        let hash = |signer: &NoteSigner| hex(&signer.verifier().hash());
        let said = other.verifier().open(&note).unwrap_err().to_string();
        let (wanted, found) = (hash(&other), hash(&signer));
        assert_eq!(
            said,
            format!(
                "the note is not signed by psf.io/PSF_CA with the key hash {wanted}, but by one of that name with {found}"
            )
        );
        for bad in ["", "a\n", "a\n\n", "a\n\nb\n", &note[..note.len() - 1], &note.replace('\u{2014}', "-")] {
            assert!(matches!(signer.verifier().open(bad), Err(NoteError::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_private_key_is_never_printed_by_accident() {
        let signer = signer("a");
        assert_eq!(format!("{signer:?}"), format!("NoteSigner({}, ..)", signer.verifier()));
    }
}
