//! Reads PEM text (RFC 7468) strictly, block by block, so that an error can say which block is
//! broken, on which line, and how. Text between the blocks is allowed and ignored.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest, X509Error};
use zeroize::Zeroizing;

/// Longest text that is read.
pub const MAX_BYTES: usize = 1 << 20;
/// Most blocks that are read; the public web's trust bundle has about 150.
pub const MAX_BLOCKS: usize = 512;

/// Where a block stands in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number among the blocks, from 1.
    pub number: usize,
    /// The line of its BEGIN, from 1.
    pub line: usize,
    /// What its BEGIN says: `CERTIFICATE`.
    pub label: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} ({}, line {})", self.number, self.label, self.line)
    }
}

/// What is wrong with PEM text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// Longer than [`MAX_BYTES`].
    #[error("it has {0} bytes; at most {MAX_BYTES} are read")]
    TooLarge(usize),
    /// More than [`MAX_BLOCKS`] blocks.
    #[error("it has more than {MAX_BLOCKS} blocks")]
    TooMany,
    /// No BEGIN line at all.
    #[error("there is no PEM block in it (no line like -----BEGIN CERTIFICATE-----)")]
    Nothing,
    /// DER where PEM is expected.
    #[error("it is binary (DER), not PEM; convert it with: openssl x509 -inform DER -in FILE")]
    Der,
    /// A line that begins like an armour line and is none.
    #[error("line {line}: this is not a whole -----BEGIN … ----- or -----END … ----- line")]
    Framing {
        /// Which line.
        line: usize,
    },
    /// BEGIN without END.
    #[error("{0} has no -----END {label}----- line: the file was cut short", label = .0.label)]
    Unterminated(Place),
    /// END does not say what BEGIN said.
    #[error("{place} ends with -----END {end}----- on line {line}")]
    Mismatch {
        /// The block.
        place: Place,
        /// What END says.
        end: String,
        /// The line of END.
        line: usize,
    },
    /// Not base64.
    #[error("{place} is not base64: {cause}")]
    Base64 {
        /// The block.
        place: Place,
        /// What is wrong.
        cause: String,
    },
    /// Base64 of something that is not what the label says.
    #[error("{place} does not hold what its label says: {cause}")]
    Content {
        /// The block.
        place: Place,
        /// What is wrong.
        cause: String,
    },
}

/// One block.
#[derive(Debug)]
pub struct Block {
    /// Where it stands.
    pub place: Place,
    /// What it holds.
    pub content: Content,
}

/// What a block holds; everything but `Other` has been parsed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Content {
    /// A certificate.
    Certificate(CertificateDer<'static>),
    /// A private key in the clear: PKCS#8, SEC 1 or PKCS#1.
    PrivateKey(PrivateKey),
    /// A PKCS#10 request, DER.
    Request(Vec<u8>),
    /// A private key under a passphrase; it cannot be looked into.
    EncryptedKey,
    /// Anything else, such as `EC PARAMETERS`.
    Other,
}

/// Reads every block; one that is broken does not hide the others.
///
/// # Errors
/// [`PemError`] when the text as a whole cannot be read.
pub fn blocks(text: &[u8]) -> Result<Vec<Result<Block, PemError>>, PemError> {
    if text.len() > MAX_BYTES {
        return Err(PemError::TooLarge(text.len()));
    }
    let mut found = Vec::new();
    let mut lines = text.split(|&b| b == b'\n').enumerate().map(|(at, line)| (at + 1, line.trim_ascii()));
    while let Some((line, first)) = lines.next() {
        if !first.starts_with(b"-----BEGIN") && !first.starts_with(b"-----END") {
            continue;
        }
        if found.len() == MAX_BLOCKS {
            return Err(PemError::TooMany);
        }
        let Some(label) = armour(first, "-----BEGIN ") else {
            found.push(Err(PemError::Framing { line }));
            continue;
        };
        found.push(block(Place { number: found.len() + 1, line, label }, &mut lines));
    }
    match found.is_empty() {
        false => Ok(found),
        true if text.starts_with(&[0x30, 0x82]) => Err(PemError::Der),
        true => Err(PemError::Nothing),
    }
}

/// Reads every block and accepts only text without a fault.
///
/// # Errors
/// The first [`PemError`].
pub fn strict_blocks(text: &[u8]) -> Result<Vec<Block>, PemError> {
    blocks(text)?.into_iter().collect()
}

/// Reads text that holds certificates and nothing else, such as a trust bundle or a chain.
///
/// # Errors
/// The first [`PemError`]; a block of another kind is one.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let only = |block: Block| match block.content {
        Content::Certificate(der) => Ok(der),
        _ => Err(PemError::Content { place: block.place, cause: "only certificates are expected here".to_owned() }),
    };
    strict_blocks(text)?.into_iter().map(only).collect()
}

/// Writes certificates one after the other.
#[must_use]
pub fn certificates_to_pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> String {
    certificates.into_iter().map(|der| armoured("CERTIFICATE", der)).collect()
}

fn armoured(label: &str, der: &[u8]) -> String {
    let line_feeds = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), line_feeds)
}

fn armour(line: &[u8], start: &str) -> Option<String> {
    let label = line.strip_prefix(start.as_bytes())?.strip_suffix(b"-----")?;
    let plain = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'-' | b'.');
    (!label.is_empty() && label.len() <= 64 && label.iter().all(plain))
        .then(|| String::from_utf8_lossy(label).into_owned())
}

fn block<'a>(place: Place, lines: &mut impl Iterator<Item = (usize, &'a [u8])>) -> Result<Block, PemError> {
    let mut body = Zeroizing::new(String::new());
    let mut fault = None;
    loop {
        let Some((number, line)) = lines.next() else { return Err(PemError::Unterminated(place)) };
        if line.starts_with(b"-----") {
            match armour(line, "-----END ") {
                Some(end) if end == place.label => break,
                Some(end) => return Err(PemError::Mismatch { place, end, line: number }),
                None => return Err(PemError::Framing { line: number }),
            }
        }
        match line.iter().find(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'+' | b'/' | b'=')) {
            None => body.extend(line.iter().map(|&b| char::from(b))),
            Some(b':') => {
                fault = fault.or(Some(
                    "it has headers, as the old OpenSSL form of an encrypted key has; \
                 convert it with: openssl pkcs8 -topk8 -nocrypt -in FILE"
                        .to_owned(),
                ))
            }
            Some(&bad) => fault = fault.or(Some(format!("line {number} has the byte {bad:#04x}"))),
        }
    }
    if let Some(cause) = fault {
        return Err(PemError::Base64 { place, cause });
    }
    match STANDARD.decode(body.as_bytes()) {
        Err(error) => Err(PemError::Base64 { place, cause: base64_cause(error, body.len()) }),
        Ok(der) => match content(&place.label, Zeroizing::new(der)) {
            Ok(content) => Ok(Block { place, content }),
            Err(cause) => Err(PemError::Content { place, cause }),
        },
    }
}

fn base64_cause(error: base64::DecodeError, characters: usize) -> String {
    match error {
        base64::DecodeError::InvalidLength(_) => {
            format!("{characters} characters are no whole number of bytes; some are missing or too many")
        }
        base64::DecodeError::InvalidByte(at, byte) => {
            format!("character {} of {characters} is {:?}", at + 1, char::from(byte))
        }
        base64::DecodeError::InvalidLastSymbol { .. } => "its last character is wrong".to_owned(),
        base64::DecodeError::InvalidPadding => "its padding (=) is wrong or missing".to_owned(),
    }
}

fn content(label: &str, der: Zeroizing<Vec<u8>>) -> Result<Content, String> {
    match label {
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
            whole(&der)?;
            let (_, _) = X509Certificate::from_der(&der).map_err(|error| x509_cause(&error))?;
            Ok(Content::Certificate(CertificateDer::from(der.to_vec())))
        }
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            whole(&der)?;
            let (_, _) = X509CertificationRequest::from_der(&der).map_err(|error| x509_cause(&error))?;
            Ok(Content::Request(der.to_vec()))
        }
        "PRIVATE KEY" => PrivateKey::new(KeyForm::Pkcs8, der).map(Content::PrivateKey),
        "EC PRIVATE KEY" => PrivateKey::new(KeyForm::Sec1, der).map(Content::PrivateKey),
        "RSA PRIVATE KEY" => PrivateKey::new(KeyForm::Pkcs1, der).map(Content::PrivateKey),
        "ENCRYPTED PRIVATE KEY" => Ok(Content::EncryptedKey),
        _ => Ok(Content::Other),
    }
}

/// Checks that the outer DER value is a SEQUENCE that fills all of `der` (X.690, section 8.1.3).
fn whole(der: &[u8]) -> Result<(), String> {
    let [0x30, first, rest @ ..] = der else {
        return Err("it does not begin as DER does (a SEQUENCE)".to_owned());
    };
    let octets = usize::from(first.saturating_sub(0x80));
    let said = match first {
        0..=0x7f => usize::from(*first),
        0x81..=0x84 if rest.len() >= octets => rest[..octets].iter().fold(0, |sum, &b| sum << 8 | usize::from(b)),
        _ => return Err("its outer length is not DER".to_owned()),
    };
    let there = rest.len() - octets;
    if said == there {
        return Ok(());
    }
    Err(format!("its outer length says {said} bytes and {there} are there"))
}

fn x509_cause(error: &x509_parser::nom::Err<X509Error>) -> String {
    match error {
        x509_parser::nom::Err::Incomplete(_) => "a length inside says more bytes than there are".to_owned(),
        x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => {
            format!("its DER is damaged: {error}")
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyForm {
    Pkcs8,
    Sec1,
    Pkcs1,
}

/// A private key that ring can use, and its public half. Erased when dropped; Debug elides it.
pub struct PrivateKey {
    form: KeyForm,
    der: Zeroizing<Vec<u8>>,
    spki: Vec<u8>,
}

impl PrivateKey {
    fn new(form: KeyForm, der: Zeroizing<Vec<u8>>) -> Result<Self, String> {
        let unusable = || {
            "it is no private key that is supported (ECDSA P-256 or P-384, Ed25519, RSA of 2048 bits or more), \
             or it is damaged"
                .to_owned()
        };
        let loaded = load(form, &der).map_err(|_| unusable())?;
        let spki = loaded.public_key().ok_or_else(unusable)?.as_ref().to_vec();
        Ok(Self { form, der, spki })
    }

    /// Takes a key in PKCS#8 DER (RFC 5208).
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    pub fn from_pkcs8(der: Vec<u8>) -> Result<Self, String> {
        Self::new(KeyForm::Pkcs8, Zeroizing::new(der))
    }

    /// The public half: `SubjectPublicKeyInfo`, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key in PEM, in the form in which it was read.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let label = match self.form {
            KeyForm::Pkcs8 => "PRIVATE KEY",
            KeyForm::Sec1 => "EC PRIVATE KEY",
            KeyForm::Pkcs1 => "RSA PRIVATE KEY",
        };
        Zeroizing::new(armoured(label, &self.der))
    }

    /// A copy for rustls.
    #[must_use]
    pub fn to_rustls(&self) -> PrivateKeyDer<'static> {
        as_rustls(self.form, &self.der).clone_key()
    }

    /// The DER, in the form in which it was read.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// The PKCS#8 DER, when it was read in that form.
    #[must_use]
    pub fn pkcs8(&self) -> Option<&[u8]> {
        (self.form == KeyForm::Pkcs8).then_some(&self.der)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { form, der: _, spki: _ } = self;
        write!(f, "PrivateKey({form:?}, ..)")
    }
}

fn as_rustls(form: KeyForm, der: &[u8]) -> PrivateKeyDer<'_> {
    match form {
        KeyForm::Pkcs8 => PrivateKeyDer::Pkcs8(der.into()),
        KeyForm::Sec1 => PrivateKeyDer::Sec1(der.into()),
        KeyForm::Pkcs1 => PrivateKeyDer::Pkcs1(der.into()),
    }
}

fn load(form: KeyForm, der: &[u8]) -> Result<std::sync::Arc<dyn SigningKey>, rustls::Error> {
    rustls::crypto::ring::sign::any_supported_type(&as_rustls(form, der))
}

#[cfg(test)]
mod tests;
