//! The TLS listener.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::{ACCEPT_PAUSE, ConnectionLimits, DRAIN, connection};
use crate::ca::identity::{HostIdentity, Peer};
use crate::name::DnsName;
use crate::telemetry::Metrics;

/// The daemon's certificate and the roots of its clients, swapped together while running.
pub type TlsSlot = Arc<ArcSwap<ServerConfig>>;

/// The listener on the network.
pub struct Network {
    listener: TcpListener,
    tls: TlsSlot,
    trust_domain: DnsName,
    limits: ConnectionLimits,
    metrics: Arc<Metrics>,
}

impl Network {
    /// Binds `address`; nothing is served yet.
    ///
    /// # Errors
    /// What the system says, such as an address in use.
    pub async fn bind(
        address: SocketAddr,
        tls: TlsSlot,
        trust_domain: DnsName,
        limits: ConnectionLimits,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, tls, trust_domain, limits, metrics })
    }

    /// Where it listens, with the real port where 0 was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` changes, then lets open connections finish.
    pub async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.metrics.connection_refused();
                tracing::debug!(%address, "too many connections; this one was closed");
                continue;
            };
            let accepting = Accepting {
                acceptor: TlsAcceptor::from(self.tls.load_full()),
                trust_domain: self.trust_domain.clone(),
                limits: self.limits,
                watcher: graceful.watcher(),
                stop: stop.clone(),
                router: router.clone(),
            };
            let metrics = Arc::clone(&self.metrics);
            tokio::spawn(async move {
                metrics.connection_opened();
                accepting.run(stream, address).await;
                metrics.connection_closed();
                drop(place);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!("connections were still open after {} s and are cut", DRAIN.as_secs());
        }
    }
}

/// A connection whose peer is not known yet.
struct Accepting {
    acceptor: TlsAcceptor,
    trust_domain: DnsName,
    limits: ConnectionLimits,
    watcher: Watcher,
    stop: watch::Receiver<bool>,
    router: Router,
}

impl Accepting {
    async fn run(mut self, stream: TcpStream, address: SocketAddr) {
        // Answers are small and complete; waiting to fill a segment would only cost time.
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(self.limits.handshake, self.acceptor.accept(stream));
        let outcome = tokio::select! {
            outcome = handshake => outcome,
            // Nobody has asked for anything yet, so a shutdown does not wait for this peer.
            _ = self.stop.changed() => return,
        };
        let stream = match outcome {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::info!(%address, %error, "handshake failed");
                return;
            }
            Err(_) => {
                tracing::info!(%address, "handshake took too long");
                return;
            }
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
        let identity = match certificate.map(|der| HostIdentity::from_certificate(der, &self.trust_domain)) {
            None => None,
            Some(Ok(identity)) => Some(identity),
            Some(Err(error)) => {
                tracing::info!(%address, %error, "connection refused");
                return;
            }
        };
        let peer = Peer::Network { address, identity };
        connection::serve(stream, peer, self.router, self.limits.header, self.watcher).await;
    }
}
