//! The names this project is about, valid by construction.
//!
//! A [`DnsName`] is what a certificate is issued for, a [`HostName`] is a machine that asks, a
//! [`RoleName`] joins the two. Host and service names share one syntax and are still two types:
//! a function that takes both cannot be called with them swapped.

use std::fmt;

use crate::text::serde_as_text;

/// Longest DNS name in text form without the trailing dot (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;
/// Longest label (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;
/// Longest role name; only a bound against absurd input.
const MAX_ROLE: usize = 128;

/// Why a text is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was given.
    #[error("the name is empty")]
    Empty,
    /// More than 253 characters.
    #[error("the name has {0} characters; 253 is the most DNS allows")]
    TooLong(usize),
    /// Two dots in a row, or a dot at either end.
    #[error("the name has an empty label (two dots in a row, or a dot at an end)")]
    EmptyLabel,
    /// A label of more than 63 characters.
    #[error("the label {0:?} has more than 63 characters")]
    LongLabel(String),
    /// A label that begins or ends with a hyphen.
    #[error("the label {0:?} begins or ends with a hyphen")]
    Hyphen(String),
    /// A capital letter; one name has one spelling here.
    #[error("{0:?} is a capital letter; names are written in lower case")]
    Capital(char),
    /// Anything but letters, digits, hyphens and dots.
    #[error("{0:?} is not allowed in a name (letters, digits, hyphens and dots are)")]
    Character(char),
    /// The last label is a number, so the name reads as an IPv4 address.
    #[error("the name ends in a number, so it would be read as an IP address")]
    Numeric,
    /// A role name that is too long or holds a character outside `[A-Za-z0-9_.-]`.
    #[error("a role name has 1 to 128 characters out of letters, digits, '_', '-' and '.'")]
    Role,
}

/// Checks the preferred name syntax of RFC 1034 section 3.5, with RFC 1123's leading digits.
fn check_dns_syntax(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong(text.chars().count()));
    }
    let plain = |octet: &u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    // What is before the first other octet is ASCII, so a character begins there.
    let other = text.bytes().position(|octet| !plain(&octet)).and_then(|at| text.get(at..)?.chars().next());
    if let Some(bad) = other {
        return Err(match bad {
            'A'..='Z' => NameError::Capital(bad),
            _ => NameError::Character(bad),
        });
    }
    let mut last: &[u8] = &[];
    for label in text.as_bytes().split(|octet| *octet == b'.') {
        let written = || String::from_utf8_lossy(label).into_owned();
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > MAX_LABEL {
            return Err(NameError::LongLabel(written()));
        }
        if label.starts_with(b"-") || label.ends_with(b"-") {
            return Err(NameError::Hyphen(written()));
        }
        last = label;
    }
    if last.iter().all(u8::is_ascii_digit) {
        return Err(NameError::Numeric);
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Accepts `text` only when it is already in the one canonical spelling.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with the text.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            /// Whether `text` is one, for where none has to be made of it.
            #[must_use]
            pub fn is_valid(text: &str) -> bool {
                $check(text).is_ok()
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        serde_as_text!($name);
    };
}

name_type!(
    /// A service name that gets a certificate, such as `postgresql.psf.io`: lower case, no
    /// trailing dot, no wildcard, at most 253 characters.
    DnsName,
    check_dns_syntax
);
name_type!(
    /// A machine, such as `pg0.iad1.psf.io`; the same syntax as a [`DnsName`], another meaning.
    HostName,
    check_dns_syntax
);
name_type!(
    /// The name of a role in the declaration.
    RoleName,
    check_role_syntax
);

impl From<HostName> for DnsName {
    /// The same text with the other meaning: both have one syntax.
    fn from(host: HostName) -> Self {
        Self(host.0)
    }
}

fn check_role_syntax(text: &str) -> Result<(), NameError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if text.is_empty() || text.len() > MAX_ROLE || !text.bytes().all(allowed) {
        return Err(NameError::Role);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_names_are_accepted() {
        for name in ["postgresql.psf.io", "pg0.iad1.psf.io", "one-label-host-01", "a", "0.example"] {
            assert_eq!(DnsName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn every_trick_with_a_name_is_refused() {
        let long = format!("{}.io", "a.".repeat(126));
        let label = format!("{}.io", "a".repeat(64));
        for (name, why) in [
            ("", NameError::Empty),
            ("PG0.psf.io", NameError::Capital('P')),
            ("pg0.psf.io.", NameError::EmptyLabel),
            (".psf.io", NameError::EmptyLabel),
            ("a..io", NameError::EmptyLabel),
            ("*.psf.io", NameError::Character('*')),
            ("a\0.psf.io", NameError::Character('\0')),
            ("../etc/passwd", NameError::Character('/')),
            ("p\u{0455}f.io", NameError::Character('\u{0455}')),
            ("-a.io", NameError::Hyphen("-a".into())),
            ("10.0.0.1", NameError::Numeric),
            (long.as_str(), NameError::TooLong(255)),
            (label.as_str(), NameError::LongLabel("a".repeat(64))),
        ] {
            assert_eq!(HostName::parse(name), Err(why), "{name}");
        }
    }
}
