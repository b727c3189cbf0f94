//! The short way to read what nearly every entry is: a certificate's, in exactly the form in which
//! [`Entry::encode`](super::Entry::encode) writes it. The fields come in that order and no text in them
//! has an escape, so one look at each octet is enough, and nothing has to be copied. Whatever is not so,
//! right or wrong, is left to [`Entry::decode`](super::Entry::decode), which reads the same in any JSON,
//! or says what is wrong with it.

use super::CertificateRecord;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::grant::{CertificateKind, Rule};
use crate::name::{HostName, RoleName};
use crate::serial::Serial;

/// What an entry says of a certificate, as far as anything beside the entry says it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateView<'e> {
    /// When the entry was written.
    pub time: Timestamp,
    /// What kind of certificate.
    pub kind: CertificateKind,
    /// Serial number.
    pub serial: Serial,
    /// The service name, the host's name, or a CA's common name.
    pub name: &'e str,
    /// The host that asked.
    pub host: Option<&'e str>,
    /// The role of the declaration that allowed it.
    pub role: Option<&'e str>,
    /// The identity that was renewed.
    pub renewed: Option<Serial>,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// SHA-256 of the subject's SubjectPublicKeyInfo, DER.
    pub key_sha256: Digest,
    /// SHA-256 of the to-be-signed bytes.
    pub tbs_sha256: Digest,
}

impl<'e> CertificateView<'e> {
    /// What an entry of `time` says by `record`.
    #[must_use]
    pub fn of(time: Timestamp, record: &'e CertificateRecord) -> Self {
        let CertificateRecord { kind, serial, name, host, not_after, key_sha256, tbs_sha256, rule, .. } = record;
        Self {
            time,
            kind: *kind,
            serial: serial.clone(),
            name,
            host: host.as_ref().map(HostName::as_str),
            role: rule.role().map(RoleName::as_str),
            renewed: if let Rule::Identity { renewed } = rule { renewed.clone() } else { None },
            not_after: *not_after,
            key_sha256: *key_sha256,
            tbs_sha256: *tbs_sha256,
        }
    }

    /// Reads a certificate's entry; none where [`Entry::decode`](super::Entry::decode) is to look.
    #[must_use]
    pub fn read(entry: &'e [u8]) -> Option<Self> {
        let mut rest = Rest(std::str::from_utf8(entry).ok()?);
        // In the order in which they are written; those without a name are valid, and nothing else is asked.
        let time = Timestamp::parse(rest.text(r#"{"v":1,"time":""#)?).ok()?;
        let kind = CertificateKind::parse(rest.text(r#","event":"certificate","kind":""#)?)?;
        let serial = Serial::parse(rest.text(r#","serial":""#)?).ok()?;
        let name = rest.text(r#","name":""#)?;
        let host = rest.text(r#","host":""#);
        Timestamp::parse(rest.text(r#","not_before":""#)?).ok()?;
        let not_after = Timestamp::parse(rest.text(r#","not_after":""#)?).ok()?;
        let key_sha256 = rest.digest(r#","key_sha256":""#)?;
        rest.step(r#","ca_made_key":false"#).or_else(|| rest.step(r#","ca_made_key":true"#))?;
        let tbs_sha256 = rest.digest(r#","tbs_sha256":""#)?;
        let (role, renewed) = rest.rule()?;
        let valid = rest.0 == "}}" && host.is_none_or(HostName::is_valid);
        valid.then_some(Self { time, kind, serial, name, host, role, renewed, not_after, key_sha256, tbs_sha256 })
    }
}

/// What is not read yet.
struct Rest<'e>(&'e str);

impl<'e> Rest<'e> {
    /// Steps over `before`. None, here and below, where something else comes next.
    fn step(&mut self, before: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(before)?;
        Some(())
    }

    /// The text that begins after `before` and has no escape, and steps over the quotation mark that ends it.
    fn text(&mut self, before: &str) -> Option<&'e str> {
        let rest = self.0.strip_prefix(before)?;
        let end = rest.bytes().position(|octet| matches!(octet, b'"' | b'\\' | ..b' '))?;
        let (text, rest) = rest.split_at_checked(end)?;
        self.0 = rest.strip_prefix('"')?;
        Some(text)
    }

    /// The SHA-256 value that begins after `before`.
    fn digest(&mut self, before: &str) -> Option<Digest> {
        let (digits, rest) = self.0.strip_prefix(before)?.split_at_checked(64)?;
        self.0 = rest.strip_prefix('"')?;
        Digest::parse(digits).ok()
    }

    /// Steps over the rule, up to the brace that ends it; what it says of role and renewal.
    fn rule(&mut self) -> Option<(Option<&'e str>, Option<Serial>)> {
        match self.text(r#","rule":{"by":""#)? {
            "declaration" => {
                self.digest(r#","declaration":""#)?;
                self.place(r#","listed":{"file":""#)?;
                let role = self.text(r#","role":""#).filter(|role| RoleName::is_valid(role))?;
                self.place(r#","defined":{"file":""#)?;
                self.text(r#","pattern":""#)?;
                Some((Some(role), None))
            }
            "token" => self.digest(r#","token":""#).map(|_| (None, None)),
            "identity" => Some((None, Some(Serial::parse(self.text(r#","renewed":""#)?).ok()?))),
            "server_names" => Some((None, None)),
            _ => None,
        }
    }

    /// Steps over the place whose file begins after `before`.
    fn place(&mut self, before: &str) -> Option<()> {
        self.text(before)?;
        self.step(r#","line":"#)?;
        let end = self.0.bytes().position(|octet| octet == b'}')?;
        let (digits, rest) = (self.0.get(..end)?, self.0.get(end + 1..)?);
        // JSON knows no plus sign and no zero before a number.
        let plain = matches!(digits.as_bytes(), [b'1'..=b'9', others @ ..] if others.iter().all(u8::is_ascii_digit));
        self.0 = rest;
        (plain && digits.parse::<u32>().is_ok()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::ledger::{Entry, Event};

    /// The end of an entry, by each rule; before it, whether a host asked and whether the key was made here.
    fn samples() -> Vec<String> {
        let sha256 = Digest::of(b"").to_string();
        let rules = [
            format!(
                r#"{{"by":"declaration","declaration":"{sha256}","listed":{{"file":"ca-config/tls.yaml","line":31}},"role":"web","defined":{{"file":"ca-config/é.yaml","line":4294967295}},"pattern":"pg*.iad1.psf.io"}}"#
            ),
            format!(r#"{{"by":"token","token":"{sha256}"}}"#),
            r#"{"by":"identity","renewed":"69213f7034bdbc45f1ba6eb7ba2d51f0"}"#.to_owned(),
            r#"{"by":"server_names"}"#.to_owned(),
        ];
        let sample = |rule: &String, host: &str, made: bool| {
            format!(
                r#"{{"v":1,"time":"2026-11-21T10:00:00Z","event":"certificate","kind":"service","serial":"0102ab","name":"a name, of a CA"{host},"not_before":"2024-02-29T23:59:59Z","not_after":"9999-12-31T10:00:00Z","key_sha256":"{sha256}","ca_made_key":{made},"tbs_sha256":"{sha256}","rule":{rule}}}"#
            )
        };
        let host = r#","host":"pg0.iad1.psf.io""#;
        rules.iter().flat_map(|rule| [sample(rule, host, false), sample(rule, "", true)]).collect()
    }

    fn as_json(entry: &str) -> Option<(Timestamp, CertificateRecord)> {
        match Entry::decode(entry.as_bytes()).ok()? {
            Entry { time, event: Event::Certificate(record), .. } => Some((time, record)),
            _ => None,
        }
    }

    /// What the short way reads, the other one reads alike; whether it was read.
    fn agrees(entry: &str) -> bool {
        let short = CertificateView::read(entry.as_bytes());
        if let Some(short) = &short {
            let long = as_json(entry);
            assert_eq!(
                long.as_ref().map(|(time, record)| CertificateView::of(*time, record)).as_ref(),
                Some(short),
                "{entry}"
            );
        }
        short.is_some()
    }

    #[test]
    fn every_certificate_that_is_written_is_read_the_short_way() {
        for sample in samples() {
            assert!(agrees(&sample), "{sample}");
            let written = Entry::decode(sample.as_bytes()).unwrap().encode().unwrap();
            assert_eq!(std::str::from_utf8(written.bytes()).unwrap(), sample);
        }
    }

    #[test]
    fn no_other_octet_anywhere_is_read_otherwise_than_as_json() {
        let others = ["\"", "\\", ",", ":", "{", "}", "[", " ", "\0", "\u{7f}", "é", "-", "+", "0", "1", "9", "a", "F"];
        let mut read = 0;
        for sample in samples() {
            let places = sample.char_indices().map(|(at, was)| at..at + was.len_utf8());
            for place in places {
                let changed = |new: &str| [&sample[..place.start], new, &sample[place.end..]].concat();
                read += others.iter().filter(|new| agrees(&changed(new))).count();
                assert!(!agrees(&sample[..place.start]));
            }
        }
        assert!(read > 1_000, "only {read} of what was changed are entries");
    }

    proptest! {
        #[test]
        fn no_changed_entry_is_read_otherwise_than_as_json(
            sample in any::<Index>(),
            changes in proptest::collection::vec((any::<Index>(), 0..80usize, any::<Index>(), 0..80usize), 1..3),
        ) {
            // A piece goes and a piece of some entry comes.
            let samples = samples();
            let mut entry = sample.get(&samples).clone().into_bytes();
            for (at, gone, from, length) in changes {
                let other = from.get(&samples).as_bytes();
                let (at, from) = (at.index(entry.len()), from.index(other.len()));
                let (end, to) = ((at + gone).min(entry.len()), (from + length).min(other.len()));
                entry.splice(at..end, other[from..to].iter().copied());
            }
            if let Ok(entry) = std::str::from_utf8(&entry) {
                agrees(entry);
            }
        }
    }
}
