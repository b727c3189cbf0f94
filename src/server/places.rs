//! Who holds a place among the open connections, and who gives one up when there are too many.
//!
//! Connections stand in one order, in which those are first that lose least by being closed: without an identity, from
//! the oldest on (whoever means it has shaken hands and asked within milliseconds); then those of hosts that ask for
//! nothing just now, from the one that has been quiet longest on. A host's request in progress is never cut for another
//! connection. And nobody holds more than a share: one more closes the first of their own. Operators on the admin socket,
//! whose user the kernel names, stand as hosts do.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::name::HostName;
use crate::source::Source;
use crate::telemetry::{EndCause, Metrics};

/// How much is lost when a connection is closed, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// The handshake is not done, or showed no identity.
    Unproven,
    /// Of a host, between two requests.
    Idle,
    /// Of a host that waits for an answer.
    AtWork,
}

/// Who shares places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Party {
    Address(Source),
    Host(HostName),
    User(u32),
}

/// A place in the order of closing: the standing, and then who came to it first.
type Turn = (Standing, u64);

#[derive(Debug)]
struct Held {
    turn: Turn,
    party: Party,
    close: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Table {
    /// Counts connections and turns.
    next: u64,
    held: HashMap<u64, Held>,
    order: BTreeMap<Turn, u64>,
    parties: HashMap<Party, BTreeMap<Turn, u64>>,
}

impl Table {
    fn count(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn insert(&mut self, id: u64, held: Held) {
        self.order.insert(held.turn, id);
        self.parties.entry(held.party.clone()).or_default().insert(held.turn, id);
        self.held.insert(id, held);
    }

    fn remove(&mut self, id: u64) -> Option<Held> {
        let held = self.held.remove(&id)?;
        self.order.remove(&held.turn);
        if let Some(turns) = self.parties.get_mut(&held.party) {
            turns.remove(&held.turn);
            if turns.is_empty() {
                self.parties.remove(&held.party);
            }
        }
        Some(held)
    }

    /// Moves a connection to the end of its new standing. One that was closed stays so.
    fn change(&mut self, id: u64, standing: Standing, party: Option<Party>) {
        let turn = (standing, self.count());
        if let Some(held) = self.remove(id) {
            let party = party.unwrap_or(held.party);
            self.insert(id, Held { turn, party, close: held.close });
        }
    }

    /// The first in the order, when it may be closed for another connection.
    fn first(&self) -> Option<(u64, EndCause)> {
        let (&(standing, _), &id) = self.order.first_key_value()?;
        match standing {
            Standing::Unproven => Some((id, EndCause::Unproven)),
            Standing::Idle => Some((id, EndCause::Idle)),
            Standing::AtWork => None,
        }
    }

    /// The first of a party that has its whole share.
    fn first_of(&self, party: &Party, share: usize) -> Option<u64> {
        let turns = self.parties.get(party).filter(|turns| turns.len() >= share)?;
        turns.first_key_value().map(|(_, &id)| id)
    }
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    table: Mutex<Table>,
    most: usize,
    share: usize,
    metrics: Arc<Metrics>,
}

impl Places {
    /// `most` places, of which each host, each user, and each address without an identity, has at most `share`.
    pub(super) fn new(most: usize, share: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), most, share, metrics })
    }

    /// A place for a new connection from `source`, for which another may have to close; none while hosts are at work on
    /// all of them.
    pub(super) fn take(self: &Arc<Self>, source: Source) -> Option<Place> {
        self.place(Party::Address(source), Standing::Unproven)
    }

    /// The same, for a connection on this machine by a user.
    pub(super) fn take_for_user(self: &Arc<Self>, uid: u32) -> Option<Place> {
        self.place(Party::User(uid), Standing::Idle)
    }

    fn place(self: &Arc<Self>, party: Party, standing: Standing) -> Option<Place> {
        let mut table = self.table();
        self.keep_share(&mut table, &party);
        if table.held.len() >= self.most {
            let (id, cause) = table.first()?;
            self.close(&mut table, id, cause);
        }
        let (id, close) = (table.count(), Arc::new(Notify::new()));
        table.insert(id, Held { turn: (standing, id), party, close: Arc::clone(&close) });
        self.metrics.connection_opened();
        Some(Place { places: Arc::clone(self), id, close })
    }

    /// Closes the connection that loses least by it, because the system has no room for another.
    pub(super) fn make_room(&self) {
        let mut table = self.table();
        if let Some((id, cause)) = table.first() {
            self.close(&mut table, id, cause);
        }
    }

    fn keep_share(&self, table: &mut Table, party: &Party) {
        if let Some(id) = table.first_of(party, self.share) {
            self.close(table, id, EndCause::Share);
        }
    }

    fn close(&self, table: &mut Table, id: u64, cause: EndCause) {
        if let Some(held) = table.remove(id) {
            held.close.notify_one();
            self.metrics.connection_ended(cause);
        }
    }

    /// Nothing in here panics half-way, so a poisoned lock is taken all the same.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    close: Arc<Notify>,
}

impl Place {
    /// The handshake has proven `host`.
    pub(super) fn proven(&self, host: &HostName) {
        let mut table = self.places.table();
        let party = Party::Host(host.clone());
        self.places.keep_share(&mut table, &party);
        table.change(self.id, Standing::Idle, Some(party));
    }

    /// A request has come; of a host it counts as work until the guard is dropped.
    pub(super) fn at_work(self: &Arc<Self>) -> AtWork {
        self.turn_to(Standing::AtWork);
        AtWork(Arc::clone(self))
    }

    /// Returns when the place was taken away, and the connection has to end.
    pub(super) async fn taken_away(&self) {
        self.close.notified().await;
    }

    /// Whoever has no identity stays where it is, whatever it does.
    fn turn_to(&self, standing: Standing) {
        let mut table = self.places.table();
        if table.held.get(&self.id).is_some_and(|held| held.turn.0 != Standing::Unproven) {
            table.change(self.id, standing, None);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().remove(self.id);
        self.places.metrics.connection_closed();
    }
}

/// A request in progress.
pub(super) struct AtWork(Arc<Place>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.turn_to(Standing::Idle);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn places(most: usize, share: usize) -> Arc<Places> {
        Places::new(most, share, Arc::default())
    }

    fn source(n: u8) -> Source {
        IpAddr::from(Ipv4Addr::new(192, 0, 2, n)).into()
    }

    fn host(n: u8) -> HostName {
        HostName::parse(&format!("pg{n}.iad1.psf.io")).unwrap()
    }

    fn unproven(places: &Arc<Places>, n: u8) -> Arc<Place> {
        Arc::new(places.take(source(n)).unwrap())
    }

    fn proven(places: &Arc<Places>, n: u8) -> Arc<Place> {
        let place = unproven(places, n);
        place.proven(&host(n));
        place
    }

    fn is_open(place: &Place) -> bool {
        place.places.table().held.contains_key(&place.id)
    }

    fn open(all: &[&Arc<Place>]) -> Vec<bool> {
        all.iter().map(|place| is_open(place)).collect()
    }

    #[test]
    fn whoever_has_no_identity_is_closed_first_and_the_oldest_of_them_before_others() {
        let places = places(4, 4);
        let idle = proven(&places, 1);
        let (first, second, third) = (unproven(&places, 2), unproven(&places, 3), unproven(&places, 4));
        // What the first asks for makes it no younger.
        let asking = first.at_work();
        let fourth = unproven(&places, 5);
        assert_eq!(open(&[&idle, &first, &second, &third, &fourth]), [true, false, true, true, true]);
        drop(asking);
        let fifth = unproven(&places, 6);
        assert_eq!(open(&[&idle, &first, &second, &third, &fourth, &fifth]), [true, false, false, true, true, true]);
    }

    #[test]
    fn hosts_that_ask_for_nothing_come_next_and_requests_in_progress_are_never_cut() {
        let places = places(3, 3);
        let (quiet, lately, working) = (proven(&places, 1), proven(&places, 2), proven(&places, 3));
        drop(quiet.at_work());
        let work = working.at_work();
        // `lately` has been quiet for longer than `quiet`, which has asked since.
        let one = proven(&places, 4);
        assert_eq!(open(&[&quiet, &lately, &working, &one]), [true, false, true, true]);
        let others = [quiet.at_work(), one.at_work()];
        assert!(places.take(source(5)).is_none(), "hosts are at work on all of them");
        drop(work);
        assert!(places.take(source(5)).is_some());
        assert!(!is_open(&working));
        drop(others);
    }

    #[test]
    fn one_more_than_a_share_closes_the_first_of_its_own() {
        let places = places(100, 2);
        let (other, first, second) = (unproven(&places, 2), unproven(&places, 1), unproven(&places, 1));
        let third = unproven(&places, 1);
        assert_eq!(open(&[&other, &first, &second, &third]), [true, false, true, true]);
        // Behind one address many hosts can be: a proven one counts for itself alone.
        let hosts: Vec<_> = (10..60)
            .map(|n| {
                let place = unproven(&places, 1);
                place.proven(&host(n));
                place
            })
            .collect();
        assert!(hosts.iter().all(|place| is_open(place)) && is_open(&other));
        // A host's own requests do not protect it from itself.
        let same = [proven(&places, 70), proven(&places, 70)];
        let _work = [same[0].at_work(), same[1].at_work()];
        let one_more = proven(&places, 70);
        assert_eq!(open(&[&same[0], &same[1], &one_more]), [false, true, true]);
        assert!(is_open(&hosts[0]) && is_open(&other));
    }

    #[test]
    fn a_user_of_this_machine_loses_its_own_quiet_connection_first() {
        let places = places(4, 2);
        let user = |uid| Arc::new(places.take_for_user(uid).unwrap());
        let (root, first, second) = (user(0), user(1), user(1));
        let _work = first.at_work();
        let third = user(1);
        assert_eq!(open(&[&root, &first, &second, &third]), [true, true, false, true]);
    }

    #[test]
    fn nothing_is_remembered_of_connections_that_ended() {
        let places = places(3, 2);
        let mut all: Vec<_> = (0..20).map(|n| unproven(&places, n)).collect();
        all.extend((0..3).map(|n| proven(&places, n)));
        all.iter().for_each(|place| drop(place.at_work()));
        drop(all);
        let table = places.table();
        assert!(table.held.is_empty() && table.order.is_empty() && table.parties.is_empty());
    }

    #[tokio::test]
    async fn whoever_loses_its_place_hears_of_it_even_when_it_asks_later() {
        let places = places(1, 1);
        let (first, _second) = (unproven(&places, 1), unproven(&places, 2));
        first.taken_away().await;
    }
}
