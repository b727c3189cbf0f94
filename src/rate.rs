//! How often something may be done: a bucket of tokens for each who does it. Time is an argument (rule R7), so a
//! test need not wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// A burst at once, then so many in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many at once.
    pub burst: NonZeroU32,
    /// So many more in each period.
    pub count: NonZeroU32,
    /// The period, in seconds.
    pub period: NonZeroU32,
}

impl Rate {
    /// `burst` at once, then `count` in each second.
    #[must_use]
    pub const fn per_second(burst: NonZeroU32, count: NonZeroU32) -> Self {
        Self { burst, count, period: NonZeroU32::MIN }
    }

    /// `burst` at once, then `count` in each minute.
    #[must_use]
    pub const fn per_minute(burst: NonZeroU32, count: NonZeroU32) -> Self {
        Self { burst, count, period: self::count(60) }
    }

    /// What one costs, in parts of which a bucket gains `count` in each second.
    const fn cost(self) -> u64 {
        self.period.get() as u64
    }

    /// A full bucket, in the same parts.
    const fn full(self) -> u64 {
        self.burst.get() as u64 * self.cost()
    }
}

/// `n` as a rate takes it; zero is one.
#[must_use]
pub const fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(n.saturating_sub(1))
}

/// What is left of one burst.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    at: Timestamp,
    level: u64,
}

impl Bucket {
    const fn full(rate: Rate, now: Timestamp) -> Self {
        Self { at: now, level: rate.full() }
    }

    /// Takes one, or says how long until there is one again, in whole seconds. A clock that is set back gives
    /// nothing and locks nobody out: the bucket goes on from the new time.
    fn take(&mut self, rate: Rate, now: Timestamp) -> Result<(), Duration> {
        let count = u64::from(rate.count.get());
        let gained = self.at.until(now).as_secs().saturating_mul(count);
        self.level = self.level.saturating_add(gained).min(rate.full());
        self.at = now;
        if self.level >= rate.cost() {
            self.level -= rate.cost();
            return Ok(());
        }
        Err(Duration::from_secs((rate.cost() - self.level).div_ceil(count)))
    }
}

/// One bucket for each key, in bounded memory: of the keys that were seen, at least the last `most` are remembered and
/// at most twice as many. A key that was forgotten has a full bucket again, for which others had to come `most` times.
#[derive(Debug)]
pub struct Rates<K> {
    rate: Rate,
    most: usize,
    seen: Mutex<Seen<K>>,
}

/// Two generations: what is asked for moves into the newer one, and a full newer one replaces the older.
#[derive(Debug)]
struct Seen<K> {
    newer: HashMap<K, Bucket>,
    older: HashMap<K, Bucket>,
}

impl<K: Hash + Eq + Clone> Rates<K> {
    /// Everyone's bucket is full.
    #[must_use]
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, seen: Mutex::new(Seen { newer: HashMap::new(), older: HashMap::new() }) }
    }

    /// Counts one for `key`.
    ///
    /// # Errors
    /// How long until the next may come, in whole seconds and at least one; nothing was counted then.
    pub fn take(&self, key: &K, now: Timestamp) -> Result<(), Duration> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = seen.newer.get_mut(key) {
            return bucket.take(self.rate, now);
        }
        let mut bucket = seen.older.remove(key).unwrap_or(Bucket::full(self.rate, now));
        let taken = bucket.take(self.rate, now);
        if seen.newer.len() >= self.most {
            seen.older = std::mem::take(&mut seen.newer);
        }
        seen.newer.insert(key.clone(), bucket);
        taken
    }
}

/// Lets through so many log lines and counts the others, so that who floods the daemon does not flood its log.
#[derive(Debug)]
pub struct LogGate {
    rate: Rate,
    state: Mutex<Gate>,
}

#[derive(Debug)]
struct Gate {
    bucket: Option<Bucket>,
    left_out: u64,
}

impl LogGate {
    /// A gate that no line has passed yet.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self { rate, state: Mutex::new(Gate { bucket: None, left_out: 0 }) }
    }

    /// Whether to write a line now: then how many were left out before it.
    pub fn pass(&self, now: Timestamp) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bucket = state.bucket.unwrap_or(Bucket::full(self.rate, now));
        let taken = bucket.take(self.rate, now);
        state.bucket = Some(bucket);
        match taken {
            Ok(()) => Some(std::mem::take(&mut state.left_out)),
            Err(_) => {
                state.left_out += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_795_255_200 + seconds)
    }

    /// How many of 1,000 are let through.
    fn taken(rates: &Rates<&str>, key: &'static str, now: Timestamp) -> usize {
        (0..1_000).filter(|_| rates.take(&key, now).is_ok()).count()
    }

    #[test]
    fn a_burst_then_the_rate_and_never_more_than_a_burst() {
        let rates = Rates::new(Rate::per_second(count(60), count(1)), 10);
        assert_eq!(taken(&rates, "pg0", at(0)), 60);
        assert_eq!(rates.take(&"pg0", at(0)), Err(Duration::from_secs(1)));
        assert_eq!(taken(&rates, "pg1", at(0)), 60, "each has its own");
        assert_eq!(taken(&rates, "pg0", at(1)), 1);
        assert_eq!(taken(&rates, "pg0", at(11)), 10);
        assert_eq!(taken(&rates, "pg0", at(100_000)), 60);
    }

    #[test]
    fn it_tells_when_the_next_may_come_and_that_is_true() {
        let rates = Rates::new(Rate::per_minute(count(2), count(6)), 10);
        assert_eq!(taken(&rates, "a", at(0)), 2);
        assert_eq!(rates.take(&"a", at(0)), Err(Duration::from_secs(10)));
        assert_eq!(rates.take(&"a", at(3)), Err(Duration::from_secs(7)));
        assert_eq!(rates.take(&"a", at(9)), Err(Duration::from_secs(1)));
        assert_eq!(rates.take(&"a", at(10)), Ok(()));
        assert_eq!(rates.take(&"a", at(10)), Err(Duration::from_secs(10)));
        // 7 in a minute do not come out even: 8.57 s are nine.
        let rates = Rates::new(Rate::per_minute(count(1), count(7)), 10);
        assert_eq!(rates.take(&"a", at(0)), Ok(()));
        assert_eq!(rates.take(&"a", at(0)), Err(Duration::from_secs(9)));
        assert_eq!(rates.take(&"a", at(8)), Err(Duration::from_secs(1)));
        assert_eq!(rates.take(&"a", at(9)), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing_and_locks_nobody_out() {
        let rates = Rates::new(Rate::per_second(count(5), count(1)), 10);
        assert_eq!(taken(&rates, "a", at(86_400)), 5);
        assert_eq!(taken(&rates, "a", at(0)), 0);
        assert_eq!(rates.take(&"a", at(0)), Err(Duration::from_secs(1)));
        assert_eq!(taken(&rates, "a", at(2)), 2);
    }

    #[test]
    fn memory_is_bounded_and_the_last_ones_are_remembered() {
        let rates = Rates::new(Rate::per_second(count(1), count(1)), 100);
        for key in 0..10_000 {
            assert_eq!(rates.take(&key, at(0)), Ok(()));
            // Since it was asked for, 49 new ones and 49 from before them have come again: fewer than 100.
            let earlier = key - key.min(49);
            assert!(rates.take(&earlier, at(0)).is_err(), "{earlier} of {key}");
        }
        let seen = rates.seen.lock().unwrap();
        assert!(seen.newer.len() <= 100 && seen.older.len() <= 100);
    }

    #[test]
    fn log_lines_are_let_through_at_the_rate_and_the_others_counted() {
        let gate = LogGate::new(Rate::per_minute(count(2), count(6)));
        let passed: Vec<_> = (0..5).map(|_| gate.pass(at(0))).collect();
        assert_eq!(passed, [Some(0), Some(0), None, None, None]);
        assert_eq!(gate.pass(at(9)), None);
        assert_eq!(gate.pass(at(10)), Some(4));
        assert_eq!(gate.pass(at(20)), Some(0));
    }
}
