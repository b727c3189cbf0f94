//! The ledger as it lies on the disk, read by another program than the daemon.

use std::collections::BTreeMap;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::Ca;

/// Every entry in its order; there is never a gap in the indices.
pub fn entries(ca: &Ca) -> Vec<Value> {
    let path = ca.state().join("ledger.sqlite3");
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
