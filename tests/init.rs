//! `psfca init`: what it makes, for whom, and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use support::ask::openssl;
use support::{Ca, Host, clock, psfca};

const PASSPHRASE: &str = "correct horse battery";

/// Every file and directory below `dir`, and `dir` itself.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

fn refusal(ca: &Ca, args: &[&str]) -> String {
    let out = ca.psfca(args);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(out.stdout.is_empty(), "{out:?}");
    String::from_utf8(out.stderr).unwrap()
}

/// A CA with its root key in `root.key` and the passphrase in `passphrase`, beside the state directory.
fn with_root_key_elsewhere(passphrase: &str) -> (Ca, String, String) {
    let ca = Ca::unmade("");
    let [key, file] = ["root.key", "passphrase"].map(|name| ca.dir().join(name).to_str().unwrap().to_owned());
    std::fs::write(&file, format!("{passphrase}\n")).unwrap();
    (ca, key, file)
}

#[test]
fn a_ca_is_never_overwritten() {
    let ca = Ca::made_with("");
    let content = || walk(&ca.state()).into_iter().filter(|p| p.is_file()).map(|p| (std::fs::read(&p).unwrap(), p));
    let before: Vec<_> = content().collect();
    let said = refusal(&ca, &["init"]);
    assert!(said.contains("there is a CA in") && said.contains("it is never overwritten"), "{said}");
    assert!(before == content().collect::<Vec<_>>(), "init changed a file");
}

#[test]
fn keys_and_ledger_are_for_their_owner_alone() {
    let ca = Ca::made_with("");
    for path in walk(&ca.state()) {
        let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
        let certificate = path.extension().is_some_and(|extension| extension == "pem");
        let wanted = if path.is_dir() {
            0o700
        } else if certificate {
            0o644
        } else {
            0o600
        };
        assert_eq!(mode, wanted, "{}", path.display());
    }
    assert!(ca.state().join("ca/root.key").is_file() && ca.state().join("ca/issuing.key").is_file());
}

#[test]
fn a_state_directory_that_others_write_to_is_refused() {
    for (mode, others) in [(0o777, true), (0o770, true), (0o1777, true), (0o755, false)] {
        for made in [false, true] {
            let ca = if made { Ca::made_with("") } else { Ca::unmade("") };
            let _ = std::fs::create_dir(ca.state());
            std::fs::set_permissions(ca.state(), PermissionsExt::from_mode(mode)).unwrap();
            if others {
                let said = refusal(&ca, &[if made { "serve" } else { "init" }]);
                assert!(said.contains("others may write to it; run: chmod go-w"), "{mode:o}: {said}");
            } else if !made {
                assert!(ca.psfca(&["init"]).status.success());
            }
        }
    }
}

#[test]
fn the_service_user_makes_the_ca_and_root_is_told_so() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        support::tools::say("skipped: only root can make a directory that is another user's");
        return;
    }
    let mut ca = Ca::unmade("");
    let config = std::fs::read_to_string(ca.config()).unwrap();
    let config = config.replace("trust_bundle: PSF_CA.pem", "trust_bundle: state/PSF_CA.pem");
    std::fs::write(ca.config(), config.replace("admin_socket: admin", "admin_socket: state/admin")).unwrap();
    std::fs::create_dir(ca.state()).unwrap();
    std::fs::set_permissions(ca.state(), PermissionsExt::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(ca.state(), Some(NOBODY), Some(NOBODY)).unwrap();
    let told = refusal(&ca, &["init"]);
    assert!(told.contains("belongs to nobody, who runs the daemon: sudo -u nobody psfca init"), "{told}");
    assert_eq!(walk(&ca.state()), [ca.state()]);

    // That user may not be able to reach the binary where it was built.
    std::fs::set_permissions(ca.dir(), PermissionsExt::from_mode(0o755)).unwrap();
    let binary = ca.dir().join("psfca");
    support::copy_binary(&binary);
    let as_nobody = |command: &str| {
        let mut run = std::process::Command::new(&binary);
        run.arg(command).env("PSFCA_CONFIG", ca.config()).uid(NOBODY).gid(NOBODY);
        run
    };
    let made = as_nobody("init").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    for path in walk(&ca.state()) {
        let owner = path.metadata().unwrap();
        assert_eq!((owner.uid(), owner.mode() & 0o022), (NOBODY, 0), "{}", path.display());
    }
    let daemon = as_nobody("serve");
    ca.serve_by(daemon);
}

#[test]
fn a_root_key_kept_elsewhere_is_encrypted_and_nowhere_else_and_the_daemon_runs_without_it() {
    let (mut ca, key, file) = with_root_key_elsewhere(PASSPHRASE);
    ca.ok(&["init", "--root-key", &key, "--passphrase-file", &file]);
    assert_eq!(Path::new(&key).metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(std::fs::read_to_string(&key).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));

    // openssl opens it with the passphrase only, and it is the root's key.
    let root = ca.trust_bundle();
    let public = openssl(&["pkey", "-in", &key, "-passin", &format!("file:{file}"), "-pubout"]);
    assert_eq!(public, openssl(&["x509", "-in", root.to_str().unwrap(), "-noout", "-pubkey"]));
    let wrong = ["pkey", "-in", &key, "-passin", "pass:correct horse batterie", "-noout"];
    assert!(!std::process::Command::new("openssl").args(wrong).output().unwrap().status.success());

    // The secret number itself lies in no other file, neither as bytes nor inside of PEM.
    let text = openssl(&["pkey", "-in", &key, "-passin", &format!("file:{file}"), "-noout", "-text"]);
    let hex = text.split_once("priv:").unwrap().1.split_once("pub:").unwrap().0;
    let number: Vec<u8> =
        hex.split(|c: char| !c.is_ascii_hexdigit()).filter_map(|b| u8::from_str_radix(b, 16).ok()).collect();
    let number = &number[number.len() - 32..];
    let holds = |bytes: &[u8]| bytes.windows(number.len()).any(|window| window == number);
    for path in walk(ca.dir()).into_iter().filter(|path| path.is_file()) {
        let bytes = std::fs::read(&path).unwrap();
        assert!(!holds(&bytes), "{}", path.display());
        for block in pem::parse_many(&bytes).unwrap_or_default() {
            assert!(!holds(block.contents()), "{}", path.display());
        }
    }
    assert!(!ca.state().join("ca/root.key").exists());

    std::fs::remove_file(&key).unwrap();
    ca.serve();
    Host::enroll(&ca, "pg0.iad1.psf.io").ok(&["issue", "postgresql.psf.io"]);
}

#[test]
fn a_weak_passphrase_or_a_file_in_the_way_is_refused_and_nothing_is_made() {
    let (ca, key, file) = with_root_key_elsewhere("elevenchars");
    let said = refusal(&ca, &["init", "--root-key", &key, "--passphrase-file", &file]);
    assert!(said.contains("the passphrase has fewer than 12 characters"), "{said}");
    assert!(!Path::new(&key).exists() && !ca.state().exists());

    let (ca, key, file) = with_root_key_elsewhere(PASSPHRASE);
    std::fs::write(&key, "precious").unwrap();
    let said = refusal(&ca, &["init", "--root-key", &key, "--passphrase-file", &file]);
    assert!(said.contains("root.key exists already; move it away, or name another file"), "{said}");
    assert_eq!(std::fs::read_to_string(&key).unwrap(), "precious");
    assert!(!ca.state().join("ca").exists());
    std::fs::remove_file(&key).unwrap();
    ca.ok(&["init", "--root-key", &key, "--passphrase-file", &file]);
}

#[test]
fn p384_works_from_the_root_to_the_leaf() {
    let mut ca = Ca::made_with("ca_key: ecdsa-p384\n");
    ca.serve();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    host.ok(&["issue", "postgresql.psf.io"]);
    let bundle = host.bundle("postgresql.psf.io");
    let [root, bundle] = [ca.trust_bundle(), bundle].map(|path| path.to_str().unwrap().to_owned());
    openssl(&["verify", "-x509_strict", "-CAfile", &root, "-untrusted", &bundle, &bundle]);
    for file in [&root, &bundle] {
        let text = openssl(&["x509", "-in", file, "-noout", "-text"]);
        assert!(text.contains("Signature Algorithm: ecdsa-with-SHA384"), "{text}");
    }
}

#[test]
fn cert_opts_stand_on_every_ca_and_the_e_mail_also_as_a_name_but_not_on_leaves() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    host.ok(&["issue", "postgresql.psf.io"]);
    let show = |file: &Path| {
        let look = ["-noout", "-subject", "-nameopt", "RFC2253", "-ext", "subjectAltName"];
        openssl(&[&["x509", "-in", file.to_str().unwrap()], &look[..]].concat())
    };
    let [root, issuing] = ["root", "issuing"].map(|name| show(&ca.state().join(format!("ca/{name}.pem"))));
    for (text, name) in [(root, "CN=PSF_CA,"), (issuing, "CN=PSF_CA issuing CA 1,")] {
        for part in [
            name,
            "C=US",
            "ST=NH",
            "L=Wolfeboro",
            "O=Python Software Foundation",
            "OU=Infrastructure Team",
            "emailAddress=infrastructure-staff@python.org",
            "email:infrastructure-staff@python.org",
        ] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }
    let leaf = show(&host.bundle("postgresql.psf.io"));
    assert!(leaf.contains("CN=postgresql.psf.io") && leaf.contains("O=Python Software Foundation"), "{leaf}");
    assert!(!leaf.contains('@'), "{leaf}");
}

#[test]
fn the_end_of_a_ca_certificate_is_announced_half_a_year_ahead() {
    let mut ca = Ca::made_with("");
    // The issuing CA lives for 1096 days: 181 days before its end nothing is said, 179 days before it is.
    let check = |offset: &str| {
        let mut command = psfca();
        command.arg("check").env("PSFCA_CONFIG", ca.config());
        let out = clock::at(offset, command)?.output().unwrap();
        Some(String::from_utf8(out.stdout).unwrap() + &String::from_utf8(out.stderr).unwrap())
    };
    let Some(early) = check("+915d") else { return };
    assert!(!early.contains("plan its replacement"), "{early}");
    let late = check("+917d").unwrap();
    assert!(late.contains("plan its replacement now"), "{late}");

    let mut daemon = psfca();
    daemon.arg("serve").env("PSFCA_CONFIG", ca.config());
    ca.serve_by(clock::at("+917d", daemon).unwrap());
    ca.wait_for_log("PSF_CA issuing CA 1: it ends");
    let (status, health) = ca.curl_admin(&[], "/healthz");
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["status"]), (200, &"warning".into()), "{health}");
    let warned: Vec<_> = health["ca"].as_array().unwrap().iter().filter(|ca| ca["warning"].is_string()).collect();
    assert_eq!(warned.len(), 1, "{health}");
    let (_, metrics) = ca.curl_admin(&[], "/metrics");
    assert!(metrics.contains("psfca_ca_not_after_seconds{kind=\"issuing_ca\"} "), "{metrics}");
}
