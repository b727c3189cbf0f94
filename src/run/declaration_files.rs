//! Reads `ca.yaml` and the files of the declaration as one settled set (rule R3).
//!
//! `check`, `why` and the daemon's reload all come through here, so what passes `check` also loads.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::CaConfig;
use crate::declaration::{Declaration, Rules};
use crate::diagnostic::{Diagnostics, SourceFile};
use crate::yaml::MAX_BYTES;

/// Permission bit of a file or directory that anyone may write to.
const WORLD_WRITABLE: u32 = 0o002;
/// Directory bit with which only a file's owner may replace it.
const STICKY: u32 = 0o1000;

/// Why no configuration or declaration came out of the files.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Files that must not or cannot be read; every one of them.
    #[error("{}", list(.0))]
    Files(Vec<FileError>),
    /// Mistakes in what the files say, with the warnings and notes besides.
    #[error("{0}")]
    Mistakes(Diagnostics),
}

/// What is wrong with a file before its text is looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system said no.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A directory, pipe or device.
    #[error("{} is no regular file", .0.display())]
    NotAFile(PathBuf),
    /// Nothing in it: a copy that was cut off looks like this.
    #[error("{} is empty; an empty declaration would take every certificate away", .0.display())]
    Empty(PathBuf),
    /// Anyone on the machine could give themselves a name.
    #[error("{} can be written by anyone; run: chmod o-w {}", .0.display(), .0.display())]
    WorldWritable(PathBuf),
    /// The same, by replacing the file.
    #[error("{} lies in a directory in which anyone can replace it; run: chmod o-w on that directory", .0.display())]
    WorldWritableDirectory(PathBuf),
    /// It changed between the first look and the last.
    #[error("{} is still being written; try again when that has ended", .0.display())]
    Changing(PathBuf),
}

fn list(errors: &[FileError]) -> String {
    match errors {
        [only] => only.to_string(),
        _ => errors
            .iter()
            .fold(format!("{} files cannot be used:", errors.len()), |all, error| format!("{all}\n  {error}")),
    }
}

/// What shows that a file has changed: equal stamps mean the same content, as far as `stat` can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of the file at `path`; none when it cannot be looked at.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(m: &Metadata) -> Self {
        Self {
            device: m.dev(),
            inode: m.ino(),
            length: m.len(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        }
    }
}

/// Reads `ca.yaml`. The second value of a good result holds warnings and notes.
///
/// # Errors
/// [`ReadError`] with everything that is wrong.
pub fn read_config(path: &Path) -> Result<(CaConfig, Diagnostics), ReadError> {
    let files = read_set(std::slice::from_ref(&path.to_owned()))?;
    let file = files.first().ok_or_else(|| ReadError::Files(vec![FileError::Empty(path.to_owned())]))?;
    CaConfig::parse(file).map_err(ReadError::Mistakes)
}

/// Reads the declaration that `config` names. The texts come along, for messages and for keeping
/// the last good set; the last value of a good result holds warnings and notes.
///
/// # Errors
/// [`ReadError`] with everything that is wrong.
pub fn read_declaration(config: &CaConfig) -> Result<(Declaration, Vec<SourceFile>, Diagnostics), ReadError> {
    read_declaration_files(&config.declaration, &Rules::of(config))
}

/// As [`read_declaration`], from files that are named one by one.
///
/// # Errors
/// [`ReadError`] with everything that is wrong.
pub fn read_declaration_files(
    paths: &[PathBuf],
    rules: &Rules,
) -> Result<(Declaration, Vec<SourceFile>, Diagnostics), ReadError> {
    let files = read_set(paths)?;
    let (declaration, notes) = Declaration::parse(&files, rules).map_err(ReadError::Mistakes)?;
    Ok((declaration, files, notes))
}

/// Reads all of `paths`; fails when any of them is unfit or changed until the last was read.
pub(super) fn read_set(paths: &[PathBuf]) -> Result<Vec<SourceFile>, ReadError> {
    let mut errors = Vec::new();
    let mut read = Vec::new();
    for path in paths {
        match read_one(path) {
            Ok((stamp, bytes)) => read.push((path, stamp, bytes)),
            Err(error) => errors.push(error),
        }
    }
    for (path, stamp, _) in &read {
        if Stamp::of(path) != Some(*stamp) {
            errors.push(FileError::Changing((*path).clone()));
        }
    }
    if !errors.is_empty() {
        return Err(ReadError::Files(errors));
    }
    let mut mistakes = Diagnostics::new();
    let mut files = Vec::new();
    for (path, _, bytes) in read {
        match SourceFile::from_bytes(&path.display().to_string(), bytes) {
            Ok(file) => files.push(file),
            Err(mistake) => mistakes.push(*mistake),
        }
    }
    if mistakes.is_empty() { Ok(files) } else { Err(ReadError::Mistakes(mistakes)) }
}

fn read_one(path: &Path) -> Result<(Stamp, Vec<u8>), FileError> {
    let unreadable = |error| FileError::Unreadable { path: path.to_owned(), error };
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    if metadata.mode() & WORLD_WRITABLE != 0 {
        return Err(FileError::WorldWritable(path.to_owned()));
    }
    if directory_is_open(path).map_err(unreadable)? {
        return Err(FileError::WorldWritableDirectory(path.to_owned()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.is_empty() {
        return Err(FileError::Empty(path.to_owned()));
    }
    Ok((Stamp::from(&metadata), bytes))
}

fn directory_is_open(path: &Path) -> io::Result<bool> {
    let real = std::fs::canonicalize(path)?;
    let Some(directory) = real.parent() else { return Ok(false) };
    let mode = std::fs::metadata(directory)?.mode();
    Ok(mode & WORLD_WRITABLE != 0 && mode & STICKY == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn error(path: &Path) -> String {
        read_set(&[path.to_owned()]).unwrap_err().to_string()
    }

    #[test]
    fn unfit_files_are_refused_all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let [empty, open, missing, pipe] = ["empty", "open", "missing", "pipe"].map(|name| dir.path().join(name));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&open, "a: 1\n").unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o666)).unwrap();
        std::fs::create_dir(&pipe).unwrap();
        let errors = read_set(&[empty, open, missing, pipe]).unwrap_err().to_string();
        assert_eq!(errors.lines().count(), 5, "{errors}");
        for part in ["empty is empty", "open can be written by anyone", "missing cannot be read", "pipe is no regular"]
        {
            assert!(errors.contains(part), "{errors}");
        }
    }

    #[test]
    fn a_file_that_anyone_can_replace_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::write(open.join("f"), "a: 1\n").unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(error(&open.join("f")).contains("anyone can replace it"));
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o1777)).unwrap();
        assert!(read_set(&[open.join("f")]).is_ok());
    }

    #[test]
    fn a_change_during_the_reading_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "a: 1\n").unwrap();
        let before = Stamp::of(&path).unwrap();
        assert_eq!(Stamp::of(&path), Some(before));
        // Replaced by a file with the same length and time, as `cp -p` and `mv` would.
        let other = dir.path().join("g");
        std::fs::write(&other, "b: 2\n").unwrap();
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(Stamp::of(&path), Some(before));
    }
}
