//! Bundles in places of their own, and copies of them in the forms that services want.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use psfca::ca::bundle::{Bundle, Chain};
use psfca::ca::pem_file::{Content, strict_blocks};
use support::disk::{Mounted, mountable};
use support::tools::{said, succeed};
use support::{Ca, Host};

const NAME: &str = "postgresql.psf.io";
const NOBODY: u32 = 65_534;
const NAMES: &str = "names:
  postgresql.psf.io:
    path: own/pg.pem
    mode: '0600'
    copies:
      - {path: copies/combined.pem, layout: combined}
      - {path: copies/smtpd.pem, layout: key-first}
      - {path: copies/split, layout: split, mode: '0640'}
      - {path: copies/secret.yaml, layout: kubernetes-secret}
";

fn start() -> (Ca, Host) {
    let ca = Ca::start();
    let host = Host::new("pg0.iad1.psf.io");
    for directory in ["own", "copies"] {
        fs::create_dir(host.dir().join(directory)).unwrap();
    }
    let settings = fs::read_to_string(host.config()).unwrap() + NAMES;
    fs::write(host.config(), settings).unwrap();
    assert!(host.enroll_with(&ca.token(&host.name)).status.success());
    (ca, host)
}

/// Harm done to the file or directory at a path.
type Damage = fn(&Path);

fn own(host: &Host) -> Bundle {
    Bundle::parse(&fs::read(host.dir().join("own/pg.pem")).unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_bundle_goes_where_its_name_says_and_each_copy_holds_the_same_certificate_and_key() {
    let (_ca, host) = start();
    let at = |path: &str| host.dir().join(path);
    host.ok(&["renew"]);
    let bundle = own(&host);
    assert!(!host.bundle(NAME).exists());
    assert_eq!(mode(&at("own/pg.pem")), 0o600);

    assert_eq!(fs::read(at("copies/combined.pem")).unwrap(), bundle.to_pem().as_bytes());

    let key_first = fs::read(at("copies/smtpd.pem")).unwrap();
    let blocks = strict_blocks(&key_first).unwrap();
    assert!(matches!(&blocks[0].content, Content::PrivateKey(key) if key.spki() == bundle.key().spki()));
    let certificates = blocks[1..].iter().map(|block| match &block.content {
        Content::Certificate(der) => der.clone(),
        _ => panic!("only certificates follow the key"),
    });
    let certificates: Vec<_> = certificates.collect();
    assert_eq!(certificates, bundle.chain().certificates());

    let read = |entry: &str| fs::read_to_string(at("copies/split").join(entry)).unwrap();
    assert_eq!(read("tls.crt"), bundle.chain().to_pem());
    assert_eq!(read("tls.key"), *bundle.key().to_pem());
    assert_eq!(read("ca.crt"), fs::read_to_string(host.trust_bundle()).unwrap());
    assert_eq!((mode(&at("copies/split")), mode(&at("copies/split/tls.key"))), (0o750, 0o640));

    let secret: serde_yaml::Value = serde_yaml::from_slice(&fs::read(at("copies/secret.yaml")).unwrap()).unwrap();
    assert_eq!(secret["kind"], "Secret");
    assert_eq!((&secret["type"], &secret["metadata"]["name"]), (&"kubernetes.io/tls".into(), &NAME.into()));
    for entry in ["tls.crt", "tls.key", "ca.crt"] {
        let text = base64::engine::general_purpose::STANDARD.decode(secret["data"][entry].as_str().unwrap()).unwrap();
        assert_eq!(text, read(entry).as_bytes());
    }
    assert_eq!(host.psfca(&["status"]).status.code(), Some(0));
}

#[test]
fn a_copy_that_is_not_what_the_bundle_says_is_told_and_made_again_without_a_new_certificate() {
    let (_ca, host) = start();
    host.ok(&["renew"]);
    let serial = own(&host).leaf().serial.clone();
    let damages: [(_, Damage); 5] = [
        ("copies/combined.pem", |path| fs::write(path, "torn").unwrap()),
        ("copies/smtpd.pem", |path| fs::remove_file(path).unwrap()),
        ("copies/secret.yaml", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap()),
        ("copies/split", |path| fs::remove_file(path).unwrap()),
        ("copies/split", |path| fs::write(path.join("tls.key"), "another").unwrap()),
    ];
    for (path, damage) in damages {
        damage(&host.dir().join(path));
        let status = host.psfca(&["status"]);
        assert_eq!(status.status.code(), Some(5), "{path}");
        assert!(said(&status).contains(&format!("{path} is missing or out of date")), "{}", said(&status));
        let renewed = host.ok(&["renew"]);
        assert!(renewed.contains(&format!("{path}\n")) && renewed.contains("copied to"), "{renewed}");
        assert_eq!(host.psfca(&["status"]).status.code(), Some(0), "{path}");
    }
    assert_eq!(own(&host).leaf().serial, serial);
    // One directory is in use and one may still be; what came before is gone.
    let directories = fs::read_dir(host.dir().join("copies")).unwrap().flatten();
    let directories = directories.filter(|entry| entry.file_type().unwrap().is_dir()).count();
    assert!(directories <= 2, "{directories} directories with keys");
}

#[test]
fn a_copy_that_cannot_be_made_is_told_and_keeps_nobody_else_from_being_renewed() {
    let (_ca, host) = start();
    host.ok(&["renew"]);
    let serial = own(&host).leaf().serial.clone();
    fs::remove_file(host.dir().join("copies/smtpd.pem")).unwrap();
    fs::create_dir(host.dir().join("copies/smtpd.pem")).unwrap();
    let out = host.psfca(&["renew", "--force"]);
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    assert!(said(&out).contains("a copy is out of date: "), "{}", said(&out));
    assert!(said(&out).contains("no regular file is there; move it away first"), "{}", said(&out));
    assert_ne!(own(&host).leaf().serial, serial);
}

#[test]
fn no_copy_is_made_of_a_certificate_that_this_ca_did_not_issue() {
    let (_ca, host) = start();
    let settings = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), settings + "      - {path: copies/pg.p12, layout: pkcs12}\n").unwrap();
    let hook = host.dir().join("hooks.d").join(NAME).join("10-notes");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let (other, stranger) = (Ca::start(), Host::new("pg0.iad1.psf.io"));
    assert!(stranger.enroll_with(&other.token(&stranger.name)).status.success());
    stranger.ok(&["renew"]);
    let theirs = fs::read(stranger.bundle(NAME)).unwrap();

    let copies = ["combined.pem", "smtpd.pem", "split/tls.key", "secret.yaml", "pg.p12"].map(|copy| {
        let path = host.dir().join("copies").join(copy);
        move || fs::read(&path).ok()
    });
    // Before there is any copy, and when there are all.
    for _ in 0..2 {
        let before: Vec<_> = copies.iter().map(|copy| copy()).collect();
        fs::write(host.dir().join("own/pg.pem"), &theirs).unwrap();
        for args in [&["renew"][..], &["renew", "--json"], &["issue", NAME]] {
            let out = host.psfca(args);
            assert_eq!(out.status.code(), Some(1), "{}", said(&out));
            assert!(said(&out).contains("was not issued by this CA"), "{}", said(&out));
            assert!(!said(&out).contains("still good"), "nobody knows that: {}", said(&out));
        }
        for command in ["renew", "status"] {
            let report: serde_json::Value = serde_json::from_slice(&host.psfca(&[command, "--json"]).stdout).unwrap();
            let lines = report["names"].as_array().or(report["bundles"].as_array()).unwrap();
            let line = lines.iter().find(|line| line["name"] == NAME).unwrap();
            assert_eq!(line["loaded"]["state"], "not_installed", "{command}: {line}");
        }
        assert_eq!(copies.iter().map(|copy| copy()).collect::<Vec<_>>(), before);
        host.ok(&["issue", NAME, "--force"]);
        assert!(copies.iter().all(|copy| copy().is_some()));
    }
}

#[test]
fn what_psfca_did_not_write_is_replaced_by_neither_bundle_nor_copy_until_a_person_says_so() {
    let (_ca, host) = start();
    let at = |path: &str| host.dir().join(path);
    let settings = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), settings + "      - {path: copies/pg.p12, layout: pkcs12}\n").unwrap();
    let (other, stranger) = (Ca::start(), Host::new("pg0.iad1.psf.io"));
    assert!(stranger.enroll_with(&other.token(&stranger.name)).status.success());
    stranger.ok(&["renew"]);
    let theirs = fs::read(stranger.bundle(NAME)).unwrap();
    let settings = &b"# Postfix\nmyhostname = mail.psf.io\n"[..];
    let occupied =
        [("copies/combined.pem", settings), ("copies/smtpd.pem", &theirs), ("copies/pg.p12", b"\x30\x82 a keystore")];
    for (path, content) in occupied {
        fs::write(at(path), content).unwrap();
    }

    // Where the bundle is to go.
    fs::write(at("own/pg.pem"), settings).unwrap();
    let (what, how) = ("what lies there was not written by psfca (", format!("with: psfca issue {NAME} --force"));
    for (args, code) in [(&["renew"][..], 1), (&["issue", NAME], 1), (&["status"], 5)] {
        let out = host.psfca(args);
        assert_eq!(out.status.code(), Some(code), "{}", said(&out));
        assert!(said(&out).contains(what) && said(&out).contains(&how), "{}", said(&out));
        assert_eq!(fs::read(at("own/pg.pem")).unwrap(), settings);
        assert!(host.bundle("made.psf.io").exists() || args == ["issue", NAME], "it holds another name up");
    }
    // Where copies are to go: each on its own.
    fs::write(at("own/pg.pem"), "\n").unwrap();
    for (args, code) in [(&["renew"][..], 1), (&["renew"], 1), (&["issue", NAME], 1), (&["status"], 5)] {
        let out = host.psfca(args);
        assert_eq!(out.status.code(), Some(code), "{}", said(&out));
        for (path, content) in occupied {
            assert_eq!(fs::read(at(path)).unwrap(), content, "{path}");
            let told = said(&out).contains(&format!("{path} cannot be installed: what lies there"));
            assert!(told || args == ["status"], "{path}: {}", said(&out));
        }
        assert!(said(&out).contains(&how), "{}", said(&out));
        assert_eq!(own(&host).to_pem().as_bytes(), fs::read(at("own/pg.pem")).unwrap());
        assert!(at("copies/secret.yaml").exists() && at("copies/split").exists(), "one copy holds another up");
    }
    host.ok(&["issue", NAME, "--force"]);
    assert_eq!(host.psfca(&["status"]).status.code(), Some(0));
    // From then on they are psfca's, and what is torn there is made again.
    for (path, _) in occupied.iter().chain([&("own/pg.pem", &b""[..])]) {
        fs::write(at(path), "torn").unwrap();
        host.ok(&["renew"]);
        assert_eq!(host.psfca(&["status"]).status.code(), Some(0), "{path}");
    }
}

#[test]
fn whoever_opens_a_split_directory_finds_a_certificate_and_its_key() {
    let (_ca, host) = start();
    host.ok(&["issue", NAME]);
    let (split, stop) = (host.dir().join("copies/split"), Arc::new(AtomicBool::new(false)));
    let reader = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut serials = std::collections::BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                // A service looks the directory up once, or twice in a row; the first is what is promised.
                let now = split.canonicalize().unwrap();
                let chain = Chain::parse(&fs::read(now.join("tls.crt")).unwrap()).unwrap();
                let key = fs::read(now.join("tls.key")).unwrap();
                let Content::PrivateKey(key) = strict_blocks(&key).unwrap().remove(0).content else { panic!("a key") };
                assert_eq!(chain.leaf().spki, key.spki());
                serials.insert(chain.leaf().serial.to_string());
            }
            serials.len()
        }
    });
    for _ in 0..8 {
        host.ok(&["issue", NAME]);
        assert!(!reader.is_finished(), "{:?}", reader.join());
    }
    stop.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() >= 2);
}

/// Directories that are not psfca's, by names like those that it makes beside the copy `service/app`.
fn planted(host: &Host) -> Vec<PathBuf> {
    let make = |suffix: &str, owner: u32, files: &[&str]| {
        let directory = host.dir().join(format!("service/.app.psfca-{suffix}"));
        fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        chown(&directory, Some(owner), None).unwrap();
        for file in files.iter().map(|file| directory.join(file)) {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "root's").unwrap();
        }
        directory
    };
    // What a service's user can rename: what root has in their directory, and their own with something of root's in it.
    let theirs = make("aa", NOBODY, &["tls.crt", "data/of-root"]);
    let roots = make("bb", 0, &["file"]);
    let alike = make("cc", 0, &["tls.crt", "tls.key", "ca.crt"]);
    vec![
        theirs.join("tls.crt"),
        theirs.join("data/of-root"),
        roots.join("file"),
        alike.join("tls.key"),
        make("dd", 0, &[]),
    ]
}

#[test]
fn beside_a_split_copy_nothing_is_removed_but_what_psfca_made_whatever_its_owner_calls_it() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let (ca, host) = start();
    let (service, elsewhere) = (host.dir().join("service"), host.dir().join("elsewhere"));
    for directory in [&service, &elsewhere] {
        fs::create_dir(directory).unwrap();
    }
    chown(&service, Some(NOBODY), Some(NOBODY)).unwrap();
    let copy = format!("      - {{path: service/app, layout: split, owner: '{NOBODY}', group: '{NOBODY}'}}\n");
    fs::write(host.config(), fs::read_to_string(host.config()).unwrap() + &copy).unwrap();
    host.ok(&["renew"]);
    let link = service.join("app");
    let first = service.join(fs::read_link(&link).unwrap());
    host.ok(&["issue", NAME]);
    let second = service.join(fs::read_link(&link).unwrap());
    assert!(first.is_dir() && second.is_dir());

    let mut kept = planted(&host);
    kept.push(elsewhere.join("tls.key"));
    fs::write(elsewhere.join("tls.key"), "root's").unwrap();
    symlink(&elsewhere, service.join(".app.psfca-ee")).unwrap();
    let mounted = mountable().then(|| {
        let place = service.join(".app.psfca-ff");
        fs::create_dir(&place).unwrap();
        let mounted = Mounted::over(&place, &format!("size=64k,mode=0700,uid={NOBODY}"));
        kept.push(mounted.outside(&place.join("tls.key")));
        fs::write(kept.last().unwrap(), "root's").unwrap();
        mounted
    });
    let run = |args: &[&str]| {
        let command = host.command(args);
        mounted.as_ref().map_or(command, |mounted| mounted.inside(&host.command(args))).output().unwrap()
    };
    let spared = |output: &std::process::Output| {
        assert_eq!(output.status.code(), Some(1), "{}", said(output));
        assert!(
            said(output).contains("/service/.app.psfca-") && said(output).contains(" is not removed: "),
            "{}",
            said(output)
        );
        for path in &kept {
            assert!(path.exists(), "{} is gone: {}", path.display(), said(output));
        }
    };
    fs::remove_file(&link).unwrap();
    spared(&run(&["renew"]));
    // What is psfca's is gone as ever, and the copy is in place.
    assert!(!first.exists() && !second.exists());
    assert_eq!(fs::read(link.join("tls.key")).unwrap(), own(&host).key().to_pem().as_bytes());
    assert_eq!(run(&["renew"]).status.code(), Some(0));

    let tls = fs::read_to_string(ca.dir().join("tls.yaml")).unwrap();
    fs::write(ca.dir().join("tls.yaml"), tls.replace("    postgresql.psf.io:\n      roles: [postgresql]\n", ""))
        .unwrap();
    ca.signal("HUP");
    ca.wait_for_log("a new declaration is in force");
    let third = service.join(fs::read_link(&link).unwrap());
    spared(&run(&["renew", "--prune"]));
    assert!(fs::symlink_metadata(&link).is_err() && !third.exists());
    assert_eq!(run(&["renew", "--prune"]).status.code(), Some(0));
    assert!(!host.dir().join("own/pg.pem").exists());
}

#[test]
fn no_copy_is_made_of_a_bundle_that_the_owner_of_its_directory_lets_its_path_lead_to() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let (_ca, host) = start();
    let at = |path: &str| host.dir().join(path);
    fs::create_dir_all(at("service/tls")).unwrap();
    for path in ["service", "service/tls"] {
        chown(at(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    // By the same file name as that of another name.
    let names = format!(
        "  made.psf.io:\n    path: service/tls/pg.pem\n    owner: '{NOBODY}'\n    group: '{NOBODY}'\n    \
         copies: [{{path: service/copy.pem, layout: combined}}]\n"
    );
    fs::write(host.config(), fs::read_to_string(host.config()).unwrap() + &names).unwrap();
    host.ok(&["renew"]);
    let copy = fs::read(at("service/copy.pem")).unwrap();
    fs::rename(at("service/tls"), at("service/moved")).unwrap();
    symlink("../own", at("service/tls")).unwrap();
    lchown(at("service/tls"), Some(NOBODY), Some(NOBODY)).unwrap();
    let output = host.psfca(&["renew"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("a copy is out of date: "), "{}", said(&output));
    assert_eq!(fs::read(at("service/copy.pem")).unwrap(), copy);
}

/// What openssl finds in the PKCS#12 file at `path`, PEM.
fn opened(path: &Path, password: &str, args: &[&str]) -> String {
    let pass = format!("pass:{password}");
    succeed("openssl", &[&["pkcs12", "-in", path.to_str().unwrap(), "-passin", &pass], args].concat())
}

#[test]
fn a_keystore_holds_the_same_key_and_chain_and_is_made_again_only_when_bundle_password_or_file_changed() {
    let (_ca, host) = start();
    host.ok(&["renew"]);
    let (password, keystore) = (host.dir().join("keystore.password"), host.dir().join("copies/pg.p12"));
    fs::write(&password, "correct horse\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o640)).unwrap();
    let with = |copy: &str| {
        let settings = fs::read_to_string(host.config()).unwrap();
        let settings = settings.split("      - {path: copies/pg.p12").next().unwrap().to_owned();
        fs::write(host.config(), format!("{settings}      - {{path: copies/pg.p12, layout: pkcs12{copy}}}\n")).unwrap();
    };
    with(", password_file: keystore.password");
    let as_bundle = |password: &str| {
        let bundle = own(&host);
        let chain = Chain::parse(opened(&keystore, password, &["-nokeys"]).as_bytes()).unwrap();
        assert_eq!(chain.certificates(), bundle.chain().certificates());
        let key = opened(&keystore, password, &["-nodes", "-nocerts"]);
        let key = strict_blocks(key.as_bytes()).unwrap().remove(0).content;
        assert!(matches!(key, Content::PrivateKey(key) if key.spki() == bundle.key().spki()));
    };
    // Made again for a reason, and then left alone.
    let made_again = |args: &[&str], password: &str| {
        assert_eq!(host.psfca(&["status"]).status.code(), Some(5));
        host.ok(args);
        as_bundle(password);
        let made = fs::read(&keystore).unwrap();
        assert_eq!(host.psfca(&["status"]).status.code(), Some(0));
        assert!(!host.ok(&["renew"]).contains("copied to"));
        assert_eq!(fs::read(&keystore).unwrap(), made);
    };
    made_again(&["renew"], "correct horse");
    assert_eq!(mode(&keystore), 0o600);

    let whole = fs::read(&keystore).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    for wrong in [&damaged[..], &whole[..whole.len() - 1], b""] {
        fs::write(&keystore, wrong).unwrap();
        made_again(&["renew"], "correct horse");
    }
    let serial = own(&host).leaf().serial.clone();
    host.ok(&["issue", NAME]);
    as_bundle("correct horse");
    assert_ne!(own(&host).leaf().serial, serial);
    // One of the certificate before is a good file, and the wrong one.
    fs::write(&keystore, whole).unwrap();
    made_again(&["renew"], "correct horse");

    fs::write(&password, "battery staple").unwrap();
    made_again(&["renew"], "battery staple");
    with("");
    made_again(&["renew"], "changeit");
}

#[test]
fn a_password_file_that_others_may_read_is_not_used_and_the_keystore_stays_as_it_was() {
    let (_ca, host) = start();
    let (password, keystore) = (host.dir().join("keystore.password"), host.dir().join("copies/pg.p12"));
    let copy = "      - {path: copies/pg.p12, layout: pkcs12, password_file: keystore.password}\n";
    fs::write(host.config(), fs::read_to_string(host.config()).unwrap() + copy).unwrap();
    fs::write(&password, "correct horse").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    host.ok(&["renew"]);
    let (made, serial) = (fs::read(&keystore).unwrap(), own(&host).leaf().serial.clone());

    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    let out = host.psfca(&["renew", "--force"]);
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    assert!(said(&out).contains("keystore.password is not used: it has mode 0644; run: chmod 640 "), "{}", said(&out));
    assert!(!said(&out).contains("horse"));
    assert_eq!(fs::read(&keystore).unwrap(), made);
    assert_ne!(own(&host).leaf().serial, serial);
    assert_eq!(host.psfca(&["status"]).status.code(), Some(5));

    fs::remove_file(&password).unwrap();
    let out = host.psfca(&["renew"]);
    assert!(said(&out).contains("keystore.password is not used: there is no such file"), "{}", said(&out));
}
