-- The tables as version 1 made them, for the tests of the way from there.
CREATE TABLE entry (
    idx       INTEGER PRIMARY KEY,
    bytes     BLOB NOT NULL,
    leaf_hash BLOB NOT NULL
) STRICT;

-- Hashes of whole tiles of the Merkle tree: `level` tiles above the leaves.
CREATE TABLE tile_hash (
    level INTEGER NOT NULL,
    idx   INTEGER NOT NULL,
    hash  BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

-- The range of the times in each whole tile of 256 entries: where a listing by time has to look.
CREATE TABLE tile_time (
    idx      INTEGER PRIMARY KEY,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL
) STRICT;

-- What a certificate entry's bytes stand for. The signature comes after the entry, or never. Every
-- index ends in the row's number, which is idx, so each of them gives a filtered listing in order.
CREATE TABLE certificate (
    idx       INTEGER PRIMARY KEY REFERENCES entry (idx),
    serial    BLOB NOT NULL,
    name      TEXT NOT NULL,
    host      TEXT,
    role      TEXT,
    recorded  INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    tbs       BLOB NOT NULL,
    signature BLOB
) STRICT;
CREATE UNIQUE INDEX certificate_by_serial ON certificate (serial);
CREATE INDEX certificate_by_name ON certificate (name);
CREATE INDEX certificate_by_host ON certificate (host) WHERE host IS NOT NULL;
CREATE INDEX certificate_by_role ON certificate (role) WHERE role IS NOT NULL;
CREATE INDEX certificate_by_end ON certificate (not_after);
CREATE INDEX certificate_by_state ON certificate (signature IS NULL);

-- Every entry that is not a certificate's.
CREATE TABLE event (
    idx      INTEGER PRIMARY KEY REFERENCES entry (idx),
    event    TEXT NOT NULL,
    host     TEXT,
    recorded INTEGER NOT NULL
) STRICT;
CREATE INDEX event_by_kind ON event (event);
CREATE INDEX event_by_host ON event (host) WHERE host IS NOT NULL;

CREATE TABLE host (
    name     TEXT NOT NULL PRIMARY KEY,
    enabled  INTEGER NOT NULL,
    enrolled INTEGER NOT NULL
) STRICT;

CREATE TABLE token (
    hash     BLOB NOT NULL PRIMARY KEY,
    host     TEXT NOT NULL,
    expires  INTEGER NOT NULL,
    replaces INTEGER NOT NULL,
    spent_by BLOB
) STRICT;

-- Every declaration that ever was in force, whole, so that neither a restart nor an audit depends on
-- the files. `idx` is the entry that put it in force last; the one with the highest is in force.
CREATE TABLE declaration (
    sha256 BLOB NOT NULL PRIMARY KEY,
    idx    INTEGER NOT NULL UNIQUE REFERENCES entry (idx),
    since  INTEGER NOT NULL,
    files  TEXT NOT NULL
) STRICT;
PRAGMA application_id = 0x70736663;
PRAGMA user_version = 1;
