//! What one host, one address, and all hosts together may ask for. `docs/architecture.md` says why it is so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Api;
use super::problem::Refusal;
use crate::ca::identity::{HostIdentity, Peer};
use crate::clock::Timestamp;
use crate::config::Limits;
use crate::name::HostName;
use crate::rate::{LogGate, Rate, Rates, count};
use crate::source::Source;

/// Hosts, and addresses, of which each generation of [`Rates`] remembers so many.
const REMEMBERED: usize = 16_384;
/// Reports of one host: one a day, and one after each run that changed something; a script may issue many names in turn.
const REPORTS: Rate = Rate::per_minute(count(60), count(2));
/// Pages of the audit that one host may ask for: each costs more the longer the ledger is, and all listings wait for each
/// other.
const LISTINGS: Rate = Rate::per_minute(count(60), count(60));
/// Log lines about refusals that anyone can cause as often as they like, and that each host can.
const LINES: Rate = Rate::per_minute(count(100), count(60));

/// Counts what is asked for.
#[derive(Debug)]
pub struct Throttle {
    issue: Rates<HostName>,
    enroll: Rates<Source>,
    report: Rates<HostName>,
    listing: Rates<HostName>,
    lines: LogGate,
    host_lines: Rates<HostName>,
    host_lines_left_out: AtomicU64,
    at_work: AtomicUsize,
    /// Requests of hosts at one time; those beyond are served only where they are urgent.
    ordinary: usize,
    /// Urgent ones included.
    most: usize,
}

impl Throttle {
    /// Nobody has asked for anything yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            issue: Rates::new(limits.issue, REMEMBERED),
            enroll: Rates::new(limits.enroll, REMEMBERED),
            report: Rates::new(REPORTS, REMEMBERED),
            listing: Rates::new(LISTINGS, REMEMBERED),
            lines: LogGate::new(LINES),
            host_lines: Rates::new(LINES, REMEMBERED),
            host_lines_left_out: AtomicU64::new(0),
            at_work: AtomicUsize::new(0),
            // A connection has one request at a time. The last quarter of them is for those who cannot wait.
            ordinary: limits.connections - limits.connections / 4,
            most: limits.connections,
        }
    }

    /// Counts one certificate that `host` asks for; the host was admitted, so that nobody else can use up what it may.
    pub(super) fn issue(&self, host: &HostName, now: Timestamp) -> Result<(), Refusal> {
        let again = |after| Refusal::TooManyRequests { host: host.clone(), after };
        self.issue.take(host, now).map_err(again)
    }

    /// Counts one enrolment that is tried from `source`, whatever comes of it.
    pub(super) fn enroll(&self, source: Source, now: Timestamp) -> Result<(), Refusal> {
        self.enroll.take(&source, now).map_err(|after| Refusal::TooManyEnrolments { from: source, after })
    }

    /// Counts one report of `host`; the host was admitted.
    pub(super) fn report(&self, host: &HostName, now: Timestamp) -> Result<(), Refusal> {
        self.report.take(host, now).map_err(|after| Refusal::TooManyReports { host: host.clone(), after })
    }

    /// Counts one page of the audit for `host`; the host was admitted.
    pub(super) fn listing(&self, host: &HostName, now: Timestamp) -> Result<(), Refusal> {
        self.listing.take(host, now).map_err(|after| Refusal::TooManyListings { host: host.clone(), after })
    }

    /// How many requests of hosts are in progress.
    pub(super) fn at_work(&self) -> usize {
        self.at_work.load(Ordering::Relaxed)
    }

    /// Whether to log a refusal that anyone can cause: then how many were not logged before it.
    pub(super) fn log_line(&self, now: Timestamp) -> Option<u64> {
        self.lines.pass(now)
    }

    /// Whether to log a refusal of `host`, on which no other's depends: then how many of hosts were not logged before it.
    pub(super) fn log_line_of(&self, host: &HostName, now: Timestamp) -> Option<u64> {
        match self.host_lines.take(host, now) {
            Ok(()) => Some(self.host_lines_left_out.swap(0, Ordering::Relaxed)),
            Err(_) => {
                self.host_lines_left_out.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

/// One request in progress.
struct AtWork<'a>(&'a AtomicUsize);

impl<'a> AtWork<'a> {
    /// Counts itself; also returns how many there are now.
    fn begin(counter: &'a AtomicUsize) -> (Self, usize) {
        let before = counter.fetch_add(1, Ordering::Relaxed);
        (Self(counter), before + 1)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets requests of hosts go on while there is room, and the urgent ones also when there is little. Callers without an
/// identity are not counted: their connections are the first to be closed when places are short.
pub(super) async fn urgent_first(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let identity = match request.extensions().get::<Peer>() {
        Some(Peer::Network { identity: Some(identity), .. }) => identity,
        _ => return next.run(request).await,
    };
    let (_at_work, count) = AtWork::begin(&api.throttle.at_work);
    if count > api.throttle.ordinary
        && let Err(refusal) = only_urgent(&api, identity, count).await
    {
        return refusal.into_response();
    }
    next.run(request).await
}

async fn only_urgent(api: &Api, identity: &HostIdentity, count: usize) -> Result<(), Refusal> {
    if count > api.throttle.most || !api.ca.is_urgent(identity).await? {
        return Err(Refusal::Overloaded);
    }
    api.metrics.urgent_request();
    Ok(())
}
