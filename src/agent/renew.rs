//! Renews whatever is due: the identity first, then every bundle, each on its own.

use std::path::Path;

use rustls::pki_types::CertificateDer;

use super::identity::{self, Enrolment};
use super::ledger::Memory;
use super::obtain::Exchange;
use super::status::{Found, survey};
use super::{Agent, AgentError, anchor, copies, debt, enroll, install, obtain};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::renewal::{self, Installed, Reason, Verdict};
use crate::report::{Line, Outcome, Report};

/// What `psfca renew` is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Renew what is not due as well.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// The error of one step, kept so that the other names go on.
struct Failure {
    text: String,
    code: u8,
}

impl From<&AgentError> for Failure {
    fn from(error: &AgentError) -> Self {
        Self { text: error.to_string(), code: error.exit_code() }
    }
}

/// Renews. One name that fails does not stop the others.
///
/// # Errors
/// [`AgentError`] only when nothing at all can be said: not enrolled, damaged or busy state.
pub async fn renew(agent: &Agent<'_>, options: Options) -> Result<Report, AgentError> {
    let _lock = agent.lock()?;
    let mut enrolment = Enrolment::load(&agent.settings.state)?;
    let mut ledger = Memory::load(agent, &enrolment)?;
    if !options.dry_run {
        // Also of names that are not due: what a killed run left there is somebody's key.
        let placement = &agent.settings.placement;
        install::clear_leftovers(&placement.default.path, |_| true);
        for (_, place) in placement.own_places() {
            let directory = place.path.parent().unwrap_or(Path::new("."));
            install::clear_leftovers(directory, |of| place.path.file_name().is_some_and(|name| name == of));
        }
    }
    let (trust_written, mut trust_problem) = match options.dry_run {
        true => (false, None),
        false => match anchor::keep(agent, &enrolment.anchors) {
            Ok(written) => (written, None),
            Err(error) => (false, Some(error.to_string())),
        },
    };
    let mut connection = agent.connect(&enrolment).await;

    if let (Ok(client), false) = (&mut connection, options.dry_run) {
        // Only where there was trouble; what came of it is in the report.
        let _ = ledger.before_asking(client, enrolment.host.as_str(), agent.now()).await;
    }
    let identity = renew_own(agent, &mut connection, &mut enrolment, &mut ledger, options).await;
    let (entitlements, failure) = match &mut connection {
        Ok(client) => {
            if let Err(error) = same_roots(client, &enrolment.anchors).await {
                trust_problem.get_or_insert(error.to_string());
            }
            match obtain::entitlements(client).await {
                Ok(certs) => (Some(certs), None),
                Err(error) => (None, Some(Failure::from(&error))),
            }
        }
        Err(error) => (None, Some(Failure::from(&*error))),
    };
    if let Some(entitlements) = &entitlements
        && !options.dry_run
    {
        identity::keep_entitlements(&agent.settings.state, entitlements)?;
    }
    // Unasked, the CA's last word stands: what it named then is what services here rely on.
    let known = entitlements.or_else(|| identity::known_entitlements(&agent.settings.state));
    let mut names = Vec::new();
    for found in survey(agent, &enrolment.anchors, known.as_ref())? {
        let name = found.name.clone();
        let client = match (&mut connection, &failure) {
            (Ok(client), None) => Ok(Exchange { agent, client, enrolment: &enrolment, ledger: &mut ledger }),
            (_, Some(failure)) => Err(failure),
            (Err(_), None) => continue,
        };
        let outcome = renew_one(agent, client, found, options).await;
        let copies =
            if options.dry_run { Ok(Vec::new()) } else { copies::keep_installed(agent, &name, &enrolment.anchors) };
        names.push(Line::new(name, outcome, copies.map_err(|error| error.to_string())));
    }
    debt::settle(agent, &enrolment.anchors, &mut names, options.dry_run).await;
    let (ledger_trouble, ledger_recovered) = (ledger.trouble(), ledger.news().cloned());
    Ok(Report { host: enrolment.host, identity, trust_problem, trust_written, ledger_trouble, ledger_recovered, names })
}

async fn same_roots(client: &mut Client, trusted: &[CertificateDer<'_>]) -> Result<(), AgentError> {
    match anchor::fetch(client).await {
        Ok(served) => anchor::compare(trusted, &served),
        // That it cannot be had just now says nothing about it.
        Err(_) => Ok(()),
    }
}

/// Renews the identity; from then on the new one is shown.
async fn renew_own(
    agent: &Agent<'_>,
    connection: &mut Result<Client, AgentError>,
    enrolment: &mut Enrolment,
    ledger: &mut Memory,
    options: Options,
) -> Outcome {
    let (now, validity) = (agent.now(), enrolment.validity());
    let installed = Installed::Fit(validity);
    let reason = match verdict(&installed, now, options.force) {
        Verdict::Later(due) => return Outcome::NotDue { due, not_after: validity.not_after },
        Verdict::Due(reason) if options.dry_run => return Outcome::WouldRenew { reason: reason.to_string() },
        Verdict::Due(reason) => reason,
    };
    let failed = |error: &AgentError| {
        let Failure { text, code } = error.into();
        Outcome::Failed { error: text, code, critical: validity.is_critical(now) }
    };
    let client = match connection {
        Ok(client) => client,
        Err(error) => return failed(error),
    };
    match enroll::next_identity(agent, client, enrolment, ledger).await {
        Err(error) => failed(&error),
        Ok(next) => {
            enrolment.identity = next;
            let leaf = enrolment.identity.leaf();
            let (serial, not_after) = (leaf.serial.clone(), leaf.not_after);
            *connection = agent.connect(enrolment).await;
            Outcome::Renewed { serial, not_after, reason: reason.to_string() }
        }
    }
}

async fn renew_one(
    agent: &Agent<'_>,
    exchange: Result<Exchange<'_>, &Failure>,
    found: Found,
    options: Options,
) -> Outcome {
    let now = agent.now();
    let (name, installed) = (&found.name, &found.installed);
    let Some(entitlement) = &found.entitlement else {
        let not_after = match installed {
            Installed::Fit(validity) | Installed::Unfit { validity, .. } => validity.not_after,
            Installed::Missing | Installed::Damaged(_) | Installed::Foreign => now,
        };
        return Outcome::NotEntitled { not_after };
    };
    if found.is_by_hand() {
        return Outcome::ByHand;
    }
    if *installed == Installed::Foreign && !options.force {
        // A person's file, and a person has to say what becomes of it: no alarm about what the CA does.
        return Outcome::Failed { error: obtain::foreign(name), code: 1, critical: false };
    }
    let reason = match (verdict(installed, now, options.force), installed) {
        (Verdict::Later(due), Installed::Fit(validity) | Installed::Unfit { validity, .. }) => {
            return Outcome::NotDue { due, not_after: validity.not_after };
        }
        (Verdict::Later(due), _) => return Outcome::NotDue { due, not_after: due },
        (Verdict::Due(reason), _) => reason,
    };
    if options.dry_run {
        return Outcome::WouldRenew { reason: reason.to_string() };
    }
    let critical = renewal::is_critical(installed, now);
    let mut exchange = match exchange {
        Ok(exchange) => exchange,
        Err(Failure { text, code }) => return Outcome::Failed { error: text.clone(), code: *code, critical },
    };
    let done = async {
        obtain::prepare(agent, name)?;
        let bundle = obtain::bundle(&mut exchange, name, Some(entitlement), false).await?;
        obtain::install(agent, name, &bundle)?;
        Ok::<_, AgentError>(bundle)
    };
    match done.await {
        Ok(bundle) => Outcome::Renewed {
            serial: bundle.leaf().serial.clone(),
            not_after: bundle.leaf().not_after,
            reason: reason.to_string(),
        },
        Err(error) => {
            let Failure { text, code } = (&error).into();
            Outcome::Failed { error: text, code, critical }
        }
    }
}

fn verdict(installed: &Installed, now: Timestamp, force: bool) -> Verdict {
    match renewal::judge(installed, now) {
        Verdict::Later(_) if force => Verdict::Due(Reason::Forced),
        verdict => verdict,
    }
}
