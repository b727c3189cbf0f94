//! Tells the CA what is installed here, when that is news.
//!
//! What the CA was told last is remembered by its hash, so a run without news asks for nothing. Once a day it is told
//! all the same, for a CA that has forgotten. That the CA could not be told changes nothing on this host.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::identity::{self, Enrolment};
use super::servers::Servers;
use super::status::survey;
use super::{Agent, AgentError, debt, read_if_there};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::durable;
use crate::host::Remark;
use crate::loading::Loaded;
use crate::renewal::{Installed, Validity};
use crate::wire::{Deployment, HostReport, MAX_REPORTED, NameReport};

const TOLD: &str = "told.json";
/// After which time the CA is told again what it was told before.
const AGAIN: Duration = Duration::from_secs(86_400);
/// Most octets of JSON in one report, below the 64 KiB that a daemon reads by default.
const MAX_OCTETS: usize = 48 * 1_024;

/// The last report that needs no repetition.
#[derive(Serialize, Deserialize)]
struct LastReport {
    /// Of all its parts.
    sha256: Digest,
    /// When it was sent.
    at: Timestamp,
}

impl LastReport {
    fn covers(&self, sha256: Digest, now: Timestamp) -> bool {
        // A clock that was set back makes one report more, and not years of silence.
        self.sha256 == sha256 && self.at <= now && self.at.until(now) < AGAIN
    }
}

/// Tells the CA what lies here of its certificates, if it was told otherwise before, or a day ago. How far each of
/// them is on its way to those who connect is what `debt` knows.
///
/// # Errors
/// The CA refused it, or did not answer. A daemon that is too old to be told is no error.
pub async fn tell(agent: &Agent<'_>, client: &mut Servers, enrolment: &Enrolment) -> Result<(), AgentError> {
    let parts = parts(names(agent, enrolment));
    let bodies: Vec<Vec<u8>> = parts.iter().filter_map(|part| serde_json::to_vec(part).ok()).collect();
    let (state, now) = (&agent.settings.state, agent.now());
    let sha256 = Digest::of(&bodies.concat());
    let path = state.join(TOLD);
    let last = read_if_there(&path).ok().flatten().and_then(|text| serde_json::from_slice::<LastReport>(&text).ok());
    if last.is_some_and(|last| last.covers(sha256, now)) {
        return Ok(());
    }
    let mut outcome = Ok(());
    for body in bodies {
        let answer = client.send(Method::POST, "/v1/report", "application/json", "application/json", body).await?;
        let status = answer.status;
        match answer.ok() {
            Ok(_) => {}
            Err(error) if error.is_outage() => return Err(error.into()),
            Err(_) if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {}
            // What was refused for good would be again, so it is not repeated at each run.
            Err(error) => outcome = Err(error),
        }
    }
    let text = serde_json::to_vec(&LastReport { sha256, at: now }).unwrap_or_default();
    durable::replace(&path, &text, 0o600).map_err(|error| AgentError::state(&path, &error))?;
    Ok(outcome?)
}

fn names(agent: &Agent<'_>, enrolment: &Enrolment) -> Vec<NameReport> {
    let known = identity::known_entitlements(&agent.settings.state);
    let found = survey(agent, &enrolment.anchors, known.as_ref()).into_iter();
    let told = found.filter_map(|found| match (found.installed, found.serial) {
        (Installed::Fit(validity) | Installed::Unfit { validity, .. }, Some(serial)) => {
            let deployment = deployment(debt::standing(agent, &found.name, &enrolment.anchors).loaded, &validity);
            Some(NameReport { name: found.name, serial, not_after: validity.not_after, deployment })
        }
        _ => None,
    });
    told.collect()
}

fn deployment(loaded: Loaded, validity: &Validity) -> Deployment {
    match loaded {
        Loaded::NoneConfigured | Loaded::NotInstalled => Deployment::Installed,
        // What no run has come to yet is owed since it was issued.
        Loaded::Owed { since, attempts, error } => Deployment::Owed {
            since: since.unwrap_or_else(|| validity.issued()),
            attempts,
            error: error.as_deref().and_then(Remark::abridged),
        },
        Loaded::Hooked { at } => Deployment::Hooked { since: at },
        Loaded::Served { at } => Deployment::Served { since: at },
    }
}

/// As few reports as have room for all names; one without any says that there is nothing.
fn parts(names: Vec<NameReport>) -> Vec<HostReport> {
    let mut parts = vec![HostReport { continued: false, names: Vec::new() }];
    let mut octets = 0;
    for name in names {
        let size = serde_json::to_vec(&name).map_or(0, |text| text.len() + 1);
        octets += size;
        let full = |part: &HostReport| part.names.len() >= MAX_REPORTED || octets > MAX_OCTETS;
        if parts.last().is_some_and(full) {
            parts.push(HostReport { continued: true, names: Vec::new() });
            octets = size;
        }
        if let Some(part) = parts.last_mut() {
            part.names.push(name);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::DnsName;
    use crate::serial::Serial;

    #[test]
    fn every_part_of_a_long_report_is_short_enough_and_nothing_is_left_out() {
        let error = Some("\"".repeat(200).parse().unwrap());
        let now = Timestamp::from_unix(1_795_255_200);
        let long = |n: usize| NameReport {
            name: DnsName::parse(&format!("n{n}.{}.psf.io", "x".repeat(60))).unwrap(),
            serial: Serial::parse("0a").unwrap(),
            not_after: now,
            deployment: Deployment::Owed { since: now, attempts: 7, error: error.clone() },
        };
        let short = |n| NameReport { deployment: Deployment::Installed, ..long(n) };
        for names in [Vec::new(), (0..1_000).map(long).collect(), (0..1_000).map(short).collect::<Vec<_>>()] {
            let parts = parts(names.clone());
            let continued: Vec<_> = parts.iter().map(|part| part.continued).collect();
            assert_eq!(continued, std::iter::once(false).chain(vec![true; parts.len() - 1]).collect::<Vec<_>>());
            assert!(parts.iter().all(|part| serde_json::to_vec(part).unwrap().len() < 60_000));
            assert!(parts.iter().all(|part| part.names.len() <= MAX_REPORTED));
            assert_eq!(parts.into_iter().flat_map(|part| part.names).collect::<Vec<_>>(), names);
        }
    }

    #[test]
    fn the_same_is_told_again_after_a_day_and_after_the_clock_was_set_back() {
        let (now, sha256) = (Timestamp::from_unix(1_795_255_200), Digest::of(b"x"));
        let last = LastReport { sha256, at: now };
        let hours = |hours: u64| now.plus(Duration::from_secs(3_600 * hours));
        assert!(last.covers(sha256, now) && last.covers(sha256, hours(23)));
        assert!(!last.covers(sha256, hours(24)) && !last.covers(sha256, now.minus(Duration::from_secs(1))));
        assert!(!last.covers(Digest::of(b"y"), now));
    }
}
