//! The short way to read what nearly every entry is: a certificate's, in exactly the form in which
//! [`Entry::encode`] writes it. The fields come in that order and no text in them has an escape, so one
//! look at each octet is enough. Whatever is not so, right or wrong, is left to the reader of any JSON,
//! which gives the same entry or says what is wrong with it.

use super::{CertificateRecord, Entry, Event};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::grant::{CertificateKind, Place, Rule};
use crate::name::{HostName, RoleName};
use crate::serial::Serial;

/// Reads a certificate's entry; none where the other reader is to look.
pub(super) fn certificate(entry: &str) -> Option<Entry> {
    let mut rest = Rest(entry);
    let time = Timestamp::parse(rest.text(r#"{"v":1,"time":""#)?).ok()?;
    // In the order in which they are written.
    let record = CertificateRecord {
        kind: CertificateKind::parse(rest.text(r#","event":"certificate","kind":""#)?)?,
        serial: Serial::parse(rest.text(r#","serial":""#)?).ok()?,
        name: rest.text(r#","name":""#)?.to_owned(),
        host: match rest.text(r#","host":""#) {
            Some(host) => Some(HostName::parse(host).ok()?),
            None => None,
        },
        not_before: Timestamp::parse(rest.text(r#","not_before":""#)?).ok()?,
        not_after: Timestamp::parse(rest.text(r#","not_after":""#)?).ok()?,
        key_sha256: Digest::parse(rest.text(r#","key_sha256":""#)?).ok()?,
        ca_made_key: rest.truth(r#","ca_made_key":"#)?,
        tbs_sha256: Digest::parse(rest.text(r#","tbs_sha256":""#)?).ok()?,
        rule: rule(&mut rest)?,
    };
    (rest.0 == "}}").then(|| Entry::new(time, Event::Certificate(record)))
}

/// Reads why it was issued, up to the brace that ends it.
fn rule(rest: &mut Rest<'_>) -> Option<Rule> {
    Some(match rest.text(r#","rule":{"by":""#)? {
        "declaration" => Rule::Declaration {
            declaration: Digest::parse(rest.text(r#","declaration":""#)?).ok()?,
            listed: rest.place(r#","listed":{"file":""#)?,
            role: RoleName::parse(rest.text(r#","role":""#)?).ok()?,
            defined: rest.place(r#","defined":{"file":""#)?,
            pattern: rest.text(r#","pattern":""#)?.into(),
        },
        "token" => Rule::Token { token: Digest::parse(rest.text(r#","token":""#)?).ok()? },
        "identity" => Rule::Identity { renewed: Some(Serial::parse(rest.text(r#","renewed":""#)?).ok()?) },
        "server_names" => Rule::ServerNames,
        _ => return None,
    })
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

    /// The truth value after `before`.
    fn truth(&mut self, before: &str) -> Option<bool> {
        self.step(before)?;
        if self.step("true").is_some() { Some(true) } else { self.step("false").map(|()| false) }
    }

    /// The place whose file begins after `before`.
    fn place(&mut self, before: &str) -> Option<Place> {
        let file = self.text(before)?.into();
        self.step(r#","line":"#)?;
        let (digits, rest) = self.0.split_once('}')?;
        // JSON knows no plus sign and no zero before a number.
        let plain = matches!(digits.as_bytes(), [b'1'..=b'9', others @ ..] if others.iter().all(u8::is_ascii_digit));
        self.0 = rest;
        Some(Place { file, line: digits.parse().ok().filter(|_| plain)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

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

    /// What the short way reads, the other one reads alike; whether it was read.
    fn agrees(entry: &str) -> bool {
        let short = certificate(entry);
        if let Some(short) = &short {
            assert_eq!(Entry::of_json(entry).ok().as_ref(), Some(short), "{entry}");
        }
        short.is_some()
    }

    #[test]
    fn every_certificate_that_is_written_is_read_the_short_way() {
        for sample in samples() {
            assert!(agrees(&sample), "{sample}");
            assert_eq!(certificate(&sample).unwrap().encode().unwrap().bytes(), sample.as_bytes());
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
