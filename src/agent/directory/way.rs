//! Goes to a place one name after the other, as the system would, and judges each directory and each link that it
//! comes to. What lies at the end is held open, so that nothing has to be looked up by its name again.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{GROUP_WRITES, OTHERS_WRITE};
use crate::accounts;
use crate::agent::files::Links;

/// Only a file's owner may move it, as in `/tmp`.
const STICKY: u32 = 0o1000;
/// The most links on one way, as for the system.
const MAX_LINKS: usize = 40;

/// Why a place is not gone to.
#[derive(Debug, thiserror::Error)]
pub enum Astray {
    /// The system refuses a step.
    #[error(transparent)]
    Refused(#[from] io::Error),
    /// A directory on the way is somebody else's.
    #[error("{} belongs to {}, who could replace it", .0.display(), accounts::user_name(*.1))]
    Directory(PathBuf, u32),
    /// A link on the way is somebody else's.
    #[error("its link belongs to {}: {}", accounts::user_name(*.1), .0.display())]
    Link(PathBuf, u32),
    /// Everybody, or a group, may write to a directory on the way.
    #[error("others may write to {path}; chmod go-w {path}", path = .0.display())]
    Open(PathBuf),
}

/// A place that was gone to.
#[derive(Debug)]
pub struct Way {
    /// What lies there, held open and not to be read by: a file, a directory, or a link that is not followed.
    pub file: File,
    /// Where that is, without any link.
    pub path: PathBuf,
    /// Whether a directory that it was looked up in, or a link, is the owner's and not root's.
    pub by_owner: bool,
}

impl Way {
    /// Goes to `path`, also beyond a link that is its last name where `links` are followed. Where `owner` is given, each
    /// directory in which a name is looked up and each link has to be root's or that user's, and no such directory
    /// may be open to a group or to everybody, unless it is sticky: so nobody else can change any of it, now or later.
    ///
    /// # Errors
    /// [`Astray`] names the first thing on the way that is wrong.
    pub fn to(path: &Path, owner: Option<u32>, links: Links) -> Result<Self, Astray> {
        let mut way = Self { file: root()?, path: "/".into(), by_owner: false };
        let mut ahead = names(&std::path::absolute(path)?);
        let mut followed = 0;
        while let Some(name) = ahead.pop() {
            if name == "/" {
                (way.file, way.path) = (root()?, "/".into());
                continue;
            }
            way.judge_directory(owner)?;
            let next = open(&way.file, &name)?;
            let found = next.metadata()?;
            if found.is_symlink() && (links == Links::Followed || !ahead.is_empty()) {
                way.judge(owner, found.uid(), |way, other| Astray::Link(way.path.join(&name), other))?;
                followed += 1;
                if followed > MAX_LINKS {
                    return Err(io::Error::from(Errno::LOOP).into());
                }
                let text = rustix::fs::readlinkat(&next, "", Vec::new()).map_err(io::Error::from)?;
                ahead.extend(names(Path::new(&OsString::from_vec(text.into_bytes()))));
                continue;
            }
            way.file = next;
            if name == ".." {
                way.path.pop();
            } else {
                way.path.push(name);
            }
        }
        Ok(way)
    }

    /// A path that leads to what lies there as long as it is held: for what takes paths.
    #[must_use]
    pub fn held(&self) -> PathBuf {
        held(&self.file)
    }

    fn judge_directory(&mut self, owner: Option<u32>) -> Result<(), Astray> {
        let found = self.file.metadata()?;
        if owner.is_some() && found.mode() & (OTHERS_WRITE | GROUP_WRITES) != 0 && found.mode() & STICKY == 0 {
            return Err(Astray::Open(self.path.clone()));
        }
        self.judge(owner, found.uid(), |way, other| Astray::Directory(way.path.clone(), other))
    }

    fn judge(&mut self, owner: Option<u32>, found: u32, stranger: impl Fn(&Self, u32) -> Astray) -> Result<(), Astray> {
        match owner {
            Some(owner) if found != 0 && found != owner => Err(stranger(self, found)),
            Some(_) => {
                self.by_owner |= found != 0;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// A path that leads to an open file as long as it is held.
pub(super) fn held(file: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
}

/// The names of a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().filter(|part| *part != Component::CurDir);
    names.rev().map(|part| part.as_os_str().to_owned()).collect()
}

fn root() -> io::Result<File> {
    open(rustix::fs::CWD, OsStr::new("/"))
}

fn open(at: impl AsFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // As a directory first: what is mounted when it is needed is not mounted for less.
    let opened = match rustix::fs::openat(&at, name, flags | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::NOTDIR) => rustix::fs::openat(&at, name, flags, Mode::empty()),
        opened => opened,
    };
    Ok(opened.map(File::from)?)
}
