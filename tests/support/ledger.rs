//! The ledger as it lies on the disk, read by another program than the daemon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::tools::succeed;
use super::{Ca, wait_until};

/// The state directory where SQLite can read it: a copy where it is in a namespace of its own, since SQLite
/// resolves links by itself and would leave that.
fn readable(state: &Path) -> (Option<tempfile::TempDir>, PathBuf) {
    if !state.is_symlink() {
        return (None, state.to_owned());
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("state");
    succeed("cp", &["--archive", state.read_link().unwrap().to_str().unwrap(), copy.to_str().unwrap()]);
    (Some(dir), copy)
}

/// Every entry in its order; there is never a gap in the indices.
pub fn entries(ca: &Ca) -> Vec<Value> {
    entries_in(&ca.state())
}

/// Every entry of the ledger in this state directory.
pub fn entries_in(state: &Path) -> Vec<Value> {
    let (_copy, state) = readable(state);
    let path = state.join("ledger.sqlite3");
    let sql = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = sql.prepare("SELECT idx, bytes FROM entry ORDER BY idx").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut entries = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        assert_eq!(row.get::<_, usize>(0).unwrap(), entries.len(), "a gap in the indices");
        entries.push(serde_json::from_slice(&row.get::<_, Vec<u8>>(1).unwrap()).unwrap());
    }
    entries
}

/// Serial → state (`recorded` or `issued`) of every certificate, as the operator is shown them.
pub fn listing(ca: &Ca) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let listing = ca.ok(&["audit", "list", "--json", "--event", "certificate", "--limit", "1000000"]);
    let entries = listing.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.map(|entry| (text(&entry["serial"]), text(&entry["state"]))).collect()
}

/// Signatures follow their entries with the next batch; waits until the last one is stored.
pub fn settle(ca: &Ca) {
    wait_until("every signature is stored", || listing(ca).values().all(|state| state == "issued"));
}

/// That `audit verify` finds nothing in the ledger that lies at `state`, and that it continues `checkpoint`.
pub fn verify(ca: &Ca, state: &Path, checkpoint: &str) {
    verify_with(ca, state, checkpoint, &[]);
}

/// As [`verify`], with these arguments more.
pub fn verify_with(ca: &Ca, state: &Path, checkpoint: &str, args: &[&str]) {
    let note = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(note.path(), checkpoint).unwrap();
    let (_copy, state) = readable(state);
    let [state, note] = [&state, note.path()].map(|path| path.to_str().unwrap());
    ca.ok(&[&["audit", "verify", "--state", state, "--against", note], args].concat());
}
