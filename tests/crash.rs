//! R9: kill -9 anywhere, and the next run goes on without a person.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use psfca::ca::bundle::Bundle;
use support::ledger::{entries, listing};
use support::{Ca, Host};

const KILLS: usize = 30;
const HOSTS: [&str; 3] = ["pg0.iad1.psf.io", "pg1.iad1.psf.io", "pg2.iad1.psf.io"];
const NAME: &str = "postgresql.psf.io";

/// Numbers that look random (SplitMix64); the same seed gives the same ones.
struct Dice(u64);

impl Dice {
    /// Seeded by `PSFCA_SEED`, or else by chance; says which.
    fn new() -> Self {
        let chosen = std::env::var("PSFCA_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = chosen.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
        std::io::stderr().write_all(format!("PSFCA_SEED={seed}\n").as_bytes()).unwrap();
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Hosts that never stop asking, whether the daemon lives or not.
struct Load {
    hosts: Vec<Host>,
    /// Serials of every bundle that was ever installed.
    received: Mutex<BTreeSet<String>>,
    asked: AtomicUsize,
    over: AtomicBool,
}

impl Load {
    fn ask(&self, host: &Host) {
        while !self.over.load(Ordering::Relaxed) {
            host.psfca(&["issue", NAME]);
            self.asked.fetch_add(1, Ordering::Relaxed);
            // R4: whatever became of the daemon, what lies there is whole: certificates and their key.
            let bundle = Bundle::parse(&std::fs::read(host.bundle(NAME)).unwrap()).unwrap();
            self.received.lock().unwrap().insert(bundle.leaf().serial.to_string());
        }
    }

    fn received(&self) -> usize {
        self.received.lock().unwrap().len()
    }
}

/// A host that enrols while the daemon is killed, and somebody who has seen its token.
struct Enrolment {
    host: Host,
    token: String,
    /// Whether the host has its identity.
    done: bool,
}

impl Enrolment {
    fn new(ca: &Ca, number: usize) -> Self {
        let host = Host::new(&format!("new{number}.iad1.psf.io"));
        Self { token: ca.token(&host.name), host, done: false }
    }

    /// The token enrols once: the thief is refused as soon as the ledger has the host's key, and
    /// the host, whose answer may have been lost, gets its identity with the same token.
    fn settle(&self, ca: &Ca) {
        let enrolled =
            |entry: &serde_json::Value| entry["event"] == "host_enrolled" && entry["host"] == self.host.name.as_str();
        let spent = entries(ca).iter().any(enrolled);
        assert!(spent || !self.done, "{} has an identity that the ledger knows nothing of", self.host.name);
        if spent {
            let thief = Host::new(&self.host.name).enroll_with(&self.token);
            let said = String::from_utf8_lossy(&thief.stderr);
            assert!(!thief.status.success() && said.contains("spent already, by another key"), "{said}");
        }
        if !self.done {
            let again = self.host.enroll_with(&self.token);
            assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
        }
        assert_eq!(entries(ca).iter().filter(|entry| enrolled(entry)).count(), 1);
    }
}

#[test]
fn r9_a_daemon_that_is_killed_at_any_moment_comes_up_by_itself_and_has_forgotten_nothing() {
    let mut dice = Dice::new();
    let mut ca = Ca::start();
    ca.keep_address();
    let load = Load {
        hosts: HOSTS.iter().map(|name| Host::enroll(&ca, name)).collect(),
        received: Mutex::default(),
        asked: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    };
    for host in &load.hosts {
        host.ok(&["issue", NAME]);
    }
    let mut known = entries(&ca);
    std::thread::scope(|scope| {
        for host in &load.hosts {
            scope.spawn(|| load.ask(host));
        }
        let over = Over(&load.over);
        for kill in 0..KILLS {
            let enrolment = Mutex::new(Enrolment::new(&ca, kill));
            let received = load.received();
            // The load is on before the moment is drawn; the moment itself has to be any.
            support::wait_until("a host was served", || load.received() > received);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut enrolment = enrolment.lock().unwrap();
                    enrolment.done = enrolment.host.enroll_with(&enrolment.token).status.success();
                });
                std::thread::sleep(Duration::from_micros(dice.below(30_000)));
                ca.stop();
            });
            ca.serve();
            let now = entries(&ca);
            assert!(now.starts_with(&known), "an entry changed or went away");
            known = now;
            enrolment.into_inner().unwrap().settle(&ca);
        }
        drop(over);
    });
    let listed = listing(&ca);
    let received = load.received.into_inner().unwrap();
    let unknown: Vec<_> = received.iter().filter(|serial| !listed.contains_key(*serial)).collect();
    assert!(unknown.is_empty(), "released, and not in the ledger: {unknown:?}");
    let lost = listed.len() - received.len();
    let asked = load.asked.into_inner();
    let summary = format!("{KILLS} kills, {asked} requests, {} certificates received, {lost} others\n", received.len());
    std::io::stderr().write_all(summary.as_bytes()).unwrap();
}

/// Ends the load also when an assertion fails, or the test would wait for it without end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
