//! `system_trust: true`: the system's own `update-ca-certificates`, in a mount namespace in which its directories are empty
//! ones, so that nothing of this machine changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::process::Command;

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
    let unshare = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /usr/local/share/ca-certificates"];
    if !works(&unshare) || !works(&["test", "-x", "/usr/sbin/update-ca-certificates"]) {
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
