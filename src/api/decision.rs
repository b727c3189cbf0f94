//! One log line and one count for every decision, whatever the handler was; what was refused is noted in
//! the ledger too.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;

use super::Api;
use super::refused::Noted;
use crate::ca::identity::Peer;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::RequestAction;
use crate::grant::CertificateKind;
use crate::host::HostAction;
use crate::serial::Serial;
use crate::terminal::cut;

/// Most characters of a request's path, of its method, and of a reason in a log line.
const MAX_PATH: usize = 120;
const MAX_METHOD: usize = 20;
const MAX_DETAIL: usize = 500;

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
    Refused { reason: &'static str, detail: String, noted: Option<Noted> },
}

/// Logs and counts what was decided, and notes what was refused.
pub(super) async fn report(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let who = caller(peer.as_ref());
    let method = request.method().clone();
    // The path only, and only its beginning: it comes from the network. What does is logged as a text and
    // not as a value of its own (`%`): the log's lines quote texts, so none can look like another field.
    let path = cut(request.uri().path(), MAX_PATH).into_owned();
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
        Some(Decision::Refused { reason, detail, noted }) => {
            api.metrics.refused(reason);
            if let Some(refused) = noted.as_ref().and_then(|noted| noted.by(peer.as_ref())) {
                api.ca.store.note_refusal(api.ca.clock.now(), refused);
            }
            let (status, now) = (response.status(), api.ca.clock.now());
            let by_a_limit = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            // Nobody on the network may fill the log by being refused, and no host may hide the refusals of others.
            let left_out = match &peer {
                Some(Peer::Network { identity: Some(identity), .. }) if !by_a_limit => {
                    api.throttle.log_line_of(&identity.host, now)
                }
                Some(Peer::Operator { .. }) if !by_a_limit => Some(0),
                _ => api.throttle.log_line(now),
            };
            if let Some(left_out) = left_out {
                let status = status.as_u16();
                let (method, detail) = (cut(method.as_str(), MAX_METHOD), cut(detail, MAX_DETAIL));
                tracing::info!(caller = %who, method = &*method, path, status, reason, detail = &*detail, left_out, "refused");
            }
        }
        None => tracing::debug!(caller = %who, method = &*cut(method.as_str(), MAX_METHOD), path, "read"),
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
