//! The newest certificates of one host: how soon it needs the CA again.

use rusqlite::{Connection, params};

use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::name::{DnsName, HostName};

/// Most certificates that are looked at. Hosts renew all of their names in turn, so the newest of each name is among
/// the last ones; and what is asked when the daemon has much to do must cost little.
const LOOKED_AT: u32 = 1_000;

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
    /// Of each service name that `host` was lately given, the newest certificate that was signed, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn newest_of(&self, host: HostName) -> Result<Vec<Newest>, StoreError> {
        self.read(move |connection| newest(connection, &host)).await
    }
}

fn newest(connection: &Connection, host: &HostName) -> Result<Vec<Newest>, StoreError> {
    // Of a service's certificate the role is kept as well, of an identity it is not.
    let mut statement = connection.prepare_cached(
        "SELECT name, recorded, not_after FROM certificate INDEXED BY certificate_by_host
         WHERE host = ?1 AND role IS NOT NULL AND released ORDER BY idx DESC LIMIT ?2",
    )?;
    let mut rows = statement.query(params![host.as_str(), LOOKED_AT])?;
    let mut found: Vec<Newest> = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if found.iter().any(|newest| newest.name.as_str() == name) {
            continue;
        }
        let name = DnsName::parse(&name).map_err(|error| StoreError::Damaged(format!("{name:?}: {error}")))?;
        let (recorded, not_after) = (row.get(1)?, row.get(2)?);
        found.push(Newest {
            name,
            recorded: Timestamp::from_unix(recorded),
            not_after: Timestamp::from_unix(not_after),
        });
    }
    Ok(found)
}
