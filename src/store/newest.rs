//! The newest certificates of one host: how soon it needs the CA again.

use std::collections::HashSet;

use rusqlite::{Connection, Row, params};

use super::segments::{segment, segments};
use super::times::Range;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::name::{DnsName, HostName};

/// Most names that are looked at, and certificates: what is asked when the daemon has much to do must cost little.
const LOOKED_AT: u32 = 1_000;
/// Segments of the ledger in which one that was signed is looked for, where the newest was not.
const LOOKED_BACK: usize = 16;

/// When a certificate was recorded and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// Its name.
    pub name: DnsName,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// Its last moment.
    pub not_after: Timestamp,
}

impl Store {
    /// Of each service name that `host` was ever given, the newest certificate that was signed: of the first thousand names
    /// by the alphabet. Where the newest one was not signed, the one before is looked for among the last of the ledger.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn newest_of(&self, host: HostName) -> Result<Vec<Newest>, StoreError> {
        self.read(move |connection| newest(connection, &host)).await
    }
}

fn newest(connection: &Connection, host: &HostName) -> Result<Vec<Newest>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT holder.name, recorded, not_after, released
         FROM holder CROSS JOIN certificate ON certificate.idx = holder.idx WHERE holder.host = ?1 LIMIT ?2",
    )?;
    let mut rows = statement.query(params![host.as_str(), LOOKED_AT])?;
    let (mut found, mut unsigned) = (Vec::new(), HashSet::new());
    while let Some(row) = rows.next()? {
        let one = one(row)?;
        if row.get(3)? {
            found.push(one);
        } else {
            unsigned.insert(one.name);
        }
    }
    found.extend(signed_before(connection, host, unsigned)?);
    Ok(found)
}

/// Rarely is there anything to look for: a crash came between an entry and its signature, or that is on its way.
fn signed_before(
    connection: &Connection,
    host: &HostName,
    mut unsigned: HashSet<DnsName>,
) -> Result<Vec<Newest>, StoreError> {
    // Of a service's certificate the role is kept as well, of an identity it is not.
    let mut statement = connection.prepare_cached(concat!(
        "SELECT name, recorded, not_after FROM certificate INDEXED BY certificate_by_host WHERE ",
        segment!("idx"),
        " = ",
        segment!("?1"),
        " AND host = ?2 AND role IS NOT NULL AND released ORDER BY idx DESC LIMIT ?3"
    ))?;
    let (mut found, mut left) = (Vec::new(), LOOKED_AT);
    for segment in segments(connection, &[Range::ALL])?.take(LOOKED_BACK) {
        if unsigned.is_empty() {
            break;
        }
        let mut rows = statement.query(params![segment.start, host.as_str(), left])?;
        while let Some(row) = rows.next()? {
            left -= 1;
            let one = one(row)?;
            if unsigned.remove(&one.name) {
                found.push(one);
            }
        }
    }
    Ok(found)
}

fn one(row: &Row<'_>) -> Result<Newest, StoreError> {
    let name: String = row.get(0)?;
    let name = DnsName::parse(&name).map_err(|error| StoreError::Damaged(format!("{name:?}: {error}")))?;
    let (recorded, not_after) = (Timestamp::from_unix(row.get(1)?), Timestamp::from_unix(row.get(2)?));
    Ok(Newest { name, recorded, not_after })
}
