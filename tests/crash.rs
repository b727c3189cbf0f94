//! R9: kill -9 anywhere, and the next run goes on without a person. The product knows nothing of these crash
//! points: strace kills the daemon as it enters the system call that a point is named after.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use psfca::ca::bundle::Bundle;
use serde_json::Value;
use support::dice::Dice;
use support::ledger::{entries, entries_in, listing, verify, verify_with};
use support::strace::{Strace, usable};
use support::tools::{said, say, succeed};
use support::{Ca, Host, wait_until};

/// How often the daemon is killed, and how often where `PSFCA_THOROUGHLY` asks for more.
const KILLS: [usize; 2] = [40, 300];
const HOSTS: [&str; 4] = ["pg0.iad1.psf.io", "pg1.iad1.psf.io", "pg2.iad1.psf.io", "pg3.iad1.psf.io"];
const NAME: &str = "postgresql.psf.io";

/// Where the daemon is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// At any moment.
    Anywhere,
    /// While an entry is written to the log.
    Appending,
    /// Everything is written, and nothing synced.
    Appended,
    /// The sync is done, and nobody knows it yet.
    Durable,
    /// Something is about to be signed.
    Signing,
    /// Something is about to leave: the word that a commit is done, a line of the log, an answer.
    Answering,
}

/// Most of them lie between append and answer.
const POINTS: [Point; 12] = [
    Point::Anywhere,
    Point::Appended,
    Point::Durable,
    Point::Answering,
    Point::Appended,
    Point::Durable,
    Point::Appending,
    Point::Durable,
    Point::Signing,
    Point::Appended,
    Point::Anywhere,
    Point::Durable,
];

impl Point {
    /// Kills the daemon there.
    fn kill(self, ca: &mut Ca, dice: &mut Dice) {
        let (calls, at_most) = match self {
            Self::Anywhere => {
                std::thread::sleep(Duration::from_micros(dice.below(30_000)));
                return ca.stop();
            }
            Self::Durable => {
                // Every sync is done and then takes this long to return, so nearly every moment is behind one.
                let slow = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_exit=80000"];
                let strace = Strace::attach(ca.pid(), &slow);
                std::thread::sleep(Duration::from_micros(80_000 + dice.below(160_000)));
                ca.signal("KILL");
                strace.kill();
                return ca.stop();
            }
            Self::Appending => ("pwrite64", 20),
            Self::Appended => ("fsync,fdatasync", 3),
            Self::Signing => ("getrandom", 6),
            Self::Answering => ("write,writev,sendto", 10),
        };
        let inject = format!("inject={calls}:signal=KILL:when={}", 1 + dice.below(at_most));
        let strace = Strace::attach(ca.pid(), &["-e", &format!("trace={calls}"), "-e", &inject]);
        wait_until(&format!("the daemon dies, by {inject}"), || ca.is_dead());
        strace.kill();
        ca.stop();
    }
}

/// A host that never stops asking, whether the daemon lives or not.
struct Asking {
    host: Host,
    asked: AtomicUsize,
}

struct Load {
    hosts: Vec<Asking>,
    /// Serials of every bundle that was ever installed.
    received: Mutex<BTreeSet<String>>,
    over: AtomicBool,
}

impl Load {
    fn start(ca: &Ca) -> Self {
        let hosts = HOSTS.map(|name| Asking { host: Host::enroll(ca, name), asked: AtomicUsize::new(0) });
        hosts.iter().for_each(|asking| drop(asking.host.ok(&["issue", NAME])));
        Self { hosts: hosts.into(), received: Mutex::default(), over: AtomicBool::new(false) }
    }

    fn ask(&self, Asking { host, asked }: &Asking) {
        while !self.over.load(Ordering::Relaxed) {
            host.psfca(&["issue", NAME]);
            // R4: whatever became of the daemon, what lies there is whole: certificates and their key.
            let bundle = Bundle::parse(&std::fs::read(host.bundle(NAME)).unwrap()).unwrap();
            self.received.lock().unwrap().insert(bundle.leaf().serial.to_string());
            asked.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn received(&self) -> BTreeSet<String> {
        self.received.lock().unwrap().clone()
    }

    fn asked(&self) -> Vec<usize> {
        self.hosts.iter().map(|asking| asking.asked.load(Ordering::Relaxed)).collect()
    }

    /// Waits until whatever was on its way to a host has arrived there, or never will.
    fn quiet(&self) {
        let before = self.asked();
        wait_until("every host was refused by a dead daemon", || {
            self.asked().iter().zip(&before).all(|(now, before)| *now >= before + 2)
        });
    }

    /// The newest checkpoint that a host has.
    fn checkpoint(&self) -> String {
        let seen = self.hosts.iter().map(|asking| {
            let stored = std::fs::read(asking.host.dir().join("state/ledger.json")).unwrap();
            let stored: Value = serde_json::from_slice(&stored).unwrap();
            stored["seen"]["checkpoint"].as_str().unwrap().to_owned()
        });
        seen.max_by_key(|note| note.lines().nth(1).unwrap().parse::<u64>().unwrap()).unwrap()
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

    fn thief_is_refused(&self) {
        let thief = Host::new(&self.host.name).enroll_with(&self.token);
        let said = said(&thief);
        assert!(!thief.status.success() && said.contains("spent already, by another key"), "{said}");
    }

    /// The token enrols once: the thief is refused as soon as the ledger has the host's key, and
    /// the host, whose answer may have been lost, gets its identity with the same token.
    fn settle(&self, ca: &Ca) {
        let enrolled = |entry: &Value| entry["event"] == "host_enrolled" && entry["host"] == self.host.name.as_str();
        let spent = entries(ca).iter().any(enrolled);
        assert!(spent || !self.done, "{} has an identity that the ledger knows nothing of", self.host.name);
        if spent {
            self.thief_is_refused();
        }
        if !self.done {
            let again = self.host.enroll_with(&self.token);
            assert!(again.status.success(), "{}", said(&again));
        }
        assert_eq!(entries(ca).iter().filter(|entry| enrolled(entry)).count(), 1);
    }
}

/// What a daemon left that was killed: looked at before another has begun, in a copy, so that it begins with the same.
struct Left {
    entries: Vec<Value>,
    /// Serials of certificates that the hosts of the load had asked for.
    recorded: BTreeSet<String>,
}

impl Left {
    fn by(ca: &Ca, checkpoint: &str) -> Self {
        let copy = tempfile::tempdir().unwrap();
        let state = copy.path().join("state");
        succeed("cp", &["--archive", ca.state().to_str().unwrap(), state.to_str().unwrap()]);
        // The signatures are verified once, at the end.
        verify_with(ca, &state, checkpoint, &["--without-signatures"]);
        let entries = entries_in(&state);
        let asked_for = entries.iter().filter(|entry| entry["event"] == "certificate" && entry["name"] == NAME);
        let recorded = asked_for.map(|entry| entry["serial"].as_str().unwrap().to_owned()).collect();
        Self { entries, recorded }
    }
}

#[test]
fn r9_a_daemon_that_is_killed_at_any_moment_comes_up_by_itself_and_has_forgotten_nothing() {
    let kills = KILLS[usize::from(std::env::var_os("PSFCA_THOROUGHLY").is_some_and(|value| value == "1"))];
    let aimed = usable();
    let mut dice = Dice::new();
    // As many hosts as it takes, all of them from this address.
    let mut ca = Ca::made_with(
        "limits: {enroll_burst: 10000, enroll_per_minute: 10000, issue_burst: 10000, issue_per_second: 10000}\n",
    );
    ca.serve();
    ca.keep_address();
    let load = Load::start(&ca);
    let mut known = entries(&ca);
    let mut unanswered = BTreeSet::new();
    let mut between: BTreeMap<Point, [usize; 2]> = BTreeMap::new();
    let mut enrolments = Vec::new();
    std::thread::scope(|scope| {
        for asking in &load.hosts {
            scope.spawn(|| load.ask(asking));
        }
        let over = Over(&load.over);
        for kill in 0.. {
            // How many fall between append and answer is up to the scheduler; on a crowded machine it takes more of them
            // until most do.
            let most = !aimed || hits(&between) * 2 > kill;
            if kill >= kills && (most || kill == 2 * kills) {
                break;
            }
            let point = match aimed {
                true if kill < kills => POINTS[kill % POINTS.len()],
                true => Point::Durable,
                false => Point::Anywhere,
            };
            let enrolment = Mutex::new(Enrolment::new(&ca, kill));
            let received = load.received().len();
            // The load is on before the moment is drawn; the moment itself has to be any.
            wait_until("a host was served", || load.received().len() > received);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut enrolment = enrolment.lock().unwrap();
                    enrolment.done = enrolment.host.enroll_with(&enrolment.token).status.success();
                });
                point.kill(&mut ca, &mut dice);
            });
            load.quiet();
            let left = Left::by(&ca, &load.checkpoint());
            assert!(left.entries.starts_with(&known), "an entry changed or went away");
            let received = load.received();
            assert!(received.is_subset(&left.recorded), "received, and not in the ledger");
            let before = unanswered.len();
            unanswered.extend(left.recorded.difference(&received).cloned());
            let [all, hit] = between.entry(point).or_default();
            (*all, *hit) = (*all + 1, *hit + usize::from(unanswered.len() > before));

            ca.serve();
            known = entries(&ca);
            assert!(known.starts_with(&left.entries), "what the dead daemon had written changed or went away");
            let enrolment = enrolment.into_inner().unwrap();
            enrolment.settle(&ca);
            enrolments.push(enrolment);
        }
        drop(over);
    });
    enrolments.iter().for_each(Enrolment::thief_is_refused);
    let (listed, received) = (listing(&ca), load.received());
    assert!(received.iter().all(|serial| listed.contains_key(serial)), "received, and not listed");
    verify(&ca, &ca.state(), &load.checkpoint());

    let (kills, hit) = (enrolments.len(), hits(&between));
    let asked: usize = load.asked().iter().sum();
    say(&format!("{kills} kills, {hit} of them between append and answer ({between:?}: kills, and those)"));
    say(&format!(
        "{asked} requests, {} certificates received, {} recorded and never received",
        received.len(),
        unanswered.len()
    ));
    assert!(!aimed || hit * 2 > kills, "most kills are to lie between append and answer: {between:?}");
}

/// How many kills fell between append and answer.
fn hits(between: &BTreeMap<Point, [usize; 2]>) -> usize {
    between.values().map(|[_, hit]| hit).sum()
}

/// Ends the load also when an assertion fails, or the test would wait for it without end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
