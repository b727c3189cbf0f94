//! When a certificate is due. A pure function of what is installed and the time, so that a finer
//! machine can take its place without the agent noticing.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::profile::BACKDATE;

/// First and last moment of a certificate's validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Validity {
    /// First moment; [`BACKDATE`] before the moment of issue.
    pub not_before: Timestamp,
    /// Last moment.
    pub not_after: Timestamp,
}

impl Validity {
    /// The moment of issue: what lies before it is only for slow clocks and no part of the life.
    #[must_use]
    pub fn issued(&self) -> Timestamp {
        let issued = self.not_before.plus(BACKDATE);
        if issued < self.not_after { issued } else { self.not_before }
    }

    fn life(&self) -> Duration {
        self.issued().until(self.not_after)
    }

    /// From when on the certificate should be renewed: half of its life.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        self.issued().plus(self.life() / 2)
    }

    /// Whether less than a quarter of the life is left, so that somebody has to look.
    #[must_use]
    pub fn is_critical(&self, now: Timestamp) -> bool {
        is_nearly_over(self.issued(), self.not_after, now)
    }
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
    /// Half of its life is over, since this moment.
    HalfLife(Timestamp),
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
            Self::HalfLife(when) => write!(f, "half of its life was over on {when}"),
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
        Installed::Unfit { validity, .. } | Installed::Fit(validity) if validity.not_after < now => {
            Verdict::Due(Reason::Expired(validity.not_after))
        }
        Installed::Unfit { why, .. } => Verdict::Due(Reason::Changed(why.clone())),
        Installed::Fit(validity) if validity.due() <= now => Verdict::Due(Reason::HalfLife(validity.due())),
        Installed::Fit(validity) => Verdict::Later(validity.due()),
    }
}

/// Whether a service may fail soon, or fails already, with what is installed.
#[must_use]
pub fn is_critical(installed: &Installed, now: Timestamp) -> bool {
    match installed {
        Installed::Missing | Installed::Damaged(_) => true,
        Installed::Unfit { validity, .. } | Installed::Fit(validity) => validity.is_critical(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn issued_at(issued: Timestamp, life: Duration) -> Validity {
        Validity { not_before: issued.minus(BACKDATE), not_after: issued.plus(life) }
    }

    #[test]
    fn half_life_counts_from_the_moment_of_issue() {
        let start = Timestamp::parse("2026-11-21T09:00:00Z").unwrap();
        let day = issued_at(start, HOUR * 24);
        assert_eq!(day.due(), start.plus(HOUR * 12));
        let fit = Installed::Fit(day);
        assert_eq!(judge(&fit, start.plus(HOUR * 12).minus(Duration::from_secs(1))), Verdict::Later(day.due()));
        assert_eq!(judge(&fit, start.plus(HOUR * 12)), Verdict::Due(Reason::HalfLife(day.due())));
        assert_eq!(judge(&fit, start.plus(HOUR * 25)), Verdict::Due(Reason::Expired(day.not_after)));
        assert!(!day.is_critical(start.plus(HOUR * 18)));
        assert!(day.is_critical(start.plus(HOUR * 19)));
        assert!(day.is_critical(start.plus(HOUR * 48)));
    }

    #[test]
    fn whatever_is_wrong_is_due_at_once() {
        let now = Timestamp::parse("2026-11-21T09:00:00Z").unwrap();
        let validity = issued_at(now, HOUR * 24);
        for installed in [
            Installed::Missing,
            Installed::Damaged("cut short".into()),
            Installed::Unfit { why: "other names".into(), validity },
        ] {
            assert!(matches!(judge(&installed, now), Verdict::Due(_)), "{installed:?}");
        }
    }

    #[test]
    fn a_certificate_shorter_than_the_backdating_still_has_a_middle() {
        let now = Timestamp::from_unix(1_000_000);
        let odd = Validity { not_before: now, not_after: now.plus(HOUR / 2) };
        assert_eq!(odd.due(), now.plus(HOUR / 4));
    }
}
