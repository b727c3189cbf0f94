//! From a token to a renewed certificate, by the commands that people type.

mod support;

use support::{Ca, Host};

#[test]
fn a_host_in_the_role_gets_the_bundle_and_one_outside_is_refused_with_the_reason() {
    let ca = Ca::start();
    let pg = Host::enroll(&ca, "pg0.iad1.psf.io");
    let lb = Host::enroll(&ca, "lb0.iad1.psf.io");

    pg.ok(&["issue", "postgresql.psf.io"]);
    let bundle = std::fs::read_to_string(pg.bundle("postgresql.psf.io")).unwrap();
    let kinds: Vec<&str> = bundle.lines().filter(|line| line.starts_with("-----BEGIN")).collect();
    assert_eq!(kinds, ["-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"]);

    let refused = lb.psfca(&["issue", "postgresql.psf.io"]);
    assert_eq!(refused.status.code(), Some(3));
    let reason = String::from_utf8(refused.stderr).unwrap();
    assert!(
        reason.contains(
            "lb0.iad1.psf.io may not have postgresql.psf.io: its roles are loadbalancer; postgresql.psf.io lists"
        ),
        "{reason}"
    );
    assert!(!lb.bundle("postgresql.psf.io").exists());

    let listing = ca.ok(&["audit", "list", "--name", "postgresql.psf.io", "--json"]);
    assert_eq!(listing.lines().count(), 1);
    assert!(listing.contains("\"host\":\"pg0.iad1.psf.io\""), "{listing}");
}
