use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

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

#[test]
fn root_writes_into_no_directory_that_a_stranger_can_turn_round() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    const OWNER: u32 = 65_533;
    const STRANGER: u32 = 65_534;
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    let owner = Ownership { user: Some(OWNER), group: Some(OWNER), mode: 0o600 };
    let make = |path: &str, uid: u32, mode: u32| {
        let path = root.path().join(path);
        fs::create_dir_all(&path).unwrap();
        chown(&path, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    let install = |path: &str| install(&root.path().join(path), b"key", &owner, &SystemRandom);
    for (path, uid, mode) in [("roots", 0, 0o710), ("owners", OWNER, 0o700), ("owners/own", OWNER, 0o755)] {
        make(path, uid, mode);
        install(&format!("{path}/n.pem")).unwrap();
        let found = fs::metadata(root.path().join(path).join("n.pem")).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (OWNER, 0o600), "{path}");
    }
    make("strangers", STRANGER, 0o755);
    make("strangers/roots", 0, 0o755);
    make("group", 0, 0o775);
    make("group/roots", 0, 0o755);
    make("owners/roots", 0, 0o755);
    symlink(root.path().join("roots"), root.path().join("owners/link")).unwrap();
    make("roots/below", 0, 0o755);
    for (path, text) in [
        ("strangers", "strangers belongs to nobody"),
        ("strangers/roots", "strangers belongs to nobody"),
        ("group", "its group may write to"),
        ("group/roots", "others may write to"),
        // The owner can put a link in its place between any look and the writing.
        ("owners/roots", "owners/roots belongs to root"),
        ("owners/link", "is a symbolic link"),
        ("owners/link/below", "owners/link/below belongs to root"),
    ] {
        let error = install(&format!("{path}/n.pem")).unwrap_err().to_string();
        assert!(error.contains(text), "{path}: {error}");
    }
    assert_eq!(names(&root.path().join("roots")), ["below", "n.pem"]);
    assert_eq!(names(&root.path().join("roots/below")), [""; 0]);
}

#[test]
fn what_is_done_in_a_directory_is_done_there_whatever_takes_its_name() {
    let root = tempfile::tempdir().unwrap();
    let [place, elsewhere, moved] = ["place", "elsewhere", "moved"].map(|name| root.path().join(name));
    fs::create_dir(&place).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    let directory = check_place(&place.join("n.pem"), &Ownership::mode(0o600)).unwrap();
    fs::rename(&place, &moved).unwrap();
    symlink(&elsewhere, &place).unwrap();
    directory.create("t").unwrap();
    directory.rename("t", "n.pem").unwrap();
    directory.make_directory("d").unwrap();
    assert_eq!((names(&moved), names(&elsewhere)), (vec!["d".to_owned(), "n.pem".to_owned()], Vec::new()));
    // A directory that is given away is the one that was made.
    let made = directory.make_directory("e").unwrap();
    fs::rename(moved.join("e"), moved.join("f")).unwrap();
    symlink(&elsewhere, moved.join("e")).unwrap();
    made.give(&Ownership::mode(0o711), 0o711).unwrap();
    assert_eq!(fs::metadata(moved.join("f")).unwrap().mode() & 0o777, 0o711);
    assert_ne!(fs::metadata(&elsewhere).unwrap().mode() & 0o777, 0o711);
}
