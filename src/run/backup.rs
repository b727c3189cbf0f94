//! `psfca backup`, `psfca restore` and `psfca reopen`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use hyper::Method;
use zeroize::Zeroizing;

use super::init::{
    check_owner, check_passphrase, choose_passphrase, make_private_directory, read_passphrase, write_trust_bundle,
};
use crate::backup::{Progress, Wanted, back_up};
use crate::cli::backup::{Backup, Reopen, Restore, ask_hosts};
use crate::client::Client;
use crate::clock::{Clock as _, SystemClock};
use crate::host::Remark;
use crate::random::SystemRandom;
use crate::restore::{Restoring, restore};
use crate::wire::{Health, HostSummary, ReopenRequest};
use crate::{accounts, cli};

/// Writes a backup while the daemon runs, or while it does not.
pub(super) fn back_up_ledger(args: &Backup) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    check_owner(&config.state_dir, "backup")?;
    let passphrase = match (&args.keys, &args.passphrase_file) {
        (None, _) => None,
        (Some(_), Some(file)) => Some(check_passphrase(read_passphrase(file)?)?),
        (Some(_), None) => Some(choose_passphrase("the keys")?),
    };
    let keys = args.keys.as_deref().zip(passphrase.as_ref().map(|passphrase| passphrase.as_str()));
    let origin = config.ledger_origin();
    let wanted = Wanted { state: &config.state_dir, origin: &origin, file: &args.file, keys, random: &SystemRandom };
    let mut shown = cli::backup::Progress::default();
    let outcome = back_up(&wanted, &mut |progress| match progress {
        Progress::Copied(done, all) => shown.tell("copying", done, all),
        Progress::Verified(done, all) => shown.tell("verifying", done, all),
    });
    shown.end();
    cli::backup::print_backup(args, &outcome?)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a CA of a backup; the daemon does not run.
pub(super) fn restore_ledger(args: &Restore) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    make_private_directory(&config.state_dir)?;
    check_owner(&config.state_dir, "restore")?;
    let passphrase = match &args.passphrase_file {
        Some(file) => read_passphrase(file)?,
        None => Zeroizing::new(
            rpassword::prompt_password("Passphrase of the keys: ")
                .context("no terminal to ask for the passphrase; --passphrase-file FILE needs none")?,
        ),
    };
    let origin = config.ledger_origin();
    let wanted = Restoring {
        state: &config.state_dir,
        origin: &origin,
        backup: &args.file,
        keys: &args.keys,
        passphrase: &passphrase,
        operator_uid: rustix::process::getuid().as_raw(),
        remark: behalf(),
        signature_threads: std::thread::available_parallelism().map_or(1, usize::from),
        clock: &SystemClock,
    };
    let shown = std::cell::RefCell::new(cli::backup::Progress::default());
    let mut findings = 0;
    let mut found = |finding| {
        shown.borrow_mut().end();
        // Whoever closed standard error does not want to know; the exit code says it too.
        let _ = cli::backup::print_finding(findings, &finding);
        findings += 1;
    };
    let mut progress = |done, all| shown.borrow_mut().tell("verifying", done, all);
    let outcome = super::runtime()?.block_on(restore(&wanted, &mut found, &mut progress));
    shown.borrow_mut().end();
    let restored = outcome?;
    write_trust_bundle(&config, &restored.root_certificate)?;
    cli::backup::print_restored(&config.state_dir, &restored, SystemClock.now())?;
    Ok(ExitCode::SUCCESS)
}

/// Who stands behind this user: what sudo says, which this process cannot verify.
fn behalf() -> Option<Remark> {
    let user = accounts::user_name(rustix::process::getuid().as_raw());
    let text = match std::env::var("SUDO_USER") {
        Ok(sudo) => format!("{user}, by sudo for {sudo}"),
        Err(_) => user,
    };
    Remark::parse(&text).ok()
}

/// Opens a restored CA, once somebody has looked at its hosts.
pub(super) fn reopen(args: &Reopen) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config.config)?;
    let hosts = super::runtime()?.block_on(async {
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        let hosts = match args.hosts {
            Some(hosts) => hosts,
            None => ask(&mut client).await?,
        };
        let body = serde_json::to_vec(&ReopenRequest { hosts })?;
        // The connection may have been idle for as long as somebody thought.
        let mut client = Client::connect_unix(&config.admin_socket).await?;
        client.send(Method::POST, "/v1/reopen", "application/json", "", body).await?.ok()?;
        anyhow::Ok(hosts)
    })?;
    cli::backup::print_reopened(hosts)?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(client: &mut Client) -> anyhow::Result<u64> {
    let health: Health = client.get_json("/healthz").await?;
    if health.closed.is_none() {
        bail!("the CA is open; there is nothing to confirm");
    }
    let hosts: Vec<HostSummary> = client.get_json("/v1/hosts").await?;
    cli::backup::print_hosts(&hosts, SystemClock.now())?;
    if !std::io::stdin().is_terminal() {
        bail!("nobody is there to be asked; psfca reopen --hosts N confirms that N hosts are enabled");
    }
    ask_hosts()?.context("that is no number; the CA stays closed")
}
