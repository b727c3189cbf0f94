//! The machine alone; `tests/simulation.rs` has a fleet of them.

use super::*;
use crate::profile::BACKDATE;
use crate::renewal::Validity;
use crate::serial::Serial;

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

fn look_at(retry: Option<Retry>, installed: &Installed, now: Timestamp) -> (Option<Retry>, Action) {
    look(retry, installed, false, now)
}

#[test]
fn waits_are_drawn_evenly_doubled_with_each_failure_and_never_longer_than_a_twentieth_of_what_is_left() {
    for life in [HOUR, HOUR * 24, HOUR * 24 * 90] {
        let validity = validity(life);
        let (installed, now) = (Installed::Fit(validity), validity.due());
        let longest = now.until(validity.not_after) / 20;
        let mut retry = None;
        for failures in 0..40 {
            let window = FIRST_WAIT.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(longest);
            let wait = |draw| now.until(Retry::after(retry, &installed, None, draw, now).until);
            assert_eq!(wait(0), Duration::ZERO);
            // A timestamp drops fractions of a second.
            assert!((window.as_secs_f64() / 2.0 - wait(u32::MAX / 2).as_secs_f64()).abs() <= 1.0, "{window:?}");
            assert_eq!(wait(u32::MAX).as_secs(), window.as_secs(), "{failures} failures");
            retry = Some(Retry::after(retry, &installed, None, u32::MAX, now));
            assert_eq!(retry.unwrap().failures, failures + 1);
        }
    }
}

#[test]
fn what_the_ca_asks_for_is_the_least_wait_and_is_capped_the_same_way() {
    let day = validity(HOUR * 24);
    let (installed, now) = (Installed::Fit(day), day.due());
    let longest = Duration::from_secs((now.until(day.not_after) / 20).as_secs());
    for draw in [0, 1 << 31, u32::MAX] {
        let wait = |asked| now.until(Retry::after(None, &installed, Some(asked), draw, now).until);
        let ten = Duration::from_secs(600);
        assert!((ten..=ten + FIRST_WAIT).contains(&wait(ten)));
        // A CA that says "in a year", or a stranger in its place, stops no host from trying in time.
        assert_eq!(wait(HOUR * 24 * 365), longest);
        assert_eq!(now.until(Retry::after(None, &Installed::Missing, Some(HOUR), draw, now).until), Duration::ZERO);
    }
}

#[test]
fn before_the_next_try_nobody_is_asked_but_for_a_person() {
    let day = validity(HOUR * 24);
    let (installed, due) = (Installed::Fit(day), day.due());
    let retry = Retry::after(None, &installed, Some(HOUR / 4), u32::MAX, due);
    let (remembered, action) = look_at(Some(retry), &installed, due.plus(HOUR / 4));
    assert!(matches!(action, Action::Wait(Reason::Scheduled(_), until) if until == retry.until), "{action:?}");
    let forced = look(remembered, &installed, true, due.plus(HOUR / 4)).1;
    assert!(matches!(forced, Action::Ask(Reason::Scheduled(_))), "{forced:?}");
    let (remembered, action) = look_at(remembered, &installed, retry.until);
    assert!(matches!(action, Action::Ask(_)), "{action:?}");
    assert_eq!(remembered, Some(retry), "the next failure is the second");
}

#[test]
fn a_wait_ends_with_what_it_was_for_and_with_a_clock_that_was_set_back() {
    let long = validity(HOUR * 24 * 90);
    let (installed, due) = (Installed::Fit(long), long.due());
    let mut retry = None;
    for _ in 0..20 {
        retry = Some(Retry::after(retry, &installed, None, u32::MAX, due));
    }
    let asks = |installed: &Installed, now| matches!(look_at(retry, installed, now).1, Action::Ask(_));
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
    assert_eq!(look_at(retry, &Installed::Fit(later), due.plus(HOUR)).0, None);
}
