//! A copy of a ledger that is in use: one view of it, whatever is appended meanwhile.

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::tiles::Edge;
use super::{Head, StoreError, copy, schema};

/// Pages that are copied between two calls of the progress function.
const STEP: i32 = 1_024;

/// Copies the ledger at `path` into the empty file `to`, with what `sign` makes of its head. The copy
/// is a plain database without a log beside it; it is not yet durable. `progress` is told how many
/// pages of how many were copied.
///
/// # Errors
/// When there is no ledger, it is no ledger of this version, or a file cannot be read or written.
pub fn write_backup(
    path: &Path,
    to: &Path,
    sign: impl FnOnce(Head) -> String,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Head, StoreError> {
    if !path.try_exists().map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))? {
        return Err(StoreError::Absent(path.to_owned()));
    }
    let source = schema::open_reader(path)?;
    schema::check_current(&source, path)?;
    // The copy is verified; better said before it is made.
    copy::require_pages(&source)?;
    // From the first reading on, this is one view of the ledger. A daemon writes on beside it.
    source.execute_batch("BEGIN")?;
    let head = Edge::load(&source)?.head(&source)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(to, flags)?;
    let copying = Backup::new(&source, &mut copy)?;
    loop {
        match copying.step(STEP)? {
            StepResult::Done => break,
            StepResult::More => {
                let so_far = copying.progress();
                let pages = |count: i32| u64::try_from(count).unwrap_or(0);
                progress(pages(so_far.pagecount - so_far.remaining), pages(so_far.pagecount));
            }
            _ => return Err(StoreError::Unavailable("another program holds the backup's file locked".to_owned())),
        }
    }
    drop(copying);
    drop(source);
    // The first page says that there is a log beside the file; a backup is one file.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    copy.execute("INSERT INTO backup (note) VALUES (?1)", [sign(head)])?;
    copy.close().map_err(|(_, error)| StoreError::from(error))?;
    Ok(head)
}

/// The signed checkpoint that lies in a backup. It says something only once its signature is verified.
///
/// # Errors
/// When the file is no backup, or cannot be read.
pub fn note_of(path: &Path) -> Result<String, StoreError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    schema::check_current(&connection, path)?;
    let mut statement = connection.prepare("SELECT note FROM backup LIMIT 2")?;
    let notes: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    match <[String; 1]>::try_from(notes) {
        Ok([note]) => Ok(note),
        Err(_) => Err(StoreError::Damaged(format!("{} is no backup: it has no signed checkpoint", path.display()))),
    }
}
