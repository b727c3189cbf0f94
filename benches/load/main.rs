//! A real daemon under load: `cargo bench --bench load -- [--only MODE]… [--seconds S] [--connections N] [--hosts N]
//! [--places N]`.
//!
//! It makes a CA and enrols hosts by the library, runs `psfca serve` on core 0 with its ledger on the disk, and asks from
//! core 1 over TLS with client certificates, each host from an address of its own. Every answer is checked; what no
//! client should get ends it. The tables are figures, not promises: nothing here fails for being slow.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "its table")]

mod declared;
mod disk;
mod exchange;
mod fleet;
mod fsyncs;
mod memory;
mod poll;
mod receipts;
mod reference;
mod reload;
mod server;
mod steady;
mod storm;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fleet::Fleet;
use steady::Steady;
use support::Ca;
use table::Row;

/// What there is to be measured, in this order.
const MODES: [&str; 9] = ["keep-alive", "handshake", "bundle", "alone", "storm", "memory", "fsyncs", "poll", "reload"];
/// The core of whatever asks.
const CORE: &str = "1";

/// What is wanted.
#[derive(Debug, Clone)]
struct Wanted {
    modes: Vec<String>,
    /// How long each of the steady modes lasts.
    time: Duration,
    /// Connections at one time in the steady modes.
    connections: usize,
    /// Hosts in the storm, and connections for the memory.
    hosts: usize,
    /// `limits.connections` in the storm; the default where there is none.
    places: Option<usize>,
}

impl Wanted {
    fn read() -> Self {
        let time = Duration::from_secs(10);
        let mut wanted = Self { modes: Vec::new(), time, connections: 64, hosts: 10_000, places: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{word} NUMBER"));
            match word.as_str() {
                "--seconds" => wanted.time = Duration::from_secs(number() as u64),
                "--connections" => wanted.connections = number(),
                "--hosts" => wanted.hosts = number(),
                "--places" => wanted.places = Some(number()),
                "--only" => wanted.modes.push(words.next().expect("--only MODE")),
                "--bench" => {} // said by cargo
                other => panic!("unknown word {other}; there are --only, --seconds, --connections, --hosts, --places"),
            }
        }
        let unknown = wanted.modes.iter().find(|mode| !MODES.contains(&mode.as_str()));
        assert!(unknown.is_none(), "unknown mode {unknown:?}; there are {MODES:?}");
        wanted
    }

    fn has(&self, mode: &str) -> bool {
        self.modes.is_empty() || self.modes.iter().any(|wanted| wanted == mode)
    }
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some(reference::WORD) {
        return reference::print();
    }
    let wanted = Wanted::read();
    stay_on_one_core();
    // Not where temporary files may lie in memory.
    tempfile::env::override_temp_dir(std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    server::allow_files(wanted.hosts);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(measure(wanted));
}

async fn measure(wanted: Wanted) {
    let many = wanted.has("storm") || wanted.has("memory");
    let hosts = if many { wanted.hosts.max(wanted.connections) } else { wanted.connections };
    println!("{hosts} hosts are enrolled");
    let (mut ca, fleet) = fleet::found_and_enrol(hosts).await;
    server::must_be_on_a_disk(ca.dir());
    let fleet = Arc::new(fleet);
    let mut rows = Vec::new();
    let modes = MODES.into_iter().filter(|mode| wanted.has(mode));
    for mode in modes {
        println!("{mode} …");
        rows.extend(run(mode, &wanted, &mut ca, &fleet).await);
    }
    println!();
    table::print(&rows);
}

async fn run(mode: &'static str, wanted: &Wanted, ca: &mut Ca, fleet: &Arc<Fleet>) -> Option<Row> {
    let steady = |fresh, made, connections| Steady { mode, fresh, made, connections, time: wanted.time };
    match mode {
        "keep-alive" => Some(steady(false, false, wanted.connections).measure(ca, fleet).await),
        "handshake" => Some(steady(true, false, wanted.connections).measure(ca, fleet).await),
        "bundle" => Some(steady(false, true, wanted.connections).measure(ca, fleet).await),
        "alone" => {
            let row = steady(false, false, 1).measure(ca, fleet).await;
            let disk = disk::fsyncs(ca.dir());
            let [half, most] = [500, 990].map(|part| disk.of_thousand(part));
            println!("  the disk alone takes {half:.2} ms (p50), {most:.2} ms (p99) for such a write with its fsync");
            Some(row)
        }
        "storm" => Some(storm::measure(ca, fleet, wanted.hosts, wanted.places).await),
        "memory" => {
            memory::measure(ca, fleet, wanted.hosts).await;
            None
        }
        "fsyncs" => {
            fsyncs::measure(ca, fleet, wanted.connections).await;
            None
        }
        "poll" => Some(poll::measure(ca, fleet, wanted.connections, wanted.time).await),
        _ => {
            reload::measure(ca, fleet, wanted.time).await;
            None
        }
    }
}

/// Leaves core 0 to the daemon.
fn stay_on_one_core() {
    let me = std::process::id().to_string();
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", CORE, &me]).stdout(std::process::Stdio::null());
    assert!(command.status().is_ok_and(|status| status.success()), "this takes taskset, and two cores");
}
