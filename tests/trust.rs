//! R10: a stolen or false daemon cannot replace what a host trusts. A real second CA of the same name takes the place of
//! the first in every way that the network allows, and at last the first one's own daemon is turned.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use psfca::ca::bundle::Bundle;
use support::tools::{said, succeed};
use support::{Ca, Host};

const NAME: &str = "postgresql.psf.io";
const HOST: &str = "pg0.iad1.psf.io";

/// One name and port in the network, behind which whoever rules the network can put another machine.
struct Road {
    address: String,
    leads_to: Arc<Mutex<String>>,
}

impl Road {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let leads_to = Arc::new(Mutex::new(String::new()));
        let target = Arc::clone(&leads_to);
        // Ends with the test's process; nobody waits for it.
        std::thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                let target = target.lock().unwrap().replace("localhost", "127.0.0.1");
                if let Ok(daemon) = TcpStream::connect(target) {
                    pump(caller.try_clone().unwrap(), daemon.try_clone().unwrap());
                    pump(daemon, caller);
                }
            }
        });
        Self { address, leads_to }
    }

    fn lead_to(&self, ca: &Ca) {
        *self.leads_to.lock().unwrap() = ca.address().to_owned();
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// The CA that the host enrolled with, behind a road, and the host with its bundle.
fn enrolled() -> (Ca, Road, Host) {
    let road = Road::new();
    let mut ca = Ca::made_with(&format!("address: {}\n", road.address));
    ca.serve();
    road.lead_to(&ca);
    let host = Host::enroll(&ca, HOST);
    host.ok(&["renew"]);
    (ca, road, host)
}

/// Everything that trust hangs on: the trust bundle, the enrolment (with the anchors) and the bundle.
fn kept(host: &Host) -> [Vec<u8>; 3] {
    [host.trust_bundle(), host.dir().join("state/enrolment.json"), host.bundle(NAME)]
        .map(|path| fs::read(path).unwrap())
}

fn issuer_key(host: &Host) -> Vec<u8> {
    let bundle = Bundle::parse(&fs::read(host.bundle(NAME)).unwrap()).unwrap();
    bundle.chain().certificates()[1].to_vec()
}

#[test]
fn another_ca_behind_the_same_name_and_port_is_never_trusted() {
    let (ca, road, host) = enrolled();
    // It has the same name, and hosts of the same names; everything but the keys.
    let other = Ca::start();
    let before = kept(&host);
    road.lead_to(&other);
    let message = format!("{} is not trusted: its certificate comes from no root that is trusted here, ", road.address);
    for args in [&["issue", NAME][..], &["issue", NAME, "--stdout"], &["renew", "--force"]] {
        let output = host.psfca(args);
        assert_eq!(output.status.code(), Some(4), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(&message), "{args:?}: {}", said(&output));
        assert!(!said(&output).contains("BEGIN"), "{args:?}: {}", said(&output));
        assert_eq!(kept(&host), before, "{args:?}");
    }
    // The host hung up; it neither showed its identity nor asked for anything.
    other.wait_for_log("handshake failed");
    let log = other.log();
    assert!(
        log.lines().all(|line| !line.contains("handshake failed") || line.contains("received fatal alert")),
        "{log}"
    );
    assert!(!log.contains(" issued ") && !log.contains(" refused "), "{log}");

    road.lead_to(&ca);
    let output = host.psfca(&["renew", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(fs::read(host.trust_bundle()).unwrap(), before[0]);
}

#[test]
fn a_setting_that_names_another_cas_daemon_changes_no_trust() {
    let (_ca, road, host) = enrolled();
    let other = Ca::start();
    let before = kept(&host);
    let settings = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), format!("{settings}server: ['{}']\n", other.address())).unwrap();
    let output = host.psfca(&["issue", NAME]);
    assert_eq!(output.status.code(), Some(4));
    assert!(said(&output).contains(&format!("{} is not trusted", other.address())), "{}", said(&output));
    assert_eq!(host.psfca(&["renew", "--force"]).status.code(), Some(4));
    assert_eq!(kept(&host), before);

    // Not even where its roots were put among those that applications trust: the agent goes by its enrolment.
    fs::copy(other.trust_bundle(), host.trust_bundle()).unwrap();
    assert_eq!(host.psfca(&["issue", NAME]).status.code(), Some(4));
    assert_eq!(host.psfca(&["renew", "--force"]).status.code(), Some(1));
    assert_eq!(kept(&host)[1..], before[1..]);
    fs::write(host.trust_bundle(), &before[0]).unwrap();

    // The next in the list is asked, and it has to be of the CA that the host enrolled with.
    let (issuer, ours) = (issuer_key(&host), &road.address);
    fs::write(host.config(), format!("{settings}server: ['{}', '{ours}']\n", other.address())).unwrap();
    host.ok(&["issue", NAME]);
    assert_eq!(issuer_key(&host), issuer);
    assert_ne!(kept(&host)[2], before[2]);
}

#[test]
fn a_stolen_daemon_cannot_put_its_roots_in_place_of_the_enrolled_ones() {
    let (mut ca, road, host) = enrolled();
    let other = Ca::made_with("");
    let token = ca.token("pg1.iad1.psf.io");
    let before = kept(&host);
    // Whoever has the daemon's machine has its keys too, so the connection itself is good.
    ca.stop();
    fs::copy(other.state().join("ca/root.pem"), ca.state().join("ca/root.pem")).unwrap();
    ca.serve();
    road.lead_to(&ca);
    let false_roots = fs::read_to_string(other.trust_bundle()).unwrap();
    let (_, served) = ca.curl(&["--insecure"], "/PSF_CA.pem");
    assert_eq!(served.trim_end(), false_roots.trim_end(), "the daemon is turned");

    let digest = |path: &std::path::Path| {
        let print = succeed("openssl", &["x509", "-noout", "-fingerprint", "-sha256", "-in", path.to_str().unwrap()]);
        print.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase()
    };
    let message = format!(
        "the CA serves another trust bundle than this host trusts, and it is refused: a connection alone may not change \
         what this host trusts; trusted are the roots with SHA-256 {}, served are {}; ask the operators",
        digest(&host.trust_bundle()),
        digest(&other.trust_bundle())
    );
    for args in [&["renew"][..], &["renew", "--force"]] {
        let output = host.psfca(args);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(&message), "{}", said(&output));
        assert_eq!(fs::read(host.trust_bundle()).unwrap(), before[0]);
        let enrolment = fs::read_to_string(host.dir().join("state/enrolment.json")).unwrap();
        let enrolment: serde_json::Value = serde_json::from_str(&enrolment).unwrap();
        assert_eq!(enrolment["anchors"].as_str().unwrap().as_bytes(), before[0]);
    }

    // A host that enrols just now, with a token from before, takes nothing from it.
    let fresh = Host::new("pg1.iad1.psf.io");
    let output = fresh.enroll_with(&token);
    assert!(!output.status.success());
    assert!(said(&output).contains("is not trusted"), "{}", said(&output));
    assert!(!fresh.trust_bundle().exists() && !fresh.dir().join("state/enrolment.json").exists());
}

#[test]
fn renew_keeps_the_trust_bundle_there_and_asks_nobody_for_it() {
    let (mut ca, _road, host) = enrolled();
    let roots = fs::read(host.trust_bundle()).unwrap();
    // It comes from the enrolment, so the CA need not even be there.
    ca.stop();
    let cut = &roots[..roots.len() / 2];
    for (what, damage) in
        [("missing", None), ("damaged", Some(cut)), ("damaged", Some(&b""[..])), ("damaged", Some(b"x"))]
    {
        match damage {
            None => fs::remove_file(host.trust_bundle()).unwrap(),
            Some(text) => fs::write(host.trust_bundle(), text).unwrap(),
        }
        let status = host.psfca(&["status"]);
        assert_eq!(status.status.code(), Some(5), "{}", said(&status));
        assert!(said(&status).contains(&format!("{} is {what}", host.trust_bundle().display())), "{}", said(&status));
        let renewed = host.psfca(&["renew"]);
        assert!(
            said(&renewed).contains("The trust bundle was missing or damaged, and was written"),
            "{}",
            said(&renewed)
        );
        assert_eq!((renewed.status.code(), fs::read(host.trust_bundle()).unwrap()), (Some(0), roots.clone()));
        assert_eq!(host.psfca(&["status"]).status.code(), Some(0));
    }

    // Whole roots that somebody put there are not ours to remove, and not to be trusted either.
    let other = Ca::made_with("");
    let theirs = fs::read(other.trust_bundle()).unwrap();
    for text in [theirs.clone(), [roots, theirs].concat()] {
        fs::write(host.trust_bundle(), &text).unwrap();
        let renewed = host.psfca(&["renew"]);
        assert_eq!((renewed.status.code(), fs::read(host.trust_bundle()).unwrap()), (Some(1), text));
        assert!(said(&renewed).contains("holds other roots than this host enrolled with; it is left as it is"));
        assert_eq!(host.psfca(&["status"]).status.code(), Some(5));
    }
}
