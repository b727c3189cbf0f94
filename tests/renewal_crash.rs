//! R9 on the host: kill -9 at each step of a renewal, and at any moment of it. Meanwhile somebody reads what services read,
//! all the time, and never finds a part of anything; after each kill one plain run makes everything good.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use psfca::ca::bundle::Bundle;
use serde_json::Value;
use support::dice::Dice;
use support::ledger::{entries, listing, verify};
use support::strace::killed_at;
use support::tools::{said, say, strace_works, succeed, wrapped};
use support::{Ca, Host, wait_until};

/// How often a renewal is killed at a random moment, and how often where `PSFCA_THOROUGHLY` asks for more.
const KILLS: [usize; 2] = [60, 600];
/// After so many kills one run is left alone.
const LEFT_ALONE: usize = 20;
const HOST: &str = "pg0.iad1.psf.io";
const NAME: &str = "postgresql.psf.io";
/// What this host may have, by the declaration that the tests begin with.
const NAMES: [&str; 3] = [NAME, "app.psf.io", "made.psf.io"];
const COPIES: &str = "names:
  postgresql.psf.io:
    copies:
      - {path: copies/smtpd.pem, layout: key-first}
      - {path: copies/split, layout: split}
";
/// Whatever of a renewal can be seen by anybody else, before or after.
const CALLS: [&str; 19] = [
    "openat",
    "write",
    "fchown",
    "fchmod",
    "fsync",
    "rename",
    "renameat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "symlinkat",
    "flock",
    "connect",
    "writev",
    "recvfrom",
    "clone3,vfork,clone",
    "waitid,wait4",
    "exit_group",
];

/// A CA, and a host with everything that it may have, copies for services that want other forms, and a hook that notes
/// what it was told of.
fn working() -> (Ca, Host) {
    let mut ca = Ca::made_with("limits: {issue_burst: 10000, issue_per_second: 10000}\n");
    ca.serve();
    let host = Host::new(HOST);
    fs::create_dir(host.dir().join("copies")).unwrap();
    fs::write(host.config(), fs::read_to_string(host.config()).unwrap() + COPIES).unwrap();
    let hook = host.dir().join("hooks.d/all/10-notes");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let script = "#!/bin/sh\necho $PSFCA_NAME $PSFCA_SERIAL >>\"$(dirname \"$PSFCA_TRUST_BUNDLE\")/told\"\n";
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(host.enroll_with(&ca.token(HOST)).status.success());
    // Twice, so that there is something old to be cleared away.
    host.ok(&["renew"]);
    host.ok(&["renew", "--force"]);
    (ca, host)
}

/// A form in which a service reads the bundle of `NAME`.
#[derive(Debug, Clone, Copy)]
enum Form {
    Combined,
    KeyFirst,
    Split,
}

const FORMS: [Form; 3] = [Form::Combined, Form::KeyFirst, Form::Split];

impl Form {
    /// What a service reads, in the order of a bundle.
    fn read(self, host: &Host, group: Option<u32>) -> Vec<u8> {
        match self {
            Self::Combined => read(&host.bundle(NAME), group).unwrap(),
            Self::KeyFirst => {
                let text = String::from_utf8(read(&host.dir().join("copies/smtpd.pem"), group).unwrap()).unwrap();
                let (key, chain) = text.split_once("-----END PRIVATE KEY-----\n").expect("a key stands first");
                format!("{chain}{key}-----END PRIVATE KEY-----\n").into_bytes()
            }
            Self::Split => {
                let link = host.dir().join("copies/split");
                loop {
                    // A service looks the directory up once; it is there until the renewal after the next.
                    let directory = link.canonicalize().unwrap();
                    let parts = ["tls.crt", "tls.key"].map(|part| read(&directory.join(part), group));
                    match parts {
                        [Ok(chain), Ok(key)] => return [chain, key].concat(),
                        _ => assert_ne!(link.canonicalize().unwrap(), directory, "its files are missing: {parts:?}"),
                    }
                }
            }
        }
    }
}

/// A file that its group alone may read, and whose it has to be; an error where there is none.
fn read(path: &Path, group: Option<u32>) -> Result<Vec<u8>, ErrorKind> {
    let mut file = File::open(path).map_err(|error| error.kind())?;
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o640, "{}", path.display());
    if let Some(group) = group {
        assert_eq!((metadata.uid(), metadata.gid()), (0, group), "{}", path.display());
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).unwrap();
    Ok(text)
}

/// The number of the group that bundles get; none where this test may not give files away.
fn bundle_group() -> Option<u32> {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    is_root.then(|| succeed("getent", &["group", "ssl-cert"]).split(':').nth(2).unwrap().parse().unwrap())
}

/// The serial number of a bundle that is whole: two certificates, and a key that fits.
fn serial(text: &[u8]) -> String {
    let bundle = Bundle::parse(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)));
    assert_eq!(bundle.chain().certificates().len(), 2);
    bundle.leaf().serial.to_string()
}

/// The serials that a service could have loaded, form by form.
type Seen = [BTreeSet<String>; 3];

/// Reads every form until it is `over`, and believes nothing.
fn watch(host: &Host, over: &AtomicBool) -> Seen {
    let (mut seen, mut last, group) = (Seen::default(), [const { Vec::new() }; 3], bundle_group());
    while !over.load(Ordering::Relaxed) {
        for ((form, seen), last) in FORMS.iter().zip(&mut seen).zip(&mut last) {
            let text = form.read(host, group);
            if text != *last {
                seen.insert(serial(&text));
                *last = text;
            }
        }
    }
    seen
}

/// Files and directories that a run makes before it gives them their names.
fn temporaries(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with('.') && (name.ends_with(".new") || name.contains(".psfca-")) {
            found.push(entry.path());
        } else if entry.file_type().unwrap().is_dir() {
            found.extend(temporaries(&entry.path()));
        }
    }
    found
}

/// One plain run, as the timer makes it: then everything is as if nothing had happened.
fn converges(ca: &Ca, host: &Host, what: &str) {
    let run = |args: &[&str]| {
        let mut output = host.psfca(args);
        // What the dead run has forked to become a hook has its lock as well, until it is executed.
        wait_until("nothing of the dead run holds the lock", || {
            let held = said(&output).contains("another psfca is at work on");
            if held {
                output = host.psfca(args);
            }
            !held
        });
        assert_eq!(output.status.code(), Some(0), "{what}: {args:?}: {}", said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let renewed = run(&["renew", "--json"]);
    run(&["status", "--json"]);
    let shown = ca.ok(&["host", "show", HOST]);
    assert!(shown.contains("enabled since"), "{what}: {shown}");

    let told = fs::read_to_string(host.dir().join("told")).unwrap();
    for name in NAMES {
        let installed = serial(&fs::read(host.bundle(name)).unwrap());
        assert!(told.contains(&format!("{name} {installed}\n")), "{what}: {name} {installed} is lost to its service");
        let line = renewed["names"].as_array().unwrap().iter().find(|line| line["name"] == name).unwrap();
        assert_eq!(line["loaded"]["state"], "hooked", "{what}: {line}");
        let [trusted, bundle] = [ca.trust_bundle(), host.bundle(name)].map(|path| path.display().to_string());
        let purpose = if name == "app.psf.io" { "sslclient" } else { "sslserver" };
        let whose = ["-verify_hostname", name, "-purpose", purpose];
        succeed("openssl", &[&["verify", "-CAfile", &trusted, "-untrusted", &bundle], &whose[..], &[&bundle]].concat());
    }
    let serials = FORMS.map(|form| serial(&form.read(host, bundle_group())));
    assert!(serials.iter().all(|serial| *serial == serials[0]), "{what}: a copy is out of date: {serials:?}");

    // Of the directories of a split copy the one before stays, for those who have just looked it up.
    let (directories, rest): (Vec<_>, Vec<_>) = temporaries(host.dir()).into_iter().partition(|path| path.is_dir());
    assert_eq!(rest, [""; 0].map(PathBuf::from), "{what}");
    assert!(directories.len() <= 2, "{what}: {directories:?}");
}

/// Lets `kills` happen while somebody reads; then looks at it all once more. Returns how many certificates were seen.
fn while_read(ca: &Ca, host: &Host, kills: impl FnOnce(&dyn Fn())) -> usize {
    let (over, seen) = (AtomicBool::new(false), Mutex::new(Seen::default()));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| *seen.lock().unwrap() = watch(host, &over));
        let ends = Over(&over);
        kills(&|| assert!(!reader.is_finished(), "the reader saw something"));
        drop(ends);
    });
    let identity = || fs::read(host.identity()).unwrap();
    let before = identity();
    host.ok(&["renew", "--force"]);
    assert_ne!(identity(), before, "the identity is not renewed any more");
    assert!(!host.dir().join("state/pending-key.pem").exists());
    converges(ca, host, "after the last run");

    let seen = seen.into_inner().unwrap();
    wait_until("whatever was seen stands in the ledger, with its signature", || {
        let listed = listing(ca);
        seen.iter().flatten().all(|serial| listed.get(serial).is_some_and(|state| state == "issued"))
    });
    assert!(entries(ca).iter().all(|entry| entry["event"] != "host_frozen"));
    let ledger: Value = serde_json::from_slice(&fs::read(host.dir().join("state/ledger.json")).unwrap()).unwrap();
    verify(ca, &ca.state(), ledger["seen"]["checkpoint"].as_str().unwrap());
    assert!(seen.iter().all(|serials| serials.len() > 1), "a form was never replaced: {seen:?}");
    seen[0].len()
}

/// Ends the reading also when an assertion fails, or the test would wait for it without end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The n-th calls of each kind at which a forced renewal is to be killed. Of files that are only read, none.
fn points(host: &Host) -> Vec<(&'static str, usize)> {
    let log = host.dir().join("trace");
    let trace = format!("trace={}", CALLS.join(","));
    let strace = ["strace", "-o", log.to_str().unwrap(), "-e", &trace];
    let output = wrapped(&strace, &host.command(&["renew", "--force"])).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let log = fs::read_to_string(log).unwrap();
    let mut points = Vec::new();
    for kind in CALLS {
        let is_one = |line: &&str| kind.split(',').any(|call| line.starts_with(&format!("{call}(")));
        let calls = log.lines().filter(is_one).enumerate();
        let changing = calls.filter(|(_, line)| kind != "openat" || line.contains("O_CREAT"));
        points.extend(changing.map(|(at, _)| (kind, at + 1)));
    }
    points
}

#[test]
fn r9_a_renewal_that_is_killed_at_any_of_its_steps_is_made_good_by_the_next_run() {
    if !strace_works() {
        return;
    }
    let (ca, host) = working();
    let (mut kills, mut torn, mut kinds) = (0, 0, BTreeSet::new());
    let seen = while_read(&ca, &host, |unharmed| {
        for (call, n) in points(&host) {
            // Somebody removed it, so it is written as well.
            fs::remove_file(host.trust_bundle()).unwrap();
            if killed_at(&host.command(&["renew", "--force"]), call, n) {
                kills += 1;
                kinds.insert(call);
            }
            torn += usize::from(temporaries(host.dir()).iter().any(|path| !path.is_dir()));
            unharmed();
            converges(&ca, &host, &format!("killed at {call} {n}"));
        }
    });
    say(&format!("{kills} kills, {torn} of them with a temporary file left; the reader saw {seen} bundles"));
    assert_eq!(kinds.len(), CALLS.len(), "not every kind of step was reached: {kinds:?}");
    assert!(torn > 20, "only {torn} kills came while a temporary file was there");
}

#[test]
fn r9_a_renewal_that_is_killed_at_any_moment_is_made_good_by_the_next_run() {
    let wanted = KILLS[usize::from(std::env::var_os("PSFCA_THOROUGHLY").is_some_and(|value| value == "1"))];
    let (ca, host) = working();
    let mut dice = Dice::new();
    let (mut kills, mut runs, mut replaced) = (0, 0, 0);
    let seen = while_read(&ca, &host, |unharmed| {
        let mut micros = 0;
        while kills < wanted {
            if kills % LEFT_ALONE == 0 {
                let begun = Instant::now();
                host.ok(&["renew", "--force"]);
                micros = u64::try_from(begun.elapsed().as_micros()).unwrap();
            }
            let before = fs::read(host.bundle(NAME)).unwrap();
            let mut command = host.command(&["renew", "--force"]);
            let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // Where it is by then is left to chance; some are done before.
            std::thread::sleep(Duration::from_micros(dice.below(micros * 5 / 4)));
            run.kill().unwrap();
            let status = run.wait().unwrap();
            assert!(status.success() || status.signal() == Some(9), "{status}");
            runs += 1;
            if !status.success() {
                kills += 1;
                replaced += usize::from(fs::read(host.bundle(NAME)).unwrap() != before);
            }
            unharmed();
            converges(&ca, &host, &format!("kill {kills}"));
        }
    });
    say(&format!("{kills} kills in {runs} runs, {replaced} of them with the new bundle in place; {seen} bundles seen"));
}
