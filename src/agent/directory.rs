//! A directory that is held open: what is done in it is done there, whatever its name stands for by then.
//! Root writes keys into directories of service users, who may move and replace what is theirs at any time;
//! nothing here follows a link of theirs, and nothing is given away but by the open file.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::install::{InstallError, Ownership};
use crate::accounts;

/// Permission bits of whoever is neither owner nor in the group, and of the group.
const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;
/// Only a file's owner may move it, as in `/tmp`.
const STICKY: u32 = 0o1000;

/// A directory that is held open.
#[derive(Debug)]
pub struct Directory {
    file: File,
}

impl Directory {
    /// Opens the directory of `target`, which is to be `owner`'s, if nobody else can decide what lies there.
    ///
    /// Nobody but its owner may write to it, or its group where this process gives nothing away. Where it
    /// does, as root, the directory and each above it is root's or that of the file's owner; and below a
    /// directory of the owner it is the owner's, since a link of theirs could lead to any other.
    ///
    /// # Errors
    /// [`InstallError`] says what is wrong with the place.
    pub fn of(target: &Path, owner: &Ownership) -> Result<Self, InstallError> {
        let path = parent(target);
        let failed = |cause| InstallError::Io { path: target.to_owned(), step: "look at the directory", cause };
        let refuse = |cause: String| InstallError::Unsafe { path: target.to_owned(), cause };
        if std::fs::symlink_metadata(path).map_err(failed)?.is_symlink() {
            return Err(refuse(format!("{} is a symbolic link; name the directory itself", path.display())));
        }
        let file = open_directory(rustix::fs::CWD, path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if found.mode() & OTHERS_WRITE != 0 {
            return Err(refuse(format!("everybody may write to {}; chmod o-w it", path.display())));
        }
        if let Some(user) = owner.user {
            if found.mode() & GROUP_WRITES != 0 {
                return Err(refuse(format!("its group may write to {}; chmod g-w it", path.display())));
            }
            let belongs = |path: &Path, other| {
                let (other, user) = (accounts::user_name(other), accounts::user_name(user));
                let cause = format!("{} belongs to {other}, and the file is to be {user}'s", path.display());
                let or_theirs = if user == "root" { String::new() } else { format!(" or {user}'s") };
                Err(refuse(format!("{cause}; the directories have to be root's{or_theirs} (docs/host.md)")))
            };
            let trusted = match above(path, user).map_err(failed)? {
                Above::Root => [0, user],
                Above::Owner => [user; 2],
                Above::Stranger(path, other) => return belongs(&path, other),
                Above::Open(path) => {
                    return Err(refuse(format!("others may write to {0}; chmod go-w {0}", path.display())));
                }
            };
            if !trusted.contains(&found.uid()) {
                return belongs(path, found.uid());
            }
        }
        Ok(Self { file })
    }

    /// A way to it that leads there as long as it is held, whatever stands at its path by then: for what takes paths.
    #[must_use]
    pub fn held(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.file.as_raw_fd().to_string())
    }

    /// What lies under `name`; none where nothing does. Links are not followed.
    ///
    /// # Errors
    /// What the system says.
    pub fn kind(&self, name: &str) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the new file `name`, closed to others.
    ///
    /// # Errors
    /// What the system says; that something is there is one.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.file, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)?)
    }

    /// Makes the new directory `name`, closed to others.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_directory(&self, name: &str) -> io::Result<Self> {
        rustix::fs::mkdirat(&self.file, name, Mode::RWXU)?;
        let file = open_directory(&self.file, Path::new(name))?;
        // Whoever owns the directory above may have put another one there meanwhile, but none of ours.
        if file.metadata()?.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("somebody replaced it meanwhile"));
        }
        Ok(Self { file })
    }

    /// Makes the new symbolic link `name` to `target`.
    ///
    /// # Errors
    /// What the system says.
    pub fn link(&self, target: &str, name: &str) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.file, name)?)
    }

    /// Renames within this directory, over what is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.file, from, &self.file, to)?)
    }

    /// Removes a file or a link.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.file, name, AtFlags::empty())?)
    }

    /// Gives the directory itself away, and sets its permission bits.
    ///
    /// # Errors
    /// What the system says, and at which step.
    pub fn give(&self, owner: &Ownership, mode: u32) -> Result<(), (&'static str, io::Error)> {
        give(&self.file, owner, mode)
    }

    /// Makes what was done in it survive a power cut.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Gives an open file away, and then sets its permission bits, because a change of owner may clear some.
///
/// # Errors
/// What the system says, and at which step.
pub fn give(file: &File, owner: &Ownership, mode: u32) -> Result<(), (&'static str, io::Error)> {
    if owner.user.is_some() || owner.group.is_some() {
        std::os::unix::fs::fchown(file, owner.user, owner.group).map_err(|cause| ("set the owner", cause))?;
    }
    file.set_permissions(Permissions::from_mode(mode)).map_err(|cause| ("set the mode", cause))
}

/// Whether root and this user alone decide what lies at `path`: who may write to any directory on the way there, as
/// it is named and where links lead to.
///
/// # Errors
/// What the system says.
pub fn intruder(path: &Path) -> io::Result<Option<String>> {
    Ok(match above(path, rustix::process::geteuid().as_raw())? {
        Above::Root | Above::Owner => None,
        Above::Stranger(path, owner) => {
            Some(format!("{} belongs to {}, who could replace it", path.display(), accounts::user_name(owner)))
        }
        Above::Open(path) => Some(format!("others may write to {0}; chmod go-w {0}", path.display())),
    })
}

/// The directory that `path` lies in.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn open_directory(at: impl std::os::fd::AsFd, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, path, flags, Mode::empty()).map(|fd: OwnedFd| File::from(fd))?)
}

/// Who decides what lies above a place.
enum Above {
    /// Root alone.
    Root,
    /// Root, and the owner that the file is to have.
    Owner,
    /// Somebody else: which directory, and whose it is.
    Stranger(PathBuf, u32),
    /// Everybody, or a group.
    Open(PathBuf),
}

/// Looks at each directory above `directory`, as it is named and where links lead to.
fn above(directory: &Path, user: u32) -> io::Result<Above> {
    let mut found = Above::Root;
    for path in [std::path::absolute(directory)?, directory.canonicalize()?] {
        for above in path.ancestors().skip(1) {
            let metadata = std::fs::metadata(above)?;
            if metadata.mode() & (OTHERS_WRITE | GROUP_WRITES) != 0 && metadata.mode() & STICKY == 0 {
                return Ok(Above::Open(above.to_owned()));
            }
            match metadata.uid() {
                0 => {}
                owner if owner == user => found = Above::Owner,
                owner => return Ok(Above::Stranger(above.to_owned(), owner)),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::agent::install;

    #[test]
    fn what_is_looked_for_and_removed_in_a_held_directory_is_there_wherever_its_path_leads_by_now() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for directory in ["theirs/.tls.psfca-0bad", "anothers/.tls.psfca-c0de"] {
            std::fs::create_dir_all(at(directory)).unwrap();
        }
        let directory = Directory::of(&at("theirs/tls"), &Ownership::mode(0o600)).unwrap();
        std::fs::rename(at("theirs"), at("moved")).unwrap();
        symlink(at("anothers"), at("theirs")).unwrap();

        for marked in install::marked(&directory.held(), |of| of == "tls") {
            std::fs::remove_dir_all(marked).unwrap();
        }
        assert!(at("anothers/.tls.psfca-c0de").exists() && !at("moved/.tls.psfca-0bad").exists());
    }
}
