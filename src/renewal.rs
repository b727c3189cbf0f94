//! When a certificate is due: a pure function of what is installed and the time. `machine` has what follows from it.

pub mod machine;

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::profile::BACKDATE;
use crate::serial::Serial;

/// Below this life, a certificate is renewed earlier in it: there is less time for another try.
const SHORT_LIFE: Duration = Duration::from_secs(10 * 86_400);
/// The part of a short life in which renewal begins, in percent.
const SHORT_WINDOW: (u32, u32) = (30, 60);
/// The part of a longer life in which renewal begins, in percent.
const LONG_WINDOW: (u32, u32) = (50, 70);

/// First and last moment of a certificate's validity, and where between them it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Validity {
    /// First moment; [`BACKDATE`] before the moment of issue.
    pub not_before: Timestamp,
    /// Last moment.
    pub not_after: Timestamp,
    /// The certificate's own draw, uniform over all values.
    #[serde(skip)]
    draw: u16,
}

impl Validity {
    /// The dates of the certificate with this serial number. Its draw is made from the number, which is
    /// random (RFC 5280, section 4.1.2.2, wants it unique; ours have 112 random bits): so host and CA
    /// come to the same moment, it is the same at each run, and no two certificates share one.
    #[must_use]
    pub fn new(not_before: Timestamp, not_after: Timestamp, serial: &Serial) -> Self {
        let [a, b, ..] = *Digest::of(serial.octets()).as_bytes();
        Self { not_before, not_after, draw: u16::from_be_bytes([a, b]) }
    }

    /// The moment of issue: what lies before it is only for slow clocks and no part of the life.
    #[must_use]
    pub fn issued(&self) -> Timestamp {
        let issued = self.not_before.plus(BACKDATE);
        if issued < self.not_after { issued } else { self.not_before }
    }

    fn life(&self) -> Duration {
        self.issued().until(self.not_after)
    }

    /// From when on the certificate should be renewed: at 0.30 to 0.60 of a life below ten days, at
    /// 0.50 to 0.70 of a longer one. Certificates that were issued together are not renewed together.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        let (from, to) = if self.life() < SHORT_LIFE { SHORT_WINDOW } else { LONG_WINDOW };
        let share = f64::from(from) + f64::from(to - from) * f64::from(self.draw) / f64::from(u16::MAX);
        self.issued().plus(self.life().mul_f64(share / 100.0))
    }

    /// Whether less than a quarter of the life is left, so that somebody has to look.
    #[must_use]
    pub fn is_critical(&self, now: Timestamp) -> bool {
        is_nearly_over(self.issued(), self.not_after, now)
    }
}

/// How far into a life of this length the last moment lies at which a certificate may have drawn to be renewed.
#[must_use]
pub fn latest(life: Duration) -> Duration {
    let (_, to) = if life < SHORT_LIFE { SHORT_WINDOW } else { LONG_WINDOW };
    life * to / 100
}

/// Whether less than a quarter is left of the life of a certificate that was issued and ends at these moments.
#[must_use]
pub fn is_nearly_over(issued: Timestamp, not_after: Timestamp, now: Timestamp) -> bool {
    now.until(not_after) < issued.until(not_after) / 4
}

/// What is installed under a name now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// Nothing.
    Missing,
    /// Something that no service can use; why.
    Damaged(String),
    /// What psfca did not put there, and so leaves alone; what it is. Somebody put it there, and wants it there.
    Foreign(String),
    /// A whole bundle that is not what the host may have now (names, key kind, usages, root); why.
    Unfit {
        /// What differs.
        why: String,
        /// Its dates: a service may well live on with it.
        validity: Validity,
    },
    /// What it should be.
    Fit(Validity),
}

/// Why a certificate is to be renewed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There is none.
    Missing,
    /// What is there is of no use.
    Damaged(String),
    /// What is there is not what should be there.
    Changed(String),
    /// It has ended.
    Expired(Timestamp),
    /// Its time to be renewed has come, at this moment.
    Scheduled(Timestamp),
    /// A person said so.
    Forced,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is none yet"),
            Self::Damaged(why) => write!(f, "what is there is damaged: {why}"),
            Self::Changed(why) => f.write_str(why),
            Self::Expired(when) => write!(f, "it expired on {when}"),
            Self::Scheduled(when) => write!(f, "it was due on {when}"),
            Self::Forced => f.write_str("--force"),
        }
    }
}

/// Whether to renew.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Now.
    Due(Reason),
    /// At this moment.
    Later(Timestamp),
}

/// Judges one certificate.
pub fn judge(installed: &Installed, now: Timestamp) -> Verdict {
    match installed {
        Installed::Missing => Verdict::Due(Reason::Missing),
        Installed::Damaged(why) => Verdict::Due(Reason::Damaged(why.clone())),
        Installed::Foreign(_) => Verdict::Due(Reason::Changed("somebody else put there what is there".to_owned())),
        Installed::Unfit { validity, .. } | Installed::Fit(validity) if validity.not_after < now => {
            Verdict::Due(Reason::Expired(validity.not_after))
        }
        Installed::Unfit { why, .. } => Verdict::Due(Reason::Changed(why.clone())),
        Installed::Fit(validity) if validity.due() <= now => Verdict::Due(Reason::Scheduled(validity.due())),
        Installed::Fit(validity) => Verdict::Later(validity.due()),
    }
}

/// Whether a service may fail soon, or fails already, with what is installed.
#[must_use]
pub fn is_critical(installed: &Installed, now: Timestamp) -> bool {
    match installed {
        Installed::Missing | Installed::Damaged(_) => true,
        Installed::Foreign(_) => false,
        Installed::Unfit { validity, .. } | Installed::Fit(validity) => validity.is_critical(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn issued_at(issued: Timestamp, life: Duration, serial: u64) -> Validity {
        let serial = Serial::parse(&format!("{:x}", serial + 1)).unwrap();
        Validity::new(issued.minus(BACKDATE), issued.plus(life), &serial)
    }

    #[test]
    fn certificates_are_renewed_evenly_over_the_window_that_their_life_gives() {
        let start = Timestamp::parse("2026-11-21T09:00:00Z").unwrap();
        for (life, from, to) in [(HOUR * 24, 0.30, 0.60), (HOUR * 239, 0.30, 0.60), (HOUR * 240, 0.50, 0.70)] {
            let share = |serial| {
                let due = issued_at(start, life, serial).due();
                start.until(due).as_secs_f64() / life.as_secs_f64()
            };
            let shares: Vec<f64> = (0..2_000).map(share).collect();
            assert!(shares.iter().all(|share| (from..=to).contains(share)), "{life:?}");
            // Each tenth of the window gets its tenth, give or take five standard deviations.
            for tenth in 0..10 {
                let [low, high] = [0.0, 1.0].map(|end| from + (to - from) * (f64::from(tenth) + end) / 10.0);
                let there = shares.iter().filter(|share| (low..high).contains(*share)).count();
                assert!((133..=267).contains(&there), "{there} of 2,000 in tenth {tenth} of {life:?}");
            }
        }
    }

    #[test]
    fn a_certificate_has_one_moment_to_be_renewed_and_is_due_from_then_on() {
        let start = Timestamp::parse("2026-11-21T09:00:00Z").unwrap();
        let day = issued_at(start, HOUR * 24, 7);
        let due = day.due();
        assert_eq!(due, issued_at(start, HOUR * 24, 7).due());
        let fit = Installed::Fit(day);
        assert_eq!(judge(&fit, due.minus(Duration::from_secs(1))), Verdict::Later(due));
        assert_eq!(judge(&fit, due), Verdict::Due(Reason::Scheduled(due)));
        assert_eq!(judge(&fit, start.plus(HOUR * 25)), Verdict::Due(Reason::Expired(day.not_after)));
        assert!(!day.is_critical(start.plus(HOUR * 18)));
        assert!(day.is_critical(start.plus(HOUR * 19)));
        assert!(day.is_critical(start.plus(HOUR * 48)));
    }

    #[test]
    fn whatever_is_wrong_is_due_at_once() {
        let now = Timestamp::parse("2026-11-21T09:00:00Z").unwrap();
        let validity = issued_at(now, HOUR * 24, 0);
        for installed in [
            Installed::Missing,
            Installed::Damaged("cut short".into()),
            Installed::Unfit { why: "other names".into(), validity },
        ] {
            assert!(matches!(judge(&installed, now), Verdict::Due(_)), "{installed:?}");
        }
    }

    #[test]
    fn a_certificate_shorter_than_the_backdating_is_renewed_within_its_life() {
        let now = Timestamp::from_unix(1_000_000);
        let odd = Validity::new(now, now.plus(HOUR / 2), &Serial::parse("01").unwrap());
        assert!(now < odd.due() && odd.due() < odd.not_after);
    }
}
