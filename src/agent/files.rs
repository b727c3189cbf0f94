//! Reads what lies on this host. Whatever that is, it is neither waited for nor read without end.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::ca::pem_file::MAX_BYTES;

/// Why there is nothing to read.
#[derive(Debug)]
pub enum Unread {
    /// There is no such file.
    Absent,
    /// What is there is no file of ours; why.
    Unfit(String),
    /// The system refuses.
    Failed(io::Error),
}

/// What becomes of a symbolic link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The file that it leads to is read.
    Followed,
    /// It is no file: nothing is installed through a link, so none is looked through.
    Refused,
}

/// Reads a regular file of at most 1 MiB, perhaps with a key in it. What it tells of the file is about the very one that was read.
///
/// # Errors
/// [`Unread`]. Pipes and devices are not waited for.
pub fn read(path: &Path, links: Links) -> Result<(Metadata, Zeroizing<Vec<u8>>), Unread> {
    let follow = if links == Links::Refused { OFlags::NOFOLLOW } else { OFlags::empty() };
    let flags = (OFlags::NONBLOCK | follow).bits().cast_signed();
    let mut file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unread::Absent),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(Unread::Unfit("it is a symbolic link".to_owned()));
        }
        // What a socket says to whoever opens it.
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            return Err(Unread::Unfit("it is no regular file".to_owned()));
        }
        Err(error) => return Err(Unread::Failed(error)),
    };
    let metadata = file.metadata().map_err(Unread::Failed)?;
    if !metadata.is_file() {
        return Err(Unread::Unfit("it is no regular file".to_owned()));
    }
    let mut content = Zeroizing::new(Vec::new());
    // Counted while it is read: a file may grow, and a sparse one costs nothing to make.
    let read = file.by_ref().take(MAX_BYTES as u64 + 1).read_to_end(&mut content).map_err(Unread::Failed)?;
    if read > MAX_BYTES {
        return Err(Unread::Unfit(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok((metadata, content))
}
