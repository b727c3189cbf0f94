//! A fleet under a virtual clock: the product's own renewal machine and `judge`, with outages, wrong clocks, slow hosts,
//! failing hooks, lost replies, and kills at every step.
//!
//! `PSFCA_SEED=7 cargo test --test simulation` replays one seed. `PSFCA_THOROUGHLY=1 PSFCA_PLOT=docs/simulation.svg cargo
//! test --release --test simulation` runs 10,000 hosts for three years and draws what the CA had to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/fleet.rs"]
mod fleet;
#[path = "simulation/plot.rs"]
mod plot;
#[path = "simulation/real.rs"]
mod real;
mod support;
#[path = "simulation/symbolic.rs"]
mod symbolic;
#[path = "simulation/weather.rs"]
mod weather;

use dice::Dice;
use fleet::{Fleet, Outcome, Without};
use psfca::clock::Timestamp;
use support::stored_ledger::BEGIN;
use support::tools::say;
use symbolic::Symbolic;
use weather::{DAY, HOUR, Weather};

/// The most that an hour may have of the mean, where no outage shows.
const MOST_OF_MEAN: f64 = 3.0;

/// How much of it.
#[derive(Clone, Copy)]
struct Scale {
    hosts: usize,
    days: i64,
}

const SMALL: Scale = Scale { hosts: 2_000, days: 60 };
const FULL: Scale = Scale { hosts: 10_000, days: 3 * 365 };

fn thoroughly() -> bool {
    std::env::var_os("PSFCA_THOROUGHLY").is_some()
}

fn seeds() -> Vec<u64> {
    match std::env::var("PSFCA_SEED") {
        Ok(seed) => vec![seed.parse().expect("PSFCA_SEED is a number")],
        Err(_) => (1..=if thoroughly() { 20 } else { 3 }).collect(),
    }
}

fn simulate(scale: Scale, seed: u64, without: Without) -> (Outcome, Weather) {
    simulate_in(Weather::draw(&Dice::new(seed), scale.days * DAY), scale, seed, without)
}

fn simulate_in(weather: Weather, scale: Scale, seed: u64, without: Without) -> (Outcome, Weather) {
    let start = Timestamp::from_unix(BEGIN);
    let mut fleet = Fleet::new(start, seed.wrapping_add(1 << 32), Symbolic::new(without), weather, without);
    Symbolic::populate(&mut fleet, scale.hosts);
    fleet.run(scale.days * DAY)
}

/// The load of the busiest hour in which neither an outage nor the beginning shows, and of the mean hour.
fn peak_and_mean(outcome: &Outcome, weather: &Weather) -> (f64, f64) {
    let hours: Vec<_> = (0_i64..).map(|hour| hour * HOUR).zip(&outcome.load).skip(4).collect();
    let mean = hours.iter().map(|(_, load)| f64::from(**load)).sum::<f64>() / hours.len() as f64;
    let quiet = hours.iter().filter(|(time, _)| !weather.shows_at(*time));
    (f64::from(quiet.map(|(_, load)| **load).max().unwrap()), mean)
}

/// What is promised of every fleet; what was found instead.
fn verdict(outcome: &Outcome, weather: &Weather) -> Result<(), String> {
    if let Some((host, at)) = outcome.expired.first() {
        let (count, day) = (outcome.expired.len(), at / DAY);
        return Err(format!("{count} certificates were served after their end, the first by {host} on day {day}"));
    }
    let (peak, mean) = peak_and_mean(outcome, weather);
    if peak > MOST_OF_MEAN * mean {
        return Err(format!("the busiest hour has {peak} requests, and the mean hour {mean:.1}"));
    }
    Ok(())
}

fn holds(scale: Scale, seed: u64) -> (Outcome, Weather) {
    let (outcome, weather) = simulate(scale, seed, Without::Nothing);
    let (peak, mean) = peak_and_mean(&outcome, &weather);
    let (outages, Outcome { issued, in_vain, hooks_failed, kills, .. }) = (weather.outages().len(), &outcome);
    say(&format!(
        "seed {seed}: {} hosts, {} days, {outages} outages of up to {:.1} h: {issued} issued, {in_vain} asked in vain, \
         {hooks_failed} hooks failed, {kills} kills, {} served after their end; requests in an hour: {mean:.1} on \
         average, {peak} in the busiest without outage ({:.2} times)",
        scale.hosts,
        scale.days,
        weather::longest_outage() as f64 / HOUR as f64,
        outcome.expired.len(),
        peak / mean,
    ));
    if let Err(found) = verdict(&outcome, &weather) {
        panic!("{found}; PSFCA_SEED={seed} cargo test --test simulation shows it again");
    }
    // A quiet sea proves nothing.
    assert!(in_vain > &0 && hooks_failed > &0 && kills > &0 && outages > 0, "PSFCA_SEED={seed}");
    (outcome, weather)
}

#[test]
fn no_certificate_is_served_after_its_end_and_no_hour_has_three_times_the_mean() {
    for seed in seeds() {
        holds(SMALL, seed);
    }
    if thoroughly() {
        let (outcome, weather) = holds(FULL, seeds()[0]);
        if let Some(file) = std::env::var_os("PSFCA_PLOT") {
            std::fs::write(file, plot::draw(&outcome, &weather)).unwrap();
        }
    }
}

/// Whether what the model leaves out is missed, and how.
fn misses(without: Without, how: &str) {
    for seed in seeds() {
        let (outcome, weather) = simulate(SMALL, seed, without);
        let found = verdict(&outcome, &weather).expect_err(&format!("{without:?} is not missed with seed {seed}"));
        say(&format!("seed {seed}, without {without:?}: {found}"));
        assert!(found.contains(how), "seed {seed}, without {without:?}: {found}");
    }
}

#[test]
fn without_jitter_hosts_come_all_at_once() {
    misses(Without::Jitter, "the busiest hour");
}

#[test]
fn without_back_off_hosts_that_are_refused_come_again_and_again() {
    misses(Without::BackOff, "the busiest hour");
}

#[test]
fn without_hook_debt_services_go_on_with_what_has_ended() {
    misses(Without::HookDebt, "served after their end");
}

#[test]
fn the_budget_is_not_much_less_than_what_a_fleet_survives() {
    let day = std::time::Duration::from_secs(DAY.unsigned_abs());
    let budget = i64::try_from(psfca::outage::of_life(day).as_secs()).unwrap();
    let scale = Scale { hosts: 2_000, days: 8 };
    let expired = |length| {
        let weather = Weather::one(4 * DAY, 4 * DAY + length);
        simulate_in(weather, scale, 1, Without::Nothing).0.expired.len()
    };
    assert_eq!(expired(weather::longest_outage()), 0);
    assert!(expired(budget + HOUR) > 0, "an hour more than the budget");
}

#[test]
fn a_seed_replays_to_the_last_request() {
    let scale = Scale { hosts: 200, days: 30 };
    let run = |seed| simulate(scale, seed, Without::Nothing).0;
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
