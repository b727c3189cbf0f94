//! Figures, not promises: run with `cargo test --release --test figures -- --ignored --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on panics"
)]

mod support;

use std::time::Instant;

use psfca::store::LedgerCopy;
use psfca::verification::{Wanted, verify};
use psfca::wire::AuditQuery;
use support::ledger::Books;

fn count() -> usize {
    std::env::var("PSFCA_ENTRIES").map_or(1_000_000, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn how_fast_a_large_ledger_is_verified_and_listed() {
    let books = Books::open().await;
    let start = Instant::now();
    let slices = 100;
    for slice in 0..slices {
        books.clock.set(slice * 600);
        books.record_only(count() / slices as usize).await;
    }
    println!("made {} entries in {:?}", count(), start.elapsed());
    let now = psfca::clock::Clock::now(&*books.clock);
    for query in [
        "{}",
        r#"{"name":"service7.psf.io"}"#,
        r#"{"host":"pg11.iad1.psf.io"}"#,
        r#"{"role":"web"}"#,
        r#"{"event":"token_made"}"#,
        r#"{"event":"declaration"}"#,
        r#"{"state":"recorded"}"#,
        r#"{"state":"issued"}"#,
        r#"{"since":"2026-11-21T12:00:00Z","until":"2026-11-21T13:00:00Z"}"#,
        r#"{"until":"2026-11-21T10:30:00Z"}"#,
        r#"{"until":"2026-11-21T10:30:00Z","name":"service7.psf.io"}"#,
        r#"{"name":"service7.psf.io","role":"web"}"#,
    ] {
        let query: AuditQuery = serde_json::from_str(query).unwrap();
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..21 {
            let start = Instant::now();
            rows = books.ca.store.entries(query.clone(), now).await.unwrap().0.len();
            times.push(start.elapsed());
        }
        times.sort();
        println!(
            "page of {rows:3} in {:8.2?} median, {:8.2?} most: {}",
            times[10],
            times[20],
            serde_json::to_string(&query).unwrap()
        );
    }
    for days in [1, 30, 365] {
        let end = now.plus(std::time::Duration::from_secs(86_400 * days));
        let query = AuditQuery { expiring_before: Some(end), ..AuditQuery::default() };
        let start = Instant::now();
        let rows = books.ca.store.entries(query, now).await.unwrap().0.len();
        println!("page of {rows:3} in {:8.2?}: expiring within {days} days", start.elapsed());
    }
    let path = books.close();
    if let Some(kept) = std::env::var_os("PSFCA_KEEP") {
        std::fs::copy(&path, kept).unwrap();
    }
    println!("{:.0} bytes for each entry", std::fs::metadata(&path).unwrap().len() as f64 / count() as f64);
    let copy = LedgerCopy::open(&path).unwrap();
    for _ in 0..2 {
        let start = Instant::now();
        assert_eq!(copy.faults().unwrap(), Vec::<String>::new());
        let faults = start.elapsed();
        let start = Instant::now();
        let wanted = Wanted { against: None, signature_threads: 0 };
        let mut found = Vec::new();
        let summary = verify(&copy, wanted, &mut |finding| found.push(finding), &mut |_| {}).unwrap();
        assert!(found.is_empty(), "{:?}", &found[..found.len().min(5)]);
        let took = start.elapsed();
        let speed = summary.entries as f64 / took.as_secs_f64();
        println!(
            "verified {} entries in {took:?}: {speed:.0}/s ({faults:?} of it the file's own structure)",
            summary.entries
        );
    }
}
