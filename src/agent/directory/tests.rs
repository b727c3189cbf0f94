use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, lchown, symlink};

use super::*;
use crate::agent::install;

const OWNER: u32 = 65_533;
const STRANGER: u32 = 65_534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A directory that belongs to whoever runs this and is closed to others, without any link in its path.
fn place() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().canonicalize().unwrap();
    (place, path)
}

#[test]
fn what_is_looked_for_and_removed_in_a_held_directory_is_there_wherever_its_path_leads_by_now() {
    let (_place, path) = place();
    let at = |name: &str| path.join(name);
    for directory in ["theirs/.tls.psfca-0bad", "anothers/.tls.psfca-c0de"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    let owner = Ownership::mode(0o600);
    let directory = Directory::of(&at("theirs/tls"), &owner).unwrap();
    fs::rename(at("theirs"), at("moved")).unwrap();
    symlink(at("anothers"), at("theirs")).unwrap();

    for marked in install::marked(&directory.held(), |of| of == "tls") {
        directory.clear(marked.file_name().unwrap().to_str().unwrap(), &[], &owner).unwrap();
    }
    assert!(at("anothers/.tls.psfca-c0de").exists() && !at("moved/.tls.psfca-0bad").exists());
}

#[test]
fn a_way_ends_where_the_system_s_own_does() {
    let (_place, path) = place();
    let at = |name: &str| path.join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    fs::write(at("a/b/file"), "x").unwrap();
    for (text, link) in [
        ("a", "relative"),
        ("../b", "a/b/up"),
        ("./b//up/./up", "a/long"),
        ("long/file", "a/last"),
        ("loop", "loop"),
        ("two", "one"),
        ("one", "two"),
        ("nowhere", "dangling"),
        ("/..", "top"),
    ] {
        symlink(text, at(link)).unwrap();
    }
    symlink(at("a/long"), at("absolute")).unwrap();
    symlink("/", at("root")).unwrap();
    let names = "a a/b/file relative/b a/b/up/file a/last absolute/up/../last absolute/ a/b/file/.. a/b/file/x root top \
                 root/etc/.. ../.. loop one/x dangling a/none none/x .";
    let system = ["/", "/bin/sh", "/proc/self", "/etc/mtab", "/var/run/..", "/dev/stdin/x"].map(PathBuf::from);
    let ours = names.split_whitespace().map(at).chain([at("root").join(at("a/last").strip_prefix("/").unwrap())]);
    for path in ours.chain(system) {
        let (there, way) = (path.canonicalize(), Way::to(&path, None, Links::Followed));
        match (there, way) {
            (Ok(there), Ok(way)) => {
                assert_eq!(way.path, there, "{}", path.display());
                let [found, wanted] = [way.file.metadata(), fs::metadata(there)].map(Result::unwrap);
                assert_eq!((found.dev(), found.ino()), (wanted.dev(), wanted.ino()), "{}", path.display());
            }
            (Err(there), Err(Astray::Refused(way))) => {
                assert_eq!(way.raw_os_error(), there.raw_os_error(), "{}", path.display());
            }
            (there, way) => panic!("{}: {there:?} {way:?}", path.display()),
        }
    }
    // The last name alone may be a link that is not followed.
    let way = Way::to(&at("relative/last"), None, Links::Refused).unwrap();
    assert!(way.file.metadata().unwrap().is_symlink() && way.path == at("a/last"));
}

#[test]
fn whoever_owns_a_directory_or_a_link_on_a_way_is_root_or_the_owner() {
    if !is_root() {
        return;
    }
    let (_place, path) = place();
    let at = |name: &str| path.join(name);
    for directory in ["mine/sub", "theirs", "theirs/sub", "roots/sub", "open", "sticky/sub"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    for (link, text, owner) in [
        ("mine/to-roots", "../roots", OWNER),
        ("to-mine", "mine", 0),
        ("mine/back", "..", OWNER),
        ("roots/through-mine", "../mine/back/roots/sub", 0),
        ("theirs/cur", "../roots", STRANGER),
        // A link of root's to root's own directory: what a stranger owns lies between.
        ("through-theirs", "theirs/cur", 0),
        ("roots/strangers-link", "sub", STRANGER),
        ("sticky/strangers-link", "sub", STRANGER),
        ("sticky/owners-link", "sub", OWNER),
        ("through-open", "open/../roots", 0),
    ] {
        symlink(text, at(link)).unwrap();
        lchown(at(link), Some(owner), None).unwrap();
    }
    chown(at("mine"), Some(OWNER), None).unwrap();
    chown(at("mine/sub"), Some(OWNER), None).unwrap();
    chown(at("theirs"), Some(STRANGER), None).unwrap();
    fs::set_permissions(at("open"), Permissions::from_mode(0o775)).unwrap();
    fs::set_permissions(at("sticky"), Permissions::from_mode(0o1777)).unwrap();
    let belongs = |path: &str| format!("{} belongs to nobody, who could replace it", at(path).display());
    let link = |path: &str| format!("its link belongs to nobody: {}", at(path).display());
    let open = format!("others may write to {0}; chmod go-w {0}", at("open").display());
    for (to, wanted) in [
        ("roots/sub/x", Ok(false)),
        ("mine/sub/x", Ok(true)),
        ("to-mine/sub/x", Ok(true)),
        ("mine/to-roots/sub/x", Ok(true)),
        ("roots/through-mine/x", Ok(true)),
        ("sticky/sub/x", Ok(false)),
        ("sticky/owners-link/x", Ok(true)),
        ("theirs/x", Err(belongs("theirs"))),
        ("theirs/sub/x", Err(belongs("theirs"))),
        ("theirs/../roots/sub/x", Err(belongs("theirs"))),
        ("through-theirs/sub/x", Err(belongs("theirs"))),
        ("roots/strangers-link/x", Err(link("roots/strangers-link"))),
        ("sticky/strangers-link/x", Err(link("sticky/strangers-link"))),
        ("open/x", Err(open.clone())),
        ("through-open/sub/x", Err(open.clone())),
    ] {
        let parent = fs::canonicalize(parent(&at(to))).unwrap();
        fs::write(parent.join("x"), "").unwrap();
        let way = Way::to(&at(to), Some(OWNER), Links::Refused);
        assert_eq!(way.map(|way| way.by_owner).map_err(|astray| astray.to_string()), wanted, "{to}");
        // Below what the owner can turn round a file goes into a directory of theirs alone.
        let owner = Ownership { user: Some(OWNER), group: None, mode: 0o600 };
        let theirs = fs::metadata(&parent).unwrap().uid() == OWNER;
        assert_eq!(Directory::of(&at(to), &owner).is_ok(), wanted.is_ok_and(|by_owner| !by_owner || theirs), "{to}");
    }
}

#[test]
fn what_a_way_led_to_is_held_whatever_takes_its_name() {
    let (_place, path) = place();
    let at = |name: &str| path.join(name);
    for directory in ["v1", "evil"] {
        fs::create_dir(at(directory)).unwrap();
        fs::write(at(directory).join("hook"), directory).unwrap();
    }
    symlink("v1", at("current")).unwrap();
    let way = Way::to(&at("current/hook"), Some(rustix::process::geteuid().as_raw()), Links::Followed).unwrap();
    fs::remove_file(at("current")).unwrap();
    symlink("evil", at("current")).unwrap();
    assert_eq!((fs::read(&way.path).unwrap(), fs::read(at("current/hook")).unwrap()), (b"v1".into(), b"evil".into()));
    fs::rename(at("evil/hook"), at("v1/hook")).unwrap();
    assert_eq!(fs::read(way.held()).unwrap(), b"v1");
}

#[test]
fn nothing_is_written_into_or_given_away_but_a_directory_that_was_just_made() {
    let (_place, path) = place();
    let directory = Directory::of(&path.join("tls"), &Ownership::mode(0o600)).unwrap();
    let make = |name: &str, mode: u32| {
        fs::DirBuilder::new().mode(mode).create(path.join(name)).unwrap();
    };
    // What the owner of the directory above moves there, between the making and the opening.
    make("closed", 0o700);
    make("filled", FRESH);
    fs::write(path.join("filled/kept"), "root's").unwrap();
    make("real", FRESH);
    symlink("real", path.join("link")).unwrap();
    for name in ["closed", "filled", "link", "none"] {
        assert!(directory.fresh(name).is_err(), "{name}");
    }
    if is_root() {
        make("anothers", FRESH);
        chown(path.join("anothers"), Some(STRANGER), None).unwrap();
        assert!(directory.fresh("anothers").is_err());
    }
    directory.fresh("real").unwrap();
    // Also where new directories get the group of the one that they are made in.
    fs::set_permissions(&path, Permissions::from_mode(0o2700)).unwrap();
    directory.make_directory("made").unwrap();
    assert!(directory.make_directory("made").is_err());
}

#[test]
fn of_a_directory_nothing_is_removed_but_the_entries_of_one_that_was_made_here() {
    let (_place, path) = place();
    let owner = Ownership { user: is_root().then_some(OWNER), group: None, mode: 0o600 };
    let directory = Directory::of(&path.join("tls"), &Ownership::mode(0o600)).unwrap();
    let made = |name: &str, files: &[&str]| {
        let made = directory.make_directory(name).unwrap();
        for file in files {
            made.create(file).unwrap();
        }
        made
    };
    // Left over by a kill before and after it was given away.
    made("begun", &["tls.crt"]);
    made("done", &["tls.crt", "tls.key"]).give(&owner, 0o750).unwrap();
    made("more", &["tls.crt", "other"]).give(&owner, 0o750).unwrap();
    made("begun-more", &["tls.crt", "other"]);
    made("deep", &["tls.crt"]).give(&owner, 0o750).unwrap();
    fs::create_dir_all(path.join("deep/tls.key/x")).unwrap();
    fs::create_dir(path.join("elsewhere")).unwrap();
    fs::write(path.join("elsewhere/tls.key"), "").unwrap();
    symlink("elsewhere", path.join("link")).unwrap();
    let clear = |name: &str| directory.clear(name, &["tls.crt", "tls.key"], &owner).map_err(|error| error.to_string());
    for name in ["begun", "done", "link", "none"] {
        clear(name).unwrap();
        assert!(fs::symlink_metadata(path.join(name)).is_err(), "{name}");
    }
    for name in ["more", "begun-more"] {
        assert_eq!(clear(name), Err("other is in it, and not psfca's".to_owned()), "{name}");
        assert!(path.join(name).join("tls.crt").exists(), "{name}");
    }
    clear("deep").unwrap_err();
    assert!(path.join("deep/tls.key/x").exists() && path.join("elsewhere/tls.key").exists());
    if is_root() {
        for (name, uid, mode) in [("roots", 0, 0o700), ("roots-empty", 0, 0o755), ("strangers", STRANGER, FRESH)] {
            fs::create_dir(path.join(name)).unwrap();
            chown(path.join(name), Some(uid), None).unwrap();
            fs::set_permissions(path.join(name), Permissions::from_mode(mode)).unwrap();
            assert_eq!(clear(name), Err("psfca did not make this directory".to_owned()), "{name}");
        }
    }
}
