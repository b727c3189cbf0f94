//! Hosts with their timers, clocks, services and misfortunes. What they do is decided by the product alone: its renewal
//! machine, and its records of what services have loaded. A tick at which a host would do nothing is skipped by
//! asking both when it next acts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use psfca::clock::Timestamp;
use psfca::loading::{Records, Wanted};
use psfca::name::{DnsName, HostName};
use psfca::outage::TIMER;
use psfca::renewal::machine::{Action, Retry, look};
use psfca::renewal::{Installed, Validity};
use psfca::serial::Serial;

use super::dice::Dice;
use super::weather::{HOUR, MISFORTUNES, MOST_SKEW, Trouble, Weather};

/// A certificate, as far as renewal is concerned.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) serial: Serial,
    pub(crate) validity: Validity,
}

/// Whatever issues certificates.
pub(crate) trait Authority {
    /// What the host gets at this moment, by the CA's clock; none where the declaration denies it.
    fn issue(&mut self, host: &HostName, name: &DnsName, now: Timestamp, dice: &Dice) -> Option<Certificate>;
}

/// What the model leaves out, to see that it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    Nothing,
    Jitter,
    BackOff,
    HookDebt,
}

#[derive(Debug)]
struct Host {
    host: HostName,
    name: DnsName,
    lives_long: bool,
    phase: i64,
    skew: i64,
    misfortunes: u8,
    // On the disk:
    retry: Option<Retry>,
    loaded: Records,
    installed: Option<Certificate>,
    // In the memory of its service:
    served: Option<Certificate>,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) issued: u64,
    pub(crate) in_vain: u64,
    pub(crate) hooks_failed: u64,
    pub(crate) kills: u64,
    /// Host and moment, of each certificate that was served after its end.
    pub(crate) expired: Vec<(String, i64)>,
    /// Requests for certificates that reached the CA, in each hour.
    pub(crate) load: Vec<u32>,
}

pub(crate) struct Fleet<A> {
    hosts: Vec<Host>,
    authority: A,
    weather: Weather,
    dice: Dice,
    without: Without,
    start: Timestamp,
    outcome: Outcome,
}

/// The run ends here: the host was switched off, or killed.
struct Killed;

/// Each host has a hook, and no probe.
const WANTED: Wanted = Wanted { hooks: true, probe: false };
const TICK: i64 = TIMER.as_secs().cast_signed();

impl<A: Authority> Fleet<A> {
    pub(crate) fn new(start: Timestamp, seed: u64, authority: A, weather: Weather, without: Without) -> Self {
        let (hosts, outcome) = (Vec::new(), Outcome::default());
        Self { hosts, authority, weather, dice: Dice::new(seed), without, start, outcome }
    }

    pub(crate) fn add(&mut self, host: HostName, name: DnsName, lives_long: bool) {
        let (phase, skew) = (self.dice.between(0, TICK), self.dice.between(-MOST_SKEW, MOST_SKEW));
        let (retry, loaded, installed, served) = (None, Records::default(), None, None);
        self.hosts.push(Host { host, name, lives_long, phase, skew, misfortunes: 0, retry, loaded, installed, served });
    }

    /// Lets the time pass; the hosts come up within two hours.
    pub(crate) fn run(mut self, end: i64) -> (Outcome, Weather) {
        self.outcome.load = vec![0; usize::try_from(end / HOUR + 1).unwrap()];
        let mut ticks = BinaryHeap::new();
        for (index, host) in self.hosts.iter().enumerate() {
            ticks.push(Reverse((host.next_tick(self.dice.between(0, 2 * HOUR)), index)));
        }
        while let Some(Reverse((at, index))) = ticks.pop().filter(|Reverse((at, _))| *at < end) {
            if self.tick(index, at).is_err() {
                self.outcome.kills += 1;
            }
            ticks.push(Reverse((self.next_action(index, at), index)));
        }
        for index in 0..self.hosts.len() {
            self.look_at_service(index, end);
        }
        (self.outcome, self.weather)
    }

    fn clock(&self, index: usize, at: i64) -> Timestamp {
        Timestamp::from_unix(self.start.unix() + at + self.hosts[index].skew)
    }

    /// One run of `psfca renew`: what is remembered is on the disk before anything is done.
    fn tick(&mut self, index: usize, mut at: i64) -> Result<(), Killed> {
        if self.dice.happens(1_000) {
            self.hosts[index].skew = self.dice.between(-MOST_SKEW, MOST_SKEW);
        }
        let now = self.clock(index, at);
        let host = &self.hosts[index];
        let (retry, action) = look(host.retry, &host.lies_there(), false, now);
        self.remember(index, retry);
        self.may_be_killed(index)?;
        let mut renewed = false;
        if matches!(action, Action::Ask(_)) {
            match self.ask(index, at) {
                Ok(certificate) => {
                    self.may_be_killed(index)?;
                    // A slow host takes minutes for its key and for its disk.
                    at += self.dice.between(0, 600);
                    self.install(index, at, certificate)?;
                    renewed = true;
                }
                Err(retry_after) => {
                    let draw = if self.without == Without::Jitter { u32::MAX } else { self.dice.word() as u32 };
                    let host = &self.hosts[index];
                    let retry = Retry::after(host.retry, &host.lies_there(), retry_after, draw, self.clock(index, at));
                    self.remember(index, Some(retry));
                }
            }
        }
        self.may_be_killed(index)?;
        // Without the debt, services are told right after a renewal or never.
        if self.without != Without::HookDebt || renewed {
            self.pay(index, at)?;
        }
        let host = &mut self.hosts[index];
        if host.retry.is_none() && !host.owes() {
            host.misfortunes = 0;
        }
        Ok(())
    }

    fn remember(&mut self, index: usize, retry: Option<Retry>) {
        self.hosts[index].retry = if self.without == Without::BackOff { None } else { retry };
    }

    /// The debt is on the disk before the bundle takes its place.
    fn install(&mut self, index: usize, at: i64, certificate: Certificate) -> Result<(), Killed> {
        let now = self.clock(index, at);
        let host = &mut self.hosts[index];
        let before = host.installed.as_ref().map(|there| there.serial.clone());
        host.loaded.expect(&certificate.serial, before.as_ref(), now);
        self.may_be_killed(index)?;
        self.hosts[index].installed = Some(certificate);
        self.may_be_killed(index)?;
        self.remember(index, None);
        Ok(())
    }

    /// Runs the hook where the service has not loaded what is installed.
    fn pay(&mut self, index: usize, at: i64) -> Result<(), Killed> {
        let now = self.clock(index, at);
        let Some(installed) = self.hosts[index].installed.clone().filter(|_| self.hosts[index].owes()) else {
            return Ok(());
        };
        if self.misfortune(index, 20_000) {
            self.outcome.hooks_failed += 1;
            self.hosts[index].loaded.of_installed(&installed.serial, now).failed("the hook failed".to_owned());
            return Ok(());
        }
        self.look_at_service(index, at);
        self.hosts[index].served = Some(installed.clone());
        self.may_be_killed(index)?;
        self.hosts[index].loaded.of_installed(&installed.serial, now).paid(WANTED, now);
        Ok(())
    }

    /// One request for a certificate; in vain, perhaps with Retry-After.
    fn ask(&mut self, index: usize, at: i64) -> Result<Certificate, Option<Duration>> {
        let (host, trouble) = (&self.hosts[index], self.weather.at(at));
        if trouble == Some(Trouble::Away) {
            self.outcome.in_vain += 1;
            return Err(None);
        }
        self.outcome.load[usize::try_from(at / HOUR).unwrap()] += 1;
        let retry_after = match trouble {
            Some(Trouble::Overloaded) => Some(Some(Duration::from_secs(30))),
            Some(Trouble::PartlySick) if host.lives_long => Some(None),
            _ => None,
        };
        if let Some(retry_after) = retry_after {
            self.outcome.in_vain += 1;
            return Err(retry_after);
        }
        let now = Timestamp::from_unix(self.start.unix() + at);
        let issued = self.authority.issue(&host.host, &host.name, now, &self.dice);
        let issued = issued.unwrap_or_else(|| panic!("{} may have {}", host.host, host.name));
        self.outcome.issued += 1;
        // The CA has recorded and signed it, and the host never sees it.
        if self.misfortune(index, 5_000) { Err(None) } else { Ok(issued) }
    }

    /// When this host next does anything, as its machine says.
    fn next_action(&self, index: usize, at: i64) -> i64 {
        let host = &self.hosts[index];
        let now = self.clock(index, at);
        let until = match look(host.retry, &host.lies_there(), false, now).1 {
            Action::Rest(until) | Action::Wait(_, until) if !host.owes() || self.without == Without::HookDebt => until,
            _ => now,
        };
        host.next_tick((until.unix() - self.start.unix() - host.skew).max(at + 1))
    }

    fn may_be_killed(&mut self, index: usize) -> Result<(), Killed> {
        if self.misfortune(index, 2_000) { Err(Killed) } else { Ok(()) }
    }

    fn misfortune(&mut self, index: usize, in_a_million: u64) -> bool {
        let host = &mut self.hosts[index];
        let happens = host.misfortunes < MISFORTUNES && self.dice.happens(in_a_million);
        host.misfortunes += u8::from(happens);
        happens
    }

    /// Whether the service has served a certificate after its end, by the true time.
    fn look_at_service(&mut self, index: usize, at: i64) {
        let host = &self.hosts[index];
        let now = Timestamp::from_unix(self.start.unix() + at);
        if host.served.as_ref().is_some_and(|served| served.validity.not_after < now) {
            self.outcome.expired.push((host.host.to_string(), at));
        }
    }
}

impl Host {
    fn lies_there(&self) -> Installed {
        self.installed.as_ref().map_or(Installed::Missing, |certificate| Installed::Fit(certificate.validity))
    }

    /// Whether its service has yet to load what is installed.
    fn owes(&self) -> bool {
        self.installed.as_ref().is_some_and(|there| self.loaded.loaded(&there.serial, WANTED).is_owed())
    }

    /// The first tick of its timer at or after this moment.
    const fn next_tick(&self, at: i64) -> i64 {
        let since = (at - self.phase).rem_euclid(TICK);
        if since == 0 { at } else { at + TICK - since }
    }
}
