//! What the daemon says about itself: log lines and metrics.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::clock::Timestamp;
use crate::grant::CertificateKind;
use crate::host::HostState;

/// What kind of certificate a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    kind: &'static str,
}

/// Why something was refused: the last part of the problem's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    reason: &'static str,
}

/// In which state a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    state: &'static str,
}

/// Why a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// Places were short, and it had no identity.
    Unproven,
    /// Places were short, and its host asked for nothing.
    Idle,
    /// Its host, or its address without an identity, had more than its share of places.
    Share,
    /// The handshake failed.
    Handshake,
    /// The handshake took too long.
    SlowHandshake,
    /// Its client certificate names no host of this CA.
    NoHost,
    /// The head of a request did not come in time, or no further request.
    SlowHead,
    /// What came was no HTTP, or its head was too large.
    BadHead,
}

impl EndCause {
    /// The cause in metrics and log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Idle => "idle",
            Self::Share => "share",
            Self::Handshake => "handshake",
            Self::SlowHandshake => "slow-handshake",
            Self::NoHost => "no-host",
            Self::SlowHead => "slow-head",
            Self::BadHead => "bad-head",
        }
    }
}

/// Why a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CauseLabel {
    cause: &'static str,
}

/// Which witness.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WitnessLabel {
    witness: String,
}

/// What is told of the whole fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// Names on hosts.
    pub names: usize,
    /// Of these, with something wrong.
    pub lagging: usize,
    /// Of these, ended or nearly so, and not renewed.
    pub critical: usize,
    /// Hosts with such names.
    pub lagging_hosts: usize,
    /// When the first certificate ends that the CA would renew; none without any.
    pub first_end: Option<Timestamp>,
}

/// Which part of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartLabel {
    part: &'static str,
}

/// Everything that is counted, and the registry that prints it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    issued: Family<KindLabel, Counter<u64, AtomicU64>>,
    refused: Family<ReasonLabel, Counter<u64, AtomicU64>>,
    ca_not_after: Family<KindLabel, Gauge<i64, AtomicI64>>,
    hosts: Family<StateLabel, Gauge<i64, AtomicI64>>,
    fleet: Family<PartLabel, Gauge<i64, AtomicI64>>,
    fleet_lagging_hosts: Gauge<i64, AtomicI64>,
    fleet_first_end: Family<KindLabel, Gauge<i64, AtomicI64>>,
    ledger_size: Gauge<i64, AtomicI64>,
    ledger_commits: Counter<u64, AtomicU64>,
    declaration_current: Gauge<i64, AtomicI64>,
    witness_cosigns: Family<WitnessLabel, Gauge<i64, AtomicI64>>,
    connections: Gauge<i64, AtomicI64>,
    connections_refused: Counter<u64, AtomicU64>,
    connections_ended: Family<CauseLabel, Counter<u64, AtomicU64>>,
    requests_at_work: Gauge<i64, AtomicI64>,
    urgent_requests: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("psfca");
        let metrics = Self {
            issued: Family::default(),
            refused: Family::default(),
            ca_not_after: Family::default(),
            hosts: Family::default(),
            fleet: Family::default(),
            fleet_lagging_hosts: Gauge::default(),
            fleet_first_end: Family::default(),
            ledger_size: Gauge::default(),
            ledger_commits: Counter::default(),
            declaration_current: Gauge::default(),
            witness_cosigns: Family::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            connections_ended: Family::default(),
            requests_at_work: Gauge::default(),
            urgent_requests: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("certificates_issued", "Certificates signed and answered", metrics.issued.clone());
        registry.register("requests_refused", "Requests answered with a problem, by its type", metrics.refused.clone());
        registry.register_with_unit(
            "ca_not_after",
            "When each CA certificate ends, seconds since 1970",
            Unit::Seconds,
            metrics.ca_not_after.clone(),
        );
        registry.register(
            "hosts",
            "Known hosts by their state; a frozen one waits for an operator",
            metrics.hosts.clone(),
        );
        metrics.register_fleet(&mut registry);
        registry.register("ledger_entries", "Entries in the ledger", metrics.ledger_size.clone());
        registry.register(
            "ledger_commits",
            "Durable commits of the ledger; one holds whatever waited for it",
            metrics.ledger_commits.clone(),
        );
        registry.register(
            "declaration_current",
            "1 when the files' declaration is in force, 0 when an older one is",
            metrics.declaration_current.clone(),
        );
        registry.register(
            "witness_cosigns",
            "1 when the witness cosigned the newest head that it was asked for, 0 when not; absent without a witness",
            metrics.witness_cosigns.clone(),
        );
        registry.register("connections", "Open connections from the network", metrics.connections.clone());
        registry.register(
            "connections_refused",
            "Connections closed at once because hosts were at work on every other",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "connections_ended",
            "Connections ended by a limit or in the handshake, by the cause",
            metrics.connections_ended.clone(),
        );
        registry.register("requests_at_work", "Requests of hosts in progress", metrics.requests_at_work.clone());
        registry.register(
            "urgent_requests",
            "Requests served while others were refused, since certificates of the host are about to end",
            metrics.urgent_requests.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    fn register_fleet(&self, registry: &mut Registry) {
        registry.register(
            "fleet_names",
            "Names on hosts: all, those that lag, and of those the ones that ended or end soon and were not renewed",
            self.fleet.clone(),
        );
        registry.register("fleet_lagging_hosts", "Hosts with a name that lags", self.fleet_lagging_hosts.clone());
        registry.register_with_unit(
            "fleet_first_end",
            "When the first certificate ends that the CA would renew, seconds since 1970; absent without any",
            Unit::Seconds,
            self.fleet_first_end.clone(),
        );
    }

    /// How the fleet stands.
    pub fn fleet(&self, counts: FleetCounts) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let parts = [("all", counts.names), ("lagging", counts.lagging), ("critical", counts.critical)];
        for (part, count) in parts {
            self.fleet.get_or_create(&PartLabel { part }).set(number(count));
        }
        self.fleet_lagging_hosts.set(number(counts.lagging_hosts));
        self.fleet_first_end.clear();
        if let Some(end) = counts.first_end {
            self.fleet_first_end.get_or_create(&KindLabel { kind: CertificateKind::Service.as_str() }).set(end.unix());
        }
    }

    /// A certificate was signed.
    pub fn issued(&self, kind: CertificateKind) {
        self.issued.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }

    /// A request was refused.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A CA certificate ends at `seconds` since 1970.
    pub fn ca_ends(&self, kind: CertificateKind, seconds: i64) {
        self.ca_not_after.get_or_create(&KindLabel { kind: kind.as_str() }).set(seconds);
    }

    /// So many hosts are in `state`.
    pub fn hosts(&self, state: HostState, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.hosts.get_or_create(&StateLabel { state: state.as_str() }).set(count);
    }

    /// A connection was opened.
    pub fn connection_opened(&self) {
        self.connections.inc();
    }

    /// A connection was closed.
    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    /// So many requests of hosts are in progress.
    pub fn at_work(&self, count: usize) {
        self.requests_at_work.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A request was served before others.
    pub fn urgent_request(&self) {
        self.urgent_requests.inc();
    }

    /// A connection was ended because of `cause`.
    pub fn connection_ended(&self, cause: EndCause) {
        self.connections_ended.get_or_create(&CauseLabel { cause: cause.as_str() }).inc();
    }

    /// A connection was refused because all places were taken by hosts at work.
    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// Whether the witness cosigns.
    pub fn witness(&self, name: &str, cosigns: bool) {
        self.witness_cosigns.get_or_create(&WitnessLabel { witness: name.to_owned() }).set(cosigns.into());
    }

    /// Prints everything in the OpenMetrics text format, with what is known only now.
    ///
    /// # Errors
    /// Formatting errors, which a `String` does not have.
    pub fn print(
        &self,
        ledger_size: u64,
        ledger_commits: u64,
        declaration_current: bool,
    ) -> Result<String, std::fmt::Error> {
        self.ledger_size.set(i64::try_from(ledger_size).unwrap_or(i64::MAX));
        // The store counts by itself, so that no layer above has to tell it of its counter.
        self.ledger_commits.inner().store(ledger_commits, Ordering::Relaxed);
        self.declaration_current.set(declaration_current.into());
        let mut out = String::new();
        prometheus_client::encoding::text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// Media type of [`Metrics::print`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Sends log lines to standard error; `PSFCA_LOG` overrides the level (`info`).
pub fn start_logging(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PSFCA_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second call changes nothing, which is what a second call should do.
    let _ = if json { lines.json().flatten_event(true).try_init() } else { lines.try_init() };
}
