//! Files that are whole or absent, whatever happens: temporary file, fsync, rename, fsync of the
//! directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Ends the names of our temporary files, which begin with a dot.
const SUFFIX: &str = ".new";

/// Replaces `path` by `contents` with permission bits `mode`. When this returns an error the old
/// file is still there; when it returns, the new one survives a power cut.
///
/// # Errors
/// Whatever the file system says.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_name(path)?;
    // What lies there is left over from a run that was killed before its rename.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let put = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(mode))?;
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    put().inspect_err(|_| {
        // Best effort: it may be a key, and on a full disk it takes the room that is missing.
        let _ = std::fs::remove_file(&temporary);
    })?;
    sync_directory_of(path)
}

/// Moves a finished file to `path`, where there must be none, so that it survives a power cut.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`], or whatever the file system says.
pub fn place_new(finished: &Path, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    File::open(finished)?.sync_all()?;
    match renameat_with(CWD, finished, CWD, path, RenameFlags::NOREPLACE) {
        // Some file systems cannot refuse by themselves.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !path.try_exists()? => {
            std::fs::rename(finished, path)?
        }
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => return Err(io::ErrorKind::AlreadyExists.into()),
        outcome => outcome?,
    }
    sync_directory_of(path)
}

/// Makes renames in the directory of `path` survive a power cut.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Removes what runs left in `directory` that were killed in the middle of [`replace`]: it may be a key, and would lie
/// there until the same file is replaced again. Only for whoever knows that nobody else replaces a file there now.
pub fn clear_leftovers(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") && name.as_encoded_bytes().ends_with(SUFFIX.as_bytes()) {
            // If it stays, the next call tries again; it is in nobody's way.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// `.NAME.new` beside `path`: where a file is until it is whole.
///
/// # Errors
/// When `path` ends in no name.
pub fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(SUFFIX);
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_file_never_takes_the_place_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let (finished, path) = (directory.path().join("finished"), directory.path().join("backup"));
        std::fs::write(&finished, "one").unwrap();
        place_new(&finished, &path).unwrap();
        std::fs::write(&finished, "two").unwrap();
        assert_eq!(place_new(&finished, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn leftovers_of_any_file_are_cleared_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        for name in [".enrolment.json.new", ".hidden", "enrolment.json", "x.new"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        clear_leftovers(directory.path());
        clear_leftovers(&directory.path().join("absent"));
        let left = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, [".hidden", "enrolment.json", "x.new"]);
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_over_leftovers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("PSF_CA.pem");
        std::fs::write(directory.path().join(".PSF_CA.pem.new"), "torn").unwrap();
        replace(&path, b"one", 0o644).unwrap();
        replace(&path, b"two", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
