//! Time as a value and as an argument (rule R7): nothing below the edges asks the system.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::text::serde_as_text;

/// A moment in UTC with a precision of one second, which is the precision of X.509.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(i64);

/// The last second that both X.509's `GeneralizedTime` and RFC 3339 can write.
const LAST: i64 = 253_402_300_799;

impl Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; values outside the years 1970 to 9999 are clamped.
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        Self(if seconds < 0 {
            0
        } else if seconds > LAST {
            LAST
        } else {
            seconds
        })
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// The moment `by` later, at most the end of the year 9999; fractions of a second are dropped.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let seconds = i64::try_from(by.as_secs()).unwrap_or(LAST);
        Self::from_unix(self.0.saturating_add(seconds))
    }

    /// The moment `by` earlier, at least 1970; fractions of a second are dropped.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        let seconds = i64::try_from(by.as_secs()).unwrap_or(LAST);
        Self::from_unix(self.0.saturating_sub(seconds))
    }

    /// How long until `later`; zero when that is past.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(u64::try_from(later.0 - self.0).unwrap_or(0))
    }

    /// The same moment for libraries that speak `time`.
    #[must_use]
    pub fn to_offset(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Reads an RFC 3339 time; fractions of a second are dropped.
    ///
    /// # Errors
    /// Anything that is not RFC 3339, such as a time without a zone.
    pub fn parse(text: &str) -> Result<Self, time::error::Parse> {
        if let Some(seconds) = plain_seconds(text.as_bytes()) {
            return Ok(Self::from_unix(seconds));
        }
        Ok(Self::from_unix(OffsetDateTime::parse(text, &Rfc3339)?.unix_timestamp()))
    }

    /// For people: `2026-11-27T09:00:00Z (in 6 days)`.
    #[must_use]
    pub fn with_distance(self, now: Self) -> String {
        format!("{self} ({})", self.distance(now))
    }

    /// For people: `in 6 days`, `3 hours ago`, `now`.
    #[must_use]
    pub fn distance(self, now: Self) -> String {
        match self.0 - now.0 {
            0 => "now".to_owned(),
            ahead if ahead > 0 => format!("in {}", describe(now.until(self))),
            _ => format!("{} ago", describe(self.until(now))),
        }
    }
}

/// Reads the form in which times are written here, `2026-11-21T10:00:00Z`, when every part is within its
/// usual range; none for all else, right or wrong. An audit reads times by the million.
fn plain_seconds(text: &[u8]) -> Option<i64> {
    let shape = b"dddd-dd-ddTdd:dd:ddZ";
    let fits = |(&c, &s): (&u8, &u8)| if s == b'd' { c.is_ascii_digit() } else { c == s };
    if text.len() != shape.len() || !text.iter().zip(shape).all(fits) {
        return None;
    }
    let number = |at: std::ops::Range<usize>| text[at].iter().fold(0, |n, &c| n * 10 + i64::from(c - b'0'));
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    // Days up to 28 and seconds up to 59 exist always; the rest is left to the library.
    if year < 1970 || !(1..=12).contains(&month) || !(1..=28).contains(&day) || hour > 23 || minute > 59 || second > 59
    {
        return None;
    }
    // Days since 1970-01-01, in years that begin in March, so that a leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// A duration for people, in its largest fitting unit, rounded: `6 days`, `1 hour`.
#[must_use]
pub fn describe(length: Duration) -> String {
    let seconds = length.as_secs();
    // What rounds up to a larger unit is told in it: one hour and not 60 minutes, two days and not 48 hours.
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_570 => ((seconds + 30) / 60, "minute"),
        3_570..171_000 => ((seconds + 1_800) / 3_600, "hour"),
        _ => (seconds.saturating_add(43_200) / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_offset().format(&Rfc3339) {
            Ok(text) => f.pad(&text),
            Err(_) => write!(f, "@{}", self.0),
        }
    }
}

serde_as_text!(Timestamp);

/// Where the current time comes from.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock; only the wiring in `run` makes one.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix(OffsetDateTime::now_utc().unix_timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_utc_with_a_human_distance() {
        let now = Timestamp::parse("2026-11-21T09:00:00Z").unwrap();
        let later = now.plus(Duration::from_secs(6 * 86_400));
        assert_eq!(later.with_distance(now), "2026-11-27T09:00:00Z (in 6 days)");
        assert_eq!(now.distance(later), "6 days ago");
        assert_eq!(now.distance(now), "now");
        assert_eq!(describe(Duration::from_secs(3_600)), "1 hour");
        // A second after the issue of a certificate of one day.
        assert_eq!(describe(Duration::from_secs(86_399)), "24 hours");
        assert_eq!(describe(Duration::from_secs(3_599)), "1 hour");
        assert_eq!(describe(Duration::from_secs(172_799)), "2 days");
    }

    #[test]
    fn the_short_way_of_reading_a_time_agrees_with_the_library() {
        // Every fifth day or so up to the year 9999, at odd moments.
        for n in 0..600_000 {
            let time = Timestamp::from_unix(n * 421_337 + n % 86_400);
            let text = time.to_string();
            let slow = OffsetDateTime::parse(&text, &Rfc3339).unwrap().unix_timestamp();
            assert_eq!(Timestamp::parse(&text).unwrap().unix(), slow, "{text}");
        }
        for wrong in ["2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21 10:00:00"] {
            assert!(Timestamp::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn arithmetic_stays_within_what_a_certificate_can_say() {
        let end = Timestamp::from_unix(i64::MAX);
        assert_eq!(end.plus(Duration::MAX), end);
        assert_eq!(end.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_unix(5).minus(Duration::from_secs(9)).unix(), 0);
    }
}
