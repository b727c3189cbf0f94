//! When the end of a CA certificate is near enough to say so.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::grant::CertificateKind;
use crate::wire::CaHealth;

/// How long before the end of a CA certificate warnings begin: half a year, since replacing a
/// root means touching every client.
pub const CA_WARNING: Duration = Duration::from_secs(180 * 86_400);

/// What to say of a CA certificate that ends at `end`; nothing while that is far.
#[must_use]
pub fn ca_warning(end: Timestamp, now: Timestamp) -> Option<String> {
    if now >= end {
        return Some(format!("it ended {}; nothing that it signed is accepted any more", end.with_distance(now)));
    }
    (now.plus(CA_WARNING) > end).then(|| format!("it ends {}; plan its replacement now", end.with_distance(now)))
}

/// What health and `psfca check` say of one CA certificate.
#[must_use]
pub fn ca_health(kind: CertificateKind, end: Timestamp, now: Timestamp) -> CaHealth {
    CaHealth { ca: kind.as_str().to_owned(), not_after: end, warning: ca_warning(end, now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_begin_180_days_before_the_end() {
        let end = Timestamp::parse("2027-06-01T00:00:00Z").unwrap();
        assert_eq!(ca_warning(end, end.minus(CA_WARNING)), None);
        let late = ca_warning(end, end.minus(Duration::from_secs(86_400 * 179))).unwrap();
        assert_eq!(late, "it ends 2027-06-01T00:00:00Z (in 179 days); plan its replacement now");
        assert!(ca_warning(end, end).unwrap().starts_with("it ended"));
    }
}
