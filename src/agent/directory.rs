//! A directory that is held open: what is done in it is done there, whatever its name stands for by then.
//! Root writes keys into directories of service users, who may move and replace what is theirs at any time;
//! nothing here follows a link of theirs, and nothing is given away but by the open file.

mod way;

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

pub use way::{Astray, Way};

use super::files::Links;
use super::install::{InstallError, Ownership};
use crate::accounts;

/// Permission bits of whoever is neither owner nor in the group, and of the group.
const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;
/// The permission bits of a directory that was made here and not given away yet. Those that people make are not
/// sticky and closed.
const FRESH: u32 = 0o1700;
/// What a directory may get from the one that it is made in.
const SET_GROUP: u32 = 0o2000;

/// A directory that is held open.
#[derive(Debug)]
pub struct Directory {
    file: File,
}

impl Directory {
    /// Opens the directory of `target`, which is to be `owner`'s, if nobody else can decide what lies there.
    ///
    /// Nobody but its owner may write to it, or its group where this process gives nothing away. Where it
    /// does, as root, the directory and each directory and link on the way to it is root's or that of the file's owner;
    /// and below a directory or a link of the owner it is the owner's, since they could let it be any other.
    ///
    /// # Errors
    /// [`InstallError`] says what is wrong with the place.
    pub fn of(target: &Path, owner: &Ownership) -> Result<Self, InstallError> {
        let path = parent(target);
        let failed = |cause| InstallError::Io { path: target.to_owned(), step: "look at the directory", cause };
        let refuse = |cause: String| InstallError::Unsafe { path: target.to_owned(), cause };
        let belongs = |path: &Path, other, user| {
            let (other, user) = (accounts::user_name(other), accounts::user_name(user));
            let cause = format!("{} belongs to {other}, and the file is to be {user}'s", path.display());
            let or_theirs = if user == "root" { String::new() } else { format!(" or {user}'s") };
            refuse(format!("{cause}; the directories have to be root's{or_theirs} (docs/host.md)"))
        };
        let way = Way::to(path, owner.user, Links::Refused).map_err(|astray| match (astray, owner.user) {
            (Astray::Refused(cause), _) => failed(cause),
            (Astray::Directory(path, other) | Astray::Link(path, other), Some(user)) => belongs(&path, other, user),
            (astray, _) => refuse(astray.to_string()),
        })?;
        if way.file.metadata().map_err(failed)?.is_symlink() {
            return Err(refuse(format!("{} is a symbolic link; name the directory itself", path.display())));
        }
        let file = open_directory(&way.file, ".").map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if found.mode() & OTHERS_WRITE != 0 {
            return Err(refuse(format!("everybody may write to {}; chmod o-w it", path.display())));
        }
        if let Some(user) = owner.user {
            if found.mode() & GROUP_WRITES != 0 {
                return Err(refuse(format!("its group may write to {}; chmod g-w it", path.display())));
            }
            if found.uid() != user && (way.by_owner || found.uid() != 0) {
                return Err(belongs(path, found.uid(), user));
            }
        }
        Ok(Self { file })
    }

    /// A way to it that leads there as long as it is held, whatever stands at its path by then: for what takes paths.
    #[must_use]
    pub fn held(&self) -> PathBuf {
        way::held(&self.file)
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
        rustix::fs::mkdirat(&self.file, name, Mode::from_raw_mode(FRESH))?;
        self.fresh(name)
    }

    /// Opens the directory `name` that was just made. Whoever owns the directory above may have put another one there
    /// meanwhile, but none that looks like it: what is written into it is given away.
    fn fresh(&self, name: &str) -> io::Result<Self> {
        let made = Self { file: open_directory(&self.file, name)? };
        match made.is_fresh()? && made.names()?.is_empty() {
            true => Ok(made),
            false => Err(io::Error::other("somebody replaced it meanwhile")),
        }
    }

    fn is_fresh(&self) -> io::Result<bool> {
        let found = self.file.metadata()?;
        let ours = found.uid() == rustix::process::geteuid().as_raw();
        Ok(ours && found.mode() & 0o7777 & !SET_GROUP == FRESH)
    }

    fn names(&self) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(self.held())?.map(|entry| Ok(entry?.file_name())).collect()
    }

    /// Removes the link, the file, or the directory that was made here for `owner`, under `name`. Of a directory nothing
    /// goes but files with the names `entries`: one with anything else in it stays whole, and so does one that is
    /// neither `owner`'s nor left over by whoever was killed before it was given away, and one on a disk of its own.
    ///
    /// # Errors
    /// What the system says, or why a directory is left alone.
    pub fn clear(&self, name: &str, entries: &[&str], owner: &Ownership) -> io::Result<()> {
        match self.kind(name)? {
            Some(FileType::Directory) => {}
            Some(_) => return self.remove(name),
            None => return Ok(()),
        }
        let there = Self { file: open_directory(&self.file, name)? };
        let (found, here) = (there.file.metadata()?, self.file.metadata()?);
        let owners = found.uid() == owner.user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        if !(owners || there.is_fresh()?) || found.dev() != here.dev() {
            return Err(io::Error::other("psfca did not make this directory"));
        }
        if let Some(other) = there.names()?.iter().find(|name| entries.iter().all(|entry| *name != *entry)) {
            return Err(io::Error::other(format!("{} is in it, and not psfca's", other.display())));
        }
        for entry in entries {
            match there.remove(entry) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(rustix::fs::unlinkat(&self.file, name, AtFlags::REMOVEDIR)?)
    }

    /// What the symbolic link `name` says.
    ///
    /// # Errors
    /// What the system says; that it is no link is one.
    pub fn read_link(&self, name: &str) -> io::Result<PathBuf> {
        let text = rustix::fs::readlinkat(&self.file, name, Vec::new())?;
        Ok(OsString::from_vec(text.into_bytes()).into())
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

/// The directory that `path` lies in.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn open_directory(at: impl std::os::fd::AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty()).map(|fd: OwnedFd| File::from(fd))?)
}

#[cfg(test)]
mod tests;
