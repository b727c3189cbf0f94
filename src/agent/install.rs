//! Puts a file in place so that a reader sees the old one or the new one and never a part of
//! either (rule R4), whatever happens in between (rule R9).

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::accounts::{self, AccountError};
use crate::digest::hex;
use crate::durable;
use crate::random::{NoRandomness, Random};

/// Marks our temporary files, so that leftovers can be told from everything else.
const MARK: &str = ".psfca-";

/// Why a file is not in place. What was there before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The system refused a step.
    #[error("{path} cannot be installed: {step}: {cause}{}", hint(step, cause))]
    Io {
        /// The file that was to be installed.
        path: PathBuf,
        /// The step that failed.
        step: &'static str,
        /// What the system says.
        cause: std::io::Error,
    },
    /// Somebody else decides where the file would end up.
    #[error("{path} cannot be installed: {cause}")]
    Unsafe {
        /// The file that was to be installed.
        path: PathBuf,
        /// What is unsafe, and what to do.
        cause: String,
    },
    /// No such user or group.
    #[error("{cause}; set `{setting}` in host.yaml")]
    Unknown {
        /// `owner` or `group`.
        setting: &'static str,
        /// Who is not known.
        cause: AccountError,
    },
    /// No name for the temporary file.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// Whose a file is to be; `None` leaves that to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// User number.
    pub user: Option<u32>,
    /// Group number.
    pub group: Option<u32>,
    /// Permission bits.
    pub mode: u32,
}

impl Ownership {
    /// Only the permission bits matter.
    #[must_use]
    pub const fn mode(mode: u32) -> Self {
        Self { user: None, group: None, mode }
    }

    /// Looks names up in `/etc/passwd` and `/etc/group`; numbers are taken as they are.
    ///
    /// # Errors
    /// [`InstallError::Unknown`] when a name is in neither.
    pub fn resolve(owner: &str, group: &str, mode: u32) -> Result<Self, InstallError> {
        let unknown = |setting| move |cause| InstallError::Unknown { setting, cause };
        let user = accounts::user_id(owner).map_err(unknown("owner"))?;
        let group = accounts::group_id(group).map_err(unknown("group"))?;
        Ok(Self { user: Some(user), group: Some(group), mode })
    }
}

/// Replaces `path` by `content` in one step: temporary file in the same directory, final owner and
/// mode, fsync, rename, fsync of the directory. After a success the new content survives a power
/// cut; after an error or a crash the old file is untouched, and the next call clears what is left.
///
/// # Errors
/// [`InstallError`].
pub fn install(path: &Path, content: &[u8], owner: &Ownership, random: &dyn Random) -> Result<(), InstallError> {
    check_place(path)?;
    let (directory, name) = split(path)?;
    clear_leftovers(directory, |of| of == name);

    let temporary = temporary_beside(path, random)?;
    let written = write(path, &temporary, content, owner).and_then(|()| {
        // The only step that a reader can see.
        fs::rename(&temporary, path).map_err(|cause| io(path, "rename", cause))
    });
    if written.is_err() {
        // Best effort: what stays is cleared by the next call.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    durable::sync_directory_of(path).map_err(|cause| io(path, "fsync of the directory", cause))
}

/// A free name beside `path` that tells whose it is, should a crash leave it there.
///
/// # Errors
/// [`InstallError`] when `path` names no file, or there is no randomness.
pub fn temporary_beside(path: &Path, random: &dyn Random) -> Result<PathBuf, InstallError> {
    let (directory, name) = split(path)?;
    let mut suffix = [0; 8];
    random.fill(&mut suffix)?;
    Ok(directory.join(format!(".{name}{MARK}{}", hex(&suffix))))
}

/// Makes a directory with these permission bits, if there is none.
///
/// # Errors
/// [`InstallError`].
pub fn make_directory(path: &Path, mode: u32) -> Result<(), InstallError> {
    let failed = |cause| io(path, "make the directory", cause);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Root is refused this in a sandbox alone.
fn hint(step: &str, cause: &std::io::Error) -> &'static str {
    let denied = cause.kind() == ErrorKind::PermissionDenied && step.starts_with("set the ");
    if denied { "; the unit's sandbox needs a drop-in for that (docs/host.md, Settings)" } else { "" }
}

fn io(path: &Path, step: &'static str, cause: std::io::Error) -> InstallError {
    InstallError::Io { path: path.to_owned(), step, cause }
}

fn split(path: &Path) -> Result<(&Path, String), InstallError> {
    let unsafe_path =
        || InstallError::Unsafe { path: path.to_owned(), cause: "it does not name a file in a directory".to_owned() };
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(unsafe_path)?;
    let directory = path.parent().ok_or_else(unsafe_path)?;
    let here = directory.as_os_str().is_empty();
    Ok((if here { Path::new(".") } else { directory }, name.to_owned()))
}

/// A private key goes only where nobody else can redirect it.
///
/// # Errors
/// [`InstallError`] says what is wrong with the place.
pub fn check_place(path: &Path) -> Result<(), InstallError> {
    check_directory(path)?;
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => {
            refuse(path, "something that is no regular file is there; move it away first".to_owned())
        }
        _ => Ok(()),
    }
}

/// The same for a place that gets a symbolic link to a directory of ours.
///
/// # Errors
/// [`InstallError`] says what is wrong with the place.
pub fn check_link_place(path: &Path) -> Result<(), InstallError> {
    check_directory(path)?;
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_symlink() => {
            refuse(path, "something that is no link of psfca's is there; move it away first".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_directory(path: &Path) -> Result<(), InstallError> {
    let (directory, _) = split(path)?;
    let found = fs::symlink_metadata(directory).map_err(|cause| io(path, "look at the directory", cause))?;
    if found.is_symlink() {
        return refuse(path, format!("{} is a symbolic link; name the directory itself", directory.display()));
    }
    if found.mode() & 0o002 != 0 {
        return refuse(path, format!("everybody may write to {}; chmod o-w it", directory.display()));
    }
    Ok(())
}

fn refuse(path: &Path, cause: String) -> Result<(), InstallError> {
    Err(InstallError::Unsafe { path: path.to_owned(), cause })
}

fn write(path: &Path, temporary: &Path, content: &[u8], owner: &Ownership) -> Result<(), InstallError> {
    let create = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary);
    let mut file = create.map_err(|cause| io(path, "make a temporary file", cause))?;
    file.write_all(content).map_err(|cause| io(path, "write", cause))?;
    if owner.user.is_some() || owner.group.is_some() {
        fchown(&file, owner.user, owner.group).map_err(|cause| io(path, "set the owner", cause))?;
    }
    // Last, because a change of owner may clear bits.
    file.set_permissions(Permissions::from_mode(owner.mode)).map_err(|cause| io(path, "set the mode", cause))?;
    file.sync_all().map_err(|cause| io(path, "fsync", cause))
}

/// Removes the files that crashes left beside the files whose names are `ours`: a key may be in them.
/// Callers hold the state lock, so nobody else is writing one of these now.
pub fn clear_leftovers(directory: &Path, ours: impl Fn(&str) -> bool) {
    for path in marked(directory, ours) {
        // If it stays, the next call tries again; it is in nobody's way.
        let _ = fs::remove_file(path);
    }
}

/// What [`temporary_beside`] named beside the files whose names are `ours`.
pub fn marked(directory: &Path, ours: impl Fn(&str) -> bool) -> impl Iterator<Item = PathBuf> {
    let is_marked = move |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let of = name.to_str().and_then(|name| name.strip_prefix('.')?.split_once(MARK));
        of.is_some_and(|(of, suffix)| ours(of) && !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    fs::read_dir(directory).into_iter().flatten().flatten().filter(is_marked).map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("postgresql.psf.io.pem");
        (directory, path)
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_leftovers_are_cleared() {
        let (directory, path) = place();
        fs::write(&path, "old").unwrap();
        fs::write(directory.path().join(".postgresql.psf.io.pem.psfca-0badc0de"), "torn").unwrap();
        fs::write(directory.path().join(".other.psf.io.pem.psfca-0badc0de"), "another's").unwrap();
        install(&path, b"new", &Ownership::mode(0o640), &SystemRandom).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(names(directory.path()), [".other.psf.io.pem.psfca-0badc0de", "postgresql.psf.io.pem"]);
    }

    #[test]
    fn the_longest_name_that_can_be_declared_can_be_installed() {
        let (directory, _) = place();
        let name = |length: usize| format!("{}.io", ["a".repeat(60).as_str(); 4].join(".").split_at(length - 3).0);
        let install = |length: usize| {
            let path = directory.path().join(format!("{}.pem", name(length)));
            install(&path, b"new", &Ownership::mode(0o600), &SystemRandom)
        };
        install(crate::declaration::LONGEST_NAME).unwrap();
        assert!(install(crate::declaration::LONGEST_NAME + 1).is_err(), "the limit is stricter than it has to be");
    }

    #[test]
    fn an_open_reader_keeps_the_old_file_whole() {
        let (_directory, path) = place();
        install(&path, b"old", &Ownership::mode(0o600), &SystemRandom).unwrap();
        let mut reader = fs::File::open(&path).unwrap();
        install(&path, b"new and longer", &Ownership::mode(0o600), &SystemRandom).unwrap();
        let mut seen = String::new();
        std::io::Read::read_to_string(&mut reader, &mut seen).unwrap();
        assert_eq!(seen, "old");
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_file_and_nothing_else() {
        struct NoRandom;
        impl Random for NoRandom {
            fn fill(&self, _: &mut [u8]) -> Result<(), NoRandomness> {
                Err(NoRandomness)
            }
        }
        let (directory, path) = place();
        fs::write(&path, "old").unwrap();
        assert!(install(&path, b"new", &Ownership::mode(0o600), &NoRandom).is_err());
        // A user number that nobody has can be set by root alone; root gets the other half of the test.
        if !rustix::process::geteuid().is_root() {
            let foreign = Ownership { user: Some(0), group: None, mode: 0o600 };
            assert!(install(&path, b"new", &foreign, &SystemRandom).is_err());
        }
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["postgresql.psf.io.pem"]);
    }

    #[test]
    fn a_place_that_others_control_is_refused() {
        let (directory, path) = place();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        let mode = Ownership::mode(0o600);
        assert!(matches!(install(&path, b"new", &mode, &SystemRandom), Err(InstallError::Unsafe { .. })));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        let through = install(&link.join("a.pem"), b"new", &mode, &SystemRandom);
        assert!(through.unwrap_err().to_string().contains("is a symbolic link"));
        let open = directory.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(install(&open.join("a.pem"), b"new", &mode, &SystemRandom).is_err());
    }

    #[test]
    fn owners_are_found_by_name_or_number() {
        let root = Ownership::resolve("root", "0", 0o640).unwrap();
        assert_eq!((root.user, root.group), (Some(0), Some(0)));
        let error = Ownership::resolve("root", "no-such-group", 0o640).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("there is no group \"no-such-group\"") && text.ends_with("set `group` in host.yaml"),
            "{text}"
        );
    }
}
