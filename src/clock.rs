//! Time as a value and as an argument (rule R7): nothing below the edges asks the system.

use std::fmt;
use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime};

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
        match Self::parse_written(text.as_bytes()) {
            Some(time) => Ok(time),
            None => Ok(Self::from_unix(OffsetDateTime::parse(text, &Rfc3339)?.unix_timestamp())),
        }
    }

    /// Reads what `Display` writes, `2026-11-21T10:00:00Z`, in a tenth of the time: a ledger is full of it.
    fn parse_written(text: &[u8]) -> Option<Self> {
        let &[y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b'T', h1, h2, b':', mi1, mi2, b':', s1, s2, b'Z'] = text
        else {
            return None;
        };
        let digits = [y1, y2, y3, y4, mo1, mo2, d1, d2, h1, h2, mi1, mi2, s1, s2].map(|digit| digit.wrapping_sub(b'0'));
        if digits.iter().any(|digit| *digit > 9) {
            return None;
        }
        let [y1, y2, y3, y4, mo1, mo2, d1, d2, h1, h2, mi1, mi2, s1, s2] = digits;
        let year = i32::from(y1 * 10 + y2) * 100 + i32::from(y3 * 10 + y4);
        let month = Month::try_from(mo1 * 10 + mo2).ok()?;
        let date = Date::from_calendar_date(year, month, d1 * 10 + d2).ok()?;
        let (hour, minute, second) = (h1 * 10 + h2, mi1 * 10 + mi2, s1 * 10 + s2);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let days = date.to_julian_day() - OffsetDateTime::UNIX_EPOCH.date().to_julian_day();
        let seconds = i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second);
        Some(Self::from_unix(i64::from(days) * 86_400 + seconds))
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
    fn a_time_as_it_is_written_here_is_what_rfc_3339_makes_of_it() {
        let mut read = 0;
        for time in ["2024-02-29T23:59:59Z", "1970-01-01T00:00:00Z", "9999-12-31T10:00:00Z", "0000-10-30T19:20:30Z"] {
            for place in 0..time.len() {
                for other in "0123456789-:TZ+. ".chars() {
                    let time = [&time[..place], &other.to_string(), &time[place + 1..]].concat();
                    if let Some(short) = Timestamp::parse_written(time.as_bytes()) {
                        let long = OffsetDateTime::parse(&time, &Rfc3339).unwrap().unix_timestamp();
                        assert_eq!(Timestamp::from_unix(long), short, "{time}");
                        read += 1;
                    }
                }
            }
        }
        assert!(read > 300, "only {read} of them were times");
    }

    #[test]
    fn arithmetic_stays_within_what_a_certificate_can_say() {
        let end = Timestamp::from_unix(i64::MAX);
        assert_eq!(end.plus(Duration::MAX), end);
        assert_eq!(end.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_unix(5).minus(Duration::from_secs(9)).unix(), 0);
    }
}
