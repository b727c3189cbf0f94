//! Which identities are a host's: those since its last enrolment, in the order of the ledger. Clocks
//! are set back, and a second is long enough to renew in; the ledger has one order.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::record::{Recorded, StoredSignature};
use super::tiles::{Edge, Head};
use super::verbs::append_event;
use super::{Host, RecordError, Store, StoreError, hosts, lock, read, requests};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::enrollment::{EnrolledBy, IdentityFork};
use crate::grant::CertificateKind;
use crate::host::HostState;
use crate::ledger::{CertificateRecord, Entry, Event};
use crate::name::HostName;
use crate::serial::Serial;

/// Serials whose entries are remembered; when there are more, all are forgotten and looked up again.
const REMEMBERED: usize = 65_536;

/// An identity as its host showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownIdentity {
    /// The host that it names.
    pub host: HostName,
    /// Its serial number.
    pub serial: Serial,
    /// When it was issued.
    pub issued: Timestamp,
}

impl ShownIdentity {
    /// Whether it was recorded, at `index`, since `host` enrolled last. Only a ledger that was restored
    /// from a backup lacks the entry; then the time has to do.
    fn is_of(&self, host: &Host, index: Option<u64>) -> bool {
        index.map_or(self.issued >= host.enrolled, |index| index > host.enrollment)
    }
}

impl Store {
    /// Whether `identity` was issued since `host` enrolled last.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_current(&self, identity: &ShownIdentity, host: &Host) -> Result<bool, StoreError> {
        let known = lock(&self.entries).get(&identity.serial).copied();
        if known.is_some() {
            return Ok(identity.is_of(host, known));
        }
        let serial = identity.serial.clone();
        let found = self.read(move |connection| entry_of(connection, &serial)).await?;
        if let Some(index) = found {
            // An entry never moves, so what is remembered stays right.
            let mut entries = lock(&self.entries);
            if entries.len() >= REMEMBERED {
                entries.clear();
            }
            entries.insert(identity.serial.clone(), index);
        }
        Ok(identity.is_of(host, found))
    }
}

fn entry_of(connection: &Connection, serial: &Serial) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT idx FROM certificate WHERE serial = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([serial.octets()], |row| row.get(0)).optional()?)
}

/// The host is served, and the identity is its own.
pub(super) fn require_current(transaction: &Transaction<'_>, identity: &ShownIdentity) -> Result<Host, RecordError> {
    let host = hosts::require_enabled(transaction, &identity.host)?;
    match identity.is_of(&host, entry_of(transaction, &identity.serial)?) {
        true => Ok(host),
        false => Err(RecordError::IdentityReplaced(host.name)),
    }
}

/// A row of `renewal`.
pub(super) struct Renewal {
    pub(super) key: Digest,
    pub(super) index: u64,
}

/// By which key an identity was renewed.
pub(super) fn renewal(connection: &Connection, serial: &Serial) -> Result<Option<Renewal>, StoreError> {
    let sql = "SELECT key_sha256, idx FROM renewal WHERE serial = ?1";
    let row = |row: &rusqlite::Row<'_>| Ok(Renewal { key: read::digest(row, 0)?, index: row.get(1)? });
    Ok(connection.prepare_cached(sql)?.query_row([serial.octets()], row).optional()?)
}

/// `key` has renewed an identity, and got what is recorded at `index`.
pub(super) fn renewed(
    transaction: &Transaction<'_>,
    identity: &ShownIdentity,
    key: Digest,
    index: u64,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO renewal (serial, host, key_sha256, idx) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![identity.serial.octets(), identity.host.as_str(), key.as_bytes(), index])?;
    Ok(())
}

/// A host was enrolled; what it was before no longer counts.
pub(super) fn begin(transaction: &Transaction<'_>, host: &Host) -> Result<(), StoreError> {
    transaction.prepare_cached("DELETE FROM renewal WHERE host = ?1")?.execute([host.name.as_str()])?;
    requests::forget(transaction, &host.name)?;
    hosts::write(transaction, host)
}

/// Two keys, the first and another, have asked to renew one identity. Who is the host is for people to
/// find out.
pub(super) fn freeze(
    transaction: &Transaction<'_>,
    edge: &mut Edge,
    at: Timestamp,
    host: Host,
    serial: &Serial,
    [key_sha256, other_key_sha256]: [Digest; 2],
) -> Result<Host, StoreError> {
    let fork = IdentityFork { host: host.name.clone(), serial: serial.clone(), key_sha256, other_key_sha256 };
    append_event(transaction, edge, at, Event::HostFrozen(fork))?;
    let host = Host { state: HostState::Frozen, since: at, ..host };
    hosts::write(transaction, &host)?;
    hosts::void_tokens(transaction, &host.name)?;
    Ok(host)
}

/// What let a host in when it was last enrolled, and with which key; none where it never was.
pub(super) fn enrollment(connection: &Connection, host: &HostName) -> Result<Option<(EnrolledBy, Digest)>, StoreError> {
    let Some(host) = read::host(connection, host)? else { return Ok(None) };
    match event(connection, host.enrollment)? {
        Event::HostEnrolled(enrollment) if enrollment.host == host.name => {
            Ok(Some((enrollment.by, enrollment.key_sha256)))
        }
        _ => Err(StoreError::Damaged(format!("entry {} did not enrol {}", host.enrollment, host.name))),
    }
}

/// The entry of the identity that `key` got when the host was last enrolled, if that was by the same
/// means.
pub(super) fn answer(
    transaction: &Transaction<'_>,
    name: &HostName,
    by: EnrolledBy,
    key: Digest,
) -> Result<Option<u64>, StoreError> {
    let same = enrollment(transaction, name)? == Some((by, key));
    let host = if same { read::host(transaction, name)? } else { None };
    // Both entries were appended by one verb.
    Ok(host.map(|host| host.enrollment + 1))
}

fn event(connection: &Connection, index: u64) -> Result<Event, StoreError> {
    let sql = "SELECT bytes FROM entry WHERE idx = ?1";
    let bytes: Vec<u8> = connection.prepare_cached(sql)?.query_row([index], |row| row.get(0))?;
    Ok(Entry::decode(&bytes)?.event)
}

/// The end of the certificate at `index`; none where its body was dropped, so that it cannot be given again: a clock
/// that was ahead for a while has ended what is not over.
pub(super) fn end(connection: &Connection, index: u64) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT not_after FROM certificate JOIN body USING (idx) WHERE idx = ?1";
    let end = connection.prepare_cached(sql)?.query_row([index], |row| row.get(0)).optional()?;
    Ok(end.map(Timestamp::from_unix))
}

/// An identity that was recorded before, with the signature where one was stored.
pub(super) fn recorded(connection: &Connection, index: u64) -> Result<Recorded, StoreError> {
    let sql = "SELECT entry.bytes, body.tbs, body.signature FROM body JOIN entry USING (idx) WHERE idx = ?1";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (bytes, tbs, signature): (Vec<u8>, Vec<u8>, StoredSignature) =
        connection.prepare_cached(sql)?.query_row([index], row)?;
    let Event::Certificate(CertificateRecord { kind: kind @ CertificateKind::Identity, .. }) =
        Entry::decode(&bytes)?.event
    else {
        return Err(StoreError::Damaged(format!("entry {index} is no identity's")));
    };
    Ok(Recorded {
        index,
        kind,
        tbs: tbs.into(),
        entry: bytes.into(),
        before: Some(signature),
        head: Head { size: 0, root: Digest::of(b"") },
        hashes: Vec::new(),
    })
}
