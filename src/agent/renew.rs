//! Renews whatever is due: the identity first, then every bundle, each on its own. What to do is decided by
//! `renewal::machine`; here it is done.

use super::anchor;
use super::copies::Kept;
use super::directory::Directory;
use super::identity::{self, Enrolment};
use super::ledger::Memory;
use super::obtain::{self, Exchange};
use super::placement::Place;
use super::prune::prune;
use super::retries::{Attempt, Retries, Subject};
use super::servers::Servers;
use super::status::{Found, settings_problems, survey};
use super::system_trust::SystemStore;
use super::{Agent, AgentError, claims, copies, debt, enroll, install, reporting};
use crate::ca::bundle::Bundle;
use crate::clock::Timestamp;
use crate::durable;
use crate::name::{DnsName, HostName};
use crate::renewal::machine::{self, Action, Retry};
use crate::renewal::{self, Installed, Reason};
use crate::report::{Line, Outcome, Report, Unasked};
use crate::wire::Entitlements;

/// What `psfca renew` is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Renew what is not due as well.
    pub force: bool,
    /// Remove what this host may no longer have.
    pub prune: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// The error of one step, kept so that the other names go on.
#[derive(Debug, Clone)]
struct Failure {
    text: String,
    code: u8,
    retry_after: Option<std::time::Duration>,
}

impl From<&AgentError> for Failure {
    fn from(error: &AgentError) -> Self {
        let retry_after = match error {
            AgentError::Client(error) => error.retry_after(),
            _ => None,
        };
        Self { text: error.to_string(), code: error.exit_code(), retry_after }
    }
}

/// One run.
struct Run<'a> {
    agent: &'a Agent<'a>,
    options: Options,
    ledger: Memory,
    retries: Retries,
    remarks: Vec<String>,
    strays: Vec<String>,
    settings_problems: Vec<String>,
}

/// Renews. One name that fails does not stop the others.
///
/// # Errors
/// [`AgentError`] only when nothing at all can be said: not enrolled, damaged or busy state.
pub async fn renew(agent: &Agent<'_>, options: Options) -> Result<Report, AgentError> {
    let _lock = agent.lock()?;
    let mut enrolment = Enrolment::load(&agent.settings.state)?;
    let ledger = Memory::load(agent, &enrolment)?;
    let (retries, damaged) = Retries::load(&agent.settings.state);
    let (strays, settings_problems) = (Vec::new(), Vec::new());
    let remarks = Vec::from_iter(damaged);
    let mut run = Run { agent, options, ledger, retries, remarks, strays, settings_problems };
    if !options.dry_run {
        clear_leftovers(agent);
    }
    let (trust_written, mut trust_problem) = run.trust(&enrolment).await;
    let mut connection = agent.connect(&enrolment).await;
    if let (Ok(client), false) = (&mut connection, options.dry_run) {
        // Only where there was trouble; what came of it is in the report.
        let _ = run.ledger.before_asking(client, enrolment.host.as_str(), agent.now()).await;
    }
    let identity = run.identity(&mut connection, &mut enrolment).await;
    let mut answered = ask_for_names(connection, &enrolment.host).await;
    if let Ok((client, entitlements)) = &mut answered {
        if let Err(error) = anchor::same_roots(client, &enrolment.anchors, &entitlements.roots).await {
            trust_problem.get_or_insert(error.to_string());
        }
        if !options.dry_run {
            identity::keep_entitlements(&agent.settings.state, entitlements)?;
        }
    }
    let unasked = run.unasked(answered.as_ref().err());
    let mut names = run.names(&mut answered, &enrolment).await;
    debt::settle(agent, &enrolment.anchors, &mut names, options.dry_run).await;
    let untold = match (&mut answered, options.dry_run) {
        (Ok((client, _)), false) => reporting::tell(agent, client, &enrolment).await.err(),
        _ => None,
    };
    let untold = untold.map(|error| error.to_string());
    let (ledger_trouble, ledger_recovered) = (run.ledger.trouble(), run.ledger.news().cloned());
    let Run { remarks, strays, settings_problems, .. } = run;
    Ok(Report {
        host: enrolment.host,
        identity,
        trust_problem,
        trust_written,
        ledger_trouble,
        ledger_recovered,
        remarks,
        settings_problems,
        strays,
        unasked,
        names,
        untold,
    })
}

/// Also of names that are not due: what a killed run left there is somebody's key.
fn clear_leftovers(agent: &Agent<'_>) {
    durable::clear_leftovers(&agent.settings.state);
    debt::clear_leftovers(agent);
    let placement = &agent.settings.placement;
    let clear = |place: &Place, ours: &dyn Fn(&str) -> bool| {
        // Where somebody else decides what lies there, nothing was written either.
        if let Ok(directory) = agent.ownership(place).and_then(|owner| Directory::of(&place.path, &owner)) {
            install::clear_leftovers(&directory.held(), ours);
        }
    };
    let any = Place { path: placement.default.path.join("NAME.pem"), ..placement.default.clone() };
    clear(&any, &|_| true);
    for (_, place) in placement.own_places() {
        clear(place, &|of| place.path.file_name().is_some_and(|name| name == of));
    }
}

/// What this host may have, from the CA itself, and the connection that it came by.
async fn ask_for_names(
    connection: Result<Servers, AgentError>,
    host: &HostName,
) -> Result<(Servers, Entitlements), Failure> {
    let mut client = connection.map_err(|error| Failure::from(&error))?;
    let entitlements = obtain::entitlements(&mut client, host).await.map_err(|error| Failure::from(&error))?;
    Ok((client, entitlements))
}

impl Run<'_> {
    /// Sees to the trust bundle and the system's roots: whether the bundle was written, and what is wrong.
    async fn trust(&mut self, enrolment: &Enrolment) -> (bool, Option<String>) {
        if self.options.dry_run {
            return (false, None);
        }
        let (written, mut problem) = match anchor::keep(self.agent, &enrolment.anchors) {
            Ok(written) => (written, None),
            Err(error) => (false, Some(error.to_string())),
        };
        if self.agent.settings.system_trust {
            match SystemStore::default().keep(self.agent, &enrolment.anchors).await {
                Ok(false) => {}
                Ok(true) => {
                    self.remarks.push("the whole system trusts this CA now (system_trust in host.yaml)".to_owned());
                }
                Err(error) => drop(problem.get_or_insert(error.to_string())),
            }
        }
        (written, problem)
    }

    /// What to say where the CA did not name this host's names, now and in `psfca status`: a host that nothing is due
    /// on would not hear of it otherwise.
    fn unasked(&mut self, failure: Option<&Failure>) -> Option<Unasked> {
        let at = self.agent.now();
        let unasked =
            failure.map(|Failure { text, code, .. }| Unasked { at, refused: *code == 3, error: text.clone() });
        if !self.options.dry_run
            && let Err(error) = self.retries.note_unasked(unasked.clone())
        {
            self.remarks.push(error.to_string());
        }
        unasked
    }

    /// Renews the identity; from then on the new one is shown.
    async fn identity(&mut self, connection: &mut Result<Servers, AgentError>, enrolment: &mut Enrolment) -> Outcome {
        let (agent, validity) = (self.agent, enrolment.validity());
        let installed = Installed::Fit(validity);
        let reason = match self.look(Subject::Identity, &installed) {
            Ok(reason) => reason,
            Err(outcome) => return outcome,
        };
        let done = match connection {
            Ok(client) => enroll::next_identity(agent, client, enrolment, &mut self.ledger).await,
            Err(error) => return self.failed(Subject::Identity, &installed, (&*error).into()),
        };
        match done {
            Err(error) => self.failed(Subject::Identity, &installed, (&error).into()),
            Ok(next) => {
                enrolment.identity = next;
                *connection = agent.connect(enrolment).await;
                self.succeeded(Subject::Identity, &enrolment.identity, &reason)
            }
        }
    }

    /// Every name. Unasked, the CA's last word stands: what it named then is what services here rely on.
    async fn names(
        &mut self,
        answered: &mut Result<(Servers, Entitlements), Failure>,
        enrolment: &Enrolment,
    ) -> Vec<Line> {
        let (agent, dry_run) = (self.agent, self.options.dry_run);
        let remembered = identity::known_entitlements(&agent.settings.state);
        let known = answered.as_ref().map_or(remembered, |(_, entitlements)| Some(entitlements.clone()));
        let mut lines = Vec::new();
        let found = survey(agent, &enrolment.anchors, known.as_ref());
        (self.strays, self.settings_problems) = settings_problems(agent, known.as_ref(), &found);
        for found in found {
            let name = found.name.clone();
            let client = answered.as_mut().map(|(client, _)| client).map_err(|failure| failure.clone());
            let outcome = self.name(client, found, enrolment).await;
            let gone = matches!(outcome, Outcome::Pruned { .. });
            let kept = match dry_run || gone {
                true => Kept::default(),
                false => copies::keep_installed(agent, &name, &enrolment.anchors, self.options.force),
            };
            let mut line = Line::new(name, outcome);
            (line.copies_written, line.copy_problem) = (kept.written, kept.problem);
            lines.push(line);
        }
        lines
    }

    async fn name(&mut self, client: Result<&mut Servers, Failure>, found: Found, enrolment: &Enrolment) -> Outcome {
        let (agent, name, subject) = (self.agent, &found.name, Subject::Name(&found.name));
        let Some(entitlement) = &found.entitlement else {
            self.forget(subject);
            return self.taken_away(client, &found, enrolment).await;
        };
        if found.is_by_hand() {
            return Outcome::ByHand;
        }
        match &found.installed {
            // A person's file, and a person has to say what becomes of it: no alarm about what the CA does.
            Installed::Foreign(what) if !self.options.force => {
                return Outcome::LeftAlone { error: claims::left_alone(what, name) };
            }
            Installed::Fit(_) | Installed::Unfit { .. } => self.claim(name),
            _ => {}
        }
        let installed = &found.installed;
        let reason = match self.look(subject, installed) {
            Ok(reason) => reason,
            Err(outcome) => return outcome,
        };
        let client = match client {
            Ok(client) => client,
            Err(failure) => return self.failed(subject, installed, failure),
        };
        // The CA was not asked yet, so whoever makes the place good need not wait.
        let ready = obtain::prepare(agent, name).map_err(AgentError::from);
        if let Err(error) = ready.and_then(|_| self.ledger.rewrite()) {
            return failed(&(&error).into(), installed, agent.now());
        }
        let mut exchange = Exchange { agent, client, enrolment, ledger: &mut self.ledger };
        let bundle = match obtain::bundle(&mut exchange, name, Some(entitlement), false).await {
            Ok(bundle) => bundle,
            Err(error @ (AgentError::KeyNotMadeHere { .. } | AgentError::Key(_))) => {
                return failed(&(&error).into(), installed, agent.now());
            }
            Err(error) => return self.failed(subject, installed, (&error).into()),
        };
        match obtain::install(agent, name, &bundle) {
            Ok(()) => self.succeeded(subject, &bundle, &reason),
            Err(error) => self.failed(subject, installed, (&AgentError::from(error)).into()),
        }
    }

    /// A name that this host may no longer have. Only the CA's own word of just now removes anything, and only that of
    /// a CA whose ledger continues what was seen.
    async fn taken_away(
        &mut self,
        client: Result<&mut Servers, Failure>,
        found: &Found,
        enrolment: &Enrolment,
    ) -> Outcome {
        let not_after = match &found.installed {
            Installed::Fit(validity) | Installed::Unfit { validity, .. } => validity.not_after,
            Installed::Missing | Installed::Damaged(_) | Installed::Foreign(_) => self.agent.now(),
        };
        let client = match client {
            Ok(client) if self.options.prune || self.agent.settings.prune => client,
            _ => return Outcome::NotEntitled { not_after },
        };
        if self.options.dry_run {
            return Outcome::WouldPrune { not_after };
        }
        let held = self.ledger.before_removing(client, found.name.as_str(), self.agent.now()).await;
        match held.and_then(|()| prune(self.agent, &found.name, &enrolment.anchors)) {
            Ok(removed) => Outcome::Pruned { removed },
            Err(error) => Outcome::NotPruned { error: error.to_string(), code: error.exit_code() },
        }
    }

    /// The bundle is ours, whoever wrote that down or not.
    fn claim(&mut self, name: &DnsName) {
        let path = self.agent.settings.placement.bundle(name).path;
        if !self.options.dry_run
            && let Err(error) = claims::remember(self.agent, &path)
        {
            self.remarks.push(error.to_string());
        }
    }

    /// Why the CA is to be asked now, or what there is to say instead.
    fn look(&mut self, subject: Subject<'_>, installed: &Installed) -> Result<Reason, Outcome> {
        let (now, attempt) = (self.agent.now(), self.retries.of(subject).cloned());
        let retry = attempt.as_ref().map(|attempt| attempt.retry);
        let (retry, action) = machine::look(retry, installed, self.options.force, now);
        if retry.is_none() {
            self.forget(subject);
        }
        match action {
            Action::Ask(reason) if self.options.dry_run => Err(Outcome::WouldRenew { reason: reason.to_string() }),
            Action::Ask(reason) => Ok(reason),
            Action::Wait(_, until) => {
                let (error, code) = attempt.map_or_else(Default::default, |attempt| (attempt.error, attempt.code));
                let error = format!("{error}; the CA is asked again from {} on", until.with_distance(now));
                Err(Outcome::Failed { error, code, critical: renewal::is_critical(installed, now) })
            }
            Action::Rest(due) => Err(Outcome::NotDue { due, not_after: end_of(installed).unwrap_or(due) }),
        }
    }

    /// The CA was asked in vain.
    fn failed(&mut self, subject: Subject<'_>, installed: &Installed, failure: Failure) -> Outcome {
        let now = self.agent.now();
        let before = self.retries.of(subject).map(|attempt| attempt.retry);
        let retry = Retry::after(before, installed, failure.retry_after, self.draw(), now);
        self.remember(subject, Some(Attempt { retry, error: failure.text.clone(), code: failure.code }));
        failed(&failure, installed, now)
    }

    fn succeeded(&mut self, subject: Subject<'_>, bundle: &Bundle, reason: &Reason) -> Outcome {
        self.forget(subject);
        let leaf = bundle.leaf();
        Outcome::Renewed { serial: leaf.serial.clone(), not_after: leaf.not_after, reason: reason.to_string() }
    }

    fn forget(&mut self, subject: Subject<'_>) {
        self.remember(subject, None);
    }

    /// That this cannot be written down costs the CA a request more, and nobody anything else.
    fn remember(&mut self, subject: Subject<'_>, attempt: Option<Attempt>) {
        if !self.options.dry_run
            && let Err(error) = self.retries.remember(subject, attempt)
        {
            self.remarks.push(error.to_string());
        }
    }

    /// Without randomness the wait is the longest.
    fn draw(&self) -> u32 {
        let mut octets = [0; 4];
        self.agent.random.fill(&mut octets).map_or(u32::MAX, |()| u32::from_be_bytes(octets))
    }
}

fn failed(failure: &Failure, installed: &Installed, now: Timestamp) -> Outcome {
    let critical = renewal::is_critical(installed, now);
    Outcome::Failed { error: failure.text.clone(), code: failure.code, critical }
}

const fn end_of(installed: &Installed) -> Option<Timestamp> {
    match installed {
        Installed::Fit(validity) | Installed::Unfit { validity, .. } => Some(validity.not_after),
        Installed::Missing | Installed::Damaged(_) | Installed::Foreign(_) => None,
    }
}

#[cfg(test)]
mod tests;
