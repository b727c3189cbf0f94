//! An operator's approval in exchange for an identity: the host shows nothing but its key, and waits
//! until somebody has compared fingerprints.

use std::time::Duration;

use hyper::Method;

use super::enroll::{Contact, Enrolled, FirstTrust, complete, first_contact};
use super::{Agent, AgentError, identity, key};
use crate::ca::pem_file::PrivateKey;
use crate::client::{Answer, ClientError};
use crate::digest::{Digest, Fingerprint};
use crate::name::HostName;
use crate::random::Random;
use crate::wire::{ApprovalRequest, ApprovalWaiting, PEM_CHAIN};

/// Longest time between two questions.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a request for approval came to.
#[derive(Debug)]
pub enum Requested {
    /// It was approved.
    Enrolled(Box<Enrolled>),
    /// Nobody has decided yet; a later run goes on with the same key.
    Waiting(ApprovalWaiting),
}

/// Asks to be enrolled as `host`, and again until an operator has decided or `wait` is over. `tell` is
/// called once, with the fingerprint that the operator has to compare, before anybody is asked.
///
/// # Errors
/// [`AgentError`]; with [`AgentError::Client`] the CA did not answer until the end, or said no.
pub async fn request(
    agent: &Agent<'_>,
    trust: &FirstTrust,
    host: &HostName,
    wait: Duration,
    tell: impl FnOnce(&Fingerprint) -> std::io::Result<()>,
) -> Result<Requested, AgentError> {
    let state = &agent.settings.state;
    let _lock = agent.lock()?;
    // On disk before anybody is asked: the approval is for this key, whatever happens meanwhile.
    let key = identity::pending_key(state)?;
    tell(&Fingerprint(Digest::of(key.spki()))).map_err(|error| AgentError::state(state, &error))?;
    let (mut left, mut round) = (wait, 0);
    loop {
        match ask(agent, trust, host, &key).await {
            Ok(Asked::Approved(answer, contact)) => {
                let enrolled = complete(agent, *contact, &answer, key, Some(host), true).await?;
                return Ok(Requested::Enrolled(Box::new(enrolled)));
            }
            Ok(Asked::Waiting(waiting)) if left.is_zero() => return Ok(Requested::Waiting(waiting)),
            // While somebody looks for the paper with the fingerprint the CA may well be restarted, or hear from too many.
            Err(AgentError::Client(error @ (ClientError::Unreachable { .. } | ClientError::Refused { .. })))
                if error.is_outage() && !left.is_zero() && round > 0 => {}
            Err(error) => return Err(error),
            Ok(Asked::Waiting(_)) => {}
        }
        let pause = pause(round, agent.random).min(left);
        left -= pause;
        round += 1;
        tokio::time::sleep(pause).await;
    }
}

enum Asked {
    Approved(Answer, Box<Contact>),
    Waiting(ApprovalWaiting),
}

async fn ask(agent: &Agent<'_>, trust: &FirstTrust, host: &HostName, key: &PrivateKey) -> Result<Asked, AgentError> {
    let mut contact = first_contact(agent, trust).await?;
    let ask = ApprovalRequest { host: host.clone(), csr: key::request(key)? };
    let body = serde_json::to_vec(&ask).map_err(|error| AgentError::Key(error.to_string()))?;
    let sent = contact.client.send(Method::POST, "/v1/enroll/request", "application/json", PEM_CHAIN, body).await;
    let answer = sent?.ok()?;
    if answer.status == hyper::StatusCode::ACCEPTED {
        return Ok(Asked::Waiting(answer.json()?));
    }
    Ok(Asked::Approved(answer, Box::new(contact)))
}

/// How long to wait after `round`: from two seconds up to [`LONGEST_PAUSE`], and a quarter more or less, so that many
/// hosts that were started together do not ask together.
fn pause(round: u32, random: &dyn Random) -> Duration {
    let base = Duration::from_secs(2).saturating_mul(1 << round.min(4)).min(LONGEST_PAUSE * 4 / 5);
    let mut drawn = [128];
    // Without randomness it is the middle.
    let _ = random.fill(&mut drawn);
    base * 3 / 4 + base / 2 * u32::from(drawn[0]) / 255
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::NoRandomness;

    struct Drawn(u8);
    impl Random for Drawn {
        fn fill(&self, out: &mut [u8]) -> Result<(), NoRandomness> {
            out.fill(self.0);
            Ok(())
        }
    }

    #[test]
    fn pauses_grow_stay_bounded_and_differ_between_hosts() {
        let seconds = |round, drawn| pause(round, &Drawn(drawn)).as_secs_f64();
        assert_eq!((seconds(0, 0), seconds(0, 255)), (1.5, 2.5));
        assert_eq!((seconds(9, 0), seconds(9, 255)), (18.0, 30.0));
        assert!(seconds(1, 128) > seconds(0, 128) && seconds(u32::MAX, 255) <= 30.0);
    }
}
