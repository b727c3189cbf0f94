//! How the newest certificate of a name stands on its host: what the ledger knows, beside what the host says.
//!
//! The ledger proves what was issued. What was installed and what is served is hearsay: a host can say it of itself
//! alone, and the worst that it gains by a lie is that nobody looks after it.

pub mod never_issued;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::host::HostState;
use crate::profile::{BACKDATE, KeyKind};
use crate::renewal::Validity;
use crate::serial::Serial;
use crate::wire::{Deployment, FirstEnd, FleetCertificate, FleetEntry, FleetReport, Holder, Lag, LagReason};

/// For how long after the issue nobody expects a report of it yet: a few rounds of the host's timer.
const GRACE: Duration = Duration::from_secs(3_600);

/// What the store knows of a name on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Whose.
    pub holder: Holder,
    /// The newest serial number.
    pub serial: Serial,
    /// When it was recorded, which is when it was issued.
    pub recorded: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
    /// What the host said last.
    pub told: Option<Told>,
}

/// What a host said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// Of which certificate.
    pub serial: Serial,
    /// Its end.
    pub not_after: Timestamp,
    /// How far that is.
    pub deployment: Deployment,
    /// What the ledger has under that serial number for this name on this host.
    pub recorded: Option<Dates>,
}

/// When a certificate was recorded, which is when it was issued, and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dates {
    /// When it was recorded.
    pub at: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
}

impl Told {
    /// The dates of what is installed, by the ledger.
    fn validity(&self) -> Option<Validity> {
        self.recorded.map(|Dates { at, not_after }| Validity::new(at.minus(BACKDATE), not_after, &self.serial))
    }
}

impl From<Told> for FleetReport {
    fn from(Told { at, serial, not_after, deployment, recorded: _ }: Told) -> Self {
        Self { at, serial, not_after, deployment }
    }
}

/// How a name stands by the declaration in force, and its host with the operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The host's state.
    pub host: HostState,
    /// Since when.
    pub since: Timestamp,
    /// The kind of key with which the host may have the name now; none where it may not.
    pub granted: Option<KeyKind>,
}

impl Holding {
    fn validity(&self) -> Validity {
        Validity::new(self.recorded.minus(BACKDATE), self.not_after, &self.serial)
    }

    /// Whether the CA would renew it.
    fn is_kept_up(&self, standing: Standing) -> bool {
        standing.granted.is_some() && matches!(standing.host, HostState::Enabled | HostState::Frozen)
    }

    /// As operators see it; none for what is history: of a host that was removed, or ended and not to be renewed.
    #[must_use]
    pub fn judge(&self, standing: Standing, now: Timestamp) -> Option<FleetEntry> {
        let ended = self.not_after < now;
        if standing.host == HostState::Removed || (ended && !self.is_kept_up(standing)) {
            return None;
        }
        let validity = self.validity();
        let lag = self.lag(standing, now).map(|(why, since)| {
            // Where the host did not come to install the newest, it lives on what it has.
            let installed = self.told.as_ref().and_then(Told::validity).filter(|_| why == LagReason::OlderSerial);
            let critical = self.is_kept_up(standing) && installed.unwrap_or(validity).is_critical(now);
            Lag { why, since, critical }
        });
        let report = self.told.clone().map(FleetReport::from);
        Some(FleetEntry {
            holder: self.holder.clone(),
            certificate: Some(FleetCertificate {
                serial: self.serial.clone(),
                issued: self.recorded,
                due: validity.due(),
                not_after: self.not_after,
            }),
            allowed: standing.granted.is_some(),
            report,
            lag,
        })
    }

    /// The first reason that holds, and since when it does.
    fn lag(&self, standing: Standing, now: Timestamp) -> Option<(LagReason, Timestamp)> {
        match standing.host {
            HostState::Disabled | HostState::Removed => return Some((LagReason::HostDisabled, standing.since)),
            HostState::Frozen => return Some((LagReason::HostFrozen, standing.since)),
            HostState::Enabled => {}
        }
        let validity = self.validity();
        let life = validity.issued().until(self.not_after);
        if standing.granted.is_some() {
            if self.not_after < now {
                return Some((LagReason::Expired, self.not_after));
            }
            if validity.is_critical(now) {
                return Some((LagReason::ExpiresSoon, self.not_after.minus(life / 4)));
            }
        }
        let told = self.told.as_ref();
        if let Some(told) = told.filter(|told| told.recorded.is_none()) {
            return Some((LagReason::UnknownSerial, told.at));
        }
        if let Some(Told { deployment: Deployment::Owed { since, .. }, .. }) = told {
            return Some((LagReason::Owed, *since));
        }
        if standing.granted.is_some() && validity.due().plus(GRACE.max(life / 20)) < now {
            return Some((LagReason::Overdue, validity.due()));
        }
        let expected = self.recorded.plus(GRACE) < now;
        match told {
            Some(told) if told.serial == self.serial => None,
            Some(told) => {
                // What was issued besides (`issue --stdout`, `--csr`) is not for the place that the host tells of, and
                // what is installed there is as good as it was until it is due.
                let since = told.validity().map_or(self.recorded, |installed| installed.due().max(self.recorded));
                (since.plus(GRACE) < now).then_some((LagReason::OlderSerial, since))
            }
            // A person makes such a key, and puts the certificate where psfca does not look.
            None if standing.granted == Some(KeyKind::Rsa) => None,
            None => expected.then_some((LagReason::Unreported, self.recorded)),
        }
    }

    /// When this ends, if the CA is gone from now on; none for what it would not renew, and for what has ended already.
    #[must_use]
    pub fn end_without_ca(&self, standing: Standing, now: Timestamp) -> Option<FirstEnd> {
        let counts = self.is_kept_up(standing) && self.not_after >= now;
        counts.then(|| FirstEnd { not_after: self.not_after, holder: self.holder.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const ISSUED: Timestamp = Timestamp::from_unix(1_795_255_200);

    fn holding(told_of: Option<Deployment>) -> Holding {
        let serial = Serial::parse("0a1b").unwrap();
        let not_after = ISSUED.plus(HOUR * 24);
        let recorded = Some(Dates { at: ISSUED, not_after });
        let told = |deployment| Told { at: ISSUED, serial: serial.clone(), not_after, deployment, recorded };
        let told = told_of.map(told);
        let holder = Holder { host: "pg0.psf.io".parse().unwrap(), name: "a.psf.io".parse().unwrap() };
        Holding { holder, serial, recorded: ISSUED, not_after, told }
    }

    fn standing(host: HostState) -> Standing {
        Standing { host, since: ISSUED, granted: Some(KeyKind::EcdsaP256) }
    }

    fn lag(holding: &Holding, standing: Standing, hours: u32) -> Option<(LagReason, bool)> {
        let entry = holding.judge(standing, ISSUED.plus(HOUR * hours))?;
        entry.lag.map(|lag| (lag.why, lag.critical))
    }

    #[test]
    fn what_a_host_serves_is_well_until_it_was_not_renewed_in_time() {
        let good = holding(Some(Deployment::Served { since: ISSUED }));
        let enabled = standing(HostState::Enabled);
        let due = good.judge(enabled, ISSUED).unwrap().certificate.unwrap().due;
        let hours_until = |end: Timestamp| u32::try_from(ISSUED.until(end).as_secs() / 3_600).unwrap();
        assert_eq!(lag(&good, enabled, 0), None);
        assert_eq!(lag(&good, enabled, hours_until(due)), None);
        assert_eq!(lag(&good, enabled, hours_until(due) + 3), Some((LagReason::Overdue, false)));
        assert_eq!(lag(&good, enabled, 19), Some((LagReason::ExpiresSoon, true)));
        assert_eq!(lag(&good, enabled, 25), Some((LagReason::Expired, true)));
    }

    #[test]
    fn what_a_host_says_is_held_against_what_was_issued() {
        let enabled = standing(HostState::Enabled);
        let silent = holding(None);
        assert_eq!((lag(&silent, enabled, 1), lag(&silent, enabled, 2)), (None, Some((LagReason::Unreported, false))));
        assert_eq!(lag(&silent, Standing { granted: Some(KeyKind::Rsa), ..enabled }, 2), None);
        let owed = holding(Some(Deployment::Owed { since: ISSUED, attempts: 3, error: None }));
        assert_eq!(lag(&owed, enabled, 0), Some((LagReason::Owed, false)));
        let mut other = holding(Some(Deployment::Installed));
        other.told.as_mut().unwrap().recorded = None;
        assert_eq!(lag(&other, enabled, 0), Some((LagReason::UnknownSerial, false)));
    }

    #[test]
    fn what_was_issued_besides_is_no_lag_until_what_is_installed_is_due() {
        let enabled = standing(HostState::Enabled);
        let installed = holding(Some(Deployment::Installed));
        let due = installed.validity().due();
        // At the same moment by --stdout, and by a renewal whose answer was lost.
        for newest in [ISSUED, due] {
            let (serial, not_after) = (Serial::parse("0a1c").unwrap(), newest.plus(HOUR * 24));
            let other = Holding { serial, recorded: newest, not_after, ..installed.clone() };
            let at = |moment: Timestamp| other.judge(enabled, moment).unwrap().lag.map(|lag| (lag.why, lag.since));
            assert_eq!((at(newest.plus(HOUR * 2).min(due)), at(due.plus(HOUR))), (None, None));
            let lags = at(due.plus(HOUR + Duration::from_secs(1)));
            assert_eq!(lags, Some((LagReason::OlderSerial, due)));
        }
        // The one that is installed ends, and that is what counts.
        let other = Holding {
            recorded: due,
            not_after: due.plus(HOUR * 24),
            serial: Serial::parse("0a1c").unwrap(),
            ..installed
        };
        assert_eq!(lag(&other, enabled, 19), Some((LagReason::OlderSerial, true)));
    }

    #[test]
    fn what_nobody_would_renew_alarms_nobody_and_is_forgotten_at_its_end() {
        let good = holding(Some(Deployment::Installed));
        let disabled = standing(HostState::Disabled);
        assert_eq!(lag(&good, disabled, 20), Some((LagReason::HostDisabled, false)));
        assert_eq!(lag(&good, standing(HostState::Frozen), 20), Some((LagReason::HostFrozen, true)));
        let denied = Standing { granted: None, ..standing(HostState::Enabled) };
        assert_eq!(lag(&good, denied, 20), None);
        let later = ISSUED.plus(HOUR * 25);
        assert!(good.judge(disabled, later).is_none() && good.judge(denied, later).is_none());
        assert!(good.judge(standing(HostState::Removed), ISSUED).is_none());
        for (standing, counts) in [(standing(HostState::Enabled), true), (disabled, false), (denied, false)] {
            assert_eq!(good.end_without_ca(standing, ISSUED).is_some(), counts, "{standing:?}");
        }
        assert_eq!(good.end_without_ca(standing(HostState::Enabled), later), None);
    }
}
