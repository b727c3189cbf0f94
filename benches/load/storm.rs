//! An outage is over: every host is due for three names, and all come at the same moment, each over a connection of its
//! own. The daemon has the limits that `ca.yaml` sets when it says nothing. Who is sent away, or whose connection breaks,
//! comes again after what the daemon asked for and a drawn wait, which is doubled each time.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psfca::random::{Random as _, SystemRandom};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::exchange::{Connection, post};
use crate::fleet::{Fleet, Host, name};
use crate::receipts::Receipts;
use crate::server;
use crate::support::{Ca, ledger, wait_until};
use crate::table::{Row, Times};

/// Names of each host.
const NAMES: usize = 3;
/// The first drawn wait is at most so long (the agent's is at most a minute, which is easier for the CA).
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// No drawn wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(32);
/// For TCP and the handshake, and for one answer: as the agent has it.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// Before each certificate of the urgent host.
const URGENT_PAUSE: Duration = Duration::from_secs(1);

/// A certificate that came: for which name, its serial number, and how long after the beginning.
struct Served {
    name: String,
    serial: String,
    after: Duration,
}

/// How often a host was served nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Vain {
    /// By a status that says to come again.
    sent_away: usize,
    /// No connection, or none in time.
    not_connected: usize,
    /// The connection broke while an answer was waited for.
    broken: usize,
}

impl Vain {
    const fn all(self) -> usize {
        self.sent_away + self.not_connected + self.broken
    }

    const fn add(&mut self, other: Self) {
        self.sent_away += other.sent_away;
        self.not_connected += other.not_connected;
        self.broken += other.broken;
    }
}

/// Why a host has to come again, and how long it was asked to wait at least.
struct Again(Vain, Duration);

/// What became of the urgent host.
#[derive(Debug, Default)]
struct Urgent {
    /// How long each certificate took it, with every wait.
    times: Vec<Duration>,
    vain: Vain,
    /// Since when it wants the next one.
    since: Option<Instant>,
}

pub(crate) async fn measure(ca: &mut Ca, fleet: &Arc<Fleet>, hosts: usize, places: Option<usize>) -> Row {
    let limits = places.map(|places| format!("limits: {{connections: {places}}}\n"));
    server::start(ca, &limits.unwrap_or_default());
    let (port, before) = (server::port(ca), ledger::entries(ca).len());
    let mut urgent = Urgent::default();
    let storm = async {
        tokio::select! {
            outcomes = everyone(fleet, port, hosts) => outcomes,
            () = hurry(fleet, port, &mut urgent) => unreachable!("it never has enough"),
        }
    };
    let (outcomes, usage) = server::over(ca, storm).await;

    let (mut received, mut vain, mut worst) = (HashMap::new(), Vain::default(), 0);
    let (mut times, mut last) = (Vec::new(), Vec::new());
    for (host, (served, tries)) in &outcomes {
        vain.add(*tries);
        worst = worst.max(tries.all());
        last.push(served.iter().map(|one| one.after).max().unwrap());
        for one in served {
            times.push(one.after);
            received.insert((host.clone(), one.name.clone()), one.serial.clone());
        }
    }
    assert_eq!(received.len(), hosts * NAMES, "every host was served for every name");
    println!("  hosts done after {}; in vain {vain:?}, one host {worst} times at most", told(last));
    let waiting = urgent.since.map_or(0.0, |since| since.elapsed().as_secs_f64() * 1e3);
    println!("  the urgent host: {} certificates, the first after {:?}", urgent.times.len(), urgent.times.first());
    println!("  each after {}; in vain {:?}; waiting for {waiting:.0} ms at the end", told(urgent.times), urgent.vain);
    let (_, metrics) = ca.curl_admin(&[], "/metrics");
    for line in metrics.lines().filter(|line| COUNTERS.iter().any(|counter| line.starts_with(counter))) {
        println!("  {line}");
    }
    compare(ca, before, &received);
    ca.stop();
    Row { mode: "storm", certificates: times.len(), times: Times::of(times), usage }
}

fn told(times: Vec<Duration>) -> String {
    if times.is_empty() {
        return "never".to_owned();
    }
    let times = Times::of(times);
    let [p50, p99, last] = [500, 990, 1_000].map(|part| times.of_thousand(part));
    format!("{p50:.0} ms (p50), {p99:.0} ms (p99), {last:.0} ms (the last)")
}

/// What the daemon says of connections and of what it refused.
const COUNTERS: [&str; 4] =
    ["psfca_connections_refused", "psfca_connections_ended", "psfca_requests_refused", "psfca_urgent_requests"];

/// Every host at once, until each has all of its names.
async fn everyone(fleet: &Arc<Fleet>, port: u16, hosts: usize) -> HashMap<String, (Vec<Served>, Vain)> {
    let (begin, mut tasks) = (Instant::now(), JoinSet::new());
    for number in 0..hosts {
        let fleet = Arc::clone(fleet);
        tasks.spawn(async move {
            let names = (0..NAMES).map(|n| name(number + n)).collect();
            (fleet.hosts[number].name.clone(), until_served(&fleet, &fleet.hosts[number], port, names, begin).await)
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// Comes again until `host` has a certificate for each of `names`.
async fn until_served(
    fleet: &Fleet,
    host: &Host,
    port: u16,
    mut names: Vec<String>,
    begin: Instant,
) -> (Vec<Served>, Vain) {
    let (mut served, mut vain, mut failures, mut receipts) = (Vec::new(), Vain::default(), 0, Receipts::default());
    loop {
        let had = served.len();
        match visit(fleet, host, port, &mut names, &mut receipts, &mut served, begin).await {
            Ok(()) => return (served, vain),
            Err(Again(cause, least)) => {
                failures = if served.len() > had { 0 } else { failures + 1 };
                vain.add(cause);
                let longest = FIRST_WAIT.saturating_mul(1 << failures.min(10)).min(LONGEST_WAIT);
                sleep(least + longest.mul_f64(draw())).await;
            }
        }
    }
}

/// One connection, on which it asks for one name after the other.
async fn visit(
    fleet: &Fleet,
    host: &Host,
    port: u16,
    names: &mut Vec<String>,
    receipts: &mut Receipts,
    served: &mut Vec<Served>,
    begin: Instant,
) -> Result<(), Again> {
    let not_connected = || Again(Vain { not_connected: 1, ..Vain::default() }, Duration::ZERO);
    let connecting = timeout(CONNECT_TIME, Connection::open(host, port));
    let mut connection = connecting.await.map_err(|_| not_connected())?.map_err(|_| not_connected())?;
    while let Some(name) = names.last() {
        let csr = fleet.csr();
        let request = post(name, Some(&csr.pem));
        let asking = timeout(REQUEST_TIME, connection.ask(&request));
        let answer = asking.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let broken = |_| Again(Vain { broken: 1, ..Vain::default() }, Duration::ZERO);
        let answer = answer.map_err(broken)?;
        if matches!(answer.status, 429 | 503) {
            let after = answer.header("retry-after").and_then(|text| text.parse().ok()).expect("when to come again");
            return Err(Again(Vain { sent_away: 1, ..Vain::default() }, Duration::from_secs(after)));
        }
        let serial = receipts.take(&answer, name, Some(csr));
        served.push(Served { name: names.pop().unwrap(), serial, after: begin.elapsed() });
    }
    connection.close().await;
    Ok(())
}

/// Uniform from 0 to 1.
fn draw() -> f64 {
    let mut octets = [0; 4];
    SystemRandom.fill(&mut octets).unwrap();
    f64::from(u32::from_be_bytes(octets)) / f64::from(u32::MAX)
}

/// The urgent host comes in the midst of the others and wants one certificate after another.
async fn hurry(fleet: &Fleet, port: u16, urgent: &mut Urgent) {
    loop {
        sleep(URGENT_PAUSE).await;
        let begin = *urgent.since.insert(Instant::now());
        let names = vec![name(urgent.times.len())];
        let (_, vain) = until_served(fleet, &fleet.urgent, port, names, begin).await;
        urgent.vain.add(vain);
        urgent.times.push(begin.elapsed());
        urgent.since = None;
    }
}

/// The ledger has a certificate for each name on each host, and that came; its signature is stored. Of one that has
/// another beside it, the answer was lost.
fn compare(ca: &Ca, before: usize, received: &HashMap<(String, String), String>) {
    let issued = |listing: &BTreeMap<String, String>| received.values().all(|serial| listing[serial] == "issued");
    wait_until("every signature is stored", || issued(&ledger::listing(ca)));
    let mut recorded: HashMap<_, Vec<String>> = HashMap::new();
    for entry in ledger::entries(ca).into_iter().skip(before) {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        recorded.entry((text("host"), text("name"))).or_default().push(text("serial"));
    }
    let twice = received.keys().filter(|key| recorded[*key].len() > 1).count();
    println!("  in the ledger: {} names on hosts, {twice} of them more than once", received.len());
}
