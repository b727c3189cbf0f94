//! How things stand on this host, without asking anybody: the identity, the trust bundle, and
//! every bundle that the host may have or that lies there.

use std::collections::{BTreeMap, BTreeSet};

use rustls::pki_types::CertificateDer;

use super::files::{self, Links, Unread};
use super::identity::{self, Enrolment};
use super::ledger::Memory;
use super::retries::{Attempt, Retries, Subject};
use super::strays::strays;
use super::system_trust::SystemStore;
use super::{Agent, AgentError, anchor, claims, copies, debt, obtain};
use crate::ca::bundle::{Bundle, BundleError};
use crate::ca::pem_file;
use crate::clock::Timestamp;
use crate::loading::Loaded;
use crate::name::DnsName;
use crate::profile::KeyKind;
use crate::renewal::{self, Installed, Reason, Validity, Verdict};
use crate::report::{Asked, BundleStatus, CertificateStatus, Status};
use crate::serial::Serial;
use crate::wire::{Entitlement, Entitlements};

/// Looks at everything.
///
/// # Errors
/// [`AgentError::NotEnrolled`], or [`AgentError::State`] when a file cannot be read.
pub fn status(agent: &Agent<'_>) -> Result<Status, AgentError> {
    agent.check_state()?;
    let enrolment = Enrolment::load(&agent.settings.state)?;
    let state = &agent.settings.state;
    let known = identity::known_entitlements(state);
    let (now, retries) = (agent.now(), Retries::load(state).0);
    let bundles = survey(agent, &enrolment.anchors, known.as_ref());
    let (strays, settings_problems) = settings_problems(agent, known.as_ref(), &bundles);
    let bundles = bundles.into_iter().map(|found| {
        let mut status = describe(agent, found, &retries, now);
        status.loaded = debt::standing(agent, &status.name, &enrolment.anchors).loaded;
        if status.problem.is_none() {
            status.problem = copies::problem(agent, &status.name, &enrolment.anchors)
                .unwrap_or_else(|error| Some(error.to_string()));
        }
        status
    });
    let bundles = bundles.collect();
    let server = match agent.settings.server.is_empty() {
        true => vec![enrolment.server.clone()],
        false => agent.settings.server.clone(),
    };
    let identity = CertificateStatus::of(&enrolment.identity.leaf().serial, enrolment.validity());
    let ledger = Memory::load(agent, &enrolment)?.status();
    let trust_problem = trust(agent, &enrolment.anchors)?;
    let due = renewal::judge(&Installed::Fit(enrolment.validity()), now);
    Ok(Status {
        host: enrolment.host,
        server,
        unasked: retries.unasked().cloned(),
        identity,
        identity_asked: asked(&retries, Subject::Identity, &due),
        trust_problem,
        settings_problems,
        strays,
        ledger,
        bundles,
    })
}

/// Settings and hooks for names that this host may not have, and owners that this machine does not know. Of names
/// nothing is known before the CA was asked once.
pub(super) fn settings_problems(
    agent: &Agent<'_>,
    known: Option<&Entitlements>,
    found: &[Found],
) -> (Vec<String>, Vec<String>) {
    let names = || found.iter().map(|found| &found.name);
    let strays = known.map_or_else(Vec::new, |_| strays(agent, &names().collect()));
    (strays, agent.unknown_accounts(names()))
}

/// What the CA was asked for in vain, as long as it is due.
fn asked(retries: &Retries, subject: Subject<'_>, verdict: &Verdict) -> Option<Asked> {
    retries.of(subject).filter(|_| matches!(verdict, Verdict::Due(_))).map(Attempt::told)
}

fn trust(agent: &Agent<'_>, anchors: &[CertificateDer<'_>]) -> Result<Option<String>, AgentError> {
    let path = agent.settings.trust_bundle.display();
    let text = match files::read(&agent.settings.trust_bundle, Links::Followed) {
        Ok((_, text)) => text,
        Err(Unread::Absent) => return Ok(Some(format!("{path} is missing; psfca renew writes it"))),
        Err(Unread::Unfit(cause)) => return Ok(Some(format!("{path} cannot be used: {cause}; move it away"))),
        Err(Unread::Failed(error)) => return Err(AgentError::state(&agent.settings.trust_bundle, &error)),
    };
    let there = match pem_file::certificates(&text) {
        Err(error) => return Ok(Some(format!("{path} is damaged: {error}; psfca renew writes it again"))),
        Ok(there) => there,
    };
    if anchor::compare(anchors, &there).is_err() {
        return Ok(Some(format!("{path} holds other roots than this host enrolled with")));
    }
    if agent.settings.system_trust { SystemStore::default().problem(anchors) } else { Ok(None) }
}

fn describe(agent: &Agent<'_>, found: Found, retries: &Retries, now: Timestamp) -> BundleStatus {
    let by_hand = found.is_by_hand();
    let verdict = renewal::judge(&found.installed, now);
    let (certificate, problem) = match (&found.installed, found.serial.as_ref()) {
        (Installed::Fit(validity) | Installed::Unfit { validity, .. }, Some(serial)) => {
            let problem = match &verdict {
                Verdict::Due(Reason::Expired(when)) => Some(format!("it expired {}", when.distance(now))),
                Verdict::Due(Reason::Changed(why)) => Some(why.clone()),
                _ if validity.is_critical(now) => {
                    Some(format!("it expires {} and was not renewed", validity.not_after.distance(now)))
                }
                _ => None,
            };
            (Some(CertificateStatus::of(serial, *validity)), problem)
        }
        (Installed::Damaged(why), _) => (None, Some(format!("it is damaged: {why}"))),
        (Installed::Foreign(what), _) => (None, Some(claims::left_alone(what, &found.name))),
        _ if by_hand => (None, None),
        _ => (None, Some("it is missing; psfca renew gets it".to_owned())),
    };
    let path = agent.settings.placement.bundle(&found.name).path;
    BundleStatus {
        path,
        entitled: found.entitlement.is_some(),
        by_hand,
        certificate,
        problem,
        asked: asked(retries, Subject::Name(&found.name), &verdict).filter(|_| found.entitlement.is_some()),
        loaded: Loaded::NotInstalled,
        name: found.name,
    }
}

/// One name and what lies there for it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: DnsName,
    pub(super) entitlement: Option<Entitlement>,
    pub(super) installed: Installed,
    pub(super) serial: Option<Serial>,
}

impl Found {
    /// There is none, and its key is of a kind that only a person makes: it is installed by hand,
    /// perhaps elsewhere, and that is no trouble that another run could end.
    pub(super) fn is_by_hand(&self) -> bool {
        let rsa = self.entitlement.as_ref().is_some_and(|promised| promised.key == KeyKind::Rsa);
        rsa && self.installed == Installed::Missing
    }
}

/// Every name that the host may have, and every other bundle of this CA that lies there. What cannot be looked at is
/// told of its own name: it may be the work of the one user whose directory it is.
pub(super) fn survey(
    agent: &Agent<'_>,
    anchors: &[CertificateDer<'_>],
    entitlements: Option<&Entitlements>,
) -> Vec<Found> {
    let certs = entitlements.map_or(&[][..], |entitlements| &entitlements.certs);
    let by_name: BTreeMap<_, _> = certs.iter().map(|cert| (&cert.name, cert)).collect();
    let mut names: BTreeSet<DnsName> = by_name.keys().map(|name| (*name).clone()).collect();
    names.extend(lying_there(agent));
    names.extend(agent.settings.placement.named().cloned());
    let mut found = Vec::new();
    for name in names {
        let entitlement = by_name.get(&name).copied();
        let (installed, serial) = examine(agent, anchors, &name, entitlement);
        // Without an entitlement only what this CA made concerns us: other people's files lie there too.
        if entitlement.is_some() || matches!(installed, Installed::Fit(_)) {
            found.push(Found { entitlement: entitlement.cloned(), name, installed, serial });
        }
    }
    found
}

fn lying_there(agent: &Agent<'_>) -> Vec<DnsName> {
    let entries = std::fs::read_dir(&agent.settings.placement.default.path).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| DnsName::parse(entry.file_name().to_str()?.strip_suffix(".pem")?).ok();
    entries.filter_map(name).collect()
}

/// Looks at one bundle as its service would, at its own time: that it has expired is for
/// [`renewal::judge`] to say.
fn examine(
    agent: &Agent<'_>,
    anchors: &[CertificateDer<'_>],
    name: &DnsName,
    promised: Option<&Entitlement>,
) -> (Installed, Option<Serial>) {
    let path = agent.settings.placement.bundle(name).path;
    let read = files::read(&path, Links::Refused);
    if let Some(what) = claims::others_in(agent, &path, &read, anchors) {
        return (Installed::Foreign(what), None);
    }
    let text = match read {
        Ok((_, text)) => text,
        Err(Unread::Absent) => return (Installed::Missing, None),
        // Another service's key that we may not read is none of ours, nor is what is no file at all.
        Err(_) if promised.is_none() => return (Installed::Missing, None),
        Err(Unread::Unfit(cause)) => return (Installed::Damaged(cause), None),
        Err(Unread::Failed(error)) => return (Installed::Damaged(format!("it cannot be read: {error}")), None),
    };
    let bundle = match Bundle::parse(&text) {
        Ok(bundle) => bundle,
        Err(error) => return (Installed::Damaged(error.to_string()), None),
    };
    let leaf = bundle.leaf();
    let validity = Validity::new(leaf.not_before, leaf.not_after, &leaf.serial);
    let kind = promised.map(|promised| promised.key);
    let check = |when| obtain::check(bundle.chain(), anchors, name, promised, when);
    let checked = match check(agent.now()) {
        // Whose it is shows at a time when it was valid.
        Err(BundleError::Expired { not_after, .. }) => check(not_after),
        checked => checked,
    };
    let unfit = match checked {
        Ok(()) if kind.is_some() && kind != leaf.key => {
            let found = leaf.key.map_or_else(|| "another kind".to_owned(), |kind| kind.to_string());
            Some(format!("its key is {found}, and {} is wanted now", kind.unwrap_or_default()))
        }
        Ok(()) => None,
        Err(error) => Some(error.to_string()),
    };
    let serial = Some(leaf.serial.clone());
    match unfit {
        None => (Installed::Fit(validity), serial),
        Some(why) => (Installed::Unfit { why, validity }, serial),
    }
}
