//! `psfca recover`

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::{audit, init};
use crate::ca::authorities::{CaCertificates, CaFiles};
use crate::ca::certificate::CaCertificate;
use crate::ca::signer::Authority;
use crate::cli;
use crate::cli::recover::{Plan, confirmed, print_done, print_plan};
use crate::clock::SystemClock;
use crate::config::CaConfig;
use crate::digest::Digest;
use crate::init::ledger_path;
use crate::recover::{Recovering, recover};
use crate::store::{Store, StoreError};

/// Gives up what the ledger lost, with the root's key.
pub(super) fn run(args: &cli::Recover) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    init::check_owner(&config.state_dir, "recover")?;
    let files = CaFiles::in_state(&config.state_dir);
    let root = CaCertificates::load(&files)?.root;
    // Open from here to the end, so that no daemon appends meanwhile.
    let store = Store::open(&ledger_path(&config.state_dir)).map_err(|error| match error {
        StoreError::InUse(path) => {
            anyhow::anyhow!("{} is in use by the daemon; stop it first: systemctl stop psfca", path.display())
        }
        error => error.into(),
    })?;
    let (given_up, given_up_root) = seen(&args.seen, &config)?;
    let origin = config.ledger_origin();
    let plan = Plan { origin: &origin, size: store.head().size, given_up, new_ledger_key: args.new_ledger_key };
    print_plan(&plan)?;
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            bail!("nobody is there to be asked; --yes goes on without asking");
        }
        if !confirmed()? {
            bail!("nothing was given up");
        }
    }
    let root = root_with_key(args, root, &files)?;
    let wanted = Recovering {
        store: &store,
        root: &root,
        given_up,
        given_up_root,
        ledger_key: &files.ledger_key(),
        origin: &origin,
        new_ledger_key: args.new_ledger_key,
        operator_uid: rustix::process::getuid().as_raw(),
        clock: &SystemClock,
    };
    let recovery = super::runtime()?.block_on(recover(&wanted))?;
    store.close();
    print_done(&recovery, args.new_ledger_key)?;
    Ok(ExitCode::SUCCESS)
}

/// A number of entries, or what a checkpoint says of them.
fn seen(text: &str, config: &CaConfig) -> anyhow::Result<(u64, Option<Digest>)> {
    if let Ok(size) = text.parse() {
        return Ok((size, None));
    }
    let checkpoint = audit::checkpoint_in(Path::new(text), None, Some(&config.state_dir))
        .context("--seen takes a number of entries or a file with a checkpoint")?;
    Ok((checkpoint.size, Some(checkpoint.root)))
}

fn root_with_key(args: &cli::Recover, root: CaCertificate, files: &CaFiles) -> anyhow::Result<Authority> {
    match (&args.root_key, &args.passphrase_file) {
        (None, _) => Authority::load(root, &files.root_key())
            .context("the root's key cannot be used; if it was put elsewhere, name its file with --root-key"),
        (Some(path), Some(file)) => Ok(Authority::load_encrypted(root, path, &init::read_passphrase(file)?)?),
        (Some(path), None) => {
            let passphrase = zeroize::Zeroizing::new(
                rpassword::prompt_password("Passphrase of the root's key: ")
                    .context("no terminal to ask for the passphrase; --passphrase-file FILE needs none")?,
            );
            Ok(Authority::load_encrypted(root, path, &passphrase)?)
        }
    }
}
