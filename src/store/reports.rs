//! What hosts say of what they have, and the newest certificate of each name on each host.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use tokio::sync::oneshot::Sender;

use super::identities::{self, ShownIdentity};
use super::tiles::Edge;
use super::verbs::Verb;
use super::{Projection, RecordError, Store, StoreError};
use crate::clock::Timestamp;
use crate::fleet::{Dates, Holding, Told};
use crate::host::Remark;
use crate::name::{DnsName, HostName};
use crate::serial::Serial;
use crate::wire::{Deployment, Holder, HostReport, ReportAnswer};

/// So many holders after another, each with its newest certificate.
pub(super) const AFTER: &str = "SELECT holder.host, holder.name, serial, recorded, not_after
    FROM holder CROSS JOIN certificate ON certificate.idx = holder.idx
    WHERE (holder.host, holder.name) > (?1, ?2) ORDER BY holder.host, holder.name LIMIT ?3";
/// Whether a host was ever given a name.
pub(super) const HOLDS: &str = "SELECT 1 FROM holder WHERE host = ?1 AND name = ?2";

/// A report on its way into the store.
#[derive(Debug, Clone)]
pub struct NewReport {
    /// Now.
    pub at: Timestamp,
    /// Who says it.
    pub identity: ShownIdentity,
    /// What it says.
    pub report: HostReport,
}

impl Store {
    /// Keeps what a host says of itself, in the place of what it said before. Names of which the ledger has no
    /// certificate for it are passed over, so that nobody can fill the store by talking. It makes no entry.
    ///
    /// # Errors
    /// The host is not served, or this is no identity of it any more; or the store failed.
    pub async fn report(&self, new: NewReport) -> Result<ReportAnswer, RecordError> {
        self.ask(|reply| Box::new(KeepReport { new, outcome: Err(RecordError::Store(StoreError::Closed)), reply }))
            .await?
    }

    /// The newest certificate of at most `limit` names on their hosts, by host and name, with what the hosts said
    /// last; and where to go on. Of one host or one name alone, if that is asked for.
    ///
    /// # Errors
    /// When the store fails or holds what it must not.
    pub async fn holdings(
        &self,
        after: Option<Holder>,
        host: Option<HostName>,
        name: Option<DnsName>,
        limit: usize,
    ) -> Result<(Vec<Holding>, Option<Holder>), StoreError> {
        self.read_at_leisure(move |connection| {
            let (after_host, after_name) = match (&after, &host) {
                (Some(after), _) => (after.host.as_str(), after.name.as_str()),
                // Before every name.
                (None, Some(host)) => (host.as_str(), ""),
                (None, None) => ("", ""),
            };
            let mut statement = connection.prepare_cached(AFTER)?;
            let mut rows =
                statement.query(params![after_host, after_name, i64::try_from(limit).unwrap_or(i64::MAX)])?;
            let (mut page, mut last, mut looked_at) = (Vec::new(), None, 0);
            while let Some(row) = rows.next()? {
                let holder = holder(row)?;
                if host.as_ref().is_some_and(|host| *host != holder.host) {
                    return Ok((page, None));
                }
                if name.as_ref().is_none_or(|name| *name == holder.name) {
                    page.push(holding(connection, holder.clone(), row)?);
                }
                (last, looked_at) = (Some(holder), looked_at + 1);
            }
            Ok((page, last.filter(|_| looked_at == limit)))
        })
        .await
    }

    /// What a host said last of a name.
    ///
    /// # Errors
    /// When the store fails or its row does not parse.
    pub async fn told(&self, holder: Holder) -> Result<Option<Told>, StoreError> {
        self.read_at_leisure(move |connection| told(connection, &holder)).await
    }
}

fn holder(row: &Row<'_>) -> Result<Holder, StoreError> {
    let (host, name): (String, String) = (row.get(0)?, row.get(1)?);
    let parsed = HostName::parse(&host).ok().zip(DnsName::parse(&name).ok());
    let parsed = parsed.map(|(host, name)| Holder { host, name });
    parsed.ok_or_else(|| StoreError::Damaged(format!("{host:?} and {name:?} are no host and name")))
}

fn holding(connection: &Connection, holder: Holder, row: &Row<'_>) -> Result<Holding, StoreError> {
    let (serial, recorded, not_after) = (serial(row, 2)?, row.get(3)?, row.get(4)?);
    let (recorded, not_after) = (Timestamp::from_unix(recorded), Timestamp::from_unix(not_after));
    Ok(Holding { told: told(connection, &holder)?, holder, serial, recorded, not_after })
}

fn told(connection: &Connection, holder: &Holder) -> Result<Option<Told>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT serial, not_after, at, state, since, attempts, error FROM report WHERE host = ?1 AND name = ?2",
    )?;
    let found = statement.query_row([holder.host.as_str(), holder.name.as_str()], |row| {
        let (serial, not_after) = (serial(row, 0)?, Timestamp::from_unix(row.get(1)?));
        Ok(Told {
            at: Timestamp::from_unix(row.get(2)?),
            serial,
            not_after,
            deployment: deployment(row)?,
            recorded: None,
        })
    });
    let found = match found.optional() {
        // Hearsay, on which nothing rests: one row that is none must not hide all others.
        Err(error) if error.sqlite_error().is_none() => {
            let Holder { host, name } = holder;
            tracing::warn!(%error, "what {host} said of {name} cannot be read and is passed over; its next report takes its place");
            return Ok(None);
        }
        found => found?,
    };
    let Some(told) = found else { return Ok(None) };
    let recorded = recorded(connection, &told.serial, holder)?;
    Ok(Some(Told { recorded, ..told }))
}

fn recorded(connection: &Connection, serial: &Serial, holder: &Holder) -> Result<Option<Dates>, StoreError> {
    let sql = "SELECT recorded, not_after FROM certificate
        WHERE serial = ?1 AND host = ?2 AND name = ?3 AND role IS NOT NULL";
    let parameters = params![serial.octets(), holder.host.as_str(), holder.name.as_str()];
    let row = |row: &Row<'_>| {
        let (at, not_after) = (Timestamp::from_unix(row.get(0)?), Timestamp::from_unix(row.get(1)?));
        Ok(Dates { at, not_after })
    };
    Ok(connection.prepare_cached(sql)?.query_row(parameters, row).optional()?)
}

/// A row of `report` that no report makes.
#[derive(Debug, thiserror::Error)]
#[error("a row of report says {0:?}")]
struct UnknownReport(String);

fn damaged(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(UnknownReport(what.to_owned())))
}

fn serial(row: &Row<'_>, column: usize) -> rusqlite::Result<Serial> {
    let octets = row.get_ref(column)?.as_blob()?;
    Serial::from_octets(octets).map_err(|_| damaged(column, "a serial number that is none"))
}

fn deployment(row: &Row<'_>) -> rusqlite::Result<Deployment> {
    let state: String = row.get(3)?;
    let since = || row.get(4).map(Timestamp::from_unix);
    Ok(match state.as_str() {
        "installed" => Deployment::Installed,
        "owed" => {
            let error: Option<String> = row.get(6)?;
            let error = error.map(|text| Remark::parse(&text).map_err(|_| damaged(6, &text))).transpose()?;
            Deployment::Owed { since: since()?, attempts: row.get(5)?, error }
        }
        "hooked" => Deployment::Hooked { since: since()? },
        "served" => Deployment::Served { since: since()? },
        _ => return Err(damaged(3, &state)),
    })
}

/// [`Store::report`].
struct KeepReport {
    new: NewReport,
    outcome: Result<ReportAnswer, RecordError>,
    reply: Sender<Result<ReportAnswer, RecordError>>,
}

impl KeepReport {
    fn keep(&self, transaction: &Transaction<'_>) -> Result<ReportAnswer, RecordError> {
        let NewReport { at, identity, report } = &self.new;
        let host = identities::require_current(transaction, identity)?.name;
        if !report.continued {
            run(transaction, "DELETE FROM report WHERE host = ?1", [host.as_str()])?;
        }
        let mut answer = ReportAnswer { kept: 0, unknown: 0 };
        for told in &report.names {
            if !holds(transaction, &host, &told.name)? {
                answer.unknown += 1;
                continue;
            }
            let (since, attempts, error) = match &told.deployment {
                Deployment::Installed => (None, None, None),
                Deployment::Owed { since, attempts, error } => (Some(since), Some(attempts), error.as_ref()),
                Deployment::Hooked { since } | Deployment::Served { since } => (Some(since), None, None),
            };
            run(
                transaction,
                "INSERT OR REPLACE INTO report (host, name, serial, not_after, at, state, since, attempts, error)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    host.as_str(),
                    told.name.as_str(),
                    told.serial.octets(),
                    told.not_after.unix(),
                    at.unix(),
                    told.deployment.as_str(),
                    since.map(|since| since.unix()),
                    attempts,
                    error.map(Remark::as_str)
                ],
            )?;
            answer.kept += 1;
        }
        Ok(answer)
    }
}

fn run(transaction: &Transaction<'_>, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
    transaction.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

fn holds(connection: &Connection, host: &HostName, name: &DnsName) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached(HOLDS)?.exists([host.as_str(), name.as_str()])?)
}

impl Verb for KeepReport {
    fn apply(&mut self, transaction: &Transaction<'_>, _: &mut Edge) -> Result<(), StoreError> {
        self.outcome = match self.keep(transaction) {
            Err(RecordError::Store(error)) => return Err(error),
            outcome => outcome,
        };
        Ok(())
    }

    fn committed(self: Box<Self>, _: &mut Projection) {
        let _ = self.reply.send(self.outcome);
    }

    fn failed(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error.into()));
    }
}
