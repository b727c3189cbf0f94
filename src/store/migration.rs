//! From older schema versions to this one, when a daemon opens the ledger for writing.
//!
//! Each step is one transaction, its version included: a crash in the middle leaves the version
//! before it, whole, and the next start tries again. A step says for ever what it said first; what
//! changes later is a step of its own.

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// What makes a version out of the one before it.
pub(super) struct Step {
    /// The version that it makes.
    pub(super) to: i64,
    pub(super) sql: &'static str,
}

/// Every step, in order.
pub(super) const STEPS: [Step; 6] = [
    Step { to: 2, sql: BODIES },
    Step { to: 3, sql: HOSTS_AND_BACKUPS },
    Step { to: 4, sql: RENEWALS },
    Step { to: 5, sql: WAYS_IN },
    Step { to: 6, sql: REPORTS },
    Step { to: 7, sql: SEGMENTS },
];

/// Version 2: bodies lie apart from the columns of the listing, so that they can be dropped.
const BODIES: &str = "
ALTER TABLE certificate RENAME TO certificate_of_version_1;
DROP INDEX certificate_by_serial;
DROP INDEX certificate_by_name;
DROP INDEX certificate_by_host;
DROP INDEX certificate_by_role;
DROP INDEX certificate_by_end;
DROP INDEX certificate_by_state;
CREATE TABLE certificate (
    idx       INTEGER PRIMARY KEY REFERENCES entry (idx),
    serial    BLOB NOT NULL,
    name      TEXT NOT NULL,
    host      TEXT,
    role      TEXT,
    recorded  INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    released  INTEGER NOT NULL,
    dropped   INTEGER NOT NULL
) STRICT;
INSERT INTO certificate
    SELECT idx, serial, name, host, role, recorded, not_after, signature IS NOT NULL, 0
    FROM certificate_of_version_1 ORDER BY idx;
CREATE TABLE body (
    idx       INTEGER PRIMARY KEY REFERENCES certificate (idx),
    tbs       BLOB NOT NULL,
    signature BLOB
) STRICT;
INSERT INTO body SELECT idx, tbs, signature FROM certificate_of_version_1 ORDER BY idx;
DROP TABLE certificate_of_version_1;
CREATE UNIQUE INDEX certificate_by_serial ON certificate (serial);
CREATE INDEX certificate_by_name ON certificate (name);
CREATE INDEX certificate_by_host ON certificate (host) WHERE host IS NOT NULL;
CREATE INDEX certificate_by_role ON certificate (role) WHERE role IS NOT NULL;
CREATE INDEX certificate_by_end ON certificate (not_after) WHERE dropped = 0;
CREATE INDEX certificate_by_state ON certificate (released) WHERE released = 0;
";

/// Version 3: a host has a state of which there may be more than two, and since when; a token that was spent counts only
/// as long as its enrolment is the host's last; a backup has its checkpoint in it.
const HOSTS_AND_BACKUPS: &str = "
ALTER TABLE host RENAME TO host_of_version_2;
CREATE TABLE host (
    name     TEXT NOT NULL PRIMARY KEY,
    state    TEXT NOT NULL,
    since    INTEGER NOT NULL,
    enrolled INTEGER NOT NULL
) STRICT;
INSERT INTO host SELECT name, iif(enabled, 'enabled', 'disabled'), enrolled, enrolled FROM host_of_version_2;
DROP TABLE host_of_version_2;
DELETE FROM token WHERE spent_by IS NOT NULL AND lower(hex(hash)) NOT IN (
    SELECT json_extract(CAST(entry.bytes AS TEXT), '$.token') FROM event JOIN entry ON entry.idx = event.idx
    WHERE event.event = 'host_enrolled' AND event.idx =
        (SELECT max(newer.idx) FROM event AS newer WHERE newer.event = 'host_enrolled' AND newer.host = event.host)
);
CREATE INDEX token_by_host ON token (host);
CREATE TABLE backup (
    note TEXT NOT NULL
) STRICT;
";

/// Version 4: a host has the entry that enrolled it last, and an identity the key that renewed it. Versions before this one
/// did not say which identity was renewed, so there is nothing to fill the table with. A host without such an entry
/// is none that any of them made: then the step fails.
const RENEWALS: &str = "
ALTER TABLE host RENAME TO host_of_version_3;
CREATE TABLE host (
    name     TEXT NOT NULL PRIMARY KEY,
    state    TEXT NOT NULL,
    since    INTEGER NOT NULL,
    enrolled INTEGER NOT NULL,
    idx      INTEGER NOT NULL REFERENCES entry (idx)
) STRICT;
INSERT INTO host
    SELECT name, state, since, enrolled,
        (SELECT max(event.idx) FROM event WHERE event.event = 'host_enrolled' AND event.host = name)
    FROM host_of_version_3;
DROP TABLE host_of_version_3;
CREATE TABLE renewal (
    serial     BLOB NOT NULL PRIMARY KEY,
    host       TEXT NOT NULL,
    key_sha256 BLOB NOT NULL,
    idx        INTEGER NOT NULL REFERENCES entry (idx)
) STRICT;
CREATE INDEX renewal_by_host ON renewal (host);
";

/// Version 5: hosts are let in by an operator's approval and by their Salt keys.
const WAYS_IN: &str = "
CREATE TABLE enrollment_request (
    host         TEXT NOT NULL,
    key_sha256   BLOB NOT NULL,
    address      TEXT NOT NULL,
    state        TEXT NOT NULL,
    since        INTEGER NOT NULL,
    operator_uid INTEGER,
    PRIMARY KEY (host, key_sha256)
) STRICT;
CREATE TABLE salt_key (
    host       TEXT NOT NULL PRIMARY KEY,
    key_sha256 BLOB NOT NULL,
    public_key BLOB NOT NULL
) STRICT;
";

/// Version 6: what hosts say of what they have, and the way from each holder of certificates to the next.
const REPORTS: &str = "
CREATE INDEX certificate_by_holder ON certificate (host, name) WHERE host IS NOT NULL;
CREATE TABLE report (
    host      TEXT NOT NULL,
    name      TEXT NOT NULL,
    serial    BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    state     TEXT NOT NULL,
    since     INTEGER,
    attempts  INTEGER,
    error     TEXT,
    PRIMARY KEY (host, name)
) STRICT, WITHOUT ROWID;
";

/// Version 7: what is appended changes the same few pages of an index, however long the ledger is; the newest
/// certificate of each holder has a row; and a tile has the last end of its certificates. Of an identity, which has its
/// host's name, no role is kept.
const SEGMENTS: &str = "
ALTER TABLE tile_time RENAME TO tile_time_of_version_6;
CREATE TABLE tile_time (
    idx      INTEGER PRIMARY KEY,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL,
    last_end INTEGER
) STRICT;
INSERT INTO tile_time
    SELECT idx, earliest, latest, (
        SELECT max(not_after) FROM certificate WHERE certificate.idx >= old.idx * 256 AND certificate.idx < (old.idx + 1) * 256
    )
    FROM tile_time_of_version_6 AS old;
DROP TABLE tile_time_of_version_6;
DROP INDEX certificate_by_name;
DROP INDEX certificate_by_host;
DROP INDEX certificate_by_role;
DROP INDEX certificate_by_holder;
CREATE INDEX certificate_by_name ON certificate (idx >> 12, name);
CREATE INDEX certificate_by_host ON certificate (idx >> 12, host) WHERE host IS NOT NULL;
CREATE INDEX certificate_by_role ON certificate (idx >> 12, role) WHERE role IS NOT NULL;
CREATE TABLE holder (
    host TEXT NOT NULL,
    name TEXT NOT NULL,
    idx  INTEGER NOT NULL REFERENCES certificate (idx),
    PRIMARY KEY (host, name)
) STRICT, WITHOUT ROWID;
INSERT INTO holder
    SELECT host, name, max(idx) FROM certificate WHERE host IS NOT NULL AND role IS NOT NULL GROUP BY host, name;
";

/// Takes every step that leads further than `found`.
pub(super) fn migrate(connection: &mut Connection, found: i64, steps: &[Step]) -> Result<(), StoreError> {
    for step in steps.iter().filter(|step| step.to > found) {
        tracing::info!(version = step.to, "bringing the ledger to a newer schema version");
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step.sql)?;
        transaction.pragma_update(None, "user_version", step.to)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Has the file keep track of its pages, so that free ones can be given back one at a time. A file of
/// version 1 does not, and has to be written again as a whole for it; whether that was done is returned.
pub(super) fn allow_giving_back(connection: &Connection) -> Result<bool, StoreError> {
    const INCREMENTAL: i64 = 2;
    if connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))? == INCREMENTAL {
        return Ok(false);
    }
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    match connection.execute_batch("VACUUM") {
        Ok(()) => Ok(true),
        // It takes the file's size again on the disk. Without it the ledger works, and its file does not shrink.
        Err(error) => {
            tracing::warn!(%error, "the ledger's file could not be written anew, so it will not shrink");
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests;
