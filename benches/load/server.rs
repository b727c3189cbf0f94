//! The daemon on its core, and what it takes there.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::reference;
use crate::support::{Ca, psfca};

/// The daemon's core.
pub(crate) const CORE: &str = "0";
/// Both cores, of which the asking side needs little where it waits for each answer.
pub(crate) const CORES: &str = "0,1";
/// No limit is reached.
pub(crate) const WITHOUT_LIMITS: &str = "limits: {connections: 19000, connections_each: 19000, header_seconds: 300, \
                                         issue_burst: 10000, issue_per_second: 10000}\n";
/// Open files of either side besides its connections.
const OTHER_FILES: u64 = 200;

/// What a piece of work took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// How long it lasted.
    pub(crate) wall: Duration,
    /// How long the daemon kept its core busy, with what the kernel did for it.
    pub(crate) cpu: Duration,
    /// For which part of the time nobody used that core.
    pub(crate) idle: f64,
    /// Durable commits of the ledger.
    pub(crate) commits: u64,
    /// The reference before and after, in microseconds.
    pub(crate) reference: [f64; 2],
    /// The most memory that the daemon had since its start.
    pub(crate) peak: Kib,
}

/// Memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kib(pub(crate) u64);

impl Kib {
    pub(crate) fn mib(self) -> f64 {
        self.0 as f64 / 1024.0
    }
}

/// Starts the daemon on its core with these `limits`, a line of `ca.yaml`.
pub(crate) fn start(ca: &mut Ca, limits: &str) {
    start_on(CORE, ca, limits);
}

/// Starts it on these cores.
pub(crate) fn start_on(cores: &str, ca: &mut Ca, limits: &str) {
    let config = std::fs::read_to_string(ca.config()).unwrap();
    let without: String =
        config.lines().filter(|line| !line.starts_with("limits:")).map(|l| format!("{l}\n")).collect();
    std::fs::write(ca.config(), without + limits).unwrap();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", cores]).arg(psfca().get_program()).arg("serve");
    command.env("PSFCA_CONFIG", ca.config()).env("NO_COLOR", "1").env_remove("NOTIFY_SOCKET");
    ca.serve_by(command);
}

/// Where the daemon listens.
pub(crate) fn port(ca: &Ca) -> u16 {
    ca.address().rsplit(':').next().unwrap().parse().unwrap()
}

/// What `work` takes of the daemon, which is idle before and after.
pub(crate) async fn over<T>(ca: &Ca, work: impl Future<Output = T>) -> (T, Usage) {
    let (first, commits) = (reference::measure(), commits(ca));
    let (begin, cpu, core) = (Instant::now(), threads(ca.pid()), Core::read());
    let outcome = work.await;
    let (wall, cpu) = (begin.elapsed(), since(&cpu, &threads(ca.pid())));
    let idle = core.idle_until(&Core::read());
    let commits = self::commits(ca) - commits;
    let peak = memory(ca, "VmHWM");
    (outcome, Usage { wall, cpu, idle, commits, reference: [first, reference::measure()], peak })
}

/// Durable commits of the ledger since the daemon's start.
pub(crate) fn commits(ca: &Ca) -> u64 {
    let (status, metrics) = ca.curl_admin(&[], "/metrics");
    assert_eq!(status, 200, "{metrics}");
    let line = metrics.lines().find_map(|line| line.strip_prefix("psfca_ledger_commits_total "));
    line.unwrap().parse().unwrap()
}

/// How long each thread of a process has kept a core busy.
fn threads(pid: u32) -> HashMap<String, Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap);
    threads
        .map(|thread| (thread.file_name().into_string().unwrap(), worked(&thread.path().join("schedstat"))))
        .collect()
}

fn since(before: &HashMap<String, Duration>, now: &HashMap<String, Duration>) -> Duration {
    now.iter().map(|(thread, worked)| *worked - before.get(thread).copied().unwrap_or_default()).sum()
}

/// The first number of `schedstat`: nanoseconds on a core.
pub(crate) fn worked(schedstat: &Path) -> Duration {
    let text = std::fs::read_to_string(schedstat).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// What everybody together did with the daemon's core, in the kernel's ticks.
struct Core {
    idle: u64,
    all: u64,
}

impl Core {
    fn read() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("cpu{CORE} "))).unwrap();
        // User, nice, system, idle, waiting for a disk, interrupts, stolen; what follows is counted in user as well.
        let ticks: Vec<u64> = line.split(' ').take(8).map(|ticks| ticks.parse().unwrap()).collect();
        Self { idle: ticks[3] + ticks[4], all: ticks.iter().sum() }
    }

    fn idle_until(&self, later: &Self) -> f64 {
        (later.idle - self.idle) as f64 / (later.all - self.all).max(1) as f64
    }
}

/// A line of `/proc/PID/status` about memory: `VmRSS`, `VmHWM` (its highest), `RssAnon` (without mapped files).
pub(crate) fn memory(ca: &Ca, line: &str) -> Kib {
    let status = std::fs::read_to_string(format!("/proc/{}/status", ca.pid())).unwrap();
    let line = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')).unwrap();
    Kib(line.trim().trim_end_matches(" kB").parse().unwrap())
}

/// Lets this process, and the daemon after it, have so many connections open.
pub(crate) fn allow_files(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let (needed, limit) = (connections as u64 + OTHER_FILES, getrlimit(Resource::Nofile));
    if limit.current.is_some_and(|files| files < needed) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum });
        assert!(
            raised.is_ok(),
            "{needed} open files are needed, and this machine allows {limit:?}: take fewer --hosts"
        );
    }
}

/// A ledger in memory would be durable for nothing.
pub(crate) fn must_be_on_a_disk(dir: &Path) {
    const TMPFS: u64 = 0x0102_1994;
    let kind = rustix::fs::statfs(dir).unwrap().f_type;
    assert_ne!(kind as u64, TMPFS, "{} lies in memory", dir.display());
}
