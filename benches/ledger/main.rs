//! What the ledger takes at its full size: `cargo bench --bench ledger -- [--entries N] [--names-each N] [--dir DIR]`.
//!
//! It makes a ledger of that many entries by the store's own verbs, and prints what appending, opening,
//! listing, verifying and dropping bodies took. A ledger that an earlier run left in DIR is taken as it
//! is. Figures, not promises: nothing here fails for being slow.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "its table")]

mod fill;
mod listing;
mod measure;
mod retention;
#[path = "../../tests/support/mod.rs"]
mod support;
mod verifying;

use std::path::{Path, PathBuf};
use std::time::Instant;

use fill::Filler;
use measure::{Times, anonymous_memory, forget_cache};
use psfca::clock::Timestamp;
use psfca::store::Store;
use support::stored_ledger::BEGIN;

/// What is measured.
struct Wanted {
    entries: u64,
    /// Names of each host.
    names_each: u64,
    dir: Option<PathBuf>,
}

fn wanted() -> Wanted {
    let mut wanted = Wanted { entries: 5_000_000, names_each: 4, dir: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--entries" => wanted.entries = words.next().and_then(|n| n.parse().ok()).expect("--entries NUMBER"),
            "--names-each" => {
                wanted.names_each = words.next().and_then(|n| n.parse().ok()).expect("--names-each NUMBER")
            }
            "--dir" => wanted.dir = Some(words.next().expect("--dir DIRECTORY").into()),
            "--bench" => {} // said by cargo
            other => {
                panic!("unknown word {other}; there are --entries NUMBER, --names-each NUMBER and --dir DIRECTORY")
            }
        }
    }
    assert!(wanted.entries >= 10_000, "below 10,000 entries there is nothing to see");
    wanted
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Wanted { entries, names_each, dir } = wanted();
    let temporary = tempfile::tempdir().unwrap();
    let path = dir.as_deref().unwrap_or(temporary.path()).join("ledger.sqlite3");

    if !path.exists() {
        fill(&path, entries, names_each).await;
    }
    let now = Timestamp::from_unix(BEGIN);

    println!("\n# Start: the store opened until it can answer");
    let store = start(&path);

    println!("\n# Size");
    size(&path, store.head().size, "before retention");

    println!("\n# Listing: a page of 100");
    listing::measure(&store, now).await;
    drop(store);

    println!("\n# psfca audit verify");
    verifying::without_signatures(&path);
    verifying::with_signatures(entries).await;

    println!("\n# Retention of 400 days");
    let entries = retention::measure(&path, now).await;
    size(&path, entries, "after retention");
    verifying::without_signatures(&path);
    println!("\n# Listing after that");
    listing::measure(&Store::open(&path).unwrap(), now).await;
}

async fn fill(path: &Path, entries: u64, names_each: u64) {
    println!("# Appending");
    println!("Whole rate: 512 requests at a time. Alone: one request, answered before the next.");
    println!("{:>10} {:>14} {:>12} {:>12}", "entries", "appended/s", "alone, ms", "p99, ms");
    let mut filler = Filler::begin(path, entries, names_each).await;
    for mark in marks(entries) {
        let (rate, alone) = filler.fill_to(mark).await;
        println!("{mark:>10} {rate:>14.0} {:>12.2} {:>12.2}", alone.median(), alone.p99());
    }
    filler.end();
}

/// Sizes at which something is printed: powers of ten, then millions, then the last.
fn marks(entries: u64) -> Vec<u64> {
    let powers = (3..7).map(|power| 10u64.pow(power));
    let millions = (2..).map(|n| n * 1_000_000).take_while(|mark| *mark < entries);
    let mut marks: Vec<u64> = powers.chain(millions).filter(|mark| *mark < entries).collect();
    marks.push(entries);
    marks
}

fn start(path: &Path) -> Store {
    for (what, cold) in [("file in memory", false), ("file on the disk alone", true)] {
        if cold {
            forget_cache(path);
        }
        let begin = Instant::now();
        let store = Store::open(path).unwrap();
        let took = Times::of([begin.elapsed()]);
        println!(
            "{:>10.1} ms, {what}; {} entries, {} kB of memory",
            took.median(),
            store.head().size,
            anonymous_memory()
        );
        store.close();
    }
    forget_cache(path);
    Store::open(path).unwrap()
}

fn size(path: &Path, entries: u64, what: &str) {
    let octets = std::fs::metadata(path).unwrap().len();
    println!("{octets:>14} octets, {:.0} for each of {entries} entries, {what}", octets as f64 / entries as f64);
}
