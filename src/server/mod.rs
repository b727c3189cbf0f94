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
}

/// How long open connections may go on after a shutdown was asked for.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How long to wait after accept failed, which it does when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
