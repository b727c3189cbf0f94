//! `system_trust: true`: the system's own `update-ca-certificates`, on directories that go away or in a mount namespace in
//! which its own are empty ones, so that nothing of this machine changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use psfca::agent::Agent;
use psfca::agent::settings::Settings;
use psfca::agent::system_trust::SystemStore;
use psfca::clock::SystemClock;
use psfca::random::SystemRandom;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use support::tools::{said, works};
use support::{Ca, Host};

const SCRIPT: &str = r#"
set -eu
for directory in /usr/local/share/ca-certificates /etc/ssl/certs /etc/ca-certificates/update.d; do
    mount -t tmpfs -o mode=0755 tmpfs "$directory"
done
inode() { stat -c %i /etc/ssl/certs/ca-certificates.crt; }
verifies() { openssl verify -untrusted "$bundle" "$bundle" >/dev/null; }

"$psfca" status && { echo 'status is content before'; exit 1; }
"$psfca" renew
"$psfca" status
verifies
before=$(inode)
"$psfca" renew
[ "$(inode)" = "$before" ] || { echo 'it ran again'; exit 1; }
rm /etc/ssl/certs/ca-certificates.crt
"$psfca" renew | grep 'the whole system trusts this CA now'
cmp /usr/local/share/ca-certificates/psfca.crt "$roots"
[ "$(ls /usr/local/share/ca-certificates)" = psfca.crt ]
"#;

#[test]
fn every_program_of_the_system_trusts_the_ca_where_the_host_says_so() {
    if !there() {
        return;
    }
    let unshare = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /usr/local/share/ca-certificates"];
    if !works(&unshare) {
        return;
    }
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    host.ok(&["renew"]);
    let settings = std::fs::read_to_string(host.config()).unwrap();
    std::fs::write(host.config(), settings + "system_trust: true\n").unwrap();
    let out = Command::new("unshare")
        .args(["--mount", "sh", "-c", SCRIPT])
        .env("psfca", env!("CARGO_BIN_EXE_psfca"))
        .env("PSFCA_HOST_CONFIG", host.config())
        .env("bundle", host.bundle("postgresql.psf.io"))
        .env("roots", host.trust_bundle())
        .env_remove("SSL_CERT_FILE")
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", said(&out));
}

fn there() -> bool {
    works(&["test", "-x", "/usr/sbin/update-ca-certificates"])
}

/// A root of its own.
fn root(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The system's store in a directory that goes away.
struct System {
    directory: tempfile::TempDir,
    settings: Settings,
}

impl System {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["local", "etc", "hooks"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory, settings: Settings::parse("", Path::new("host.yaml")).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What has the command write its results to `etc`.
    fn store(&self, etc: &Path) -> SystemStore {
        let (local, hooks) = (self.path("local"), self.path("hooks"));
        let arguments = [("--localcertsdir", local.as_path()), ("--etccertsdir", etc), ("--hooksdir", &hooks)];
        let arguments = arguments.iter().flat_map(|(name, path)| [(*name).to_owned(), path.display().to_string()]);
        SystemStore::at(local.clone(), self.path("etc/ca-certificates.crt"), arguments.collect())
    }

    fn agent(&self) -> Agent<'_> {
        let (settings, random) = (&self.settings, &SystemRandom);
        Agent { settings, clock: Arc::new(SystemClock), random, privileged: false }
    }

    /// What OpenSSL says that looks a root up by its hash, as most programs do.
    fn verifies(&self, root: &CertifiedIssuer<'static, KeyPair>) -> bool {
        let leaf = CertificateParams::new(["a.psf.io".to_owned()]).unwrap();
        let file = self.path("leaf.pem");
        fs::write(&file, leaf.signed_by(&KeyPair::generate().unwrap(), root).unwrap().pem()).unwrap();
        let mut verify = Command::new("openssl");
        verify.args(["verify", "-no-CAfile", "-CApath"]).arg(self.path("etc")).arg(&file);
        verify.output().unwrap().status.success()
    }
}

#[tokio::test]
async fn the_system_trusts_every_anchor_and_none_that_is_none_any_more() {
    if !there() {
        return;
    }
    let system = System::new();
    let (store, agent) = (system.store(&system.path("etc")), system.agent());
    let (one, two, theirs) = (root("one"), root("two"), root("theirs"));
    fs::write(system.path("local/office.crt"), theirs.pem()).unwrap();

    let both: [CertificateDer<'static>; 2] = [one.der().clone(), two.der().clone()];
    assert!(store.problem(&both).unwrap().is_some());
    assert!(store.keep(&agent, &both).await.unwrap());
    assert!(system.verifies(&one) && system.verifies(&two));
    assert!(!store.keep(&agent, &both).await.unwrap(), "nothing has changed");
    assert_eq!(store.problem(&both).unwrap(), None);

    // A run was killed before the command, or somebody undid what that did.
    fs::remove_file(system.path("etc/ca-certificates.crt")).unwrap();
    assert!(store.keep(&agent, &both).await.unwrap());

    // The host was enrolled with another CA.
    assert!(store.keep(&agent, &both[1..]).await.unwrap());
    assert!(!system.verifies(&one) && system.verifies(&two));
    assert!(system.verifies(&theirs), "what others put there is theirs");
}

#[tokio::test]
async fn a_command_that_fails_is_told_and_run_again_by_the_next_run() {
    if !there() {
        return;
    }
    let (system, anchor) = (System::new(), [root("one").der().clone()]);
    let broken = system.store(Path::new("/nonexistent"));
    for _ in 0..2 {
        let error = broken.keep(&system.agent(), &anchor).await.unwrap_err().to_string();
        assert!(error.contains("update-ca-certificates failed: exit status: 2; "), "{error}");
        assert!(error.contains("/nonexistent"), "{error}");
    }
    assert!(system.store(&system.path("etc")).keep(&system.agent(), &anchor).await.unwrap());
}
