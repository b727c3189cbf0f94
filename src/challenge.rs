//! Challenges that a signature has to contain, so that it is of just now and good once.
//!
//! A challenge carries its own end and an authentication code, so nothing is kept of those that are
//! given out, however many that are. What is kept is those that came back with a good signature,
//! until they end; and only who has an accepted key can bring one back.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::clock::Timestamp;
use crate::random::{NoRandomness, Random};

/// How long a challenge can be answered.
pub const CHALLENGE_LIFETIME: Duration = Duration::from_secs(60);
/// Answers that are remembered at one time; more have to come later.
const MAX_ANSWERED: usize = 4_096;
/// Random octets in a challenge, and those of its end.
const DRAWN: usize = 16;
const BODY: usize = DRAWN + 8;
/// An HMAC-SHA256.
const TAG: usize = 32;

/// Why a challenge does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChallengeError {
    /// Not one of this daemon's, since it started.
    #[error("the challenge is not one that this daemon has given out; ask for another")]
    Unknown,
    /// Too late.
    #[error("the challenge was given out more than a minute ago; ask for another")]
    Expired,
    /// It was answered.
    #[error("the challenge was answered already; each is good once")]
    Answered,
    /// As many were answered within a minute as are remembered.
    #[error("too many challenges were answered within a minute; try again later")]
    Busy,
}

/// A challenge that this daemon has given out and that has not ended.
#[derive(Debug)]
pub struct Challenge {
    octets: [u8; BODY + TAG],
    expires: Timestamp,
}

impl Challenge {
    /// What is signed.
    #[must_use]
    pub const fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// Gives out challenges, and knows which were answered.
#[derive(Debug)]
pub struct Challenges {
    key: hmac::Key,
    answered: Mutex<Answered>,
}

#[derive(Debug)]
struct Answered {
    /// By what was drawn for them.
    challenges: HashMap<[u8; DRAWN], Timestamp>,
    /// No challenge that ends at or before this counts, wherever a clock was set back to.
    forgotten: Timestamp,
}

impl Challenges {
    /// Challenges of this daemon alone; those of another, or of one before it, are unknown.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new(random: &dyn Random) -> Result<Self, NoRandomness> {
        let mut key = [0; 32];
        random.fill(&mut key)?;
        let answered = Answered { challenges: HashMap::new(), forgotten: Timestamp::from_unix(0) };
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), answered: Mutex::new(answered) })
    }

    /// A fresh challenge, base64url, and its end.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn give_out(&self, now: Timestamp, random: &dyn Random) -> Result<(String, Timestamp), NoRandomness> {
        let expires = now.plus(CHALLENGE_LIFETIME);
        let mut octets = [0; BODY + TAG];
        random.fill(&mut octets[..DRAWN])?;
        octets[DRAWN..BODY].copy_from_slice(&expires.unix().to_be_bytes());
        let tag = hmac::sign(&self.key, &octets[..BODY]);
        octets[BODY..].copy_from_slice(tag.as_ref());
        Ok((URL_SAFE_NO_PAD.encode(octets), expires))
    }

    /// Reads a challenge that came back. It may have been answered; [`Challenges::answer`] tells.
    ///
    /// # Errors
    /// [`ChallengeError::Unknown`], [`ChallengeError::Expired`].
    pub fn read(&self, text: &str, now: Timestamp) -> Result<Challenge, ChallengeError> {
        let mut octets = [0; BODY + TAG];
        if !matches!(URL_SAFE_NO_PAD.decode_slice(text, &mut octets), Ok(length) if length == octets.len()) {
            return Err(ChallengeError::Unknown);
        }
        hmac::verify(&self.key, &octets[..BODY], &octets[BODY..]).map_err(|_| ChallengeError::Unknown)?;
        let mut end = [0; 8];
        end.copy_from_slice(&octets[DRAWN..BODY]);
        let expires = Timestamp::from_unix(i64::from_be_bytes(end));
        if now >= expires {
            return Err(ChallengeError::Expired);
        }
        Ok(Challenge { octets, expires })
    }

    /// Takes a challenge whose signature was verified; from then on it counts no more.
    ///
    /// # Errors
    /// [`ChallengeError::Answered`], [`ChallengeError::Expired`], [`ChallengeError::Busy`].
    pub fn answer(&self, challenge: &Challenge, now: Timestamp) -> Result<(), ChallengeError> {
        let mut drawn = [0; DRAWN];
        drawn.copy_from_slice(&challenge.octets[..DRAWN]);
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if challenge.expires <= answered.forgotten {
            return Err(ChallengeError::Expired);
        }
        if answered.challenges.contains_key(&drawn) {
            return Err(ChallengeError::Answered);
        }
        if answered.challenges.len() >= MAX_ANSWERED {
            answered.challenges.retain(|_, expires| now < *expires);
            answered.forgotten = answered.forgotten.max(now);
            if answered.challenges.len() >= MAX_ANSWERED {
                return Err(ChallengeError::Busy);
            }
        }
        answered.challenges.insert(drawn, challenge.expires);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    const NOW: Timestamp = Timestamp::from_unix(1_795_255_200);

    fn challenges() -> Challenges {
        Challenges::new(&SystemRandom).unwrap()
    }

    #[test]
    fn a_challenge_is_answered_once_within_a_minute_at_the_daemon_that_gave_it() {
        let here = challenges();
        let (text, expires) = here.give_out(NOW, &SystemRandom).unwrap();
        assert_eq!(expires, NOW.plus(CHALLENGE_LIFETIME));
        let challenge = here.read(&text, NOW).unwrap();
        here.answer(&challenge, NOW).unwrap();
        assert_eq!(here.answer(&here.read(&text, NOW).unwrap(), NOW), Err(ChallengeError::Answered));
        assert_eq!(here.read(&text, expires).unwrap_err(), ChallengeError::Expired);
        assert_eq!(challenges().read(&text, NOW).unwrap_err(), ChallengeError::Unknown);
        let flipped = if text.starts_with('A') { text.replacen('A', "B", 1) } else { format!("A{}", &text[1..]) };
        for other in ["", "AAAA", &text[1..], &flipped, &format!("{text}A")] {
            assert_eq!(here.read(other, NOW).unwrap_err(), ChallengeError::Unknown, "{other}");
        }
    }

    #[test]
    fn a_flood_is_not_remembered_and_answers_only_for_a_minute() {
        let here = challenges();
        let (mine, _) = here.give_out(NOW, &SystemRandom).unwrap();
        for _ in 0..100_000 {
            here.give_out(NOW, &SystemRandom).unwrap();
        }
        assert!(here.answered.lock().unwrap().challenges.is_empty());
        here.answer(&here.read(&mine, NOW).unwrap(), NOW).unwrap();

        let answer = |now: Timestamp| {
            let (text, _) = here.give_out(now, &SystemRandom).unwrap();
            here.answer(&here.read(&text, now).unwrap(), now)
        };
        let taken = (0..MAX_ANSWERED).filter(|_| answer(NOW).is_ok()).count();
        assert_eq!((taken, answer(NOW)), (MAX_ANSWERED - 1, Err(ChallengeError::Busy)));
        answer(NOW.plus(CHALLENGE_LIFETIME)).unwrap();
        assert_eq!(here.answered.lock().unwrap().challenges.len(), 1);
        // Forgotten, and the clock is set back: it does not count a second time.
        assert_eq!(here.answer(&here.read(&mine, NOW).unwrap(), NOW), Err(ChallengeError::Expired));
    }
}
