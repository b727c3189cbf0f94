//! One log line and one count for every decision, whatever the handler was.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::Api;
use crate::ca::identity::Peer;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::RequestAction;
use crate::grant::CertificateKind;
use crate::host::HostAction;
use crate::serial::Serial;

/// What was decided; a handler puts it beside its answer.
#[derive(Debug, Clone)]
pub(super) enum Decision {
    /// A certificate left.
    Issued { kind: CertificateKind, name: String, serial: Serial, index: u64, not_after: Timestamp },
    /// A token was made.
    TokenMade { host: String },
    /// A key asked to be a host, and has to wait.
    Waiting { host: String, key: Digest },
    /// An operator decided on that.
    RequestDecided { host: String, action: RequestAction },
    /// An operator imported the keys of Salt minions.
    SaltKeys { imported: u64, removed: u64 },
    /// An operator changed a host.
    HostChanged { host: String, action: HostAction },
    /// An operator has confirmed the hosts of a restored CA.
    Reopened { hosts: u64 },
    /// Nothing left but a problem.
    Refused { reason: &'static str, detail: String },
}

/// Logs and counts what was decided.
pub(super) async fn report(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let who = caller(request.extensions().get::<Peer>());
    let method = request.method().clone();
    // The path only, and only its beginning: it comes from the network.
    let path: String = request.uri().path().chars().take(120).collect();
    let response = next.run(request).await;
    match response.extensions().get::<Decision>() {
        Some(Decision::Issued { kind, name, serial, index, not_after }) => {
            api.metrics.issued(*kind);
            tracing::info!(caller = %who, kind = kind.as_str(), %name, %serial, index, %not_after, "issued");
        }
        Some(Decision::TokenMade { host }) => tracing::info!(caller = %who, %host, "token made"),
        Some(Decision::Waiting { host, key }) => tracing::debug!(caller = %who, %host, %key, "waits for an operator"),
        Some(Decision::RequestDecided { host, action }) => {
            tracing::info!(caller = %who, %host, action = action.as_str(), "request decided");
        }
        Some(Decision::SaltKeys { imported, removed }) => {
            tracing::info!(caller = %who, imported, removed, "Salt keys imported");
        }
        Some(Decision::HostChanged { host, action }) => {
            tracing::info!(caller = %who, %host, action = action.as_str(), "host changed");
        }
        Some(Decision::Reopened { hosts }) => tracing::warn!(caller = %who, hosts, "the CA is open again"),
        Some(Decision::Refused { reason, detail }) => {
            api.metrics.refused(reason);
            let status = response.status().as_u16();
            tracing::info!(caller = %who, %method, path = %path.escape_debug(), status, reason, detail = %detail.escape_debug(), "refused");
        }
        None => tracing::debug!(caller = %who, %method, path = %path.escape_debug(), "read"),
    }
    response
}

fn caller(peer: Option<&Peer>) -> String {
    match peer {
        Some(Peer::Network { identity: Some(identity), .. }) => identity.host.to_string(),
        Some(Peer::Network { identity: None, address }) => address.ip().to_string(),
        Some(Peer::Operator { uid }) => format!("uid {uid}"),
        None => "unknown".to_owned(),
    }
}
