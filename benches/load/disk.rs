//! What the disk itself takes, whoever asks it.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use crate::table::Times;

/// Octets: what the write-ahead log gets for one certificate, about.
const LENGTH: usize = 16 * 4_096;
/// Writes.
const COUNT: usize = 500;

/// Times of one write after the other, over what a file in `directory` has already, each with its fsync.
pub(crate) fn fsyncs(directory: &Path) -> Times {
    let mut file = tempfile::tempfile_in(directory).unwrap();
    file.write_all(&[0; LENGTH]).unwrap();
    file.sync_all().unwrap();
    let write = |_| {
        let begin = Instant::now();
        file.write_all_at(&[0x5a; LENGTH], 0).unwrap();
        file.sync_all().unwrap();
        begin.elapsed()
    };
    Times::of((0..COUNT).map(write).collect())
}
