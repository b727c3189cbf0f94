//! The password of a copy in PKCS#12, from a file of its own: never from `host.yaml`, which everybody may read.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::directory::{Astray, Way};
use super::files::{self, Links, Unread};
use super::install::InstallError;
use crate::accounts;
use crate::ca::pkcs12::Password;

/// Permission bits that such a file must not have: its group may read it, as the service has to.
const TOO_OPEN: u32 = 0o027;

/// Reads the password in the file `path`, which belongs to root or to whoever runs this, is no link, and is closed to
/// others; nobody else decides what lies there.
///
/// # Errors
/// [`InstallError::PasswordFile`] says what is wrong, and never what is in the file.
pub fn read(path: &Path) -> Result<Password, InstallError> {
    let refuse = |cause: String| InstallError::PasswordFile { path: path.to_owned(), cause };
    let us = rustix::process::geteuid().as_raw();
    let way = Way::to(path, Some(us), Links::Refused).map_err(|astray| match astray {
        Astray::Refused(error) if error.kind() == ErrorKind::NotFound => refuse("there is no such file".to_owned()),
        astray => refuse(astray.to_string()),
    })?;
    // The very one that was come to.
    let (found, text) = files::read(&way.held(), Links::Followed).map_err(|unread| {
        refuse(match unread {
            Unread::Absent => "there is no such file".to_owned(),
            Unread::Unfit(cause) => cause,
            Unread::Failed(error) => error.to_string(),
        })
    })?;
    if ![0, us].contains(&found.uid()) {
        let owner = accounts::user_name(found.uid());
        return Err(refuse(format!("it belongs to {owner}; run: chown root {}", path.display())));
    }
    if found.mode() & TOO_OPEN != 0 {
        let mode = found.mode() & 0o7777;
        return Err(refuse(format!("it has mode {mode:04o}; run: chmod 640 {}", path.display())));
    }
    Password::parse(&text).map_err(|error| refuse(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn a_password_is_taken_only_from_a_file_that_is_closed_to_others_and_nobody_elses() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.password");
        let refused = || read(&path).unwrap_err().to_string();
        assert!(refused().contains("there is no such file"), "{}", refused());
        fs::write(&path, "correct horse\n").unwrap();
        for (mode, good) in
            [(0o600, true), (0o640, true), (0o400, true), (0o644, false), (0o660, false), (0o604, false)]
        {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), good, "{mode:04o}");
            assert!(good || refused().contains(&format!("it has mode {mode:04o}; run: chmod 640 ")), "{}", refused());
        }
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();

        let directory = |mode| fs::set_permissions(root.path(), Permissions::from_mode(mode)).unwrap();
        directory(0o777);
        assert!(refused().contains("others may write to "), "{}", refused());
        directory(0o700);
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(1), None).unwrap();
            assert!(refused().contains("; run: chown root "), "{}", refused());
            chown(&path, Some(0), None).unwrap();
            // A link of root's to a directory of root's, by way of what a stranger can change.
            let at = |name: &str| root.path().join(name);
            fs::create_dir(at("theirs")).unwrap();
            symlink(root.path(), at("theirs/current")).unwrap();
            symlink("theirs/current", at("link")).unwrap();
            read(&at("link/a.password")).unwrap();
            chown(at("theirs"), Some(1), None).unwrap();
            let refused = read(&at("link/a.password")).unwrap_err().to_string();
            assert!(refused.contains("/theirs belongs to "), "{refused}");
        }
        let moved = root.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        assert!(refused().contains("it is a symbolic link"), "{}", refused());
        assert!(!refused().contains("horse"));
    }
}
