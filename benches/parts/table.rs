//! The table: parts are named, and each is run as the command line wants it.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long a batch is to take, at least: long beside reading a clock, and so short beside a turn of the scheduler
/// that most batches are not interrupted on a machine that has other work.
const BATCH: Duration = Duration::from_micros(500);
/// Batches of which the median is taken.
const BATCHES: usize = 501;
/// After so long no more batches are begun, if there are [`LEAST_BATCHES`].
const PATIENCE: Duration = Duration::from_secs(4);
const LEAST_BATCHES: usize = 5;
/// Calls of the reference in a batch.
const REFERENCES: u32 = 5;

/// What is to be done with the parts.
pub(crate) enum Wanted {
    /// A row for each.
    Measured,
    /// Its name alone.
    Listed,
    /// One of them, so many times.
    Once { times: u64, part: String },
}

/// Where the rows go.
pub(crate) struct Table {
    wanted: Wanted,
    /// What the rows are multiples of. It is run between their batches, since a processor's speed changes.
    reference: Box<dyn FnMut()>,
    found: bool,
}

impl Table {
    pub(crate) fn begin(wanted: Wanted, reference: impl FnMut() + 'static) -> Self {
        if matches!(wanted, Wanted::Measured) {
            println!("{:<36} {:>13} {:>13} {:>9}", "part", "median, µs", "least, µs", "ref");
        }
        Self { wanted, reference: Box::new(reference), found: false }
    }

    /// Whether any part of the group is to be run, so that its inputs have to be made.
    pub(crate) fn wants(&self, group: &str) -> bool {
        match &self.wanted {
            Wanted::Once { part, .. } => part.split('/').next() == Some(group),
            _ => true,
        }
    }

    /// A part: as many calls in a batch as fill [`BATCH`].
    pub(crate) fn part<T>(&mut self, name: &str, mut run: impl FnMut() -> T) {
        if !self.is_measured(name, &mut run) {
            return;
        }
        let calls = calls_for_a_batch(&mut run);
        let (begin, mut times, mut references) = (Instant::now(), Vec::new(), Vec::new());
        while times.len() < BATCHES && (times.len() < LEAST_BATCHES || begin.elapsed() < PATIENCE) {
            references.push(batch(&mut self.reference, REFERENCES));
            times.push(batch(&mut run, calls));
        }
        row(name, &each(times, calls), &each(references, REFERENCES));
    }

    /// Whether a row is wanted. What is wanted otherwise is done.
    fn is_measured<T>(&mut self, name: &str, run: &mut impl FnMut() -> T) -> bool {
        match &self.wanted {
            Wanted::Measured => return true,
            Wanted::Listed => println!("{name}"),
            Wanted::Once { times, part } if part == name => {
                self.found = true;
                for _ in 0..*times {
                    black_box(run());
                }
            }
            Wanted::Once { .. } => {}
        }
        false
    }

    pub(crate) fn end(self) {
        assert!(self.found || !matches!(self.wanted, Wanted::Once { .. }), "there is no such part; see --list");
    }
}

fn batch<T>(run: &mut impl FnMut() -> T, calls: u32) -> Duration {
    let begin = Instant::now();
    for _ in 0..calls {
        black_box(run());
    }
    begin.elapsed()
}

fn calls_for_a_batch<T>(run: &mut impl FnMut() -> T) -> u32 {
    let mut calls = 1;
    // One batch alone may have been interrupted.
    while (0..3).map(|_| batch(run, calls)).any(|took| took < BATCH) {
        calls *= 2;
    }
    calls
}

/// Microseconds of one call, in order.
fn each(mut times: Vec<Duration>, calls: u32) -> Vec<f64> {
    times.sort_unstable();
    times.into_iter().map(|time| time.as_secs_f64() * 1e6 / f64::from(calls)).collect()
}

fn row(name: &str, times: &[f64], references: &[f64]) {
    let (median, reference) = (times[times.len() / 2], references[references.len() / 2]);
    println!("{name:<36} {median:>13.3} {:>13.3} {:>9.4}", times[0], median / reference);
}
