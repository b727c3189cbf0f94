//! A listener without TLS, for what is signed in itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::{ACCEPT_PAUSE, DRAIN, connection};
use crate::ca::identity::Peer;

/// Listens for HTTP on a TCP address.
#[derive(Debug)]
pub struct Plain {
    listener: TcpListener,
    connections: usize,
    header: Duration,
}

impl Plain {
    /// Binds `address` for at most so many connections at a time; `header` is the time until a request's
    /// head is complete, also between two requests.
    ///
    /// # Errors
    /// What the system says, such as an address in use.
    pub async fn bind(address: SocketAddr, connections: usize, header: Duration) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, connections, header })
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
        let places = Arc::new(Semaphore::new(self.connections));
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
                tracing::debug!(%address, "too many connections; this one was closed");
                continue;
            };
            let peer = Peer::Network { address, identity: None };
            let serving = connection::serve(stream, peer, router.clone(), self.header, graceful.watcher(), || ());
            tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::debug!(%address, %error, "a connection ended early");
                }
                drop(place);
            });
        }
        drop(self.listener);
        let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    }
}
