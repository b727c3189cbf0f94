//! Refusals in the ledger: noted beside the answer, which never waits for them, and so few that nobody
//! can fill the ledger by being refused. What gets no entry is counted, and the next entry says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Transaction;

use super::tiles::Edge;
use super::verbs::{Verb, append_event};
use super::writer::Job;
use super::{Projection, Store, StoreError, lock};
use crate::clock::Timestamp;
use crate::ledger::Event;
use crate::name::{DnsName, HostName};
use crate::refusal::{RefusalReason, RefusalRecord, RefusedRequest};

/// How long the same refusal of the same host gets no second entry.
const INTERVAL: Duration = Duration::from_secs(600);
/// Entries of one host within that time; all strangers together count as one host.
const PER_HOST: usize = 10;
/// Entries within one minute, whoever was refused.
const PER_MINUTE: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);
/// Refusals that are remembered; more than fit into [`INTERVAL`] at [`PER_MINUTE`].
const MOST: usize = 1_024;

impl Store {
    /// Notes in the ledger that a request was refused at `at`: soon, if the rate allows it and the disk
    /// works; otherwise a later entry counts it. Does not wait, and cannot fail.
    pub fn note_refusal(&self, at: Timestamp, refused: RefusedRequest) {
        let Some(record) = lock(&self.refusals).admit(at, refused) else { return };
        let note = NoteRefusal { at, record, limit: Arc::clone(&self.refusals) };
        let lost = note.stands_for();
        let sent = Arc::clone(&self.turns).try_acquire_owned().is_ok_and(|turn| {
            let verb = Box::new(note);
            self.jobs.send(Job::Verb { verb, turn }).is_ok()
        });
        if !sent {
            lock(&self.refusals).omit(lost);
        }
    }
}

/// Which refusals are the same.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Same {
    host: Option<HostName>,
    name: Option<DnsName>,
    reason: RefusalReason,
}

#[derive(Debug)]
struct Seen {
    /// When it last got an entry.
    at: Timestamp,
    /// How often it came since.
    repeated: u64,
}

/// Which refusals get an entry. What it remembers is bounded, whatever comes.
#[derive(Debug)]
pub(super) struct RefusalLimit {
    seen: HashMap<Same, Seen>,
    /// When the minute began in which `written` entries were written.
    minute: Timestamp,
    written: u32,
    omitted: u64,
}

impl Default for RefusalLimit {
    fn default() -> Self {
        Self { seen: HashMap::new(), minute: Timestamp::from_unix(0), written: 0, omitted: 0 }
    }
}

impl RefusalLimit {
    /// What to write of a request that was refused at `now`; none when it is only counted.
    fn admit(&mut self, now: Timestamp, refused: RefusedRequest) -> Option<RefusalRecord> {
        let RefusedRequest { reason, host, name, address } = refused;
        let same = Same { host, name, reason };
        let recent = |then: Timestamp| within(then, now, INTERVAL);
        if let Some(seen) = self.seen.get_mut(&same)
            && recent(seen.at)
        {
            seen.repeated = seen.repeated.saturating_add(1);
            return None;
        }
        if !within(self.minute, now, MINUTE) {
            (self.minute, self.written) = (now, 0);
        }
        if self.seen.len() >= MOST {
            self.forget(recent);
        }
        let of_host = self.seen.iter().filter(|(other, seen)| other.host == same.host && recent(seen.at)).count();
        if of_host >= PER_HOST || self.written >= PER_MINUTE || self.seen.len() >= MOST {
            self.omit(1);
            return None;
        }
        self.written += 1;
        let repeated = self.seen.remove(&same).map_or(0, |seen| seen.repeated);
        let omitted = std::mem::take(&mut self.omitted);
        let record =
            RefusalRecord { reason, host: same.host.clone(), name: same.name.clone(), address, repeated, omitted };
        self.seen.insert(same, Seen { at: now, repeated: 0 });
        Some(record)
    }

    /// Forgets what is not recent; what it still had to tell is told as omitted.
    fn forget(&mut self, recent: impl Fn(Timestamp) -> bool) {
        let mut untold = 0;
        self.seen.retain(|_, seen| {
            let keep = recent(seen.at);
            if !keep {
                untold += seen.repeated;
            }
            keep
        });
        self.omit(untold);
    }

    /// So many refusals got no entry.
    fn omit(&mut self, count: u64) {
        self.omitted = self.omitted.saturating_add(count);
    }
}

/// Whether `now` is in the time that began at `then`. A clock that was set back begins a new one.
fn within(then: Timestamp, now: Timestamp, length: Duration) -> bool {
    then <= now && now < then.plus(length)
}

/// [`Store::note_refusal`]: nobody waits for it.
struct NoteRefusal {
    at: Timestamp,
    record: RefusalRecord,
    limit: Arc<Mutex<RefusalLimit>>,
}

impl NoteRefusal {
    /// How many refusals its entry tells of.
    const fn stands_for(&self) -> u64 {
        self.record.repeated.saturating_add(self.record.omitted).saturating_add(1)
    }
}

impl Verb for NoteRefusal {
    fn apply(&mut self, transaction: &Transaction<'_>, edge: &mut Edge) -> Result<(), StoreError> {
        append_event(transaction, edge, self.at, Event::Refused(self.record.clone()))?;
        Ok(())
    }

    fn committed(self: Box<Self>, _: &mut Projection) {}

    fn failed(self: Box<Self>, _: StoreError) {
        lock(&self.limit).omit(self.stands_for());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const BEGIN: i64 = 1_795_255_200;

    fn refused(host: Option<&str>, name: Option<&str>) -> RefusedRequest {
        RefusedRequest {
            reason: RefusalReason::Denied,
            host: host.map(|host| HostName::parse(host).unwrap()),
            name: name.map(|name| DnsName::parse(name).unwrap()),
            address: Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// What an entry would count, or none where there is no entry.
    fn admit(limit: &mut RefusalLimit, second: i64, refused: RefusedRequest) -> Option<(u64, u64)> {
        let record = limit.admit(Timestamp::from_unix(BEGIN + second), refused)?;
        Some((record.repeated, record.omitted))
    }

    fn lb(limit: &mut RefusalLimit, second: i64) -> Option<(u64, u64)> {
        admit(limit, second, refused(Some("pg0.psf.io"), Some("lb.psf.io")))
    }

    #[test]
    fn the_same_refusal_gets_one_entry_in_ten_minutes_and_that_counts_the_others() {
        let mut limit = RefusalLimit::default();
        assert_eq!(lb(&mut limit, 0), Some((0, 0)));
        assert_eq!([1, 300, 599].map(|second| lb(&mut limit, second)), [None; 3]);
        // Another name, another host and another reason are not the same.
        assert_eq!(admit(&mut limit, 599, refused(Some("pg0.psf.io"), Some("app.psf.io"))), Some((0, 0)));
        assert_eq!(admit(&mut limit, 599, refused(Some("pg1.psf.io"), Some("lb.psf.io"))), Some((0, 0)));
        let disabled =
            RefusedRequest { reason: RefusalReason::Disabled, ..refused(Some("pg0.psf.io"), Some("lb.psf.io")) };
        assert_eq!(admit(&mut limit, 599, disabled), Some((0, 0)));
        assert_eq!(lb(&mut limit, 600), Some((3, 0)));
        assert_eq!(lb(&mut limit, 1_200), Some((0, 0)));
    }

    #[test]
    fn one_host_that_asks_for_every_name_cannot_crowd_out_the_others() {
        let mut limit = RefusalLimit::default();
        let any = |n: i64| refused(Some("pg0.psf.io"), Some(&format!("name{n}.psf.io")));
        let entries = (0..5_000).filter(|&n| admit(&mut limit, n / 10, any(n)).is_some()).count();
        assert_eq!(entries, PER_HOST);
        assert_eq!(admit(&mut limit, 500, refused(Some("pg1.psf.io"), None)), Some((0, 4_990)));
        assert_eq!(admit(&mut limit, 500, refused(None, None)), Some((0, 0)), "strangers are a host of their own");
    }

    #[test]
    fn however_many_hosts_are_refused_a_minute_has_sixty_entries_and_every_refusal_is_counted_once() {
        let mut limit = RefusalLimit::default();
        let (mut entries, mut counted, mut asked) = (0, 0, 0);
        for second in 0..3_600 {
            for n in 0..20 {
                asked += 1;
                let host = format!("host{}.psf.io", (second * 20 + n) % 7_001);
                if let Some((repeated, omitted)) = admit(&mut limit, second, refused(Some(&host), None)) {
                    entries += 1;
                    counted += 1 + repeated + omitted;
                }
            }
            assert!(limit.seen.len() <= MOST);
        }
        assert_eq!(entries, 60 * i64::from(PER_MINUTE));
        let untold: u64 = limit.seen.values().map(|seen| seen.repeated).sum();
        assert_eq!(counted + untold + limit.omitted, asked);
    }

    #[test]
    fn a_clock_that_was_ahead_silences_nothing_for_longer_than_it_was_wrong() {
        let mut limit = RefusalLimit::default();
        assert_eq!(lb(&mut limit, 1_000_000), Some((0, 0)));
        assert_eq!(lb(&mut limit, 0), Some((0, 0)));
        assert_eq!(lb(&mut limit, 1), None);
    }

    #[test]
    fn what_could_not_be_written_is_in_the_count_of_the_next() {
        let mut limit = RefusalLimit::default();
        lb(&mut limit, 0);
        limit.omit(7);
        assert_eq!(admit(&mut limit, 1, refused(None, None)), Some((0, 7)));
    }
}
