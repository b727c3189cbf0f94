//! What `systemd/` promises, shown by systemd's own tools (version 252, Debian 12), in a scratch root: no unit is
//! started and nothing of this machine is touched.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The shipped file at `path` under `systemd/`.
fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(path)
}

fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).env("SYSTEMD_PAGER", "").env("LC_ALL", "C").output();
    output.unwrap_or_else(|error| panic!("{program}: {error} (tests/run installs what the tests need)"))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn executable(path: &Path) {
    fs::write(path, "").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A root directory with the distribution's units, ours installed, and stand-ins for the programs that ours run: so the
/// units are verified with the very paths that they ship with, whether or not `/usr/bin/psfca` is installed here.
fn root_with_units() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for directory in ["usr/bin", "usr/lib/systemd/system", "etc/systemd/system"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    symlink("usr/bin", at("bin")).unwrap();
    symlink("usr/lib", at("lib")).unwrap();
    for target in fs::read_dir("/usr/lib/systemd/system").unwrap().map(Result::unwrap) {
        // Targets are enough for ours to hang on, and need no programs.
        if target.path().extension().is_some_and(|extension| extension == "target") {
            fs::copy(target.path(), at("usr/lib/systemd/system").join(target.file_name())).unwrap();
        }
    }
    executable(&at("usr/bin/psfca"));
    executable(&at("usr/bin/sh"));
    for unit in UNITS {
        fs::copy(shipped(unit), at("etc/systemd/system").join(unit)).unwrap();
    }
    root
}

const UNITS: [&str; 5] =
    ["psfca.service", "psfca-hook@.service", "psfca-renew.service", "psfca-renew.timer", "psfca-witness.service"];

/// What `systemd-analyze verify` prints. It exits 0 for an unknown key, so only silence is success.
fn verify(root: &Path) -> String {
    let mut args = vec!["--root", root.to_str().unwrap(), "--man=no", "verify"];
    // What systemctl starts has the name in it.
    let units = UNITS.map(|unit| unit.replace('@', "@postgresql.psf.io"));
    args.extend(units.iter().map(String::as_str));
    let output = run("systemd-analyze", &args);
    let mut said = text(&output);
    if !output.status.success() {
        said += &format!("{}\n", output.status);
    }
    said
}

#[test]
fn units_verify_in_silence() {
    assert_eq!(verify(root_with_units().path()), "");
}

#[test]
fn verification_would_notice_an_unknown_key_and_a_missing_program() {
    let root = root_with_units();
    let unit = root.path().join("etc/systemd/system/psfca.service");
    let good = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, good.replace("WatchdogSec=", "WatchDogSec=")).unwrap();
    fs::remove_file(root.path().join("usr/bin/psfca")).unwrap();
    let said = verify(root.path());
    assert!(said.contains("Unknown key 'WatchDogSec' in section [Service]"), "{said}");
    assert!(said.contains("Command /usr/bin/psfca is not executable"), "{said}");
}

/// `--threshold` counts tenths, and fails above it.
fn assert_exposure_at_most(tenths: u32, unit: &str) {
    let threshold = format!("--threshold={tenths}");
    let path = shipped(unit);
    let output = run("systemd-analyze", &["security", "--offline=true", &threshold, path.to_str().unwrap()]);
    let said = text(&output);
    assert!(said.contains("Overall exposure level"), "{said}");
    assert!(output.status.success(), "{unit} is more exposed than {tenths}/10:\n{said}");
}

#[test]
fn the_daemon_is_exposed_at_most_1_5() {
    assert_exposure_at_most(15, "psfca.service");
}

#[test]
fn the_witness_is_exposed_at_most_1_5() {
    assert_exposure_at_most(15, "psfca-witness.service");
}

#[test]
fn the_renewer_is_exposed_at_most_3_0() {
    assert_exposure_at_most(30, "psfca-renew.service");
}

/// The values of `key` in a unit, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let unit = fs::read_to_string(shipped(unit)).unwrap();
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect()
}

#[test]
fn the_units_run_commands_that_psfca_has() {
    for unit in UNITS.into_iter().filter(|unit| unit.ends_with(".service")) {
        let command = values(unit, "ExecStart").join(" ").replace("%i", "postgresql.psf.io");
        let args = command.strip_prefix("/usr/bin/psfca ").unwrap();
        // --help comes last: whatever is wrong before it is reported first.
        let output = Command::new(env!("CARGO_BIN_EXE_psfca")).args(args.split(' ')).arg("--help").output().unwrap();
        assert!(output.status.success(), "{unit}: {command}\n{}", text(&output));
    }
}

#[test]
fn a_short_outage_of_the_ca_is_the_only_trouble_that_does_not_fail_the_renewer() {
    assert_eq!(values("psfca-renew.service", "SuccessExitStatus"), ["4"]);
    assert!(values("psfca-hook@.service", "SuccessExitStatus").is_empty());
}

/// The services for which a hook is shipped.
const HOOKS: [&str; 9] =
    ["apache", "haproxy", "mariadb", "nginx", "pgbouncer", "postfix", "postgresql", "rabbitmq", "redis"];

#[test]
fn every_shipped_hook_is_a_sound_shell_script_that_could_be_run_as_it_is_and_says_what_its_service_needs() {
    let mut names: Vec<String> = fs::read_dir(shipped("hooks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, HOOKS);
    for name in HOOKS {
        let hook = shipped("hooks").join(name);
        let script = fs::read_to_string(&hook).unwrap();
        assert_eq!(fs::metadata(&hook).unwrap().mode() & 0o111, 0o111, "{name}");
        assert!(script.starts_with("#!/bin/sh\n# psfca hook: ") && script.contains("\nset -eu\n"), "{name}");
        assert!(script.contains("\n# Needs: ") && script.contains("is not running"), "{name}");
        let install = format!("install -D systemd/hooks/{name} /etc/psfca/hooks.d/NAME/{name}\n");
        assert!(script.contains(&install), "{name}");
        let hook = hook.to_str().unwrap();
        for (program, args) in [("sh", &["-n", hook][..]), ("shellcheck", &[hook])] {
            let output = run(program, args);
            assert!(output.status.success() && text(&output).is_empty(), "{program} {name}: {}", text(&output));
        }
    }
}

#[test]
fn a_hook_signals_a_process_only_where_it_is_of_the_user_who_could_write_its_number() {
    let directory = tempfile::tempdir().unwrap();
    for (hook, variable, file) in [("pgbouncer", "PID_FILE", "pid"), ("postgresql", "PGDATA", "postmaster.pid")] {
        let pid_file = directory.path().join(file);
        let value = if variable == "PGDATA" { directory.path() } else { &pid_file };
        let mut process = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(&pid_file, process.id().to_string()).unwrap();
        let run = || Command::new(shipped("hooks").join(hook)).env(variable, value).output().unwrap();
        // Only root can be abused to signal what is another user's.
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            chown(&pid_file, Some(65_534), None).unwrap();
            let output = run();
            assert!(text(&output).contains("is not running"), "{hook}: {}", text(&output));
            assert_eq!(process.try_wait().unwrap(), None, "{hook}");
            chown(&pid_file, Some(0), None).unwrap();
        }
        assert!(run().status.success(), "{hook}");
        assert_eq!(process.wait().unwrap().signal(), Some(1), "{hook}");
    }
}

#[test]
fn uids_of_admin_socket_peers_stay_visible() {
    // PrivateUsers= would turn every operator into nobody, and the audit trail with it.
    assert!(values("psfca.service", "PrivateUsers").is_empty());
}

#[test]
fn no_condition_skips_a_renewal_silently() {
    for unit in UNITS {
        let unit = fs::read_to_string(shipped(unit)).unwrap();
        assert!(!unit.lines().any(|line| line.starts_with("Condition")), "{unit}");
    }
}

#[test]
fn the_timer_runs_every_15_minutes_spread_out_and_catches_up() {
    let calendar = values("psfca-renew.timer", "OnCalendar").join(" ");
    let base = ["--base-time=2026-11-21 00:00:01 UTC", "--iterations=3"];
    let output = run("systemd-analyze", &["calendar", base[0], base[1], &calendar]);
    let said = text(&output);
    for time in ["00:15:00", "00:30:00", "00:45:00"] {
        assert!(said.contains(time), "{said}");
    }
    assert_eq!(values("psfca-renew.timer", "RandomizedDelaySec"), ["15min"]);
    assert_eq!(values("psfca-renew.timer", "Persistent"), ["yes"]);
}

/// Group ids by name, as written in `root/etc/group`.
fn group(root: &Path, name: &str) -> u32 {
    let groups = fs::read_to_string(root.join("etc/group")).unwrap();
    let line = groups.lines().find(|line| line.split(':').next() == Some(name)).unwrap();
    line.split(':').nth(2).unwrap().parse().unwrap()
}

#[test]
fn users_groups_and_directories_are_made_as_the_units_need_them() {
    let root = tempfile::tempdir().unwrap();
    if fs::metadata(root.path()).unwrap().uid() != 0 {
        // Written, not printed: the test harness shows what passing tests print to nobody.
        std::io::stderr().write_all(b"skipped: systemd-sysusers and -tmpfiles change owners: root only\n").unwrap();
        return;
    }
    fs::create_dir(root.path().join("etc")).unwrap();
    let in_root = format!("--root={}", root.path().display());
    // A CA machine can be a host too, so both sets go in together, and nobody may complain.
    let sysusers = [shipped("sysusers.d/psfca.conf"), shipped("sysusers.d/psfca-host.conf")];
    let sysusers: Vec<&str> = sysusers.iter().map(|path| path.to_str().unwrap()).collect();
    let output = run("systemd-sysusers", &[&[in_root.as_str()], &sysusers[..]].concat());
    assert!(output.status.success(), "{}", text(&output));

    let tmpfiles = [shipped("tmpfiles.d/psfca.conf"), shipped("tmpfiles.d/psfca-host.conf")];
    let tmpfiles: Vec<&str> = tmpfiles.iter().map(|path| path.to_str().unwrap()).collect();
    let output = run("systemd-tmpfiles", &[&["--create", in_root.as_str()], &tmpfiles[..]].concat());
    assert!(output.status.success() && text(&output).is_empty(), "{}", text(&output));

    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let daemon = users.lines().find(|line| line.starts_with("psfca:")).unwrap();
    let daemon: u32 = daemon.split(':').nth(2).unwrap().parse().unwrap();
    group(root.path(), "psfca-admin");
    let expected = [
        ("etc/psfca", 0o755, 0, 0),
        ("etc/ssl/certs", 0o755, 0, 0),
        ("etc/ssl/private", 0o710, 0, group(root.path(), "ssl-cert")),
        ("var/lib/psfca", 0o700, daemon, group(root.path(), "psfca")),
        ("var/lib/psfca-host", 0o700, 0, 0),
    ];
    for (path, mode, uid, gid) in expected {
        let metadata = fs::metadata(root.path().join(path)).unwrap();
        let found = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
        assert_eq!(found, (mode, uid, gid), "mode, uid and gid of {path}");
    }
}
