//! A sweep over a ledger that was never swept, with requests beside it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use psfca::clock::Timestamp;
use psfca::digest::Digest;
use psfca::name::HostName;
use psfca::random::SystemRandom;
use psfca::serial::Serial;
use psfca::store::{NewToken, Store, Sweep};

use crate::fill::whole;
use crate::measure::Times;

/// Sweeps without the daemon's pauses; returns how many entries there are then.
pub(crate) async fn measure(path: &Path, now: Timestamp) -> u64 {
    let store = Arc::new(Store::open(path).unwrap());
    let before = requests(&store, now, |done| done < 200).await;
    println!("{:>10.2} ms for a request alone, p99 {:.2} ms", before.median(), before.p99());
    let ended = Arc::new(AtomicBool::new(false));
    let beside = {
        let (store, ended) = (Arc::clone(&store), Arc::clone(&ended));
        tokio::spawn(async move { requests(&store, now, |_| !ended.load(Ordering::Relaxed)).await })
    };
    let (mut sweep, begin) = (Sweep::new(now.minus(Duration::from_secs(400 * 86_400))), Instant::now());
    let (mut steps, mut dropped) = (0u32, Duration::ZERO);
    loop {
        let bodies = sweep.dropped();
        let going_on = store.sweep(&mut sweep, now).await.unwrap();
        steps += 1;
        if sweep.dropped() > bodies {
            dropped = begin.elapsed();
        }
        if !going_on {
            break;
        }
    }
    let took = begin.elapsed();
    ended.store(true, Ordering::Relaxed);
    let beside = beside.await.unwrap();
    println!("{:>10.2} ms for one beside the sweep, p99 {:.2} ms", beside.median(), beside.p99());
    println!(
        "{:>10} bodies dropped in {dropped:.1?}, pages given back in {:.1?}; {steps} steps",
        sweep.dropped(),
        took - dropped
    );
    let entries = store.head().size;
    store.close();
    drop(store);
    whole(path);
    entries
}

/// Tokens, one after the other.
async fn requests(store: &Store, at: Timestamp, go_on: impl Fn(usize) -> bool) -> Times {
    let mut times = Vec::new();
    while go_on(times.len()) {
        let hash = Digest::of(Serial::generate(at, &SystemRandom).unwrap().octets());
        let host = HostName::parse("new.iad1.psf.io").unwrap();
        let begin = Instant::now();
        store.make_token(NewToken { at, hash, host, expires: at, replaces: false, operator_uid: 0 }).await.unwrap();
        times.push(begin.elapsed());
    }
    Times::of(times)
}
