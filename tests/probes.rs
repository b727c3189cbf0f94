//! Probes against real servers: what is proven, and how exactly it is said what is wrong. tests/services.rs has
//! those of PostgreSQL, HAProxy, nginx and MariaDB.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use psfca::agent::probe::{Expected, Probe, prove};
use psfca::ca::bundle::Bundle;
use psfca::ca::pem_file::{certificates, certificates_to_pem};
use psfca::clock::SystemClock;
use psfca::name::DnsName;
use psfca::serial::Serial;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SerialNumber};
use support::postgresql::{Postgres, as_installed};
use support::{Ca, Host, wait_until};

const NAME: &str = "postgresql.psf.io";

/// A CA, a host, and two bundles for the same name.
struct World {
    ca: Ca,
    host: Host,
    old: PathBuf,
    new: PathBuf,
}

impl World {
    fn new() -> Self {
        let ca = Ca::start();
        let host = Host::enroll(&ca, "pg0.iad1.psf.io");
        let issue = |file: &str| {
            host.ok(&["issue", NAME]);
            let kept = host.dir().join(file);
            fs::rename(host.bundle(NAME), &kept).unwrap();
            kept
        };
        let (old, new) = (issue("old.pem"), issue("new.pem"));
        Self { ca, host, old, new }
    }

    /// Probes as `psfca renew` does, for the newer bundle, without any pause.
    fn probe(&self, url: &str) -> Result<(), String> {
        self.probe_for(url, NAME, &self.ca, async |_| {})
    }

    fn probe_for(&self, url: &str, name: &str, ca: &Ca, pause: impl AsyncFn(Duration)) -> Result<(), String> {
        let anchors = certificates(&fs::read(ca.trust_bundle()).unwrap()).unwrap();
        let (name, serial) = (DnsName::parse(name).unwrap(), serial(&self.new));
        let expected = Expected { anchors: &anchors, name: &name, serial: &serial, clock: Arc::new(SystemClock) };
        prove_at(url, &expected, pause)
    }
}

fn prove_at(url: &str, expected: &Expected<'_>, pause: impl AsyncFn(Duration)) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let proven = runtime.block_on(prove(&Probe::parse(url).unwrap(), expected, pause));
    proven.map_err(|error| error.to_string())
}

fn read(bundle: &Path) -> Bundle {
    Bundle::parse(&fs::read(bundle).unwrap()).unwrap()
}

fn serial(bundle: &Path) -> Serial {
    read(bundle).leaf().serial.clone()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that is killed when it is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(mut command: Command, port: u16) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port };
        wait_until("the server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    /// `openssl s_server` with a bundle and further arguments.
    fn tls(bundle: &Path, more: &[&str]) -> Self {
        Self::tls_at(bundle, free_port(), more)
    }

    fn tls_at(bundle: &Path, port: u16, more: &[&str]) -> Self {
        let chain = bundle.with_extension("chain");
        fs::write(&chain, certificates_to_pem(&read(bundle).chain().certificates()[1..])).unwrap();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert"]).arg(bundle);
        command.arg("-key").arg(bundle).arg("-cert_chain").arg(chain).args(more);
        Self::start(command, port)
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_service_that_serves_what_is_installed_proves_it_whichever_tls_it_speaks() {
    let world = World::new();
    // That one wants a client's certificate is its own affair.
    for more in [&["-tls1_3"][..], &["-tls1_2"], &["-Verify", "1"]] {
        let server = Server::tls(&world.new, more);
        assert_eq!(world.probe(&server.url("tls")), Ok(()), "{more:?}");
    }
}

#[test]
fn one_that_still_serves_another_is_told_with_both_serials() {
    let world = World::new();
    let server = Server::tls(&world.old, &[]);
    let url = server.url("tls");
    let old = read(&world.old).leaf().clone();
    let expected = format!(
        "{url} serves serial {}, until {}, and not {}, which is installed",
        old.serial,
        old.not_after,
        serial(&world.new)
    );
    assert_eq!(world.probe(&url), Err(expected));
}

#[test]
fn one_that_takes_a_moment_to_reload_gets_it_and_no_more_than_a_few_seconds() {
    let world = World::new();
    let port = free_port();
    let server = RefCell::new(Some(Server::tls_at(&world.old, port, &[])));
    let (pauses, waited) = (Cell::new(0), Cell::new(Duration::ZERO));
    let proven = world.probe_for(&format!("tls://127.0.0.1:{port}"), NAME, &world.ca, async |length| {
        pauses.set(pauses.get() + 1);
        // It restarts: for a while nothing listens.
        match pauses.get() {
            1 => drop(server.take()),
            3 => drop(server.replace(Some(Server::tls_at(&world.new, port, &[])))),
            _ => {}
        }
        waited.set(waited.get() + length);
    });
    assert_eq!((proven, pauses.get()), (Ok(()), 3));
    drop(server.take());
    let failed = world.probe_for(&format!("tls://127.0.0.1:{port}"), NAME, &world.ca, async |length| {
        waited.set(waited.get() + length);
    });
    let text = format!("tls://127.0.0.1:{port} cannot be reached: nothing listens there (connection refused)");
    assert_eq!(failed, Err(text));
    assert!(waited.get() < Duration::from_secs(10), "{waited:?}");
}

#[test]
fn a_certificate_whose_serial_cannot_be_read_proves_nothing_though_clients_accept_it() {
    let place = tempfile::tempdir().unwrap();
    let params =
        |names: &[&str]| CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut root = params(&[]);
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let anchor = root.self_signed(&root_key).unwrap();
    let mut leaf = params(&[NAME]);
    // RFC 5280 allows 20 octets, and TLS libraries take more.
    leaf.serial_number = Some(SerialNumber::from_slice(&[1; 25]));
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&root, &root_key)).unwrap();
    let bundle = place.path().join("bundle.pem");
    fs::write(&bundle, leaf.pem() + &key.serialize_pem()).unwrap();
    let port = free_port();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert"]).arg(&bundle);
    command.arg("-key").arg(&bundle);
    let server = Server::start(command, port);

    let (name, serial) = (DnsName::parse(NAME).unwrap(), Serial::parse("01").unwrap());
    let anchors = [anchor.der().clone()];
    let expected = Expected { anchors: &anchors, name: &name, serial: &serial, clock: Arc::new(SystemClock) };
    let error = prove_at(&server.url("tls"), &expected, async |_| {}).unwrap_err();
    assert!(error.contains("its certificate cannot be read: "), "{error}");
}

#[test]
fn what_a_verify_full_client_would_not_accept_is_no_proof() {
    let world = World::new();
    let server = Server::tls(&world.new, &[]);
    let url = server.url("tls");
    let other_ca = Ca::made_with("");
    let wrong_name = world.probe_for(&url, "lb.psf.io", &world.ca, async |_| {}).unwrap_err();
    assert_eq!(
        wrong_name,
        format!("a client would not accept {url}: its certificate is for {NAME}, not for lb.psf.io")
    );
    let untrusted = world.probe_for(&url, NAME, &other_ca, async |_| {}).unwrap_err();
    assert!(untrusted.contains("its certificate comes from no root that is trusted here"), "{untrusted}");
    // The right certificate without its issuing CA, as when only the leaf was configured.
    let port = free_port();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-quiet", "-no-CAfile", "-no-CApath", "-accept", &format!("127.0.0.1:{port}"), "-cert"]);
    command.arg(&world.new).arg("-key").arg(&world.new);
    let server = Server::start(command, port);
    let error = world.probe(&server.url("tls")).unwrap_err();
    assert!(error.contains("its certificate comes from no root that is trusted here"), "{error}");
}

#[test]
fn what_speaks_no_tls_or_another_protocol_is_told() {
    let world = World::new();
    // It says hello in plain text and hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    for (scheme, text) in [
        ("tls", "what it says is no TLS"),
        ("postgres", "what it says is not PostgreSQL's"),
        ("mysql", "what it says is not MySQL's greeting"),
        ("smtp", "what it says is not SMTP's: HTTP/1.1 400 Bad Request"),
    ] {
        let error = world.probe(&format!("{scheme}://127.0.0.1:{port}")).unwrap_err();
        assert!(error.contains("offers no TLS") && error.contains(text), "{scheme}: {error}");
    }
    let old = Server::tls(&world.new, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    let error = world.probe(&old.url("tls")).unwrap_err();
    assert!(error.contains("neither TLS 1.2 nor TLS 1.3") || error.contains("peer is incompatible"), "{error}");
}

#[test]
fn one_that_says_nothing_is_not_waited_for_without_end_and_not_asked_again() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let pauses = Cell::new(0);
    let error = world.probe_for(&format!("tls://127.0.0.1:{port}"), NAME, &world.ca, async |_| pauses.set(1));
    assert_eq!(error, Err(format!("tls://127.0.0.1:{port} gives no answer within 5 seconds")));
    assert_eq!(pauses.get(), 0);
}

#[test]
fn a_postgresql_with_its_bundle_proves_it_and_one_without_tls_says_so() {
    let world = World::new();
    fs::rename(&world.new, world.host.bundle(NAME)).unwrap();
    let world = World { new: world.host.bundle(NAME), ..world };
    as_installed(&world.new);
    let postgres = Postgres::start(&world.new, &world.ca.trust_bundle());
    let url = format!("postgres://127.0.0.1:{}", postgres.port);
    assert_eq!(world.probe(&url), Ok(()));
    postgres.admin("ALTER SYSTEM SET ssl = off");
    postgres.admin("SELECT pg_reload_conf()");
    let mut last = String::new();
    wait_until("PostgreSQL has no TLS", || {
        last = world.probe(&url).err().unwrap_or_default();
        last == format!("{url} offers no TLS: PostgreSQL answers that it has none; is ssl = on?")
    });
}

#[test]
fn a_mail_server_proves_it_over_starttls() {
    let world = World::new();
    let mail = |bundle: &Path| {
        let port = free_port();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes/smtp.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(port.to_string()).arg(bundle);
        Server::start(command, port)
    };
    assert_eq!(world.probe(&mail(&world.new).url("smtp")), Ok(()));
    let error = world.probe(&mail(&world.old).url("smtp")).unwrap_err();
    assert!(error.contains(&format!(" serves serial {}", serial(&world.old))), "{error}");
}
