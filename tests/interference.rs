//! What somebody else puts on a host, by mistake or not: it is spared, told, or not used; never trusted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::process::Output;

use psfca::ca::bundle::Bundle;
use support::tools::{said, succeed};
use support::{Ca, Host};

const NAME: &str = "postgresql.psf.io";
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A CA and a host that has all its bundles.
fn working() -> (Ca, Host) {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    host.ok(&["renew"]);
    (ca, host)
}

/// That `output` is a failure with this code and text, and the bundle is as before.
fn nothing_changed(host: &Host, old: &[u8], output: &Output, code: i32, text: &str) {
    assert_eq!(output.status.code(), Some(code), "{text}: {}", said(output));
    assert!(said(output).contains(text), "{text:?} in {}", said(output));
    assert_eq!(fs::read(host.bundle(NAME)).unwrap(), old, "{text}");
}

#[test]
fn what_somebody_else_put_there_is_spared_until_a_person_says_otherwise() {
    let (_ca, host) = working();
    let old = fs::read(host.bundle(NAME)).unwrap();
    let other = Ca::start();
    let stranger = Host::enroll(&other, "pg0.iad1.psf.io");
    stranger.ok(&["renew"]);
    let theirs = fs::read(stranger.bundle(NAME)).unwrap();
    fs::write(host.bundle(NAME), &theirs).unwrap();
    let text = "was not issued by this CA, so it is left alone";
    for (args, code) in [(&["renew"][..], 1), (&["issue", NAME], 1), (&["status"], 5)] {
        nothing_changed(&host, &theirs, &host.psfca(args), code, text);
    }
    host.ok(&["issue", NAME, "--force"]);
    Bundle::parse(&fs::read(host.bundle(NAME)).unwrap()).unwrap();
    // What is torn, or ours and cut off, is healed as ever.
    let end = theirs.len() - 30;
    let without_key = old.len() - old.windows(10).rev().position(|w| w == b"-----BEGIN").unwrap() - 10;
    for torn in [&theirs[..end], &old[..without_key], b""] {
        fs::write(host.bundle(NAME), torn).unwrap();
        host.ok(&["renew"]);
        assert_ne!(fs::read(host.bundle(NAME)).unwrap(), torn);
    }
}

#[test]
fn what_is_no_file_is_neither_waited_for_nor_read_without_end() {
    let (_ca, host) = working();
    let bundles = host.dir().join("bundles");
    for name in ["app.psf.io", "none-of-ours.psf.io"] {
        let _ = fs::remove_file(host.bundle(name));
        succeed("mkfifo", &[host.bundle(name).to_str().unwrap()]);
    }
    // It looks large and takes no room.
    File::create(bundles.join("large.psf.io.pem")).unwrap().set_len(1 << 40).unwrap();
    File::options().write(true).open(host.bundle("made.psf.io")).unwrap().set_len(1 << 40).unwrap();
    let status = host.psfca(&["status"]);
    assert_eq!(status.status.code(), Some(5), "{}", said(&status));
    for text in ["it is no regular file", "it has more than 1048576 bytes"] {
        assert!(said(&status).contains(text), "{text}: {}", said(&status));
    }
    let renewed = host.psfca(&["renew"]);
    assert!(said(&renewed).contains("something that is no regular file is there"), "{}", said(&renewed));
    assert!(said(&renewed).contains("made.psf.io: renewed"), "{}", said(&renewed));
    Bundle::parse(&fs::read(host.bundle("made.psf.io")).unwrap()).unwrap();
}

#[test]
fn a_state_directory_that_others_write_to_is_not_used() {
    let (_ca, host) = working();
    let state = host.dir().join("state");
    let old = fs::read(host.bundle(NAME)).unwrap();
    for mode in [0o777, 0o770, 0o1777] {
        fs::set_permissions(&state, Permissions::from_mode(mode)).unwrap();
        for args in [&["issue", NAME][..], &["renew", "--force"], &["status"], &["ciphers"]] {
            nothing_changed(&host, &old, &host.psfca(args), 1, "others may write to it; run: chmod go-w");
        }
        assert_eq!(host.enroll_with("x").status.code(), Some(1));
    }
    fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
    host.ok(&["status"]);
    if is_root() {
        chown(&state, Some(NOBODY), None).unwrap();
        nothing_changed(&host, &old, &host.psfca(&["status"]), 1, "belongs to nobody, not to root");
    }
}

#[test]
fn a_place_that_cannot_be_looked_at_keeps_no_other_name_from_being_renewed_or_told() {
    let (_ca, host) = working();
    let at = |path: &str| host.dir().join(path);
    fs::create_dir_all(at("service/tls")).unwrap();
    let names = "names: {made.psf.io: {path: service/tls/made.pem}}\n";
    fs::write(host.config(), fs::read_to_string(host.config()).unwrap() + names).unwrap();
    host.ok(&["renew"]);
    let own = at("service/tls/made.pem");
    // The user of one service can do that, whose directory it is; the other way round where it is all bundles'.
    for (directory, lost, renewed, told) in [
        ("service/tls", host.bundle(NAME), "postgresql.psf.io: renewed", "made.psf.io"),
        ("bundles", own.clone(), "made.psf.io: renewed", NAME),
    ] {
        fs::rename(at(directory), at("moved")).unwrap();
        fs::write(at(directory), "").unwrap();
        let _ = fs::remove_file(&lost);
        let output = host.psfca(&["renew"]);
        assert_eq!(output.status.code(), Some(5), "{}", said(&output));
        assert!(said(&output).contains(renewed), "{}", said(&output));
        assert!(said(&output).contains("look at the directory: Not a directory"), "{}", said(&output));
        Bundle::parse(&fs::read(&lost).unwrap()).unwrap();
        let status = host.psfca(&["status"]);
        assert_eq!(status.status.code(), Some(5), "{}", said(&status));
        for text in ["it is damaged: it cannot be read: Not a directory", NAME, "app.psf.io", "made.psf.io", told] {
            assert!(said(&status).contains(text), "{text}: {}", said(&status));
        }
        fs::remove_file(at(directory)).unwrap();
        fs::rename(at("moved"), at(directory)).unwrap();
    }
    host.ok(&["renew"]);
    host.ok(&["status"]);
}
