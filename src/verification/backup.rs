//! The checkpoint that lies in a backup must be that of its entries. Its signature is not looked at
//! here: whoever has the key that signed it does that (`restore`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::digest::Digest;
use crate::store::{Cell, LedgerCopy};

/// Compares; a ledger in use has no checkpoint in it.
pub(super) fn compare(copy: &LedgerCopy, size: u64, root: Digest, find: &mut dyn FnMut(Option<u64>, String)) {
    let rows = match copy.table("SELECT note FROM backup") {
        Ok(rows) => rows,
        Err(error) => return find(None, format!("the table backup cannot be read: {error}")),
    };
    if rows.len() > 1 {
        find(None, format!("the table backup has {} rows, and one checkpoint is enough", rows.len()));
    }
    let head = format!("{size}\n{}\n", STANDARD.encode(root.as_bytes()));
    for row in rows {
        let holds = matches!(row.as_slice(), [Cell::Octets(note)] if is_of(note, &head));
        if !holds {
            find(None, "the backup's checkpoint is not that of its entries".to_owned());
        }
    }
}

/// The note's text is an origin and then `head`.
fn is_of(note: &[u8], head: &str) -> bool {
    let text = std::str::from_utf8(note).ok().and_then(|note| note.split_once('\n'));
    text.is_some_and(|(_, rest)| rest.strip_prefix(head).is_some_and(|rest| rest.starts_with('\n')))
}
