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
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::places::{Place, Places};
use super::{ACCEPT_PAUSE, ConnectionLimits, DRAIN, connection};
use crate::ca::identity::{HostIdentity, Peer};
use crate::clock::Clock;
use crate::name::DnsName;
use crate::rate::{LogGate, Rate, count};
use crate::telemetry::{EndCause, Metrics};

/// Log lines about connections, which anyone can cause as often as they like.
const LINES: Rate = Rate::per_minute(count(100), count(60));

/// The daemon's certificate and the roots of its clients, swapped together while running.
pub type TlsSlot = Arc<ArcSwap<ServerConfig>>;

/// The listener on the network.
pub struct Network {
    listener: TcpListener,
    tls: TlsSlot,
    terms: Arc<Terms>,
}

/// What all connections share.
struct Terms {
    trust_domain: DnsName,
    limits: ConnectionLimits,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    lines: LogGate,
}

impl Terms {
    /// Counts a connection that ended, and says so unless too much was said already.
    fn ended(&self, address: SocketAddr, cause: EndCause, why: &str) {
        self.metrics.connection_ended(cause);
        if let Some(left_out) = self.lines.pass(self.clock.now()) {
            tracing::info!(%address, left_out, "{why}");
        }
    }
}

impl Network {
    /// Binds `address`; nothing is served yet. The clock is for the rate of log lines.
    ///
    /// # Errors
    /// What the system says, such as an address in use.
    pub async fn bind(
        address: SocketAddr,
        tls: TlsSlot,
        trust_domain: DnsName,
        limits: ConnectionLimits,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let terms = Arc::new(Terms { trust_domain, limits, metrics, clock, lines: LogGate::new(LINES) });
        Ok(Self { listener, tls, terms })
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
        let ConnectionLimits { connections, connections_each, .. } = self.terms.limits;
        let places = Places::new(connections, connections_each, Arc::clone(&self.terms.metrics));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(left_out) = self.terms.lines.pass(self.terms.clock.now()) {
                        tracing::warn!(%error, left_out, "no connection could be accepted");
                    }
                    places.make_room();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = places.take(address.ip().into()) else {
                self.terms.metrics.connection_refused();
                tracing::debug!(%address, "hosts are at work on all connections; this one was closed");
                continue;
            };
            let accepting = Accepting {
                acceptor: TlsAcceptor::from(self.tls.load_full()),
                terms: Arc::clone(&self.terms),
                watcher: graceful.watcher(),
                stop: stop.clone(),
                router: router.clone(),
                place: Arc::new(place),
            };
            tokio::spawn(accepting.run(stream, address));
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
    terms: Arc<Terms>,
    watcher: Watcher,
    stop: watch::Receiver<bool>,
    router: Router,
    place: Arc<Place>,
}

impl Accepting {
    /// Serves the connection until it ends or its place is given to another.
    async fn run(self, stream: TcpStream, address: SocketAddr) {
        let place = Arc::clone(&self.place);
        tokio::select! {
            // In this order: once the place is gone no request may begin, whose certificate would be recorded and lost.
            biased;
            () = place.taken_away() => tracing::debug!(%address, "closed, to make room"),
            () = self.serve(stream, address) => {}
        }
    }

    async fn serve(mut self, stream: TcpStream, address: SocketAddr) {
        super::prepare(&stream, self.terms.limits.taking);
        let handshake = tokio::time::timeout(self.terms.limits.handshake, self.acceptor.accept(stream));
        let outcome = tokio::select! {
            outcome = handshake => outcome,
            // Nobody has asked for anything yet, so a shutdown does not wait for this peer.
            _ = self.stop.changed() => return,
        };
        let stream = match outcome {
            // What follows moves it about, and a task keeps room for each place where it lay.
            Ok(Ok(stream)) => Box::new(stream),
            Ok(Err(error)) => {
                return self.terms.ended(address, EndCause::Handshake, &format!("handshake failed: {error}"));
            }
            Err(_) => return self.terms.ended(address, EndCause::SlowHandshake, "handshake took too long"),
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
        let identity = match certificate.map(|der| HostIdentity::from_certificate(der, &self.terms.trust_domain)) {
            None => None,
            Some(Ok(identity)) => Some(identity),
            Some(Err(error)) => {
                return self.terms.ended(address, EndCause::NoHost, &format!("connection refused: {error}"));
            }
        };
        if let Some(identity) = &identity {
            self.place.proven(&identity.host);
        }
        let peer = Peer::Network { address, identity };
        let (header, place) = (self.terms.limits.header, &self.place);
        let served = connection::serve(stream, peer, self.router, header, self.watcher, || place.at_work()).await;
        match served {
            Err(error) if error.is_timeout() => self.terms.metrics.connection_ended(EndCause::SlowHead),
            Err(error) if error.is_parse() => self.terms.metrics.connection_ended(EndCause::BadHead),
            Err(error) => tracing::debug!(%address, %error, "a connection ended early"),
            Ok(()) => {}
        }
    }
}
