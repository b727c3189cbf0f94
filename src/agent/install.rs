//! Puts a file in place so that a reader sees the old one or the new one and never a part of
//! either (rule R4), whatever happens in between (rule R9).

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::directory::{self, Directory};
use crate::accounts::{self, AccountError};
use crate::ca::pkcs12::Pkcs12Error;
use crate::digest::hex;
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
    /// A file that was to be removed stays.
    #[error("{path} is not removed: {cause}")]
    NotRemoved {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A copy is to have a password, and there is none that can be used.
    #[error("the password file {path} is not used: {cause}")]
    PasswordFile {
        /// The file with the password.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        cause: String,
    },
    /// A bundle cannot be put into this form.
    #[error(transparent)]
    Pkcs12(#[from] Pkcs12Error),
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
    let directory = check_place(path, owner)?;
    let name = file_name(path)?;
    clear_leftovers(&directory.held(), |of| of == name);

    let temporary = temporary_name(name, random)?;
    let written = write(path, &directory, &temporary, content, owner).and_then(|()| {
        // The only step that a reader can see.
        directory.rename(&temporary, name).map_err(|cause| io(path, "rename", cause))
    });
    if written.is_err() {
        // Best effort: what stays is cleared by the next call.
        let _ = directory.remove(&temporary);
        return written;
    }
    directory.sync().map_err(|cause| io(path, "fsync of the directory", cause))
}

/// A free name that tells whose it is beside `name`, should a crash leave it there.
///
/// # Errors
/// [`InstallError::Random`].
pub fn temporary_name(name: &str, random: &dyn Random) -> Result<String, InstallError> {
    let mut suffix = [0; 8];
    random.fill(&mut suffix)?;
    Ok(format!(".{name}{MARK}{}", hex(&suffix)))
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

/// The last part of `path`.
///
/// # Errors
/// [`InstallError::Unsafe`] when it names no file.
pub fn file_name(path: &Path) -> Result<&str, InstallError> {
    path.file_name().and_then(|name| name.to_str()).ok_or_else(|| InstallError::Unsafe {
        path: path.to_owned(),
        cause: "it does not name a file in a directory".to_owned(),
    })
}

/// A private key goes only where nobody else can redirect it; the directory that it goes to, held open.
///
/// # Errors
/// [`InstallError`] says what is wrong with the place.
pub fn check_place(path: &Path, owner: &Ownership) -> Result<Directory, InstallError> {
    free_for(FileType::RegularFile, path, owner, "something that is no regular file is there; move it away first")
}

/// The same for a place that gets a symbolic link to a directory of ours.
///
/// # Errors
/// [`InstallError`] says what is wrong with the place.
pub fn check_link_place(path: &Path, owner: &Ownership) -> Result<Directory, InstallError> {
    free_for(FileType::Symlink, path, owner, "something that is no link of psfca's is there; move it away first")
}

fn free_for(kind: FileType, path: &Path, owner: &Ownership, otherwise: &str) -> Result<Directory, InstallError> {
    let name = file_name(path)?;
    let directory = Directory::of(path, owner)?;
    match directory.kind(name).map_err(|cause| io(path, "look at what is there", cause))? {
        Some(there) if there != kind => {
            Err(InstallError::Unsafe { path: path.to_owned(), cause: otherwise.to_owned() })
        }
        _ => Ok(directory),
    }
}

fn write(
    path: &Path,
    directory: &Directory,
    temporary: &str,
    content: &[u8],
    owner: &Ownership,
) -> Result<(), InstallError> {
    let mut file = directory.create(temporary).map_err(|cause| io(path, "make a temporary file", cause))?;
    file.write_all(content).map_err(|cause| io(path, "write", cause))?;
    directory::give(&file, owner, owner.mode).map_err(|(step, cause)| io(path, step, cause))?;
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

/// What [`temporary_name`] named beside the files whose names are `ours`.
pub fn marked(directory: &Path, ours: impl Fn(&str) -> bool) -> impl Iterator<Item = PathBuf> {
    let is_marked = move |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let of = name.to_str().and_then(|name| name.strip_prefix('.')?.split_once(MARK));
        of.is_some_and(|(of, suffix)| ours(of) && !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    fs::read_dir(directory).into_iter().flatten().flatten().filter(is_marked).map(|entry| entry.path())
}

#[cfg(test)]
mod tests;
