//! The root statement: a short signed text that only a root key can make. Hosts obey nothing less
//! where what they trust is to change (rule R10). So far there is one kind, the recovery of the
//! ledger. Pure: `ca::signer` signs, `ca::statement` verifies, the host's memory obeys.
//!
//! # Form
//!
//! A text like a signed note (C2SP signed-note), with the ECDSA signature of a root's key:
//!
//! ```text
//! psfca-root-statement/v1 ledger-recovery
//! origin psf.io/PSF_CA
//! given-up 30 CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//! head 12 PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
//! ledger-key psf.io/PSF_CA+1f9f3de6+AV0…
//! time 2026-11-21T10:00:00Z
//!
//! — psf.io/PSF_CA KEYID‖SIGNATURE
//! ```
//!
//! The first line keeps the kinds of statements apart from each other, and its first octet, `p`, keeps
//! all of them apart from everything else that a root signs: certificates and revocation lists are DER
//! sequences and begin with the octet 0x30. So no signature of one kind is ever one of another.
//! There is one way to write a statement; whatever else says the same is refused.
//!
//! # What it says, and why that is enough
//!
//! "Heads of this ledger with up to `given-up` entries, seen before `time`, may be of a line that was
//! lost. `head` stands in their place, and `ledger-key` signs what follows." [`Recovery::judge`] is the
//! whole rule. A host then holds the daemon to `head` by a consistency proof, as to any other.
//!
//! Take an attacker who has the daemon with every key in it, the ledger's too, and not the root's.
//!
//! - They cannot make a statement, nor change an octet of one, nor use one of another ledger.
//! - They can withhold one. Hosts then go on refusing the ledger, and keep what they have.
//! - They can show an old one, to take hosts back to its `head` once more and drop what came after.
//!   A host that obeyed it before refuses: only a newer statement counts. A host that never obeyed it,
//!   because it had seen nothing that was given up, or enrolled later, or was not shown it, refuses as
//!   well: its head was seen after the statement was made, so it is not one that was given up. That
//!   rests on the host's own clock and on nothing that the daemon says; it is why hosts need not be
//!   told of every statement in time, and why nothing about it is asked while all is well.
//! - They can show a host that still holds to a lost line an older statement in place of a newer one. The
//!   host lands on a line that a root's key did approve, and a newer statement still leads it on.
//! - They can grow two lines from `head` and show each to one host. That is a fork like any other; it
//!   shows where heads are compared (docs/recovery.md, the witness).
//!
//! A statement from the future is not obeyed yet: it would count against heads that are still to be
//! seen. A host whose clock was ahead when it saw a lost head refuses a statement from before that moment;
//! a newer one, made again later, ends it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::ledger::note::NoteVerifier;

/// The first line of a recovery.
const RECOVERY: &str = "psfca-root-statement/v1 ledger-recovery";
/// What stands for a root that nobody knows.
const UNKNOWN: &str = "unknown";
/// What the signature line begins with: an em dash and a space.
const SIGNATURE_START: &str = "\u{2014} ";
/// Longest statement that is looked at, in octets.
pub const MAX_STATEMENT: usize = 4_096;

/// Why a text is no root statement, or not one to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Not of the form.
    #[error("it is no root statement: {0}")]
    Malformed(&'static str),
    /// Signed by no root that counts, or by none at all.
    #[error("it is not signed by a root that is trusted here")]
    NotByARoot,
}

/// "This head of the ledger stands in the place of what was lost."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Heads of up to so many entries are given up.
    pub given_up: u64,
    /// The root of the largest of them, where it is known.
    pub given_up_root: Option<Digest>,
    /// How many entries the head has that stands in their place.
    pub size: u64,
    /// Its root.
    pub root: Digest,
    /// The key that signs the ledger's checkpoints from then on; its name is the ledger's origin.
    pub ledger_key: NoteVerifier,
    /// When it was made.
    pub time: Timestamp,
}

/// What a host remembers of a ledger, as far as a recovery is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Remembered<'r> {
    /// The ledger's origin.
    pub origin: &'r str,
    /// The size of the newest head.
    pub size: u64,
    /// Its root.
    pub root: Digest,
    /// When it was seen, by the host's clock.
    pub seen: Timestamp,
    /// The time of the newest statement that was obeyed.
    pub obeyed: Option<Timestamp>,
}

/// Why a host does not obey a recovery that a root's key has signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotObeyed {
    /// Another ledger.
    #[error("it is about the ledger {0}")]
    OtherLedger(String),
    /// Obeyed before, or older than one that was.
    #[error("this host obeyed one of {0} before, and only a newer one counts")]
    NotNewer(Timestamp),
    /// Its time has not come.
    #[error("it is of {0}, which is still to come by this host's clock")]
    Future(Timestamp),
    /// It was made before the head was seen that it would take back.
    #[error("this host saw its head after that, at {0}, so it is not one that was given up")]
    SeenSince(Timestamp),
    /// More was seen than is given up.
    #[error(
        "it gives up {given_up} entries and this host has seen {seen}; an operator can make one with --seen {seen}"
    )]
    SeenMore {
        /// What is given up.
        given_up: u64,
        /// What was seen.
        seen: u64,
    },
    /// The head of that size is another one.
    #[error("the {0} entries that it gives up are others than this host has seen; the ledger was forked before")]
    OtherHead(u64),
}

impl Recovery {
    /// The ledger that it is about.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.ledger_key.name()
    }

    /// The text that is signed; it ends in a newline.
    #[must_use]
    pub fn text(&self) -> String {
        let root = |root: Digest| STANDARD.encode(root.as_bytes());
        format!(
            "{RECOVERY}\norigin {}\ngiven-up {} {}\nhead {} {}\nledger-key {}\ntime {}\n",
            self.origin(),
            self.given_up,
            self.given_up_root.map_or_else(|| UNKNOWN.to_owned(), root),
            self.size,
            root(self.root),
            self.ledger_key,
            self.time
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        (lines.next()? == RECOVERY).then_some(())?;
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let _origin = field("origin")?;
        let (given_up, given_up_root) = field("given-up")?.split_once(' ')?;
        let (size, root) = field("head")?.split_once(' ')?;
        let read = Self {
            given_up: given_up.parse().ok()?,
            given_up_root: if given_up_root == UNKNOWN { None } else { Some(digest(given_up_root)?) },
            size: size.parse().ok()?,
            root: digest(root)?,
            ledger_key: NoteVerifier::parse(field("ledger-key")?).ok()?,
            time: Timestamp::parse(field("time")?).ok()?,
        };
        // The one way to write it: no other origin than the key's, no other number, nothing below.
        (read.text() == text).then_some(read)
    }

    /// Whether a host that remembers this puts [`Recovery::size`] and [`Recovery::root`] in its place. It
    /// is asked only where the ledger does not continue what is remembered.
    ///
    /// # Errors
    /// [`NotObeyed`]: what is remembered stays.
    pub fn judge(&self, remembered: &Remembered<'_>, now: Timestamp) -> Result<(), NotObeyed> {
        let Remembered { origin, size, root, seen, obeyed } = *remembered;
        if self.origin() != origin {
            return Err(NotObeyed::OtherLedger(self.origin().to_owned()));
        }
        if let Some(obeyed) = obeyed.filter(|obeyed| self.time <= *obeyed) {
            return Err(NotObeyed::NotNewer(obeyed));
        }
        if self.time > now {
            return Err(NotObeyed::Future(self.time));
        }
        if seen >= self.time {
            return Err(NotObeyed::SeenSince(seen));
        }
        if size > self.given_up {
            return Err(NotObeyed::SeenMore { given_up: self.given_up, seen: size });
        }
        if size == self.given_up && self.given_up_root.is_some_and(|given_up| given_up != root) {
            return Err(NotObeyed::OtherHead(size));
        }
        Ok(())
    }
}

/// The first four octets of SHA-256 of a root's public key (SubjectPublicKeyInfo, DER), by which a
/// signature names it (C2SP signed-note, signature type 0x02).
#[must_use]
pub fn key_id(spki: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = *Digest::of(spki).as_bytes();
    [a, b, c, d]
}

/// A recovery with a signature that nobody has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRecovery {
    recovery: Recovery,
    key_id: [u8; 4],
    signature: Vec<u8>,
}

impl SignedRecovery {
    /// Joins a recovery and the signature over its text by the key with this id.
    #[must_use]
    pub const fn new(recovery: Recovery, key_id: [u8; 4], signature: Vec<u8>) -> Self {
        Self { recovery, key_id, signature }
    }

    /// Reads the whole text.
    ///
    /// # Errors
    /// [`StatementError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, StatementError> {
        if text.len() > MAX_STATEMENT {
            return Err(StatementError::Malformed("it is too long"));
        }
        let (head, below) = text.split_once("\n\n").ok_or(StatementError::Malformed("it has no signature"))?;
        let recovery = Recovery::parse(&format!("{head}\n"))
            .ok_or(StatementError::Malformed("its text is not as psfca writes it"))?;
        let blob = below.strip_prefix(SIGNATURE_START).and_then(|line| line.strip_prefix(recovery.origin()));
        let blob = blob.and_then(|line| line.strip_prefix(' ')).and_then(|line| line.strip_suffix('\n'));
        let blob = blob.and_then(|blob| STANDARD.decode(blob).ok());
        let (key_id, signature) = blob
            .as_deref()
            .and_then(<[u8]>::split_first_chunk)
            .ok_or(StatementError::Malformed("its signature is not as psfca writes it"))?;
        Ok(Self { key_id: *key_id, signature: signature.to_vec(), recovery })
    }

    /// The whole text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let blob = STANDARD.encode([&self.key_id[..], &self.signature].concat());
        format!("{}\n{SIGNATURE_START}{} {blob}\n", self.recovery.text(), self.recovery.origin())
    }

    /// What it says, if that could be believed.
    #[must_use]
    pub const fn claim(&self) -> &Recovery {
        &self.recovery
    }

    /// What it says, if `is_by_a_root` (given key id, text and signature) confirms that.
    ///
    /// # Errors
    /// [`StatementError::NotByARoot`].
    pub fn verified(
        self,
        is_by_a_root: impl FnOnce([u8; 4], &[u8], &[u8]) -> bool,
    ) -> Result<Recovery, StatementError> {
        match is_by_a_root(self.key_id, self.recovery.text().as_bytes(), &self.signature) {
            true => Ok(self.recovery),
            false => Err(StatementError::NotByARoot),
        }
    }
}

fn digest(text: &str) -> Option<Digest> {
    Some(Digest::from_bytes(STANDARD.decode(text).ok()?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
