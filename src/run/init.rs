//! `psfca init`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use crate::clock::SystemClock;
use crate::config::{CaConfig, CaKeyKind};
use crate::init::{Founding, RootKeyPlace, found};
use crate::profile::KeyKind;
use crate::random::SystemRandom;
use crate::{accounts, cli, durable};

/// Makes the CA, writes `PSF_CA.pem`, and says what to do next.
pub(super) fn run(args: &cli::Init) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    let passphrase = match (&args.root_key, &args.passphrase_file) {
        (None, _) => None,
        (Some(_), Some(file)) => Some(check_passphrase(read_passphrase(file)?)?),
        (Some(_), None) => Some(choose_passphrase("the root's key")?),
    };
    let root_key = match (&args.root_key, &passphrase) {
        (Some(path), Some(passphrase)) => RootKeyPlace::Elsewhere { path, passphrase },
        _ => RootKeyPlace::InState,
    };
    make_private_directory(&config.state_dir)?;
    check_owner(&config.state_dir, "init")?;
    let founding = Founding {
        name: config.name.as_str(),
        subject: &config.subject,
        key: match config.ca_key {
            CaKeyKind::EcdsaP256 => KeyKind::EcdsaP256,
            CaKeyKind::EcdsaP384 => KeyKind::EcdsaP384,
        },
        state: &config.state_dir,
        root_key,
        clock: &SystemClock,
        random: &SystemRandom,
    };
    let root = super::runtime()?.block_on(found(&founding))?;
    write_trust_bundle(&config, root.pem())?;
    cli::init::print(&config, &root, args.root_key.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes `PSF_CA.pem` where `ca.yaml` says, unless it is there already with that content.
pub(super) fn write_trust_bundle(config: &CaConfig, text: &str) -> anyhow::Result<()> {
    let path = &config.trust_bundle;
    if std::fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    let failed = || format!("the trust bundle could not be written to {}", path.display());
    durable::replace(path, text.as_bytes(), 0o644).with_context(failed)
}

pub(super) fn make_private_directory(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("the state directory {} could not be made", path.display()))
}

/// The daemon runs as the owner of its state directory, and could not read keys that someone else made there.
/// Nobody else may write to it: whoever can put a file there puts a key there.
pub(super) fn check_owner(state: &Path, command: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = match std::fs::metadata(state) {
        // Whoever needs a CA there says so.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found.with_context(|| format!("{} cannot be read", state.display()))?,
    };
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        let owner = accounts::user_name(metadata.uid());
        bail!("{} belongs to {owner}, who runs the daemon: sudo -u {owner} psfca {command}", state.display());
    }
    if metadata.mode() & 0o022 != 0 {
        bail!("{0} holds the CA's keys, and others may write to it; run: chmod go-w {0}", state.display());
    }
    Ok(())
}

/// The first line of a file; its line break is not part of the passphrase. What opens something may be of any length.
pub(super) fn read_passphrase(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("the passphrase in {}", path.display()))?;
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// Asks twice for a new passphrase that protects `what`.
pub(super) fn choose_passphrase(what: &str) -> anyhow::Result<Zeroizing<String>> {
    let first = rpassword::prompt_password(format!("Passphrase for {what}: "));
    let first = first.context("no terminal to ask for the passphrase; --passphrase-file FILE needs none")?;
    let first = Zeroizing::new(first);
    let again = Zeroizing::new(rpassword::prompt_password("The same again: ")?);
    if first != again {
        bail!("the two passphrases differ; nothing was made");
    }
    check_passphrase(first)
}

/// What is to protect something.
pub(super) fn check_passphrase(passphrase: Zeroizing<String>) -> anyhow::Result<Zeroizing<String>> {
    if passphrase.chars().count() < 12 {
        bail!("the passphrase has fewer than 12 characters; it is all that protects what it encrypts, so take more");
    }
    Ok(passphrase)
}
