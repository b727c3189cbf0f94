//! A host never loses a working bundle (R4), wherever a run ends (R9): the order of the system calls, a kill at each of
//! them while somebody reads all the time, and what becomes of the old bundle when a new one cannot be put in place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs::{self, File, Metadata, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use psfca::ca::bundle::Bundle;
use support::strace::killed_at;
use support::tools::{said, say, strace_works, succeed, wrapped};
use support::{Ca, Host};

const NAME: &str = "postgresql.psf.io";
/// What this host may have, by the declaration that the tests begin with.
const NAMES: [&str; 3] = [NAME, "app.psf.io", "made.psf.io"];
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A CA and a host that has all its bundles.
fn working() -> (Ca, Host) {
    // A run for each step at which one can be killed is more than a host may ask for by default.
    let mut ca = Ca::made_with("limits: {issue_burst: 10000}\n");
    ca.serve();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    host.ok(&["renew"]);
    (ca, host)
}

/// A bundle as a service needs it: whole, the key fits, and its group alone can read it.
fn sound(text: &[u8], metadata: &Metadata, group: Option<u32>) {
    let bundle = Bundle::parse(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)));
    assert_eq!(bundle.chain().certificates().len(), 2);
    assert_eq!(metadata.mode() & 0o7777, 0o640);
    if let Some(group) = group {
        assert_eq!((metadata.uid(), metadata.gid()), (0, group));
    }
}

/// The number of the group that bundles get; none where this test may not give files away.
fn bundle_group() -> Option<u32> {
    is_root().then(|| succeed("getent", &["group", "ssl-cert"]).split(':').nth(2).unwrap().parse().unwrap())
}

fn hidden_files(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

/// What a run did to the files in one directory, in order, from the creation of a temporary file on.
fn steps(command: &Command, directory: &Path, target: &str, temporary: &str) -> Vec<String> {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log").to_str().unwrap().to_owned();
    let calls = "trace=openat,write,ftruncate,?chown,?lchown,fchown,fchownat,?chmod,fchmod,fchmodat,fsync,fdatasync,\
                 ?rename,?renameat,renameat2,?unlink,unlinkat,?link,linkat,?symlink,symlinkat";
    // No umask may widen what is made.
    let strace = ["sh", "-c", "umask 0; exec \"$@\"", "sh", "strace", "-f", "-y", "-s0", "-o", &log, "-e", calls];
    let output = wrapped(&strace, command).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let directory = directory.canonicalize().unwrap().to_str().unwrap().to_owned();
    let replace =
        |pattern: &str, by: &str, text: &str| regex::Regex::new(pattern).unwrap().replace_all(text, by).into_owned();
    let text = fs::read_to_string(log).unwrap();
    // What is done in an open directory, by the whole path.
    let text = replace(&format!(r#"\d+<({})>, "([^"/]+)""#, regex::escape(&directory)), r#""$1/$2""#, &text);
    let text = replace(&format!("{}/{temporary}", regex::escape(&directory)), "TEMPORARY", &text);
    let text = text.replace(&format!("{directory}/{target}"), "TARGET");
    let text = replace(&format!(r"{}([\x22>])", regex::escape(&directory)), "DIRECTORY$1", &text);
    // Process, descriptor, working directory, contents and what came back are not of interest, if it worked.
    let text = replace(r"(?m)^\d+ +", "", &text);
    let text = replace(r"\d+<(TEMPORARY|TARGET|DIRECTORY)>", "$1", &text);
    let text = replace(r"AT_FDCWD<[^>]*>, ", "", &text);
    // Nothing on 64 bits, and not every libc says it.
    let text = text.replace("O_LARGEFILE|", "");
    // So that the word stands for the one directory.
    let text = text.replace("|O_DIRECTORY", "");
    let text = replace(r#", ""\.\.\., \d+\)"#, ", …)", &text);
    let text = replace(r"(?m) += (\d+|TEMPORARY|DIRECTORY)$", "", &text);
    let lines = text.lines().filter(|line| ["TEMPORARY", "TARGET", "DIRECTORY"].iter().any(|path| line.contains(path)));
    let mut steps: Vec<String> = lines.map(ToOwned::to_owned).skip_while(|line| !line.contains("TEMPORARY")).collect();
    steps.dedup();
    steps
}

#[test]
fn a_bundle_is_whole_durable_and_its_groups_before_anybody_can_see_it() {
    if !strace_works() {
        return;
    }
    let (_ca, host) = working();
    let temporary = r"\.postgresql\.psf\.io\.pem\.psfca-[0-9a-f]{16}";
    let found = steps(&host.command(&["issue", NAME]), &host.dir().join("bundles"), "postgresql.psf.io.pem", temporary);
    let owner = bundle_group().map(|group| format!("fchown(TEMPORARY, 0, {group})"));
    let mut expected = vec![
        r#"openat("TEMPORARY", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600)"#.to_owned(),
        "write(TEMPORARY, …)".to_owned(),
    ];
    expected.extend(owner);
    expected.extend(
        ["fchmod(TEMPORARY, 0640)", "fsync(TEMPORARY)", r#"renameat("TEMPORARY", "TARGET")"#, "fsync(DIRECTORY)"]
            .map(ToOwned::to_owned),
    );
    let (installed, after) = found.split_at(expected.len().min(found.len()));
    assert_eq!(installed, expected);
    assert!(after.iter().all(|step| step.contains("O_RDONLY")), "to tell the CA, it is only read: {after:?}");
    sound(&fs::read(host.bundle(NAME)).unwrap(), &fs::metadata(host.bundle(NAME)).unwrap(), bundle_group());
}

#[test]
fn an_identity_is_replaced_as_carefully_and_only_after_its_key_is_safe() {
    if !strace_works() {
        return;
    }
    let (_ca, host) = working();
    let command = host.command(&["renew", "--force"]);
    let state = host.dir().join("state");
    let careful = |file: &str| {
        let found = steps(&command, &state, file, &format!(r"\.{file}\.new"));
        let made = found.iter().position(|step| step.contains("O_CREAT|O_EXCL")).unwrap();
        assert!(found[made].ends_with("0600)"), "{found:?}");
        let expected = [
            "fchmod(TEMPORARY, 0600)",
            "write(TEMPORARY, …)",
            "fsync(TEMPORARY)",
            r#"rename("TEMPORARY", "TARGET")"#,
            r#"openat("DIRECTORY", O_RDONLY|O_CLOEXEC)"#,
            "fsync(DIRECTORY)",
        ];
        assert_eq!(found[made + 1..made + 7], expected);
    };
    careful("pending-key.pem");
    careful("enrolment.json");
    careful("ledger.json");
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o7777, 0o700);
    for entry in fs::read_dir(&state).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o7777, 0o600, "{entry:?}");
    }
}

/// The n-th calls of each kind that touch this host's files.
fn points(command: &Command, host: &Host) -> Vec<(&'static str, usize)> {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log").to_str().unwrap().to_owned();
    let kinds = ["openat", "write", "fchown", "fchmod", "fsync", "rename", "renameat", "unlink", "unlinkat", "close"];
    let trace = format!("trace={}", kinds.join(","));
    let output = wrapped(&["strace", "-y", "-o", &log, "-e", &trace], command).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let (log, here) = (fs::read_to_string(log).unwrap(), host.dir().canonicalize().unwrap());
    let mut points = Vec::new();
    for kind in kinds {
        let calls = log.lines().filter(|line| line.starts_with(&format!("{kind}("))).enumerate();
        let ours = calls.filter(|(_, line)| line.contains(here.to_str().unwrap()));
        points.extend(ours.map(|(at, _)| (kind, at + 1)));
    }
    points
}

/// Reads `path` all the time and believes nothing; `stop` ends it.
fn watch(path: &Path, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    let (path, stop, group) = (path.to_owned(), Arc::clone(stop), bundle_group());
    std::thread::spawn(move || {
        let (mut last, mut seen) = (Vec::new(), 0);
        while !stop.load(Ordering::Relaxed) {
            let mut file = File::open(&path).expect("there is a bundle at any moment");
            let mut text = Vec::new();
            file.read_to_end(&mut text).unwrap();
            if text != last {
                sound(&text, &file.metadata().unwrap(), group);
                (last, seen) = (text, seen + 1);
            }
        }
        seen
    })
}

#[test]
fn a_kill_at_any_point_costs_no_bundle_and_the_next_run_converges() {
    if !strace_works() {
        return;
    }
    let (_ca, host) = working();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = watch(&host.bundle(NAME), &stop);
    let bundles = host.dir().join("bundles");
    let (mut kills, mut torn) = (0, 0);
    for args in [&["issue", NAME][..], &["renew", "--force"]] {
        let command = host.command(args);
        for (call, n) in points(&command, &host) {
            kills += usize::from(killed_at(&command, call, n));
            assert!(!reader.is_finished(), "the reader saw something: {:?}", reader.join());
            for name in NAMES {
                let path = host.bundle(name);
                sound(&fs::read(&path).unwrap(), &fs::metadata(&path).unwrap(), bundle_group());
            }
            for left in hidden_files(&bundles) {
                torn += 1;
                let mode = fs::metadata(bundles.join(&left)).unwrap().mode() & 0o7777;
                assert!(mode == 0o600 || mode == 0o640, "{left} has mode {mode:o}");
            }
            // What the timer runs next: nothing is due, and it tidies up all the same.
            let next = host.psfca(&["renew"]);
            assert!(next.status.success(), "after {args:?} died at {call} {n}: {}", said(&next));
            assert_eq!(hidden_files(&bundles), [""; 0], "after {args:?} died at {call} {n}");
            assert_eq!(host.psfca(&["status"]).status.code(), Some(0), "after {args:?} died at {call} {n}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let seen = reader.join().unwrap();
    say(&format!("{kills} kills, {torn} with a temporary file left; the reader saw {seen} bundles"));
    assert!(kills >= 30, "only {kills} kills");
    assert!(torn >= 4, "only {torn} kills came while a temporary file was there");
    assert!(seen >= 2, "the bundle was never replaced");
}

/// That `output` is a failure with this code and text, and the bundle and its directory are as before.
fn nothing_changed(host: &Host, old: &[u8], output: &Output, code: i32, text: &str) {
    assert_eq!(output.status.code(), Some(code), "{text}: {}", said(output));
    assert!(said(output).contains(text), "{text:?} in {}", said(output));
    let path = host.bundle(NAME);
    assert_eq!(fs::read(&path).unwrap(), old, "{text}");
    assert_eq!(hidden_files(&host.dir().join("bundles")), [""; 0], "{text}");
    assert!(!said(output).contains("BEGIN PRIVATE KEY"));
}

#[test]
fn a_step_that_the_system_refuses_is_named_and_the_old_bundle_stays() {
    if !strace_works() {
        return;
    }
    let (ca, host) = working();
    let old = fs::read(host.bundle(NAME)).unwrap();
    let refused = |inject: &str| {
        let call = inject.split(':').next().unwrap();
        let (trace, inject) = (format!("trace={call}"), format!("inject={inject}"));
        let strace = ["strace", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        wrapped(&strace, &host.command(&["issue", NAME])).output().unwrap()
    };
    // What was seen of the ledger is stored first: as it is before the CA is asked, and with the answer. Each takes one
    // fchmod, two fsyncs and one rename. A bundle whose proof cannot be remembered is not installed, nor asked for.
    let text = format!("{} cannot be used: No space left on device", host.dir().join("state/ledger.json").display());
    let issued = || ca.ok(&["audit", "list", "--json", "--name", NAME]).lines().count();
    let before = issued();
    for (when, asked) in [(1, 0), (3, 1)] {
        nothing_changed(&host, &old, &refused(&format!("fsync:error=ENOSPC:when={when}")), 1, &text);
        assert_eq!(issued(), before + asked, "{when}");
    }
    for (inject, text) in [
        ("fchown:error=EPERM:when=1", "set the owner: Operation not permitted"),
        ("fchmod:error=EPERM:when=3", "set the mode: Operation not permitted"),
        ("fsync:error=ENOSPC:when=5", "fsync: No space left on device"),
        ("fsync:error=EIO:when=5", "fsync: Input/output error"),
        ("renameat:error=EROFS:when=1", "rename: Read-only file system"),
    ] {
        if inject.starts_with("fchown") && !is_root() {
            continue;
        }
        let text = format!("{} cannot be installed: {text}", host.bundle(NAME).display());
        nothing_changed(&host, &old, &refused(inject), 1, &text);
    }
    // After the rename the new one is there, whole; that it may not survive a power cut is said.
    let output = refused("fsync:error=EIO:when=6");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("fsync of the directory: Input/output error"), "{}", said(&output));
    let new = fs::read(host.bundle(NAME)).unwrap();
    sound(&new, &fs::metadata(host.bundle(NAME)).unwrap(), bundle_group());
    assert_ne!(new, old);
}

/// Runs `psfca issue` with a file system of its own at the directory of the bundles, which `mount` makes from `$1`;
/// the old bundle is put there first. None where this user may not mount.
fn issue_on(host: &Host, mount: &str) -> Option<Output> {
    let saved = host.dir().join("saved.pem");
    fs::copy(host.bundle(NAME), &saved).unwrap();
    let script = format!(
        "{mount} || exit 99\n{{ cp \"$2\" \"$1/{NAME}.pem\"; \
         while printf %4096s x >>\"$1/ballast\"; do :; done; }} 2>/dev/null\n\
         shift 2; \"$@\"; code=$?\ncmp \"$OLD\" \"$BUNDLES/{NAME}.pem\" || exit 98\n\
         for left in \"$BUNDLES\"/.*.psfca-*; do [ ! -e \"$left\" ] || exit 97; done\nexit $code"
    );
    let bundles = host.dir().join("bundles");
    let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh", bundles.to_str().unwrap(), saved.to_str().unwrap()];
    let mut command = wrapped(&wrapper, &host.command(&["issue", NAME]));
    let output = command.env("OLD", &saved).env("BUNDLES", &bundles).output().unwrap();
    let may = is_root() && output.status.code() != Some(99);
    if !may {
        say(&format!("skipped: this user may not mount: {}", said(&output)));
    }
    may.then_some(output)
}

#[test]
fn a_full_or_read_only_disk_leaves_the_old_bundle_and_no_rest() {
    let (_ca, host) = working();
    let path = host.bundle(NAME).display().to_string();
    if let Some(output) = issue_on(&host, "mount -t tmpfs -o size=64k,mode=755 tmpfs \"$1\"") {
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let text = format!("{path} cannot be installed: write: No space left on device");
        assert!(said(&output).contains(&text), "{}", said(&output));
    }
    // (The ballast cannot be written there, which is all the same.)
    if let Some(output) = issue_on(&host, "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"") {
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let text = format!("{path} cannot be installed: make a temporary file: Read-only file system");
        assert!(said(&output).contains(&text), "{}", said(&output));
    }
}

#[test]
fn a_place_or_group_that_will_not_do_is_refused_before_the_ca_is_asked() {
    let (ca, host) = working();
    let old = fs::read(host.bundle(NAME)).unwrap();
    let settings = fs::read_to_string(host.config()).unwrap();
    let issued = || ca.ok(&["audit", "list", "--json", "--name", NAME]).lines().count();
    let before = issued();
    if is_root() {
        for (line, text) in [
            ("group: no-such-group", "there is no group \"no-such-group\" on this machine (/etc/group); set `group`"),
            ("owner: no-such-user", "there is no user \"no-such-user\" on this machine (/etc/passwd); set `owner`"),
        ] {
            fs::write(host.config(), format!("{settings}{line}\n")).unwrap();
            nothing_changed(&host, &old, &host.psfca(&["issue", NAME]), 1, text);
            nothing_changed(&host, &old, &host.psfca(&["renew", "--force"]), 1, text);
        }
        fs::write(host.config(), &settings).unwrap();
    }

    let (bundles, elsewhere) = (host.dir().join("bundles"), host.dir().join("elsewhere"));
    fs::rename(&bundles, &elsewhere).unwrap();
    symlink(&elsewhere, &bundles).unwrap();
    let text = format!("{} is a symbolic link; name the directory itself", bundles.display());
    nothing_changed(&host, &old, &host.psfca(&["issue", NAME]), 1, &text);
    nothing_changed(&host, &old, &host.psfca(&["renew", "--force"]), 1, &text);
    fs::remove_file(&bundles).unwrap();
    fs::rename(&elsewhere, &bundles).unwrap();

    fs::set_permissions(&bundles, Permissions::from_mode(0o777)).unwrap();
    let text = format!("everybody may write to {}", bundles.display());
    nothing_changed(&host, &old, &host.psfca(&["issue", NAME]), 1, &text);
    fs::set_permissions(&bundles, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(issued(), before, "the ledger has certificates that nobody could have installed");
    host.ok(&["issue", NAME]);
}

#[test]
fn without_root_ownership_is_left_alone_and_said_so() {
    let ca = Ca::start();
    let host = Host::new("pg0.iad1.psf.io");
    fs::write(host.dir().join("token"), ca.token(&host.name)).unwrap();
    // Where the binary lies, nobody else may be able to go.
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let binary = place.path().join("psfca");
    support::copy_binary(&binary);
    let user = if is_root() { NOBODY } else { fs::metadata("/proc/self").unwrap().uid() };
    for path in [host.dir().to_owned(), host.dir().join("bundles"), host.config(), host.dir().join("token")] {
        chown(path, Some(user), None).unwrap();
    }
    let run = |args: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(args).env("PSFCA_HOST_CONFIG", host.config());
        let wrapper: &[&str] = match is_root() {
            true => &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"],
            false => &["env"],
        };
        wrapped(wrapper, &command).output().unwrap()
    };
    let token = host.dir().join("token").display().to_string();
    let enrolled = run(&["enroll", "--token-file", &token]);
    assert!(enrolled.status.success(), "{}", said(&enrolled));
    let note = "not running as root, so files keep this user as their owner, not root:ssl-cert";
    for args in [&["issue", NAME][..], &["renew", "--force"]] {
        let output = run(args);
        assert!(output.status.success(), "{}", said(&output));
        assert!(String::from_utf8_lossy(&output.stderr).contains(note), "{}", said(&output));
        let metadata = fs::metadata(host.bundle(NAME)).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (user, 0o640));
        sound(&fs::read(host.bundle(NAME)).unwrap(), &metadata, None);
    }

    // A directory that this user may not write to: the old bundle stays.
    let old = fs::read(host.bundle(NAME)).unwrap();
    let bundles = host.dir().join("bundles");
    fs::set_permissions(&bundles, Permissions::from_mode(0o555)).unwrap();
    nothing_changed(&host, &old, &run(&["issue", NAME]), 1, "make a temporary file: Permission denied");
}
