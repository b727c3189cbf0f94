//! A bundle as PKCS#12 (RFC 7292), for Java: one private key under the alias `user`, its certificate and the issuing
//! CAs. The key is encrypted with a password (PBES2: PBKDF2 with HMAC-SHA256, AES-256-CBC), certificates are public and
//! stay readable, and an HMAC-SHA256 is over everything.
//!
//! Salts and IV all come from one seed, and the file ends with it. So a file is never parsed to find out what it holds:
//! it is made again from its own seed, and is right where every byte is the same.

use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::pbes2;
use pkcs8::spki::SubjectPublicKeyInfoRef;
use pkcs8::{PrivateKeyInfoRef, SecretDocument};
use ring::{digest, hmac};
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, DERWriterSeq, Tag};
use zeroize::Zeroizing;

use super::bundle::Bundle;
use super::pem_file::PrivateKey;
use crate::random::{NoRandomness, Random};

/// What Java software takes for the password where nobody says another. It protects nothing.
const CONVENTIONAL_PASSWORD: &str = "changeit";
/// Longest password, in characters.
const MAX_PASSWORD: usize = 128;
/// The alias that the JDBC driver of PostgreSQL looks for; servers take the only key that there is.
const ALIAS: &str = "user";
/// Rounds of both key derivations, as many as Java's keytool takes.
const ROUNDS: u16 = 10_000;
/// The seed is the salt of the MAC.
const SEED: usize = 32;
/// What follows the seed in a file: [`ROUNDS`] as an INTEGER.
const AFTER_SEED: usize = 4;

const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
const SHROUDED_KEY_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 2];
const CERTIFICATE_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
const X509_CERTIFICATE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 20];
const LOCAL_KEY_ID: &[u64] = &[1, 2, 840, 113_549, 1, 9, 21];
const SHA256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];

/// Why there is no PKCS#12 file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Pkcs12Error {
    /// No seed.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The private key cannot be encoded or encrypted.
    #[error("the private key cannot be put into a PKCS#12 file")]
    Key,
    /// Java takes nothing else for the password of such a key.
    #[error("it holds no password: one line of 1 to {MAX_PASSWORD} printable ASCII characters")]
    Password,
}

/// The password of a PKCS#12 file. Erased when dropped; Debug elides it.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Reads the only line of a text.
    ///
    /// # Errors
    /// [`Pkcs12Error::Password`].
    pub fn parse(text: &[u8]) -> Result<Self, Pkcs12Error> {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let printable = |b: &u8| (b' '..=b'~').contains(b);
        match str::from_utf8(line) {
            Ok(password) if (1..=MAX_PASSWORD).contains(&line.len()) && line.iter().all(printable) => {
                Ok(Self(Zeroizing::new(password.to_owned())))
            }
            _ => Err(Pkcs12Error::Password),
        }
    }

    /// The conventional one, `changeit`: whoever can read the file can read the key.
    #[must_use]
    pub fn conventional() -> Self {
        Self(Zeroizing::new(CONVENTIONAL_PASSWORD.to_owned()))
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A PKCS#12 file that holds `bundle`, DER.
///
/// # Errors
/// [`Pkcs12Error`].
pub fn seal(bundle: &Bundle, password: &Password, random: &dyn Random) -> Result<Vec<u8>, Pkcs12Error> {
    let mut seed = [0; SEED];
    random.fill(&mut seed)?;
    seal_with(bundle, password, &seed)
}

/// Whether `file` is what [`seal`] makes of `bundle` and `password`, to the last byte.
#[must_use]
pub fn holds(file: &[u8], bundle: &Bundle, password: &Password) -> bool {
    let seed = file.len().checked_sub(SEED + AFTER_SEED).and_then(|at| file.get(at..)?.first_chunk());
    seed.is_some_and(|seed| seal_with(bundle, password, seed).is_ok_and(|wanted| wanted == file))
}

fn seal_with(bundle: &Bundle, password: &Password, seed: &[u8; SEED]) -> Result<Vec<u8>, Pkcs12Error> {
    let certificates = bundle.chain().certificates();
    // Only has to be the same with the key and its certificate.
    let key_id = digest::digest(&digest::SHA256, &bundle.leaf().spki);
    let key_id = key_id.as_ref();
    let key = shroud(bundle.key(), password, seed)?;
    let certificates = contents(|bags| {
        for (at, der) in certificates.iter().enumerate() {
            // Java makes an entry of what has a name, and finds issuers by their subject.
            let of = if at == 0 { Some(key_id) } else { None };
            bag(bags.next(), CERTIFICATE_BAG, of, |writer| {
                writer.write_sequence(|writer| {
                    oid(writer.next(), X509_CERTIFICATE);
                    writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(der));
                });
            });
        }
    });
    let key = contents(|bags| {
        bag(bags.next(), SHROUDED_KEY_BAG, Some(key_id), |writer| writer.write_der(key.as_bytes()));
    });
    // Two of them, because some readers count on that.
    let safe = contents(|safes| [certificates, key].iter().for_each(|content| data(safes.next(), content)));
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &mac_key(password, seed)), &safe);
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(3);
            data(writer.next(), &safe);
            writer.next().write_sequence(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_sequence(|writer| {
                        oid(writer.next(), SHA256);
                        writer.next().write_null();
                    });
                    writer.next().write_bytes(mac.as_ref());
                });
                writer.next().write_bytes(seed);
                writer.next().write_u16(ROUNDS);
            });
        });
    }))
}

/// The key as an `EncryptedPrivateKeyInfo`. The `PrivateKeyInfo` within has version 1, without the public half, which
/// readers refuse that know RFC 5208 alone.
fn shroud(key: &PrivateKey, password: &Password, seed: &[u8; SEED]) -> Result<SecretDocument, Pkcs12Error> {
    let info = match key.pkcs8() {
        Some(der) => PrivateKeyInfoRef::try_from(der).map(|whole| (whole.algorithm, whole.private_key)),
        // PKCS#8 wraps what the other forms are, and names the algorithm as the public key does (RFC 5915, RFC 8017).
        None => SubjectPublicKeyInfoRef::try_from(key.spki())
            .map_err(pkcs8::Error::from)
            .and_then(|spki| Ok((spki.algorithm, OctetStringRef::new(key.der())?))),
    };
    let info = info.map(|(algorithm, key)| PrivateKeyInfoRef::new(algorithm, key)).map_err(|_| Pkcs12Error::Key)?;
    // These repeat no more often than the seed, and can be foreseen no better.
    let halves = digest::digest(&digest::SHA256, seed);
    let (salt, iv) = halves.as_ref().split_at(16);
    let iv = iv.try_into().map_err(|_| Pkcs12Error::Key)?;
    let parameters = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(ROUNDS.into(), salt, iv);
    let parameters = parameters.map_err(|_| Pkcs12Error::Key)?;
    info.encrypt_with_params(parameters, password.0.as_bytes()).map_err(|_| Pkcs12Error::Key)
}

/// The key of the MAC: RFC 7292, appendix B.2, where hash and key are of one size and therefore one block is enough.
fn mac_key(password: &Password, salt: &[u8; SEED]) -> Zeroizing<Vec<u8>> {
    const BLOCK: usize = 64;
    const FOR_A_MAC: u8 = 3;
    let characters =
        Zeroizing::new(password.0.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect::<Vec<_>>());
    let mut block = Zeroizing::new(vec![FOR_A_MAC; BLOCK]);
    for part in [&salt[..], &characters] {
        block.extend(part.iter().cycle().take(part.len().next_multiple_of(BLOCK)));
    }
    let mut key = block;
    for _ in 0..ROUNDS {
        key = Zeroizing::new(digest::digest(&digest::SHA256, &key).as_ref().to_vec());
    }
    key
}

fn oid(writer: DERWriter<'_>, components: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(components));
}

/// A SEQUENCE OF: `SafeContents` and `AuthenticatedSafe`.
fn contents(write: impl FnOnce(&mut DERWriterSeq<'_>)) -> Vec<u8> {
    yasna::construct_der(|writer| writer.write_sequence(write))
}

/// A `ContentInfo` of octets in the clear.
fn data(writer: DERWriter<'_>, content: &[u8]) {
    writer.write_sequence(|writer| {
        oid(writer.next(), DATA);
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(content));
    });
}

/// A `SafeBag`; a key and its certificate have the same identifier, and the alias.
fn bag(writer: DERWriter<'_>, kind: &[u64], key_id: Option<&[u8]>, value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|writer| {
        oid(writer.next(), kind);
        writer.next().write_tagged(Tag::context(0), value);
        let Some(key_id) = key_id else { return };
        writer.next().write_set_of(|attributes| {
            attribute(attributes.next(), FRIENDLY_NAME, |writer| writer.write_bmp_string(ALIAS));
            attribute(attributes.next(), LOCAL_KEY_ID, |writer| writer.write_bytes(key_id));
        });
    });
}

fn attribute(writer: DERWriter<'_>, kind: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|writer| {
        oid(writer.next(), kind);
        writer.next().write_set_of(|values| value(values.next()));
    });
}

#[cfg(test)]
mod tests;
