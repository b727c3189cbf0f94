//! A real PostgreSQL 15 serves a bundle and believes a client by another. The server runs in a directory of its
//! own on loopback and is stopped when a test ends, however it ends.
#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use support::postgresql::{CLIENT, HOST, Postgres, Session, as_installed, said, serial, succeed};
use support::{Ca, Host, wait_until};

const SERVER: &str = "postgresql.psf.io";

/// A CA, a host with a server's and a client's bundle, and a PostgreSQL on it.
fn served() -> (Ca, Host, Postgres) {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    for name in [SERVER, CLIENT] {
        host.ok(&["issue", name]);
        as_installed(&host.bundle(name));
    }
    let postgres = Postgres::start(&host.bundle(SERVER), &ca.trust_bundle());
    (ca, host, postgres)
}

#[test]
fn an_application_connects_to_the_right_name_under_the_right_anchor_only() {
    let (ca, _host, postgres) = served();
    let hello = ["-c", "SELECT 'hello over ' || version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"];
    let answer = succeed(postgres.application(SERVER, &ca.trust_bundle(), "user=postgres").args(hello));
    assert_eq!(answer.trim(), "hello over TLSv1.3");

    let output = postgres.application("other.psf.io", &ca.trust_bundle(), "user=postgres").output().unwrap();
    let refusal = format!("server certificate for \"{SERVER}\" does not match host name \"other.psf.io\"");
    assert!(!output.status.success() && said(&output).contains(&refusal), "{}", said(&output));

    let other_ca = Ca::made_with("");
    let output = postgres.application(SERVER, &other_ca.trust_bundle(), "user=postgres").output().unwrap();
    assert!(!output.status.success() && said(&output).contains("certificate verify failed"), "{}", said(&output));
}

#[test]
fn a_renewed_bundle_is_served_after_a_reload_and_open_sessions_live_on() {
    let (ca, host, postgres) = served();
    let bundle = host.bundle(SERVER);
    let before = postgres.served_serial();
    assert_eq!(before, serial(&fs::read(&bundle).unwrap()));
    let mut session = Session::open(&mut postgres.application(SERVER, &ca.trust_bundle(), "user=postgres"));
    let backend = session.ask("SELECT pg_backend_pid()");
    assert!(backend.parse::<u32>().is_ok(), "{backend:?}");

    host.ok(&["renew", "--force"]);
    as_installed(&bundle);
    let after = serial(&fs::read(&bundle).unwrap());
    assert_ne!(after, before);
    assert_eq!(postgres.served_serial(), before, "until the reload");
    assert_eq!(postgres.admin("SELECT pg_reload_conf()").trim(), "t");
    wait_until("the renewed certificate is served", || postgres.served_serial() == after);

    assert_eq!(session.ask("SELECT pg_backend_pid()"), backend, "the old session is the same one: {}", postgres.log());
    let hello = ["-c", "SELECT 'hello'"];
    let answer = succeed(postgres.application(SERVER, &ca.trust_bundle(), "user=postgres").args(hello));
    assert_eq!(answer.trim(), "hello");
}

#[test]
fn a_client_certificate_logs_in_as_the_role_that_it_names_and_as_no_other() {
    let (ca, host, postgres) = served();
    let log_in = |user: &str, credential: &Path| {
        let credential = credential.display();
        let more = format!("user={user} sslcert={credential} sslkey={credential}");
        postgres.application(SERVER, &ca.trust_bundle(), &more).args(["-c", "SELECT current_user"]).output().unwrap()
    };
    let output = log_in(CLIENT, &host.bundle(CLIENT));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output).trim(), CLIENT);

    // The certificate is good, but names somebody else.
    let output = log_in("other", &host.bundle(CLIENT));
    let refusal = "certificate authentication failed for user \"other\"";
    assert!(!output.status.success() && said(&output).contains(refusal), "{}", said(&output));
    // A server's certificate is none for a client.
    let output = log_in(CLIENT, &host.bundle(SERVER));
    assert!(!output.status.success() && said(&output).contains("alert unsupported certificate"), "{}", said(&output));
    // And the identity that the CA itself believes opens no application.
    let output = log_in(HOST, &host.identity());
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("unknown ca"), "{}", said(&output));
    // None at all.
    let more = format!("user={CLIENT}");
    let output = postgres.application(SERVER, &ca.trust_bundle(), &more).output().unwrap();
    let refusal = "connection requires a valid client certificate";
    assert!(!output.status.success() && said(&output).contains(refusal), "{}", said(&output));
}
