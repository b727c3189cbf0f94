//! What is printed at the end.

use std::time::Duration;

use crate::server::Usage;

/// Times of the same thing, in order.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// What so many of a thousand do not exceed, in milliseconds.
    pub(crate) fn of_thousand(&self, part: usize) -> f64 {
        self.0[(self.0.len() * part / 1_000).min(self.0.len() - 1)].as_secs_f64() * 1e3
    }
}

/// One mode.
pub(crate) struct Row {
    pub(crate) mode: &'static str,
    pub(crate) certificates: usize,
    pub(crate) times: Times,
    pub(crate) usage: Usage,
}

/// Prints one line for each mode.
pub(crate) fn print(rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    println!(
        "{:<11} {:>7} {:>7} | {:>8} {:>8} {:>8} | {:>8} {:>6} {:>6} | {:>6} {:>6} | {:>8} {:>8}",
        "mode",
        "certs",
        "certs/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU µs/c",
        "ref µs",
        "ratio",
        "CPU %",
        "idle %",
        "commit/c",
        "peak MiB"
    );
    for Row { mode, certificates, times, usage } in rows {
        let (count, wall) = (*certificates as f64, usage.wall.as_secs_f64());
        let cpu = usage.cpu.as_secs_f64() * 1e6 / count;
        let [before, after] = usage.reference;
        let reference = (before + after) / 2.0;
        println!(
            "{mode:<11} {certificates:>7} {:>7.0} | {:>8.2} {:>8.2} {:>8.2} | {cpu:>8.1} {reference:>6.1} {:>6.2} | \
             {:>6.1} {:>6.1} | {:>8.3} {:>8.1}",
            count / wall,
            times.of_thousand(500),
            times.of_thousand(990),
            times.of_thousand(999),
            cpu / reference,
            usage.cpu.as_secs_f64() / wall * 1e2,
            usage.idle * 1e2,
            usage.commits as f64 / count,
            usage.peak.mib(),
        );
        println!("{:<11} ref before {before:.1} µs, after {after:.1} µs", "");
    }
}
