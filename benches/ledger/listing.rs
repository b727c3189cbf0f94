//! A page by each filter.

use std::time::{Duration, Instant};

use psfca::clock::Timestamp;
use psfca::store::Store;
use psfca::wire::AuditQuery;

use crate::measure::{Times, anonymous_memory};

/// How often each page is asked for.
const TIMES: usize = 101;

/// Filters as a query has them; `{…d}` is so many days before the end.
const FILTERS: [&str; 31] = [
    "",
    "event=certificate",
    "event=declaration",
    "event=token_made",
    "event=bodies_dropped",
    "name=service7.psf.io",
    "name=old.psf.io",
    "name=nothing.psf.io",
    "host=pg7.iad1.psf.io",
    "host=old.iad1.psf.io",
    "host=nothing.iad1.psf.io",
    "role=web",
    "role=postgresql",
    "role=retired",
    "role=nothing",
    "serial=01",
    "state=issued",
    "state=recorded",
    "since={30} until={29}",
    "until={790}",
    "since={0}",
    "expiring=7",
    "expiring=90",
    "name=service7.psf.io host=pg7.iad1.psf.io",
    "name=service7.psf.io role=postgresql",
    "name=service7.psf.io role=nothing",
    "name=service7.psf.io state=recorded",
    "role=web until={700}",
    "role=postgresql since={30} until={29}",
    "role=retired since={30}",
    "host=pg7.iad1.psf.io event=token_made",
];
/// The same, where what ends first is first.
const EXPIRING: [&str; 4] = [
    "expiring=90 host=pg7.iad1.psf.io",
    "expiring=90 name=service7.psf.io",
    "expiring=90 role=postgresql",
    "expiring=90 name=old.psf.io",
];

pub(crate) async fn measure(store: &Store, now: Timestamp) {
    println!("{:>6} {:>12} {:>10} {:>14}  filter", "rows", "median, ms", "p99, ms", "memory, kB");
    for filter in FILTERS.iter().chain(&EXPIRING) {
        let query = query(filter, now);
        let (mut times, mut rows) = (Vec::new(), 0);
        for _ in 0..TIMES {
            let begin = Instant::now();
            rows = store.entries(query.clone(), now).await.unwrap().0.len();
            times.push(begin.elapsed());
        }
        let (times, memory) = (Times::of(times), anonymous_memory());
        println!("{rows:>6} {:>12.2} {:>10.2} {memory:>14}  {filter}", times.median(), times.p99());
    }
}

fn query(filter: &str, now: Timestamp) -> AuditQuery {
    let mut fields = serde_json::Map::new();
    for word in filter.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        let days = |text: &str| Duration::from_secs(text.parse::<u64>().unwrap() * 86_400);
        let (name, value) = match name {
            "expiring" => ("expiring_before", now.plus(days(value)).to_string()),
            "since" | "until" => (name, now.minus(days(value.trim_matches(['{', '}']))).to_string()),
            _ => (name, value.to_owned()),
        };
        fields.insert(name.to_owned(), value.into());
    }
    serde_json::from_value(fields.into()).unwrap()
}
