//! The machine alone; `tests/simulation.rs` has a fleet of them.

use super::*;
use crate::profile::BACKDATE;
use crate::renewal::Validity;

const HOUR: Duration = Duration::from_secs(3_600);

fn serial(number: u32) -> Serial {
    Serial::parse(&format!("{number:x}")).unwrap()
}

fn start() -> Timestamp {
    Timestamp::parse("2026-11-21T09:00:00Z").unwrap()
}

fn validity(life: Duration) -> Validity {
    Validity::new(start().minus(BACKDATE), start().plus(life), &serial(7))
}

fn look(state: State, installed: &Installed, now: Timestamp) -> (State, Vec<Action>) {
    let number = serial(7);
    step(state, Event::Looked { present: Present { installed, serial: Some(&number) }, force: false }, now)
}

fn fail(state: State, installed: &Installed, retry_after: Option<Duration>, draw: u32, now: Timestamp) -> Retry {
    let present = Present { installed, serial: None };
    step(state, Event::Failed { present, retry_after, draw }, now).0.retry.unwrap()
}

fn held(retry: Retry) -> State {
    State { retry: Some(retry), owed: None }
}

#[test]
fn waits_are_drawn_evenly_doubled_with_each_failure_and_never_longer_than_a_twentieth_of_what_is_left() {
    for life in [HOUR, HOUR * 24, HOUR * 24 * 90] {
        let validity = validity(life);
        let (installed, now) = (Installed::Fit(validity), validity.due());
        let longest = now.until(validity.not_after) / 20;
        let mut state = State::default();
        for failures in 0..40 {
            let window = FIRST_WAIT.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(longest);
            let wait = |draw| now.until(fail(state.clone(), &installed, None, draw, now).until);
            assert_eq!(wait(0), Duration::ZERO);
            // A timestamp drops fractions of a second.
            assert!((window.as_secs_f64() / 2.0 - wait(u32::MAX / 2).as_secs_f64()).abs() <= 1.0, "{window:?}");
            assert_eq!(wait(u32::MAX).as_secs(), window.as_secs(), "{failures} failures");
            state = held(fail(state, &installed, None, u32::MAX, now));
            assert_eq!(state.retry.unwrap().failures, failures + 1);
        }
    }
}

#[test]
fn what_the_ca_asks_for_is_the_least_wait_and_is_capped_the_same_way() {
    let day = validity(HOUR * 24);
    let (installed, now) = (Installed::Fit(day), day.due());
    let longest = Duration::from_secs((now.until(day.not_after) / 20).as_secs());
    for draw in [0, 1 << 31, u32::MAX] {
        let wait = |asked| now.until(fail(State::default(), &installed, Some(asked), draw, now).until);
        let ten = Duration::from_secs(600);
        assert!((ten..=ten + FIRST_WAIT).contains(&wait(ten)));
        // A CA that says "in a year", or a stranger in its place, stops no host from trying in time.
        assert_eq!(wait(HOUR * 24 * 365), longest);
        assert_eq!(now.until(fail(State::default(), &Installed::Missing, Some(HOUR), draw, now).until), Duration::ZERO);
    }
}

#[test]
fn before_the_next_try_nobody_is_asked_but_for_a_person() {
    let day = validity(HOUR * 24);
    let (installed, due) = (Installed::Fit(day), day.due());
    let retry = fail(State::default(), &installed, Some(HOUR / 4), u32::MAX, due);
    let (state, actions) = look(held(retry), &installed, due.plus(HOUR / 4));
    assert!(matches!(actions[..], [Action::Wait(Reason::Scheduled(_), until)] if until == retry.until), "{actions:?}");
    let present = Present { installed: &installed, serial: None };
    let forced = step(state.clone(), Event::Looked { present, force: true }, due.plus(HOUR / 4)).1;
    assert!(matches!(forced[..], [Action::Ask(Reason::Scheduled(_))]), "{forced:?}");
    let (state, actions) = look(state, &installed, retry.until);
    assert!(matches!(actions[..], [Action::Ask(_)]), "{actions:?}");
    assert_eq!(state.retry, Some(retry), "the next failure is the second");
}

#[test]
fn a_wait_ends_with_what_it_was_for_and_with_a_clock_that_was_set_back() {
    let long = validity(HOUR * 24 * 90);
    let (installed, due) = (Installed::Fit(long), long.due());
    let mut state = State::default();
    for _ in 0..20 {
        state = held(fail(state, &installed, None, u32::MAX, due));
    }
    let asks = |installed: &Installed, now| matches!(look(state.clone(), installed, now).1[..], [Action::Ask(_)]);
    assert!(!asks(&installed, due.plus(HOUR)));
    // The file was removed or damaged meanwhile: a service may stand still.
    assert!(asks(&Installed::Missing, due.plus(HOUR)));
    assert!(asks(&Installed::Damaged("torn".to_owned()), due.plus(HOUR)));
    let unfit = |validity| Installed::Unfit { why: "other names".to_owned(), validity };
    assert!(asks(&unfit(validity(HOUR * 24)), due.plus(HOUR)));
    // The failure lies in the future: it may lie years ahead.
    assert!(asks(&unfit(long), due.minus(HOUR)));
    // A person has renewed it.
    let later = Validity::new(due, due.plus(HOUR * 24 * 90), &serial(9));
    assert_eq!(look(state.clone(), &Installed::Fit(later), due.plus(HOUR)).0, State::default());
}

#[test]
fn a_debt_is_noted_before_the_file_is_in_place_and_paid_by_a_success_for_what_lies_there_alone() {
    let day = validity(HOUR * 24);
    let installed = Installed::Fit(day);
    let (old, new) = (serial(7), serial(8));
    let (state, actions) = step(State::default(), Event::Obtained { serial: &new }, start());
    assert_eq!(actions, [Action::Install, Action::RunHooks(new.clone())]);
    assert_eq!(state.owed, Some(new.clone()));
    assert_eq!(step(state.clone(), Event::HooksFailed, start()).0, state);
    assert_eq!(step(state.clone(), Event::HooksDone { serial: &old }, start()).0, state);
    assert_eq!(step(state.clone(), Event::HooksDone { serial: &new }, start()).0, State::default());

    // Each run tries again, and after a crash before the rename it is the old one that is told of.
    let (state, actions) = look(state, &installed, start());
    assert_eq!(actions, [Action::Rest(day.due()), Action::RunHooks(old.clone())]);
    let (state, actions) = look(state, &installed, day.due());
    assert!(matches!(actions[..], [Action::Ask(_)]), "{actions:?}");
    let present = Present { installed: &installed, serial: Some(&old) };
    let (state, actions) = step(state, Event::Failed { present, retry_after: None, draw: 0 }, day.due());
    assert_eq!(actions, [Action::RunHooks(old.clone())], "a CA that is away is no reason not to pay");
    assert_eq!(step(state, Event::HooksDone { serial: &old }, start()).0.owed, None);
}
