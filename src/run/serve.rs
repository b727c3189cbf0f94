//! `psfca serve`: puts the daemon together and takes it apart again.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{init, reload, retention};
use crate::api::{self, Api, FleetCount, Listener, RequestLimits, Throttle};
use crate::ca::authorities::{Authorities, CaFiles};
use crate::ca::key_file::load_ledger_key;
use crate::ca::template::LeafTemplates;
use crate::challenge::Challenges;
use crate::checkpoints::Checkpoints;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::CaConfig;
use crate::cosigning::Cosigner;
use crate::expiry::ca_warning;
use crate::init::ledger_path;
use crate::issue::{CertificateAuthority, DaemonCertificate};
use crate::random::SystemRandom;
use crate::server::{AdminSocket, ConnectionLimits, Network, TlsSlot};
use crate::store::{Store, StoreError};
use crate::telemetry::{Metrics, start_logging};
use crate::token::ServerAddress;
use crate::{accounts, cli, tls};

/// How often the daemon looks whether its own certificate is due, and at its CA's ends.
const UPKEEP: Duration = Duration::from_secs(10);

/// Open files besides connections from the network: ledger, sockets, and operators.
const OTHER_FILES: u64 = 100;

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(args: &cli::Serve) -> anyhow::Result<ExitCode> {
    start_logging(args.log == cli::LogFormat::Json);
    let config = super::config(&args.config.config)?;
    super::runtime()?.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

/// What an operator does next where the ledger is not what it must be.
fn unusable(error: StoreError, config: &CaConfig) -> anyhow::Error {
    let damaged = matches!(error, StoreError::Damaged(_));
    let error = anyhow::Error::from(error);
    if !damaged {
        return error;
    }
    let state = config.state_dir.display();
    error.context(format!(
        "the daemon does not start; what is wrong with the ledger says psfca audit verify --state {state}, and psfca \
         restore makes the CA anew from a backup, in an empty directory: docs/operations.md"
    ))
}

async fn serve(config: CaConfig) -> anyhow::Result<()> {
    // Before anything else: a reload that comes early must not end the daemon.
    let watch = reload::Watch::begin(&config)?;
    init::check_owner(&config.state_dir, "serve")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let files = CaFiles::in_state(&config.state_dir);
    let authorities = Authorities::load(&files)?;
    let store = Arc::new(Store::open(&ledger_path(&config.state_dir)).map_err(|error| unusable(error, &config))?);
    let trust_bundle = authorities.root().pem().to_owned();
    if let Err(error) = init::write_trust_bundle(&config, &trust_bundle) {
        tracing::warn!(error = format!("{error:#}"), "it is served all the same");
    }
    let declaration = reload::first(&config, &store, &*clock).await?;
    let ca = Arc::new(CertificateAuthority {
        authorities,
        store: Arc::clone(&store),
        subject: config.subject.clone(),
        templates: LeafTemplates::default(),
        trust_domain: config.trust_domain.clone(),
        declaration,
        challenges: Challenges::new(&SystemRandom)?,
        identity_grace: config.identity_grace,
        checkpoints: checkpoints(&config, &files, &store, &clock)?,
        clock,
        random: Arc::new(SystemRandom),
    });
    let metrics = Arc::new(Metrics::default());

    let (tls_config, renew_after) = own_certificate(&ca, &config).await?;
    let tls: TlsSlot = Arc::new(ArcSwap::new(tls_config));
    allow_connections(config.limits.connections);
    let limits = ConnectionLimits {
        connections: config.limits.connections,
        connections_each: config.limits.connections_each,
        handshake: config.limits.handshake,
        header: config.limits.header,
        taking: config.limits.request,
    };
    let (trust_domain, counted, clock) = (config.trust_domain.clone(), Arc::clone(&metrics), Arc::clone(&ca.clock));
    let network = Network::bind(config.listen, Arc::clone(&tls), trust_domain, limits, counted, Arc::clone(&clock))
        .await
        .with_context(|| format!("the daemon cannot listen on {}", config.listen))?;
    let listening = network.local_address()?;
    let group = config.admin_group.as_deref().map(accounts::group_id).transpose()?;
    let admin = AdminSocket::bind(&config.admin_socket, group, clock)?;

    let api = Arc::new(Api {
        ca: Arc::clone(&ca),
        metrics,
        throttle: Throttle::new(&config.limits),
        fleet: FleetCount::default(),
        trust_bundle,
        operators: config.operators.clone(),
        address: config
            .address
            .clone()
            .unwrap_or_else(|| ServerAddress { name: config.server_names[0].clone(), port: listening.port() }),
    });
    let request = RequestLimits { body_bytes: config.limits.body_bytes, time: config.limits.request };
    let (stop, stopped) = watch::channel(false);
    let serving = [
        tokio::spawn(network.serve(api::router(Arc::clone(&api), Listener::Network, request), stopped.clone())),
        tokio::spawn(admin.serve(api::router(api, Listener::Admin, request), stopped)),
    ];
    let tasks = [
        tokio::spawn(watch.keep_up(config.clone(), Arc::clone(&ca))),
        tokio::spawn(upkeep(Arc::clone(&ca), config.clone(), tls, renew_after)),
        tokio::spawn(watchdog(Arc::clone(&store))),
        tokio::spawn(retention::keep(Arc::clone(&store), Arc::clone(&ca.clock), config.retention)),
    ];
    if let Some(closed) = store.closed() {
        tracing::warn!(since = %closed.since, "the ledger was restored from a backup; nothing is issued to hosts until psfca reopen");
    }
    tracing::info!(address = %listening, admin = %config.admin_socket.display(), "serving");
    sd_notify::notify(&[NotifyState::Ready])?;

    wait_for_end().await?;
    tracing::info!("stopping");
    sd_notify::notify(&[NotifyState::Stopping])?;
    let _ = stop.send(true);
    for task in serving {
        task.await?;
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    store.close();
    Ok(())
}

/// Raises this process's limit on open files to what so many connections need: where files run out first, no
/// connection could be accepted for which another would make room.
fn allow_connections(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = connections as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|files| files >= needed) {
        return;
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    if limit.maximum.is_some_and(|most| most < needed) || setrlimit(Resource::Nofile, raised).is_err() {
        let open = limit.current.unwrap_or_default();
        tracing::warn!(
            "this process may open {open} files, and limits.connections needs {needed}: raise the one (LimitNOFILE= in \
             systemd's unit) or lower the other"
        );
    }
}

/// What signs the ledger's heads, and who cosigns them.
fn checkpoints(
    config: &CaConfig,
    files: &CaFiles,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Checkpoints> {
    let key = load_ledger_key(&files.ledger_key(), &config.ledger_origin())?;
    let witness = config.witness.clone();
    let cosigner =
        witness.map(|witness| Cosigner::new(witness, key.verifier().clone(), Arc::clone(store), Arc::clone(clock)));
    Ok(Checkpoints::new(key).with_witness(cosigner))
}

/// Issues the daemon's own certificate; it takes the same road as every other.
async fn own_certificate(
    ca: &CertificateAuthority,
    config: &CaConfig,
) -> anyhow::Result<(Arc<ServerConfig>, Timestamp)> {
    let DaemonCertificate { chain, key, renew_after } =
        ca.certify_daemon(&config.daemon_grant()).await.context("the daemon's own certificate was not issued")?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.expose_der().to_vec()));
    let identity_root = CertificateDer::from(ca.authorities.certificates().identity.der().to_vec());
    let tls = tls::server_config(chain, key, &[identity_root], Arc::clone(&ca.clock), ca.identity_grace)?;
    Ok((tls, renew_after))
}

/// Renews the daemon's own certificate in time, and says daily what of the CA ends soon.
async fn upkeep(ca: Arc<CertificateAuthority>, config: CaConfig, tls: TlsSlot, mut renew_after: Timestamp) {
    let mut warned = None;
    loop {
        let now = ca.clock.now();
        if warned.is_none_or(|then: Timestamp| then.plus(Duration::from_secs(86_400)) <= now) {
            warned = Some(now);
            for (kind, certificate) in ca.authorities.certificates().each() {
                if let Some(warning) = ca_warning(certificate.not_after(), now) {
                    tracing::warn!(ca = kind.as_str(), "{}: {warning}", certificate.common_name());
                }
            }
        }
        if now >= renew_after {
            match own_certificate(&ca, &config).await {
                Ok((fresh, next)) => {
                    tls.store(fresh);
                    renew_after = next;
                    tracing::info!("the daemon's own certificate was renewed");
                }
                // The old one has a good part of its life left; the next round tries again.
                Err(error) => tracing::error!(error = format!("{error:#}"), "the daemon's own certificate is due"),
            }
        }
        tokio::time::sleep(UPKEEP).await;
    }
}

/// Tells systemd that the daemon and its ledger thread still answer. A full disk answers too, with
/// an error: restarting would not help. A ledger thread that has ended would stay away for ever.
async fn watchdog(store: Arc<Store>) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    loop {
        let mut probe = std::pin::pin!(store.probe());
        let answer = loop {
            let commits = store.commits();
            match tokio::time::timeout(period / 3, &mut probe).await {
                Ok(answer) => break answer,
                // It waits for its turn, and those before it have theirs.
                Err(_) if store.commits() != commits => {
                    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
                }
                Err(_) => {}
            }
        };
        if let Err(StoreError::Closed) = answer {
            tracing::error!("the ledger's thread has ended; systemd will restart the daemon");
            return;
        }
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(period / 3).await;
    }
}

pub(super) async fn wait_for_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
