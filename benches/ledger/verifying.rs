//! `psfca audit verify`, the command itself, held to one core by `taskset`.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::support::psfca;
use crate::support::stored_ledger::Books;

/// Most certificates that are really signed.
const SIGNED: u64 = 20_000;

/// Without the signatures, which nobody made.
pub(crate) fn without_signatures(path: &Path) {
    let mut command = on_one_core();
    command.arg("--without-signatures").arg(path);
    run("one core, without signatures", command);
    let mut command = psfca();
    command.args(["audit", "verify", "--json", "--without-signatures"]).arg(path);
    run("all cores, without signatures", command);
}

/// A smaller ledger, with every signature.
pub(crate) async fn with_signatures(entries: u64) {
    let books = Books::open().await;
    let host = books.enroll("pg0.iad1.psf.io").await;
    books.issue(&[host], usize::try_from(entries.min(SIGNED)).unwrap()).await;
    let path = books.close();
    let mut command = on_one_core();
    command.arg(&path);
    run("one core, with signatures", command);
    let mut command = psfca();
    command.args(["audit", "verify", "--json"]).arg(&path);
    run("all cores, with signatures", command);
}

fn on_one_core() -> Command {
    let binary = psfca().get_program().to_owned();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(binary).args(["audit", "verify", "--json"]);
    command
}

fn run(what: &str, mut command: Command) {
    let (begin, worked) = (Instant::now(), of_children());
    let out = command.output().unwrap();
    let (took, worked) = (begin.elapsed().as_secs_f64(), of_children() - worked);
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    let summary: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let entries = summary["entries"].as_u64().unwrap();
    let rate = |seconds: f64| entries as f64 / seconds;
    println!(
        "{:>10.0} entries/s; {:.0} for each second of work; {took:.2} s for {entries}: {what}",
        rate(took),
        rate(worked)
    );
}

/// Seconds for which processes that this one waited for have kept a core busy (`cutime` and `cstime` of proc(5)).
fn of_children() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // The kernel counts in hundredths of a second, whatever it counts in itself.
    (fields[13].parse::<f64>().unwrap() + fields[14].parse::<f64>().unwrap()) / 100.0
}
