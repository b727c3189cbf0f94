//! Reads `ca.yaml` and the files of the declaration as one settled set (rule R3).
//!
//! `check`, `why` and the daemon's reload all come through here, so what passes `check` also loads.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::accounts;
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
pub(super) enum ReadError {
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
pub(super) enum FileError {
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
    /// Whoever owns it can change it at any time.
    #[error("{} belongs to {owner}, and only root and {us} are trusted with it; run: chown root {}", path.display(), path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who reads it.
        us: String,
    },
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
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of the file at `path`; none when it cannot be looked at.
    #[must_use]
    pub(super) fn of(path: &Path) -> Option<Self> {
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

/// Whose files may be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// Root's and our own: files that decide who gets what.
    Trusted,
    /// Anybody's: files that somebody names on the command line, to look at.
    Anybody,
}

/// Reads `ca.yaml`. The second value of a good result holds warnings and notes.
///
/// # Errors
/// [`ReadError`] with everything that is wrong.
pub(super) fn read_config(path: &Path) -> Result<(CaConfig, Diagnostics), ReadError> {
    let files = read_set(std::slice::from_ref(&path.to_owned()), Owners::Trusted)?;
    let file = files.first().ok_or_else(|| ReadError::Files(vec![FileError::Empty(path.to_owned())]))?;
    CaConfig::parse(file).map_err(ReadError::Mistakes)
}

/// Reads the declaration that `config` names. The texts come along, for messages and for keeping
/// the last good set; the last value of a good result holds warnings and notes.
///
/// # Errors
/// [`ReadError`] with everything that is wrong.
pub(super) fn read_declaration(config: &CaConfig) -> Result<(Declaration, Vec<SourceFile>, Diagnostics), ReadError> {
    parse(read_set(&config.declaration, Owners::Trusted)?, &Rules::of(config))
}

/// As [`read_declaration`], from files that are named one by one and may be anybody's.
///
/// # Errors
/// [`ReadError`] with everything that is wrong.
pub(super) fn read_declaration_files(
    paths: &[PathBuf],
    rules: &Rules,
) -> Result<(Declaration, Vec<SourceFile>, Diagnostics), ReadError> {
    parse(read_set(paths, Owners::Anybody)?, rules)
}

fn parse(files: Vec<SourceFile>, rules: &Rules) -> Result<(Declaration, Vec<SourceFile>, Diagnostics), ReadError> {
    let (declaration, notes) = Declaration::parse(&files, rules).map_err(ReadError::Mistakes)?;
    Ok((declaration, files, notes))
}

/// Reads all of `paths`; fails when any of them is unfit or changed until the last was read.
pub(super) fn read_set(paths: &[PathBuf], owners: Owners) -> Result<Vec<SourceFile>, ReadError> {
    read_set_and_then(paths, owners, || {})
}

/// `between` happens after the reading and before the last look, where a test can put a writer.
fn read_set_and_then(paths: &[PathBuf], owners: Owners, between: impl FnOnce()) -> Result<Vec<SourceFile>, ReadError> {
    let mut errors = Vec::new();
    let mut read = Vec::new();
    for path in paths {
        match read_one(path, owners) {
            Ok((stamp, bytes)) => read.push((path, stamp, bytes)),
            Err(error) => errors.push(error),
        }
    }
    between();
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

fn read_one(path: &Path, owners: Owners) -> Result<(Stamp, Vec<u8>), FileError> {
    let unreadable = |error| FileError::Unreadable { path: path.to_owned(), error };
    // Without waiting, as a pipe would for a writer. All that follows is about the file that is open, whatever
    // its name stands for by then.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblock).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    let ourselves = rustix::process::geteuid().as_raw();
    if owners == Owners::Trusted && ![0, ourselves].contains(&metadata.uid()) {
        let [owner, us] = [metadata.uid(), ourselves].map(accounts::user_name);
        return Err(FileError::Foreign { path: path.to_owned(), owner, us });
    }
    if metadata.mode() & WORLD_WRITABLE != 0 {
        return Err(FileError::WorldWritable(path.to_owned()));
    }
    if directories_are_open(path, owners).map_err(unreadable)? {
        return Err(FileError::WorldWritableDirectory(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.is_empty() {
        return Err(FileError::Empty(path.to_owned()));
    }
    Ok((Stamp::from(&metadata), bytes))
}

/// Whether anybody may write to the directory of the name or to that of the file that a link leads to. A
/// sticky bit only keeps others from what is there already, which does for a look.
fn directories_are_open(path: &Path, owners: Owners) -> io::Result<bool> {
    let real = std::fs::canonicalize(path)?;
    let named = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    for directory in [named, real.parent()].into_iter().flatten() {
        let mode = std::fs::metadata(directory)?.mode();
        if mode & WORLD_WRITABLE != 0 && (owners == Owners::Trusted || mode & STICKY == 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn error(path: &Path) -> String {
        read_set(&[path.to_owned()], Owners::Trusted).unwrap_err().to_string()
    }

    #[test]
    fn unfit_files_are_refused_all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let [empty, open, missing, pipe] = ["empty", "open", "missing", "pipe"].map(|name| dir.path().join(name));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&open, "a: 1\n").unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o666)).unwrap();
        std::fs::create_dir(&pipe).unwrap();
        let errors = read_set(&[empty, open, missing, pipe], Owners::Trusted).unwrap_err().to_string();
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
        assert!(error(&open.join("f")).contains("anyone can replace it"), "a sticky bit does not keep a new name away");
        // By a link, from a good place to a bad one and from a bad one to a good one.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(open.join("f"), &link).unwrap();
        assert!(error(&link).contains("anyone can replace it"));
        std::fs::write(dir.path().join("g"), "a: 1\n").unwrap();
        std::os::unix::fs::symlink(dir.path().join("g"), open.join("l")).unwrap();
        assert!(error(&open.join("l")).contains("anyone can replace it"));
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o755)).unwrap();
        for good in [open.join("f"), open.join("l"), link] {
            assert!(read_set(&[good], Owners::Trusted).is_ok());
        }
    }

    #[test]
    fn a_file_of_somebody_else_decides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "a: 1\n").unwrap();
        // Only root can make the file somebody else's.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(65_534), None).unwrap();
            let said = error(&file);
            assert!(said.contains("f belongs to nobody, and only root and root"), "{said}");
            assert!(read_set(&[file], Owners::Anybody).is_ok(), "to look at it is another matter");
        }
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(error(&pipe).contains("is no regular file"));
    }

    #[test]
    fn a_set_that_changes_while_it_is_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second, other] = ["first", "second", "other"].map(|name| dir.path().join(name));
        let set = [first.clone(), second.clone()];
        for path in [&first, &second, &other] {
            std::fs::write(path, "a: 1\n").unwrap();
        }
        assert_eq!(read_set(&set, Owners::Trusted).unwrap().len(), 2);
        // Replaced by a file with the same length and time, as `cp -p` and `mv` would.
        let time = std::fs::metadata(&first).unwrap().modified().unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        let replace = || std::fs::rename(&other, &first).unwrap();
        assert!(
            read_set_and_then(&set, Owners::Trusted, replace)
                .unwrap_err()
                .to_string()
                .contains("first is still being written")
        );
        let append = || std::fs::write(&second, "a: 1\nb: 2\n").unwrap();
        assert!(
            read_set_and_then(&set, Owners::Trusted, append)
                .unwrap_err()
                .to_string()
                .contains("second is still being written")
        );
        let remove = || std::fs::remove_file(&second).unwrap();
        assert!(read_set_and_then(&set, Owners::Trusted, remove).is_err());
    }
}
