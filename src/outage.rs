//! For how long the CA may be gone before the first certificate of its fleet ends, by the declaration alone.
//!
//! The worst moment for an outage to begin is just before a certificate is renewed that drew the last moment of
//! its window, on a host whose timer has to come round first. What is left of its life then, less what the host
//! needs to come again once the CA is back, is the outage that it stands. The identities count too, with their
//! grace: a host whose identity is past it gets nothing by itself.

use std::time::Duration;

use crate::profile::IDENTITY_LIFETIME;
use crate::renewal;

/// How often a host looks whether something is due (`psfca-renew.timer`).
pub const TIMER: Duration = Duration::from_secs(15 * 60);

/// For how long, in whole minutes, a certificate of this life stands an outage that begins at its worst moment: what
/// is left after the latest draw, less one period of the timer until that is noticed, and less what is needed after
/// the outage. The last wait is at most a twentieth of what is left, and the timer has to fire once more.
#[must_use]
pub fn of_life(life: Duration) -> Duration {
    let left = life.saturating_sub(renewal::latest(life));
    let seconds = left.saturating_sub(TIMER).saturating_sub(TIMER * 20 / 19).as_secs();
    Duration::from_secs(seconds - seconds % 60)
}

/// Days, hours, minutes and seconds as `ca.yaml` takes them, without what is nothing: `15d 23h 29m`.
#[must_use]
pub fn in_words(length: Duration) -> String {
    let seconds = length.as_secs();
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let words: Vec<_> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if words.is_empty() { "0m".to_owned() } else { words.join(" ") }
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
    fn an_outage_is_counted_from_the_last_moment_of_the_window_less_two_rounds_of_the_timer() {
        let minutes = |hours: u32| of_life(HOUR * hours).as_secs() / 60;
        assert_eq!(minutes(24), 576 - 15 - 16, "a day has 40 % of its life left, which is 9.6 hours");
        assert_eq!(minutes(24 * 90), 90 * 24 * 18 - 15 - 16, "90 days have 30 % of theirs left");
        assert_eq!(minutes(2), 48 - 15 - 16);
        assert_eq!(minutes(1), 0);
        assert_eq!(of_life(Duration::from_secs(60)), Duration::ZERO);
        assert_eq!(of_identity(HOUR * 24 * 7), HOUR * 24 * (9 + 7) - Duration::from_secs(31 * 60));
        assert_eq!(of_life(HOUR * 24).subsec_nanos(), 0);
    }

    #[test]
    fn a_length_is_told_in_days_and_less_and_can_be_written_into_ca_yaml() {
        for (words, seconds) in [("0m", 0), ("90d", 90 * 86_400), ("15d 23h 29m", 1_380_540), ("8h 23m 24s", 30_204)] {
            let length = Duration::from_secs(seconds);
            assert_eq!(in_words(length), words);
            assert_eq!(humantime::parse_duration(words).unwrap(), length);
        }
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
