//! What requests feel of a declaration that is read again: by far the largest, and all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use psfca::wire::Health;

use crate::declared::{self, NAMES, ROLES};
use crate::exchange::{Connection, get, post};
use crate::fleet::{DECLARED as FLEET_NAMES, Fleet, name, names_yaml};
use crate::server;
use crate::support::Ca;
use crate::table::Times;

/// Between one reading and the next.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn measure(ca: &mut Ca, fleet: &Arc<Fleet>, time: Duration) {
    for (cores, what) in [(server::CORES, "both cores"), (server::CORE, "one core")] {
        println!("  {what}:");
        measure_on(cores, ca, fleet, time).await;
    }
}

async fn measure_on(cores: &str, ca: &mut Ca, fleet: &Arc<Fleet>, time: Duration) {
    declared::write(ca, &names_yaml(), NAMES);
    server::start_on(cores, ca, server::WITHOUT_LIMITS);
    let port = server::port(ca);
    let before = both(fleet, port, async { tokio::time::sleep(time).await }).await;
    let mut watching = Connection::open(&fleet.hosts[2], port).await.unwrap();
    let (end, mut reloads) = (Instant::now() + time, Vec::new());
    let reloading = async {
        while Instant::now() < end {
            let more = reloads.len() + 1;
            // Written by another thread, so that this one goes on asking.
            let (path, text) = (ca.dir().join("tls.yaml"), declared::names(&names_yaml(), NAMES + more));
            tokio::task::spawn_blocking(move || std::fs::write(path, text).unwrap()).await.unwrap();
            let begin = Instant::now();
            ca.signal("HUP");
            while names(&mut watching).await != FLEET_NAMES + NAMES + more {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            reloads.push(begin.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
    };
    let during = both(fleet, port, reloading).await;
    println!("    {} reloads of {NAMES} names x {ROLES} roles: {}", reloads.len(), line(reloads));
    for (what, times) in [("without", before), ("with", during)] {
        let [health, certificates] = times;
        println!("    {what:>8}: {:>6} times /healthz: {}", health.len(), line(health));
        println!("    {:>8}  {:>6} certificates:   {}", "", certificates.len(), line(certificates));
    }
    ca.stop();
}

/// How long each answer took while `other` went on: what needs no disk, and certificates, one at a time of each.
async fn both(fleet: &Arc<Fleet>, port: u16, other: impl Future<Output = ()>) -> [Vec<Duration>; 2] {
    let stop = Arc::new(AtomicBool::new(false));
    let asking = [0, 1].map(|kind| tokio::spawn(ask(Arc::clone(fleet), port, kind, Arc::clone(&stop))));
    other.await;
    stop.store(true, Ordering::Relaxed);
    let [health, certificates] = asking;
    [health.await.unwrap(), certificates.await.unwrap()]
}

async fn ask(fleet: Arc<Fleet>, port: u16, kind: usize, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut connection = Connection::open(&fleet.hosts[kind], port).await.unwrap();
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let request = if kind == 0 { get("/healthz") } else { post(&name(times.len()), Some(&fleet.csr().pem)) };
        let begin = Instant::now();
        let answer = connection.ask(&request).await.unwrap();
        times.push(begin.elapsed());
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }
    times
}

fn line(times: Vec<Duration>) -> String {
    let times = Times::of(times);
    let [half, most, nearly, all] = [500, 990, 999, 1_000].map(|part| times.of_thousand(part));
    format!("p50 {half:.2} ms, p99 {most:.2} ms, p99.9 {nearly:.2} ms, at the most {all:.2} ms")
}

/// How many names are in force.
async fn names(connection: &mut Connection) -> usize {
    let answer = connection.ask(&get("/healthz")).await.unwrap();
    let health: Health = serde_json::from_slice(&answer.body).unwrap();
    health.declaration.names
}
