//! How a CA comes to be: the order of operations of `psfca init`.
//!
//! Everything is made in a scratch directory and moved into place by one rename at the end, so an
//! interrupted init leaves nothing that counts, and the next one begins again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::ca::authorities::CaFiles;
use crate::ca::certificate::{CaCertificate, CaCertificateError};
use crate::ca::csr::SubjectKey;
use crate::ca::key_file::{KeyError, make_ledger_key};
use crate::ca::lint::{self, LintError};
use crate::ca::signer::{self, CaKey, SignError};
use crate::ca::tbs::{self, CaProfile, TbsError};
use crate::clock::{Clock, Timestamp};
use crate::durable;
use crate::grant::{CertificateKind, Rule};
use crate::ledger::{CertificateRecord, EntryError};
use crate::profile::{KeyKind, SubjectFields};
use crate::random::{NoRandomness, Random};
use crate::serial::Serial;
use crate::store::{Condition, Draft, RecordError, Store, StoreError, StoredEntry};
use crate::wire::AuditQuery;

/// How long a root lives: ten years, so that its end is met once in a career, with warnings.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(3_652 * 86_400);
/// How long the issuing CA lives: three years.
pub const ISSUING_LIFETIME: Duration = Duration::from_secs(1_096 * 86_400);

/// What is wanted.
pub struct Founding<'a> {
    /// The CA's name, which is the root's common name.
    pub name: &'a str,
    /// `cert_opts`.
    pub subject: &'a SubjectFields,
    /// The kind of all three keys: ECDSA P-256 or P-384.
    pub key: KeyKind,
    /// The state directory; it must exist.
    pub state: &'a Path,
    /// Where the root's key goes.
    pub root_key: RootKeyPlace<'a>,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Randomness, for serials and for the encryption of the root's key.
    pub random: &'a dyn Random,
}

/// Where the root's key goes.
#[derive(Clone, Copy)]
pub enum RootKeyPlace<'a> {
    /// Beside the other keys, mode 0600.
    InState,
    /// Into a file of its own, encrypted, so that it can be carried away.
    Elsewhere {
        /// The file; it must not exist.
        path: &'a Path,
        /// What opens it again.
        passphrase: &'a str,
    },
}

/// Why no CA was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is one already.
    #[error(
        "there is a CA in {0} already; it is never overwritten: start it with psfca serve, or use another state directory"
    )]
    Exists(PathBuf),
    /// The root key file exists though no CA does.
    #[error("{0} exists already; move it away, or name another file with --root-key")]
    RootKeyExists(PathBuf),
    /// A directory or file failed.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate could not be built.
    #[error(transparent)]
    Build(#[from] TbsError),
    /// A certificate is not what was wanted.
    #[error(transparent)]
    Lint(#[from] LintError),
    /// A certificate could not be read back.
    #[error(transparent)]
    Certificate(#[from] CaCertificateError),
    /// An entry is too large.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger refused.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The disk did not keep everything.
    #[error(
        "the new ledger did not keep what was recorded in it; no CA was made: check the disk and run psfca init again"
    )]
    LedgerIncomplete,
    /// A certificate was not signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// No serial number.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// The ledger's file under the state directory `state`.
#[must_use]
pub fn ledger_path(state: &Path) -> PathBuf {
    state.join("ledger.sqlite3")
}

/// Makes the root, the issuing CA and the identity CA, and a ledger whose first entries they are.
/// Returns the root's certificate.
///
/// # Errors
/// [`InitError`]; no CA exists then, and no key is left in the state directory.
pub async fn found(wanted: &Founding<'_>) -> Result<CaCertificate, InitError> {
    let outcome = make(wanted).await;
    if outcome.is_err() {
        let _ = std::fs::remove_dir_all(scratch(wanted.state));
    }
    outcome
}

/// Where everything is made: the next init clears it if this one is killed.
fn scratch(state: &Path) -> PathBuf {
    state.join(".init")
}

async fn make(wanted: &Founding<'_>) -> Result<CaCertificate, InitError> {
    let files = CaFiles::in_state(wanted.state);
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| InitError::File { path, source }
    };

    // 1. Refuse to overwrite. The directory is what makes a CA exist, so it is what is looked at.
    if files.directory().exists() {
        return Err(InitError::Exists(wanted.state.to_owned()));
    }
    if let RootKeyPlace::Elsewhere { path, .. } = wanted.root_key
        && path.exists()
    {
        return Err(InitError::RootKeyExists(path.to_owned()));
    }

    // 2. A scratch directory, free of what an interrupted init left.
    let scratch = scratch(wanted.state);
    match std::fs::remove_dir_all(&scratch) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(file(&scratch)(source)),
        _ => {}
    }
    let made = CaFiles::in_state(&scratch);
    private_directory(made.directory()).map_err(file(made.directory()))?;

    // 3. The ledger first: nothing is signed that it does not hold.
    Store::create(&ledger_path(&scratch))?;
    let store = Store::open(&ledger_path(&scratch))?;

    // 4. The root, signed by itself.
    let root_key = CaKey::generate(wanted.key)?;
    let root_profile = CaProfile {
        kind: CertificateKind::Root,
        common_name: wanted.name.to_owned(),
        subject: wanted.subject.clone(),
        lifetime: ROOT_LIFETIME,
    };
    let root = certify(wanted, &store, &root_profile, &root_key.subject_key(), None, &root_key).await?;

    // 5. The issuing CA, signed by the root.
    let issuing_key = CaKey::generate(wanted.key)?;
    let issuing_profile = CaProfile {
        kind: CertificateKind::IssuingCa,
        common_name: format!("{} issuing CA 1", wanted.name),
        subject: wanted.subject.clone(),
        lifetime: ISSUING_LIFETIME,
    };
    let issuing = certify(wanted, &store, &issuing_profile, &issuing_key.subject_key(), Some(&root), &root_key).await?;

    // 6. The identity CA, a root of its own, so that no application that trusts the first root
    //    ever trusts a host identity.
    let identity_key = CaKey::generate(wanted.key)?;
    let identity_profile = CaProfile {
        kind: CertificateKind::IdentityCa,
        common_name: format!("{} identity CA 1", wanted.name),
        subject: SubjectFields { email: None, ..wanted.subject.clone() },
        lifetime: ROOT_LIFETIME,
    };
    let identity = certify(wanted, &store, &identity_profile, &identity_key.subject_key(), None, &identity_key).await?;

    // 7. Everything to disk, durably; the root's key where it was asked for.
    drop(store);
    check_ledger(&ledger_path(&scratch), wanted.clock.now()).await?;
    issuing_key.store(&made.issuing_key())?;
    identity_key.store(&made.identity_key())?;
    make_ledger_key(&made.ledger_key())?;
    for (path, certificate) in [(made.root(), &root), (made.issuing(), &issuing), (made.identity(), &identity)] {
        durable::replace(&path, certificate.pem().as_bytes(), 0o644).map_err(file(&path))?;
    }
    match wanted.root_key {
        RootKeyPlace::InState => root_key.store(&made.root_key())?,
        RootKeyPlace::Elsewhere { path, passphrase } => {
            root_key.store_encrypted(path, passphrase, wanted.random)?;
            durable::sync_directory_of(path).map_err(file(path))?;
        }
    }

    // 8. Into place. A ledger without a CA is what an init that died between these renames left.
    let ledger = ledger_path(wanted.state);
    std::fs::rename(ledger_path(&scratch), &ledger).map_err(file(&ledger))?;
    std::fs::rename(made.directory(), files.directory()).map_err(file(files.directory()))?;
    durable::sync_directory_of(&ledger).map_err(file(wanted.state))?;
    let _ = std::fs::remove_dir_all(&scratch);
    Ok(root)
}

/// Steps 4 to 7 of the issue sequence for a CA certificate: build, lint, record, sign.
async fn certify(
    wanted: &Founding<'_>,
    store: &Store,
    profile: &CaProfile,
    key: &SubjectKey,
    issuer: Option<&CaCertificate>,
    signing_key: &CaKey,
) -> Result<CaCertificate, InitError> {
    let now = wanted.clock.now();
    let serial = Serial::generate(now, wanted.random)?;
    let tbs = tbs::ca(profile, key, issuer, serial, now)?;
    let linted = lint::ca(tbs, profile, key, issuer)?;
    let record = CertificateRecord {
        kind: profile.kind,
        serial: linted.serial().clone(),
        name: profile.common_name.clone(),
        host: None,
        not_before: linted.not_before(),
        not_after: linted.not_after(),
        key_sha256: key.sha256(),
        ca_made_key: true,
        tbs_sha256: linted.sha256(),
        rule: Rule::Init,
    };
    let draft = Draft::new(now, record, Arc::clone(linted.bytes()), Condition::Always)?;
    let recorded = store.record(draft).await?;
    let signed = signer::sign(signing_key, &recorded, &linted)?;
    store.release(&recorded, signed.signature);
    Ok(CaCertificate::from_der(&signed.der)?)
}

/// Opens the closed ledger again, which leaves everything in its one file or fails, and sees that
/// each of the three certificates is there with its signature.
async fn check_ledger(path: &Path, now: Timestamp) -> Result<(), InitError> {
    let store = Store::open(path)?;
    let (entries, _) = store.entries(AuditQuery::default(), now).await?;
    let signed = |entry: &StoredEntry| entry.state.is_some_and(|state| state.released);
    if entries.len() == 3 && entries.iter().all(signed) { Ok(()) } else { Err(InitError::LedgerIncomplete) }
}

fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
