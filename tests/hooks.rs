//! Hooks and what is owed: a service is told of a renewed bundle, however often that takes, and through any crash.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use psfca::ca::bundle::Bundle;
use serde_json::Value;
use support::strace::killed_at;
use support::tools::{said, strace_works, wrapped};
use support::{Ca, Host, wait_until};

const NAME: &str = "postgresql.psf.io";
/// A hook that notes which serial it was told of.
const NOTES: &str = "echo $PSFCA_SERIAL >>\"$(dirname \"$PSFCA_TRUST_BUNDLE\")/told\"";

fn start() -> (Ca, Host) {
    // Each kill costs a certificate or two, more than a host may ask for by default.
    let mut ca = Ca::made_with("limits: {issue_burst: 10000}\n");
    ca.serve();
    let host = Host::new("pg0.iad1.psf.io");
    let settings = fs::read_to_string(host.config()).unwrap() + "hook_timeout: 30s\n";
    fs::write(host.config(), settings).unwrap();
    assert!(host.enroll_with(&ca.token(&host.name)).status.success());
    (ca, host)
}

/// Puts a hook in place by its path below `hooks.d`.
fn hook(host: &Host, path: &str, script: &str) -> PathBuf {
    let path = host.dir().join("hooks.d").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let fresh = host.dir().join("fresh-hook");
    fs::write(&fresh, format!("#!/bin/sh\nset -eu\n{script}\n")).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
    // A file that this process has open for writing could not be run by another thread's child.
    fs::rename(&fresh, &path).unwrap();
    path
}

fn serial(host: &Host) -> String {
    Bundle::parse(&fs::read(host.bundle(NAME)).unwrap()).unwrap().leaf().serial.to_string()
}

/// Which serials the hook `NOTES` was told of.
fn told(host: &Host) -> Vec<String> {
    let told = fs::read_to_string(host.dir().join("told")).unwrap_or_default();
    told.lines().map(ToOwned::to_owned).collect()
}

/// What `psfca COMMAND --json` says of the name, and how it exits.
fn line(host: &Host, args: &[&str]) -> (Option<i32>, Value) {
    let output = host.psfca(&[args, &["--json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let lines = [&report["names"], &report["bundles"]].into_iter().find_map(Value::as_array).unwrap();
    let line = lines.iter().find(|line| line["name"] == NAME).unwrap().clone();
    (output.status.code(), line)
}

fn exits(output: &Output, code: i32, text: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    assert!(said(output).contains(text), "{text:?} in {}", said(output));
}

#[test]
fn hooks_run_in_order_those_of_all_names_first_with_the_documented_environment_and_nothing_else() {
    let (_ca, host) = start();
    let out = host.dir().join("order").display().to_string();
    let note = |word: &str| format!("echo {word} >>{out}");
    hook(&host, &format!("{NAME}/10-second"), &note("third"));
    hook(&host, &format!("{NAME}/20-third"), &note("fourth"));
    hook(&host, "all/50-second", &note("second"));
    hook(&host, "all/10-first", &note("first"));
    hook(&host, "all/.not-a-hook", &note("hidden"));
    hook(&host, "app.psf.io/10-other", "exit 0");
    let shown = host.dir().join("shown").display().to_string();
    let script = format!(
        "{{ env; echo \"cwd $(pwd)\"; echo \"stdin $(readlink /proc/$$/fd/0)\"; \
         echo \"group $(($$ - $(ps -o pgid= -p $$)))\"; }} >{shown}"
    );
    hook(&host, &format!("{NAME}/30-environment"), &script);
    let output = host.command(&["issue", NAME]).env("SECRET", "x").env("LD_LIBRARY_PATH", "/x").output().unwrap();
    exits(&output, 0, "loaded  every hook succeeded");
    assert_eq!(fs::read_to_string(host.dir().join("order")).unwrap(), "first\nsecond\nthird\nfourth\n");

    let bundle = Bundle::parse(&fs::read(host.bundle(NAME)).unwrap()).unwrap();
    let shown = fs::read_to_string(host.dir().join("shown")).unwrap();
    let mut found: Vec<_> = shown
        .lines()
        .filter(|line| !line.starts_with("PWD=") /* the shell's own */ && !line.starts_with("_="))
        .collect();
    found.sort_unstable();
    let expected = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("PSFCA_BUNDLE={}", host.bundle(NAME).display()),
        format!("PSFCA_NAME={NAME}"),
        format!("PSFCA_NOT_AFTER={}", bundle.leaf().not_after),
        format!("PSFCA_SERIAL={}", bundle.leaf().serial),
        format!("PSFCA_TRUST_BUNDLE={}", host.trust_bundle().display()),
        "cwd /".to_owned(),
        "group 0".to_owned(),
        "stdin /dev/null".to_owned(),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_hook_that_fails_is_owed_told_and_tried_again_until_it_succeeds() {
    let (mut ca, host) = start();
    hook(&host, &format!("{NAME}/05-works"), NOTES);
    let failing = hook(&host, &format!("{NAME}/10-fails"), "echo no such service; echo 'and \x1b[31mthis' >&2; exit 3");
    exits(&host.psfca(&["issue", NAME]), 7, "OWED    services have not loaded it since");
    let output = host.psfca(&["renew"]);
    exits(&output, 7, "10-fails failed (exit status: 3)");
    exits(&output, 7, "no such service\n");
    assert!(said(&output).contains("\\u{1b}[31mthis"), "{}", said(&output));

    // The CA is gone, nothing is due: it is tried all the same, each time.
    ca.stop();
    for attempts in 3..5 {
        let (code, line) = line(&host, &["renew"]);
        assert_eq!(
            (code, &line["loaded"]["state"], &line["loaded"]["attempts"]),
            (Some(7), &"owed".into(), &attempts.into()),
            "{line}"
        );
    }
    let tries = told(&host).len();
    let (code, dry) = line(&host, &["renew", "--dry-run"]);
    assert_eq!((code, &dry["loaded"]["attempts"]), (Some(7), &4.into()), "{dry}");
    assert_eq!(told(&host).len(), tries, "a dry run ran hooks");
    exits(&host.psfca(&["status"]), 7, "tried 4 times; psfca renew tries again");
    exits(&host.psfca(&["status"]), 7, "10-fails failed (exit status: 3); it said: no such service");

    fs::remove_file(failing).unwrap();
    exits(&host.psfca(&["renew"]), 0, "loaded  every hook succeeded");
    let paid = told(&host).len();
    exits(&host.psfca(&["renew"]), 0, "not due before");
    exits(&host.psfca(&["status"]), 0, "loaded  every hook succeeded");
    assert_eq!(told(&host).len(), paid, "what is paid is left alone");
    assert!(told(&host).iter().all(|told| *told == serial(&host)));
}

#[test]
fn one_hook_that_fails_keeps_no_other_from_running() {
    let (_ca, host) = start();
    hook(&host, "all/10-fails", "exit 1");
    hook(&host, &format!("{NAME}/10-works"), NOTES);
    exits(&host.psfca(&["issue", NAME]), 7, "10-fails failed");
    assert_eq!(told(&host), [serial(&host)]);
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_all_that_it_started() {
    let (_ca, host) = start();
    let settings = fs::read_to_string(host.config()).unwrap().replace("30s", "1s");
    fs::write(host.config(), settings).unwrap();
    let pids = host.dir().join("pids");
    let script =
        format!("trap '' TERM; for i in 1 2 3; do sleep 900 & echo $! >>{}; done; echo waiting; wait", pids.display());
    hook(&host, "all/10-hangs", &script);
    let output = host.psfca(&["issue", NAME]);
    exits(&output, 7, "10-hangs was killed, because it took longer than 1 second (hook_timeout); it said: waiting");
    let pids = fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 3);
    for pid in pids.lines() {
        wait_until("what the hook started is dead", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
        });
    }
}

/// What makes a hook unfit.
type Spoil = fn(&Path);

#[test]
fn a_hook_that_somebody_else_could_have_written_is_refused_and_told() {
    let (_ca, host) = start();
    let root = fs::metadata("/proc/self").unwrap();
    let is_root = std::os::unix::fs::MetadataExt::uid(&root) == 0;
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let cases: [(&str, Spoil); 7] = [
        ("others may write to it; chmod go-w", |hook| {
            fs::set_permissions(hook, fs::Permissions::from_mode(0o757)).unwrap()
        }),
        ("others may write to it; chmod go-w", |hook| {
            fs::set_permissions(hook, fs::Permissions::from_mode(0o775)).unwrap()
        }),
        ("it is not executable; chmod +x", |hook| {
            fs::set_permissions(hook, fs::Permissions::from_mode(0o644)).unwrap()
        }),
        ("it is no file", |hook| {
            fs::remove_file(hook).unwrap();
            fs::create_dir(hook).unwrap();
        }),
        ("cannot be looked at: No such file", |hook| {
            fs::remove_file(hook).unwrap();
            symlink("/nonexistent", hook).unwrap();
        }),
        ("it belongs to nobody; chown root", |hook| chown(hook, Some(65_534), None).unwrap()),
        // Where the directory is like /tmp, anybody could choose a program of root's.
        ("its link belongs to nobody", |hook| {
            fs::remove_file(hook).unwrap();
            symlink("/bin/true", hook).unwrap();
            lchown(hook, Some(65_534), None).unwrap();
        }),
    ];
    host.psfca(&["issue", NAME]);
    for (text, spoil) in cases.iter().take(if is_root { 7 } else { 5 }) {
        let path = hook(&host, &format!("{NAME}/10-unfit"), NOTES);
        spoil(&path);
        exits(&host.psfca(&["renew", "--force"]), 7, text);
        assert!(told(&host).is_empty(), "{text}");
        if path.is_dir() { fs::remove_dir(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    // A directory that others may write to, also one that a link leads through.
    let path = hook(&host, &format!("{NAME}/10-unfit"), NOTES);
    mode(path.parent().unwrap(), 0o777);
    exits(&host.psfca(&["renew"]), 7, "others may write to");
    mode(path.parent().unwrap(), 0o755);
    let elsewhere = host.dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    mode(&elsewhere, 0o777);
    fs::rename(&path, elsewhere.join("hook")).unwrap();
    symlink(elsewhere.join("hook"), &path).unwrap();
    exits(&host.psfca(&["renew"]), 7, "elsewhere; chmod go-w");
    assert!(told(&host).is_empty());
    mode(&elsewhere, 0o755);
    exits(&host.psfca(&["renew"]), 0, "loaded  every hook succeeded");
    assert_eq!(told(&host), [serial(&host)]);
}

#[test]
fn a_hook_runs_only_if_every_directory_and_link_on_the_way_to_it_is_nobody_elses() {
    if std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) != 0 {
        return;
    }
    let (_ca, host) = start();
    host.ok(&["renew"]);
    // A program of root's in a directory of root's, by a link of root's; between them what a service's user may own.
    let path = hook(&host, &format!("{NAME}/10-app"), NOTES);
    let at = |path: &str| host.dir().join(path);
    for directory in ["v1", "app"] {
        fs::create_dir(at(directory)).unwrap();
    }
    fs::rename(&path, at("v1/hook")).unwrap();
    symlink("../v1", at("app/current")).unwrap();
    symlink(at("app/current/hook"), &path).unwrap();
    for (directory, link, text) in [
        (65_534, 65_534, "/app belongs to nobody"),
        (65_534, 0, "/app belongs to nobody"),
        (0, 65_534, "link belongs to nobody"),
    ] {
        chown(at("app"), Some(directory), None).unwrap();
        lchown(at("app/current"), Some(link), None).unwrap();
        exits(&host.psfca(&["renew"]), 7, text);
        exits(&host.psfca(&["hook", NAME]), 7, text);
        assert_eq!(told(&host), [""; 0], "{text}");
    }
    lchown(at("app/current"), Some(0), None).unwrap();
    exits(&host.psfca(&["renew"]), 0, "loaded  every hook succeeded");
    assert_eq!(told(&host), [serial(&host)]);
}

#[test]
fn hooks_that_are_new_are_run_for_what_is_there_and_without_any_nothing_is_owed() {
    let (_ca, host) = start();
    let (_, first) = {
        host.ok(&["renew"]);
        line(&host, &["status"])
    };
    assert_eq!(first["loaded"]["state"], "none_configured");
    assert!(!host.dir().join("state/loaded").exists());
    hook(&host, &format!("{NAME}/10-notes"), NOTES);
    assert_eq!(line(&host, &["status"]).0, Some(7));
    exits(&host.psfca(&["renew"]), 0, "loaded  every hook succeeded");
    assert_eq!(told(&host), [serial(&host)]);
    // A bundle that a person put there, from another host or a backup, is new to the service as well.
    let old = fs::read(host.bundle(NAME)).unwrap();
    host.ok(&["renew", "--force"]);
    fs::write(host.bundle(NAME), old).unwrap();
    host.ok(&["renew"]);
    assert_eq!(told(&host).len(), 3);
    assert_eq!(told(&host)[2], serial(&host));
}

#[test]
fn a_name_that_was_written_wrongly_is_told_with_the_one_that_was_probably_meant() {
    let (_ca, host) = start();
    let settings = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), settings + "names:\n  postgres.psf.io: {mode: '0600'}\n").unwrap();
    hook(&host, "postgresq1.psf.io/10-notes", NOTES);
    hook(&host, "all/10-notes", NOTES);
    let told = [
        "names in host.yaml: postgres.psf.io is no name that this host may have, and nothing is done for it; did you mean \
         postgresql.psf.io?",
        "hooks.d: postgresq1.psf.io is no name that this host may have, and nothing is done for it; did you mean \
         postgresql.psf.io?",
    ];
    for args in [&["renew"][..], &["renew", "--json"], &["renew", "--dry-run"]] {
        let out = host.psfca(args);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        let heard = String::from_utf8(out.stderr).unwrap();
        assert!(told.iter().all(|text| heard.contains(text)), "{args:?}: {heard}");
        assert!(!heard.contains("all is no name"), "{heard}");
    }
    let status = host.ok(&["status"]);
    assert!(told.iter().all(|text| status.contains(text)), "{status}");
}

#[test]
fn copies_are_written_before_hooks_run_and_one_that_changed_is_told_of() {
    let (_ca, host) = start();
    let copy = host.dir().join("copies/first.pem");
    fs::create_dir(copy.parent().unwrap()).unwrap();
    let names = format!("names:\n  {NAME}:\n    copies: [{{path: copies/first.pem, layout: key-first}}]\n");
    fs::write(host.config(), fs::read_to_string(host.config()).unwrap() + &names).unwrap();
    let hook_of_copy = format!("openssl x509 -noout -serial -in {} >>{}/copied", copy.display(), host.dir().display());
    hook(&host, &format!("{NAME}/10-copy"), &hook_of_copy);
    let copied = || fs::read_to_string(host.dir().join("copied")).unwrap_or_default().to_lowercase();
    for command in [&["issue", NAME][..], &["renew", "--force"]] {
        host.ok(command);
        let last = copied().lines().last().unwrap().to_owned();
        assert_eq!(last.trim_start_matches("serial=").trim_start_matches('0'), serial(&host).trim_start_matches('0'));
    }
    let before = copied().lines().count();
    fs::remove_file(&copy).unwrap();
    host.ok(&["renew"]);
    assert_eq!(copied().lines().count(), before + 1, "the copy was made again, and nobody was told");
    // One that cannot be written: who reads the bundle is told, and it stays owed.
    fs::remove_file(&copy).unwrap();
    fs::create_dir(&copy).unwrap();
    hook(&host, &format!("{NAME}/10-copy"), NOTES);
    exits(&host.psfca(&["renew", "--force"]), 1, "a copy is out of date");
    assert_eq!(told(&host), [serial(&host)]);
    assert_eq!(line(&host, &["status"]).1["loaded"]["state"], "owed");
}

#[test]
fn the_debt_is_on_the_disk_before_the_bundle_is_in_place_and_the_hook_runs_after_both() {
    if !strace_works() {
        return;
    }
    let (_ca, host) = start();
    hook(&host, &format!("{NAME}/10-notes"), NOTES);
    host.ok(&["issue", NAME]);
    let log = host.dir().join("trace");
    let calls = "trace=fsync,rename,renameat,renameat2,execve,?vfork,clone3,clone";
    let strace = ["strace", "-f", "-y", "-s500", "-o", log.to_str().unwrap(), "-e", calls];
    let output = wrapped(&strace, &host.command(&["renew", "--force"])).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let log = fs::read_to_string(log).unwrap();
    let at = |what: &[&str], from: usize| {
        let found = log.lines().enumerate().skip(from).find(|(_, line)| what.iter().all(|part| line.contains(part)));
        found.unwrap_or_else(|| panic!("{what:?} after line {from} of {log}")).0
    };
    let debt = format!("loaded/.{NAME}.json.new");
    let steps: [&[&str]; 7] = [
        &["fsync(", &debt],
        &["rename", &debt],
        &["fsync(", "state/loaded>"],
        &["fsync(", &format!("bundles/.{NAME}.pem.psfca-")],
        &["rename", &format!(".{NAME}.pem.psfca-")],
        &["fsync(", "bundles>"],
        &["execve(", "10-notes"],
    ];
    steps.iter().fold(0, |from, step| at(step, from) + 1);
}

#[test]
fn whatever_is_in_place_after_a_kill_at_any_step_its_service_is_told_of_it() {
    if !strace_works() {
        return;
    }
    let (mut ca, host) = start();
    ca.keep_address();
    hook(&host, &format!("{NAME}/10-notes"), NOTES);
    let mut kills = 0;
    for command in [&["issue", NAME][..], &["renew", "--force"]] {
        host.ok(command);
        for call in ["rename", "renameat", "fsync", "fchmod", "unlink", "mkdir", "clone3,vfork,clone", "waitid,wait4"] {
            for n in 1.. {
                if !killed_at(&host.command(command), call, n) {
                    break;
                }
                kills += 1;
                let before = told(&host);
                let installed = serial(&host);
                let owed = line(&host, &["status"]).1["loaded"]["state"] == "owed";
                assert!(owed || before.contains(&installed), "{command:?} {call} {n}: {installed} is lost");
                // Nothing is due any more, and what is installed is told of, if it was not.
                let renewed = host.psfca(&["renew"]);
                assert_eq!(renewed.status.code(), Some(0), "{command:?} {call} {n}: {}", said(&renewed));
                assert!(told(&host).contains(&installed), "{command:?} {call} {n}: {installed} is lost");
                assert_eq!(serial(&host), installed);
                assert!(owed || told(&host) == before, "{command:?} {call} {n}: a service reloaded for nothing");
                assert_eq!(host.psfca(&["status"]).status.code(), Some(0));
            }
        }
    }
    assert!(kills > 30, "{kills} kills are no test");
    ca.stop();
}

#[test]
fn psfca_hook_runs_the_hooks_and_leaves_the_proof_to_renew() {
    let (_ca, host) = start();
    host.ok(&["issue", NAME]);
    exits(&host.psfca(&["hook", NAME]), 0, "there is no hook for");
    let path = hook(&host, &format!("{NAME}/10-notes"), NOTES);
    exits(&host.psfca(&["hook", NAME]), 0, "10-notes: done");
    assert_eq!(told(&host), [serial(&host)]);
    assert_eq!(line(&host, &["status"]).1["loaded"]["state"], "owed");
    fs::remove_file(path).unwrap();
    hook(&host, &format!("{NAME}/10-fails"), "echo because; exit 9");
    exits(&host.psfca(&["hook", NAME]), 7, "because");
    exits(&host.psfca(&["hook", "lb.psf.io"]), 1, "no whole bundle of this CA installed for lb.psf.io");
}
