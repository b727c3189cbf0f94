//! Listeners: TLS for the network, a Unix socket for operators, plain TCP for a witness. They are handed a finished router
//! and put the [`crate::ca::identity::Peer`] beside each request.

mod admin;
mod connection;
mod network;
mod places;
mod plain;

pub use admin::{AdminSocket, AdminSocketError};
pub use network::{Network, TlsSlot};
pub use plain::Plain;

use std::time::Duration;

use tokio::net::TcpStream;

/// Limits on connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at one time.
    pub connections: usize,
    /// Of these, with one host, or without an identity from one address.
    pub connections_each: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time until a request's head is complete, also between two requests.
    pub header: Duration,
    /// Time that an answer may lie here because the peer does not take it.
    pub taking: Duration,
}

/// How long open connections may go on after a shutdown was asked for.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How long to wait after accept failed, which it does when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Sets what every connection of the network has. Whoever does not take an answer within `taking` is cut by the kernel
/// (`TCP_USER_TIMEOUT`, RFC 5482), so that nobody holds a place by reading nothing.
fn prepare(stream: &TcpStream, taking: Duration) {
    // Answers are small and complete; waiting to fill a segment would only cost time.
    let _ = stream.set_nodelay(true);
    let taking = u32::try_from(taking.as_millis()).unwrap_or(u32::MAX);
    // A connection that is gone already shows that at the first reading.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, taking);
}
