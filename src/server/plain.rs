//! A listener without TLS, for what is signed in itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::places::{Place, Places};
use super::{ACCEPT_PAUSE, DRAIN, connection};
use crate::ca::identity::Peer;
use crate::clock::Clock;
use crate::rate::{LogGate, Rate, count};

/// Log lines about connections, which anyone can cause as often as they like.
const LINES: Rate = Rate::per_minute(count(100), count(60));

/// Listens for HTTP on a TCP address.
pub struct Plain {
    listener: TcpListener,
    places: Arc<Places>,
    header: Duration,
    clock: Arc<dyn Clock>,
}

impl Plain {
    /// Binds `address` for at most so many connections at a time, of which one address has at most `share`: one more
    /// closes the oldest. `header` is the time until a request's head is complete, also between two requests, and that
    /// an answer may wait until it is taken. The clock is for the rate of log lines.
    ///
    /// # Errors
    /// What the system says, such as an address in use.
    pub async fn bind(
        address: SocketAddr,
        connections: usize,
        share: usize,
        header: Duration,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let places = Places::new(connections, share, Arc::default());
        Ok(Self { listener: TcpListener::bind(address).await?, places, header, clock })
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
        let lines = LogGate::new(LINES);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(left_out) = lines.pass(self.clock.now()) {
                        tracing::warn!(%error, left_out, "no connection could be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Nobody here is at work on a place that could not be given to another.
            let Some(place) = self.places.take(address.ip().into()) else { continue };
            super::prepare(&stream, self.header);
            tokio::spawn(serve(stream, address, place, router.clone(), self.header, graceful.watcher()));
        }
        drop(self.listener);
        let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    }
}

/// Serves a connection until it ends or its place is given to another.
async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    place: Place,
    router: Router,
    header: Duration,
    watcher: Watcher,
) {
    let peer = Peer::Network { address, identity: None };
    tokio::select! {
        served = connection::serve(stream, peer, router, header, watcher, || ()) => {
            if let Err(error) = served {
                tracing::debug!(%address, %error, "a connection ended early");
            }
        }
        () = place.taken_away() => tracing::debug!(%address, "closed, to make room"),
    }
}
