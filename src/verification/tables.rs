//! The small tables, made again from the events.

use std::collections::{BTreeMap, HashMap};

use super::requests::{self, Requests};
use crate::clock::Timestamp;
use crate::declaration;
use crate::digest::{Digest, hex};
use crate::enrollment::{EnrolledBy, Enrollment, IdentityFork, KeyDecision, RequestAction, SaltKeyChange};
use crate::host::{HostAction, HostChange, HostState};
use crate::ledger::tree::{TILE_HEIGHT, TILE_WIDTH};
use crate::ledger::{CertificateView, Event};
use crate::name::HostName;
use crate::store::{Cell, LedgerCopy, StoreError};

/// A table by its first column: the entry that a row comes from, and the other columns.
pub(super) type Rows = BTreeMap<Vec<u8>, (u64, Vec<Cell>)>;

/// How a table's first column is told to people.
type Print<'p> = &'p dyn Fn(&[u8]) -> String;

/// What the tables must hold after the entries so far.
#[derive(Debug, Default)]
pub(super) struct Tables {
    hosts: Rows,
    requests: Requests,
    salt_keys: Rows,
    renewals: Rows,
    /// Which of them are whose.
    renewals_of: HashMap<HostName, Vec<Vec<u8>>>,
    tokens: Rows,
    /// Which of them are whose.
    tokens_of: HashMap<HostName, Vec<Vec<u8>>>,
    declarations: Rows,
    /// Of each tile.
    times: Vec<Times>,
}

/// The columns of `host` after its name.
mod host {
    pub(super) const STATE: usize = 0;
    pub(super) const SINCE: usize = 1;
}

/// The columns of `renewal` after its serial.
mod renewal {
    pub(super) const KEY: usize = 1;
}

/// The columns of `token` after its hash.
mod token {
    pub(super) const HOST: usize = 0;
    pub(super) const SPENT_BY: usize = 3;
}

/// The times of entries, and the last end of the certificates among them.
#[derive(Debug, Clone, Copy)]
struct Times {
    earliest: i64,
    latest: i64,
    last_end: Option<i64>,
}

impl Times {
    fn join(&mut self, other: Self) {
        self.earliest = self.earliest.min(other.earliest);
        self.latest = self.latest.max(other.latest);
        self.last_end = self.last_end.max(other.last_end);
    }
}

impl Tables {
    /// An entry was written at `time`; `end` is that of a certificate.
    pub(super) fn note_times(&mut self, index: u64, time: Timestamp, end: Option<Timestamp>) {
        let time = time.unix();
        let times = Times { earliest: time, latest: time, last_end: end.map(Timestamp::unix) };
        match self.times.last_mut() {
            Some(tile) if !index.is_multiple_of(TILE_WIDTH) => tile.join(times),
            _ => self.times.push(times),
        }
    }

    /// Applies an event as the store would; what it could not have applied is said.
    pub(super) fn apply(&mut self, index: u64, time: Timestamp, event: Event) -> Result<(), String> {
        match event {
            Event::Certificate(_) | Event::BodiesDropped { .. } | Event::Recovered { .. } | Event::Refused(_) => {}
            Event::Declaration { sha256, names: _ } => {
                let row = vec![number(index), Cell::Number(time.unix())];
                self.declarations.insert(sha256.as_bytes().to_vec(), (index, row));
            }
            Event::TokenMade { token, host, expires, replace, operator_uid: _ } => {
                let row = vec![
                    text(host.as_str()),
                    Cell::Number(expires.unix()),
                    Cell::Number(replace.into()),
                    Cell::Nothing,
                ];
                self.tokens_of.entry(host).or_default().push(token.as_bytes().to_vec());
                if self.tokens.insert(token.as_bytes().to_vec(), (index, row)).is_some() {
                    return Err(format!("the token {token} was made before"));
                }
            }
            Event::HostEnrolled(enrollment) => self.enroll(index, time, enrollment)?,
            Event::HostDisabled(change) => self.change(index, time, HostAction::Disable, &change)?,
            Event::HostEnabled(change) => self.change(index, time, HostAction::Enable, &change)?,
            Event::HostRemoved(change) => self.change(index, time, HostAction::Remove, &change)?,
            Event::HostRequested(request) => self.requests.asked(index, time, &request)?,
            Event::HostApproved(decision) => self.requests.decided(index, time, RequestAction::Approve, &decision)?,
            Event::HostRejected(decision) => self.requests.decided(index, time, RequestAction::Reject, &decision)?,
            Event::SaltKeyImported(change) => self.salt_key_imported(index, change),
            Event::SaltKeyRemoved(change) => self.salt_key_removed(&change)?,
            Event::HostFrozen(fork) => self.freeze(index, time, &fork)?,
            // Whether the CA is closed has no table: it follows from the rows of `event`.
            Event::Restored(_) => {
                self.tokens.clear();
                self.tokens_of.clear();
                self.requests = Requests::default();
                self.salt_keys.clear();
            }
            Event::Reopened(confirmation) => {
                let enabled = text(HostState::Enabled.as_str());
                let hosts = self.hosts.values().filter(|(_, cells)| cells[host::STATE] == enabled).count() as u64;
                if hosts != confirmation.hosts {
                    return Err(format!(
                        "{} was confirmed as the number of enabled hosts, and it was {hosts}",
                        confirmation.hosts
                    ));
                }
            }
        }
        Ok(())
    }

    /// An identity was recorded. One that renewed another says by which key.
    pub(super) fn identity(&mut self, index: u64, entry: &CertificateView<'_>) -> Result<(), String> {
        let (Some(serial), Some(host)) = (&entry.renewed, entry.host) else { return Ok(()) };
        let host = HostName::parse(host).map_err(|error| error.to_string())?;
        let key = Cell::Octets(entry.key_sha256.as_bytes().to_vec());
        let row = vec![text(host.as_str()), key.clone(), number(index)];
        match self.renewals.insert(serial.octets().to_vec(), (index, row)) {
            Some((_, before)) if before[renewal::KEY] != key => {
                Err(format!("the identity {serial} was renewed before, by another key"))
            }
            Some(_) => Ok(()),
            None => {
                self.renewals_of.entry(host).or_default().push(serial.octets().to_vec());
                Ok(())
            }
        }
    }

    fn freeze(&mut self, index: u64, time: Timestamp, fork: &IdentityFork) -> Result<(), String> {
        let name = &fork.host;
        let first = Cell::Octets(fork.key_sha256.as_bytes().to_vec());
        let renewed = self.renewals.get(fork.serial.octets()).is_some_and(|(_, row)| row[renewal::KEY] == first);
        if !renewed || fork.key_sha256 == fork.other_key_sha256 {
            return Err(format!(
                "{name} was frozen, and its identity {} was not renewed by the first key",
                fork.serial
            ));
        }
        let row = self.hosts.get_mut(name.as_str().as_bytes());
        let row = row.filter(|(_, cells)| cells[host::STATE] == text(HostState::Enabled.as_str()));
        let Some((from, cells)) = row else { return Err(format!("{name} was frozen and was not enabled")) };
        *from = index;
        (cells[host::STATE], cells[host::SINCE]) = (text(HostState::Frozen.as_str()), Cell::Number(time.unix()));
        self.void_tokens(name);
        Ok(())
    }

    fn salt_key_imported(&mut self, index: u64, change: SaltKeyChange) {
        let row = vec![Cell::Octets(change.salt_key.as_bytes().to_vec())];
        self.salt_keys.insert(change.host.as_str().as_bytes().to_vec(), (index, row));
    }

    fn salt_key_removed(&mut self, change: &SaltKeyChange) -> Result<(), String> {
        let was = self.signed_by_salt_key(&change.host, change.salt_key);
        self.salt_keys.remove(change.host.as_str().as_bytes());
        was
    }

    fn signed_by_salt_key(&self, host: &HostName, salt_key: Digest) -> Result<(), String> {
        let accepted = self.salt_keys.get(host.as_str().as_bytes());
        match accepted.is_some_and(|(_, row)| row[0] == Cell::Octets(salt_key.as_bytes().to_vec())) {
            true => Ok(()),
            false => Err(format!("the Salt key {salt_key} was not the accepted one of {host}")),
        }
    }

    fn void_tokens(&mut self, host: &HostName) {
        for hash in self.tokens_of.remove(host).unwrap_or_default() {
            self.tokens.remove(&hash);
        }
    }

    fn enroll(&mut self, index: u64, time: Timestamp, enrollment: Enrollment) -> Result<(), String> {
        let Enrollment { host, by, key_sha256 } = enrollment;
        let (enabled, time) = (text(HostState::Enabled.as_str()), Cell::Number(time.unix()));
        let row = vec![enabled, time.clone(), time, number(index)];
        let known = self.hosts.insert(host.as_str().as_bytes().to_vec(), (index, row)).is_some();
        for serial in self.renewals_of.remove(&host).unwrap_or_default() {
            self.renewals.remove(&serial);
        }
        let approved = match by {
            EnrolledBy::Approval { operator_uid } => {
                self.requests.used(&KeyDecision { host: host.clone(), key_sha256, operator_uid })
            }
            EnrolledBy::Token { .. } => Ok(()),
            EnrolledBy::SaltKey { salt_key } => self.signed_by_salt_key(&host, salt_key),
        };
        self.requests.forget(&host);
        approved?;
        match by {
            EnrolledBy::Approval { .. } | EnrolledBy::SaltKey { .. } if known => {
                Err(format!("{host} was known, and was let in again without a token"))
            }
            EnrolledBy::Token { token } => self.spend(host, token, key_sha256),
            EnrolledBy::Approval { .. } | EnrolledBy::SaltKey { .. } => Ok(()),
        }
    }

    fn spend(&mut self, host: HostName, token: Digest, key_sha256: Digest) -> Result<(), String> {
        // What the host spent before is void.
        let (tokens, of_host) = (&mut self.tokens, self.tokens_of.entry(host.clone()).or_default());
        of_host.retain(|hash| {
            let spent = tokens.get(hash).is_some_and(|(_, row)| row[token::SPENT_BY] != Cell::Nothing);
            let void = spent && *hash != token.as_bytes();
            if void {
                tokens.remove(hash);
            }
            !void
        });
        let Some((_, made)) = self.tokens.get_mut(token.as_bytes().as_slice()) else {
            return Err(format!("{host} enrolled with the token {token}, which was never made, or was void"));
        };
        let usable = made[token::HOST] == text(host.as_str()) && made[token::SPENT_BY] == Cell::Nothing;
        made[token::SPENT_BY] = Cell::Octets(key_sha256.as_bytes().to_vec());
        if !usable {
            return Err(format!("{host} enrolled with the token {token}, which was spent or is another host's"));
        }
        Ok(())
    }

    fn change(&mut self, index: u64, time: Timestamp, action: HostAction, change: &HostChange) -> Result<(), String> {
        let name = &change.host;
        let row = self.hosts.get_mut(name.as_str().as_bytes());
        let Some((from, cells)) = row else { return Err(format!("{name} was changed and never enrolled")) };
        let was = HostState::ALL.into_iter().find(|state| cells[host::STATE] == text(state.as_str()));
        let state = was.and_then(|was| was.after(action).filter(|state| *state != was));
        let Some(state) = state else { return Err(format!("{name} could not be changed: {}", action.as_str())) };
        *from = index;
        (cells[host::STATE], cells[host::SINCE]) = (text(state.as_str()), Cell::Number(time.unix()));
        if action != HostAction::Enable {
            self.void_tokens(&change.host);
        }
        Ok(())
    }

    /// Compares with what the file has; `whole_tiles` is how many tiles of entries are full.
    pub(super) fn compare(mut self, copy: &LedgerCopy, whole_tiles: u64, find: &mut dyn FnMut(Option<u64>, String)) {
        self.times.truncate(usize::try_from(whole_tiles).unwrap_or(usize::MAX));
        let times = self.times.iter().zip(0u64..).map(|(&Times { earliest, latest, last_end }, tile)| {
            let last_end = last_end.map_or(Cell::Nothing, Cell::Number);
            let row = vec![Cell::Number(earliest), Cell::Number(latest), last_end];
            (tile.to_be_bytes().to_vec(), (tile * TILE_WIDTH, row))
        });
        let plain = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let tables: [(&str, &'static str, Rows, Print<'_>); 7] = [
            ("host", "SELECT name, state, since, enrolled, idx FROM host", self.hosts, &plain),
            ("renewal", "SELECT serial, host, key_sha256, idx FROM renewal", self.renewals, &hex),
            ("enrollment_request", requests::SQL, self.requests.0, &plain),
            ("salt_key", "SELECT host, key_sha256 FROM salt_key", self.salt_keys, &plain),
            ("token", "SELECT hash, host, expires, replaces, spent_by FROM token", self.tokens, &hex),
            ("declaration", "SELECT sha256, idx, since FROM declaration", self.declarations, &hex),
            ("tile_time", "SELECT idx, earliest, latest, last_end FROM tile_time", times.collect(), &hex),
        ];
        for (name, sql, expected, print) in tables {
            match copy.table(sql) {
                Ok(rows) => compare_rows(name, rows, expected, print, find),
                Err(error) => find(None, format!("the table {name} cannot be read: {error}")),
            }
        }
        if let Err(error) = declared_texts(copy, find)
            .and_then(|()| salt_keys(copy, find))
            .and_then(|()| stray_tiles(copy, whole_tiles, find))
        {
            find(None, format!("a table cannot be read: {error}"));
        }
    }
}

fn compare_rows(
    name: &str,
    rows: Vec<Vec<Cell>>,
    mut expected: Rows,
    print: Print<'_>,
    find: &mut dyn FnMut(Option<u64>, String),
) {
    for mut row in rows {
        let key = match row.remove(0) {
            Cell::Octets(octets) => octets,
            Cell::Number(number) => number.to_be_bytes().to_vec(),
            Cell::Nothing | Cell::Fraction => Vec::new(),
        };
        match expected.remove(&key) {
            Some((_, wanted)) if wanted == row => {}
            Some((index, _)) => {
                find(Some(index), format!("the row {} of {name} is not what the entries make it", print(&key)))
            }
            None => find(None, format!("the row {} of {name} follows from no entry", print(&key))),
        }
    }
    for (key, (index, _)) in expected {
        find(Some(index), format!("the row {} of {name} is missing", print(&key)));
    }
}

/// The texts of the declarations must have the hashes by which the entries name them.
fn declared_texts(copy: &LedgerCopy, find: &mut dyn FnMut(Option<u64>, String)) -> Result<(), StoreError> {
    for row in copy.table("SELECT sha256, files FROM declaration")? {
        let [Cell::Octets(sha256), Cell::Octets(json)] = row.as_slice() else {
            find(None, "a row of declaration has no text".to_owned());
            continue;
        };
        let files: Option<Vec<(String, String)>> = serde_json::from_slice(json).ok();
        let holds = files.is_some_and(|files| {
            let digest = declaration::digest(files.iter().map(|(path, text)| (path.as_str(), text.as_str())));
            // Written again it must be the same, so that no octet of the row can say anything else.
            digest.as_bytes() == sha256.as_slice() && serde_json::to_vec(&files).ok().as_ref() == Some(json)
        });
        if !holds {
            find(None, format!("the text of declaration {} does not have that hash", hex(sha256)));
        }
    }
    Ok(())
}

/// The keys themselves must have the hashes by which the entries name them.
fn salt_keys(copy: &LedgerCopy, find: &mut dyn FnMut(Option<u64>, String)) -> Result<(), StoreError> {
    for row in copy.table("SELECT host, key_sha256, public_key FROM salt_key")? {
        let [Cell::Octets(host), Cell::Octets(sha256), Cell::Octets(key)] = row.as_slice() else {
            find(None, "a row of salt_key has no key".to_owned());
            continue;
        };
        if Digest::of(key).as_bytes() != sha256.as_slice() {
            find(None, format!("the Salt key of {} does not have its hash", String::from_utf8_lossy(host)));
        }
    }
    Ok(())
}

/// Tiles that are stored though the ledger is not that large.
fn stray_tiles(
    copy: &LedgerCopy,
    whole_tiles: u64,
    find: &mut dyn FnMut(Option<u64>, String),
) -> Result<(), StoreError> {
    for row in copy.table("SELECT level, idx FROM tile_hash")? {
        let place = match row.as_slice() {
            [Cell::Number(level), Cell::Number(index)] => u32::try_from(*level).ok().zip(u64::try_from(*index).ok()),
            _ => None,
        };
        let complete = |level: u32| whole_tiles.checked_shr((level - 1) * TILE_HEIGHT).unwrap_or(0);
        if !place.is_some_and(|(level, index)| (1..8).contains(&level) && index < complete(level)) {
            find(None, format!("the stored tile hash {row:?} is of a tile that is not whole"));
        }
    }
    Ok(())
}

fn number(index: u64) -> Cell {
    i64::try_from(index).map_or(Cell::Nothing, Cell::Number)
}

pub(super) fn text(text: &str) -> Cell {
    Cell::Octets(text.as_bytes().to_vec())
}
