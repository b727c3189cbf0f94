//! A host whose disks, groups or hooks fail: while that lasts the old bundle stays and whoever looks is told; when it ends
//! the timer's next runs put everything right without a person. What a CA may do wrong is in `false_answers`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use psfca::ca::bundle::Bundle;
use support::disk::{Mounted, mountable};
use support::tools::said;
use support::{Ca, Host, clock, psfca, wait_until};

const NAME: &str = "postgresql.psf.io";
const HOST: &str = "pg0.iad1.psf.io";

/// A CA and a host that has all its bundles, which live one day. The clock of the CA follows the file `time`.
fn working() -> (Ca, Host) {
    let mut ca = Ca::made_with("");
    let mut daemon = psfca();
    daemon.arg("serve").env("PSFCA_CONFIG", ca.config());
    let time = ca.dir().join("time");
    fs::write(&time, "+0m").unwrap();
    ca.serve_by(clock::by_file(&time, daemon).expect("asked before"));
    let host = Host::enroll(&ca, HOST);
    host.ok(&["renew"]);
    (ca, host)
}

fn bundle(path: &Path) -> (Vec<u8>, String) {
    let text = fs::read(path).unwrap();
    let serial = Bundle::parse(&text).unwrap().leaf().serial.to_string();
    (text, serial)
}

/// Names of whatever hides beside a bundle or in the state directory.
fn hidden(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

/// A fault of the file systems of a host.
struct Fault<'a> {
    ca: &'a Ca,
    host: &'a Host,
    /// Where they can be seen.
    mounted: &'a Mounted,
    /// How the fault ends.
    end: &'a dyn Fn(),
    /// What is told meanwhile.
    text: &'a str,
}

impl Fault<'_> {
    /// Where a path of the host is, seen from outside of its file systems.
    fn seen(&self, path: &str) -> PathBuf {
        self.mounted.outside(&self.host.dir().join(path))
    }

    /// The timer's run so many hours and twenty minutes from now. Certificates of one day are due after 7.2 to 14.4
    /// hours, and urgent after 18; no back-off is longer than half an hour then.
    fn run(&self, hours: u32, args: &[&str]) -> Output {
        let (time, offset) = (self.ca.dir().join("time"), format!("+{}m", hours * 60 + 20));
        // By a rename, since the daemon may read at any moment.
        fs::write(time.with_extension("new"), &offset).unwrap();
        fs::rename(time.with_extension("new"), time).unwrap();
        let command = self.mounted.inside(&self.host.command(args));
        clock::at(&offset, command).expect("asked before").output().unwrap()
    }

    /// That nothing is lost while it lasts, that it is told, and that it is over when it is over.
    fn is_outlasted(&self) {
        let path = self.seen(&format!("bundles/{NAME}.pem"));
        let (old, before) = bundle(&path);
        for (hours, args) in [(15, &["renew"][..]), (15, &["renew"]), (16, &["renew", "--force"]), (17, &["renew"])] {
            let output = self.run(hours, args);
            assert_eq!(output.status.code(), Some(1), "{hours} h, {args:?}: {}", said(&output));
            assert!(said(&output).contains(self.text), "{:?} in {}", self.text, said(&output));
            assert!(said(&output).contains("what is there is still good"), "{}", said(&output));
            assert!(!said(&output).contains("BEGIN"), "{}", said(&output));
            assert_eq!(fs::read(&path).unwrap(), old, "{hours} h, {args:?}");
            for directory in ["bundles", "state"] {
                assert_eq!(hidden(&self.seen(directory)), [""; 0], "{hours} h, {args:?}: {directory}");
            }
        }
        // By then it is urgent.
        let output = self.run(19, &["renew"]);
        assert_eq!(output.status.code(), Some(5), "{}", said(&output));
        assert!(said(&output).contains(self.text), "{:?} in {}", self.text, said(&output));
        assert_eq!(fs::read(&path).unwrap(), old);

        (self.end)();
        let output = self.run(20, &["renew"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(said(&output).contains("renewed, because it was due on"), "{}", said(&output));
        assert_ne!(bundle(&path).1, before);
        assert_eq!(self.run(20, &["status"]).status.code(), Some(0));
        // The identity too, of which a key may have been stored and no certificate.
        let output = self.run(20, &["renew", "--force"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(!self.seen("state/pending-key.pem").exists());
    }
}

fn usable() -> bool {
    mountable() && clock::works()
}

#[test]
fn r4_a_full_disk_of_64_kib_costs_no_bundle_and_when_there_is_room_the_next_run_renews() {
    if !usable() {
        return;
    }
    let (ca, host) = working();
    let bundles = host.dir().join("bundles");
    let mounted = Mounted::over(&bundles, "size=64k,mode=0755");
    mounted.disk().fill();
    let text = format!("{} cannot be installed: write: No space left on device", host.bundle(NAME).display());
    Fault { ca: &ca, host: &host, mounted: &mounted, end: &|| mounted.disk().free(), text: &text }.is_outlasted();
}

#[test]
fn r4_a_full_disk_under_the_host_s_state_costs_no_bundle_no_identity_and_no_certificate() {
    if !usable() {
        return;
    }
    let (ca, host) = working();
    let mounted = Mounted::over(&host.dir().join("state"), "size=64k,mode=0700");
    mounted.disk().fill();
    // A bundle whose proof cannot be remembered is not installed, so none is asked for.
    let text = "/state/ledger.json cannot be used: No space left on device";
    let issued = || ca.ok(&["audit", "list", "--json", "--name", NAME]).lines().count();
    let before = issued();
    let end = || {
        assert_eq!(issued(), before, "the ledger has certificates that nobody could have installed");
        mounted.disk().free();
    };
    Fault { ca: &ca, host: &host, mounted: &mounted, end: &end, text }.is_outlasted();
    assert!(ca.ok(&["host", "show", HOST]).contains("enabled since"), "two keys for one identity freeze the host");
}

#[test]
fn r4_a_read_only_file_system_costs_no_bundle_and_when_it_can_be_written_the_next_run_renews() {
    if !usable() {
        return;
    }
    let (ca, host) = working();
    let bundles = host.dir().join("bundles");
    let mounted = Mounted::over(&bundles, "size=1m,mode=0755");
    let remount = |how: &str| {
        let (done, said) = mounted.disk().run(&["mount", "-o", how, bundles.to_str().unwrap()]);
        assert!(done, "{said}");
    };
    remount("remount,ro");
    let cause = "cannot be installed: make a temporary file: Read-only file system";
    let text = format!("{} {cause}", host.bundle(NAME).display());
    Fault { ca: &ca, host: &host, mounted: &mounted, end: &|| remount("remount,rw"), text: &text }.is_outlasted();
}

#[test]
fn r4_a_group_that_is_not_there_costs_no_bundle_and_no_certificate_and_when_it_is_the_next_run_renews() {
    if !usable() {
        return;
    }
    let (ca, host) = working();
    let mounted = Mounted::over(&host.dir().join("bundles"), "size=1m,mode=0755");
    let groups = host.dir().join("groups");
    fs::copy("/etc/group", &groups).unwrap();
    let (done, said) = mounted.disk().run(&["mount", "--bind", groups.to_str().unwrap(), "/etc/group"]);
    assert!(done, "{said}");
    let settings = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), settings + "group: late-package\n").unwrap();
    let issued = || ca.ok(&["audit", "list", "--json", "--name", NAME]).lines().count();
    let before = issued();
    let appears = || {
        assert_eq!(issued(), before, "the ledger has certificates that nobody could have installed");
        fs::write(&groups, fs::read_to_string(&groups).unwrap() + "late-package:x:4711:\n").unwrap();
    };
    let text = "there is no group \"late-package\" on this machine (/etc/group); set `group` in host.yaml";
    Fault { ca: &ca, host: &host, mounted: &mounted, end: &appears, text }.is_outlasted();
}

#[test]
fn an_owner_that_is_not_there_is_told_at_each_run_and_not_only_when_something_is_written() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    host.ok(&["renew"]);
    let settings = fs::read_to_string(host.config()).unwrap();
    let with = |name: &str, owner: &str| {
        fs::write(host.config(), format!("{settings}names:\n  {name}: {{{owner}: nobody-of-here}}\n")).unwrap();
    };
    for owner in ["owner", "group"] {
        with(NAME, owner);
        for args in [&["renew"][..], &["renew", "--dry-run"], &["status"]] {
            let out = host.psfca(args);
            assert_eq!(out.status.code(), Some(1), "{}", said(&out));
            assert!(said(&out).contains(&format!("; set `{owner}` in host.yaml")), "{}", said(&out));
        }
    }
    // Settings for all hosts may well have another host's users in them.
    with("lb.psf.io", "owner");
    host.ok(&["renew"]);
    host.ok(&["status"]);
}

#[test]
fn a_host_that_is_refused_or_cut_off_hears_of_it_at_each_run_though_nothing_is_due() {
    let mut ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    host.ok(&["renew"]);
    let told = |text: &str| {
        for args in [&["renew"][..], &["renew", "--json"]] {
            let out = host.psfca(args);
            assert_eq!(out.status.code(), Some(0), "nothing is due: {}", said(&out));
            let heard = String::from_utf8(out.stderr).unwrap();
            assert_eq!(heard.lines().filter(|line| line.contains(text)).count(), 1, "{text}: {heard}");
        }
        let status = host.ok(&["status"]);
        assert!(status.contains(text), "{text}: {status}");
    };
    ca.ok(&["host", "disable", HOST, "--reason", "a test"]);
    told("the CA was asked which names this host may have, and refused: pg0.iad1.psf.io is disabled");
    ca.ok(&["host", "enable", HOST, "--reason", "a test"]);
    host.ok(&["renew"]);
    assert!(!host.ok(&["status"]).contains("which names this host may have"), "it is over");
    ca.stop();
    told("the CA could not be asked which names this host may have: ");

    // What is asked for in vain is told by status as well.
    fs::remove_file(host.bundle(NAME)).unwrap();
    for times in ["once", "2 times"] {
        assert_eq!(host.psfca(&["renew"]).status.code(), Some(5));
        let status = said(&host.psfca(&["status"]));
        assert!(status.contains(&format!("asked in vain {times}, last ")), "{times}: {status}");
        assert!(status.contains("cannot be reached"), "{status}");
    }
}

#[test]
fn r8_a_hook_that_hangs_then_fails_then_forks_is_tried_until_it_succeeds_and_nothing_is_issued_again() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    host.ok(&["renew"]);
    let settings = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), settings + "hook_timeout: 1s\n").unwrap();
    let hook = host.dir().join(format!("hooks.d/{NAME}/10-moody"));
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    // What it starts in a session of its own keeps its output open and is not waited for.
    let here = host.dir().display();
    let script = format!(
        "#!/bin/sh\necho x >>{here}/tries\ncase $(wc -l <{here}/tries) in\n\
         1) echo hanging; sleep 900;;\n2) echo failing; exit 3;;\n3) kill -9 $$;;\n\
         4) setsid sh -c 'echo $$ >{here}/forked; exec sleep 60' & until [ -s {here}/forked ]; do :; done\n\
         echo forking; exit 4;;\n\
         *) sleep 60 & echo $! >{here}/left; echo $PSFCA_SERIAL >{here}/told;;\nesac\n"
    );
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();

    host.psfca(&["issue", NAME]);
    let (installed, serial) = bundle(&host.bundle(NAME));
    let issued = || ca.ok(&["audit", "list", "--json", "--name", NAME]).lines().count();
    let before = issued();
    for (args, text) in [
        (&["status"][..], "was killed, because it took longer than 1 second (hook_timeout); it said: hanging"),
        (&["renew"], "10-moody failed (exit status: 3); it said: failing"),
        (&["renew"], "10-moody failed (signal: 9 (SIGKILL))"),
        (&["renew"], "10-moody failed (exit status: 4); it said: forking"),
        (&["status"], "tried 4 times; psfca renew tries again"),
    ] {
        let output = host.psfca(args);
        assert_eq!(output.status.code(), Some(7), "{}", said(&output));
        assert!(said(&output).contains(text), "{text:?} in {}", said(&output));
        assert_eq!(bundle(&host.bundle(NAME)).0, installed, "{text}");
    }
    host.ok(&["renew"]);
    assert_eq!(fs::read_to_string(host.dir().join("told")).unwrap().trim(), serial);
    host.ok(&["status"]);
    assert_eq!((issued(), bundle(&host.bundle(NAME)).0), (before, installed), "only the service had to be told");
    let pid = |file: &str| fs::read_to_string(host.dir().join(file)).unwrap().trim().to_owned();
    // What stayed in the hook's group is gone with it; what left it is the administrator's.
    wait_until("what the hook left running is dead", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid("left"))).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
    });
    assert!(Command::new("kill").arg(pid("forked")).status().unwrap().success());
}
