//! For how long the CA may be gone before the first certificate of its fleet ends, by the declaration alone.
//!
//! The worst moment for an outage to begin is just before a certificate is renewed that drew the last moment of
//! its window, on a host whose timer has to come round first. What is left of its life then is the outage that it
//! stands. The identities count too, with their grace: a host whose identity is past it gets nothing by itself.

use std::time::Duration;

use crate::profile::IDENTITY_LIFETIME;
use crate::renewal;

/// How often a host looks whether something is due (`psfca-renew.timer`).
pub const TIMER: Duration = Duration::from_secs(15 * 60);

/// For how long a certificate of this life stands an outage that begins at its worst moment.
#[must_use]
pub fn of_life(life: Duration) -> Duration {
    life.saturating_sub(renewal::latest(life)).saturating_sub(TIMER)
}

/// For how long an identity does, which can be renewed for `grace` after its end.
#[must_use]
pub fn of_identity(grace: Duration) -> Duration {
    of_life(IDENTITY_LIFETIME.as_duration()).saturating_add(grace)
}

/// The longest outage that certificates with these lives and the hosts' identities stand, and which of them ends first
/// after it: none for the identities. Among equals it is the first.
pub fn of_all<T>(lives: impl IntoIterator<Item = (T, Duration)>, identity_grace: Duration) -> (Duration, Option<T>) {
    let names = lives.into_iter().map(|(name, life)| (of_life(life), Some(name)));
    let identities = of_identity(identity_grace);
    names.chain([(identities, None)]).min_by_key(|(length, _)| *length).unwrap_or((identities, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn an_outage_is_counted_from_the_last_moment_of_the_window_and_one_round_of_the_timer() {
        let minutes = |hours: u32| of_life(HOUR * hours).as_secs() / 60;
        assert_eq!(minutes(24), 576 - 15, "a day has 40 % of its life left, which is 9.6 hours");
        assert_eq!(minutes(24 * 90), 90 * 24 * 18 - 15, "90 days have 30 % of theirs left");
        assert_eq!(minutes(2), 48 - 15);
        assert_eq!(of_life(Duration::from_secs(60)), Duration::ZERO);
        assert_eq!(of_identity(HOUR * 24 * 7), HOUR * 24 * (9 + 7) - TIMER);
    }

    #[test]
    fn the_weakest_of_all_names_and_of_the_identities_decides() {
        let (day, grace) = (HOUR * 24, HOUR * 24 * 7);
        let weakest = |lives: &[u32]| of_all(lives.iter().map(|days| (*days, day * *days)), grace);
        assert_eq!(weakest(&[90, 1, 7]), (of_life(day), Some(1)));
        assert_eq!(weakest(&[90, 60]), (of_identity(grace), None));
        // The window of a long life ends later, so ten days stand less than nine.
        assert_eq!(weakest(&[9, 10]).1, Some(10));
    }
}
