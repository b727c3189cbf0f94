//! The HTTP API. A handler extracts, makes one call and encodes; what it may say to whom is
//! decided below it.

mod audit;
mod caller;
mod certs;
mod ciphers;
mod decision;
mod enroll;
mod fleet;
mod health;
mod hosts;
mod ledger;
mod operator;
mod problem;
mod refused;
mod requests;
mod salt;
mod throttle;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{MethodRouter, get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::issue::CertificateAuthority;
use crate::name::HostName;
use crate::telemetry::Metrics;
use crate::token::ServerAddress;

pub use fleet::FleetCount;
pub use throttle::Throttle;

/// The document that describes the API, also in `docs/`.
const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// Where an identity is renewed.
const RENEWAL: &str = "/v1/identity";

/// What every handler can reach.
pub struct Api {
    /// The CA.
    pub ca: Arc<CertificateAuthority>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What is asked for, and how much of it is served.
    pub throttle: Throttle,
    /// What the fleet was last counted to be, for metrics.
    pub fleet: FleetCount,
    /// `PSF_CA.pem` as it is served.
    pub trust_bundle: String,
    /// Hosts that may list, show and disable hosts.
    pub operators: Vec<HostName>,
    /// Where tokens send hosts.
    pub address: ServerAddress,
}

/// Limits on one request.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Most bytes in a body.
    pub body_bytes: usize,
    /// Longest time until the answer.
    pub time: std::time::Duration,
}

/// Who can reach a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Both listeners.
    Both,
    /// TLS only: it needs a host, or a token.
    Network,
    /// The admin socket only.
    Admin,
}

/// One route of the API.
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path, as axum and OpenAPI write it.
    pub path: &'static str,
    /// Where it is served.
    pub listener: Listener,
    handler: MethodRouter<Arc<Api>>,
}

/// Every route there is; `docs/openapi.json` says the same.
#[must_use]
pub fn routes() -> Vec<Route> {
    let route = |method, path, listener, handler| Route { method, path, listener, handler };
    vec![
        route("GET", "/PSF_CA.pem", Listener::Both, get(health::trust_bundle)),
        route("GET", "/healthz", Listener::Both, get(health::healthz)),
        route("GET", "/readyz", Listener::Both, get(health::readyz)),
        route("GET", "/openapi.json", Listener::Both, get(health::openapi)),
        route("GET", "/metrics", Listener::Admin, get(health::metrics)),
        route("POST", "/v1/enroll", Listener::Network, post(enroll::enroll)),
        route("POST", "/v1/enroll/request", Listener::Network, post(enroll::request_approval)),
        route("POST", "/v1/enroll/challenge", Listener::Network, post(enroll::challenge)),
        route("POST", "/v1/enroll/salt", Listener::Network, post(enroll::by_salt_key)),
        route("POST", RENEWAL, Listener::Network, post(enroll::renew_identity)),
        route("GET", "/v1/certs", Listener::Network, get(certs::list)),
        route("POST", "/v1/certs/{name}", Listener::Network, post(certs::issue)),
        route("POST", "/v1/report", Listener::Network, post(fleet::report)),
        route("GET", "/v1/fleet", Listener::Both, get(fleet::list)),
        route("GET", "/v1/ciphers", Listener::Both, get(ciphers::default)),
        route("GET", "/v1/ciphers/{name}", Listener::Both, get(ciphers::of_name)),
        route("GET", "/v1/audit", Listener::Both, get(audit::list)),
        route("GET", "/v1/declarations/{sha256}", Listener::Admin, get(audit::declaration)),
        route("GET", "/v1/ledger/checkpoint", Listener::Both, get(ledger::checkpoint)),
        route("GET", "/v1/ledger/consistency", Listener::Both, get(ledger::consistency)),
        route("GET", "/v1/ledger/recovery", Listener::Both, get(ledger::recovery)),
        route("GET", "/v1/ledger/tile/{*path}", Listener::Admin, get(ledger::tile)),
        route("GET", "/v1/hosts", Listener::Both, get(hosts::list)),
        route("GET", "/v1/hosts/{host}", Listener::Both, get(hosts::show)),
        route("POST", "/v1/hosts/{host}", Listener::Both, post(hosts::change)),
        route("POST", "/v1/reopen", Listener::Admin, post(operator::reopen)),
        route("GET", "/v1/requests", Listener::Admin, get(requests::list)),
        route("POST", "/v1/requests/{host}", Listener::Admin, post(requests::decide)),
        route(
            "POST",
            "/v1/salt-keys",
            Listener::Admin,
            post(salt::import).layer(DefaultBodyLimit::max(salt::MAX_BODY)),
        ),
        route("POST", "/v1/tokens", Listener::Admin, post(operator::make_token)),
    ]
}

/// The finished router for one listener.
pub fn router(api: Arc<Api>, listener: Listener, limits: RequestLimits) -> Router {
    let served = routes().into_iter().filter(|route| route.listener == Listener::Both || route.listener == listener);
    served
        .fold(Router::new(), |router, route| router.route(route.path, route.handler))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .with_state(Arc::clone(&api))
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), throttle::urgent_first))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), caller::confine))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(middleware::from_fn(move |request, next| problem::within(limits.time, request, next)))
        .layer(middleware::from_fn_with_state(api, decision::report))
}
