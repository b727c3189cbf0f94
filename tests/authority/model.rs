//! Declarations as data: how they are written, and whom they allow what, by `docs/declaration.md` alone. Nothing here
//! calls what it is to be compared with.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;

/// Hosts, near to each other.
pub(super) const HOSTS: [&str; 10] = [
    "pg0.iad1.psf.io",
    "pg1.iad1.psf.io",
    "pg10.iad1.psf.io",
    "pg0.nyc1.psf.io",
    "lb0.iad1.psf.io",
    "lb1.iad1.psf.io",
    "web-0.psf.io",
    "pg0xiad1.psf.io",
    "pg0.iad1.psf.io.evil.example",
    "a",
];
/// Names that may be declared, one of them too long for a common name.
pub(super) const NAMES: [&str; 6] = [
    "db.psf.io",
    "lb.psf.io",
    "web.psf.io",
    "x",
    "0.psf.io",
    "a-name-of-more-than-sixty-four-characters.for-which-there-is.no-common-name.psf.io",
];
/// Names that are aliases at most.
pub(super) const ALIASES: [&str; 3] = ["alias.psf.io", "other-alias.psf.io", "db.psf.io"];
/// The CA's own.
pub(super) const SERVER_NAME: &str = "ca.psf.io";
const ROLES: [&str; 4] = ["db", "web", "x.Y_z-1", "nobody-defines-this"];
/// What is written as `days`, and seconds.
const DAYS: [(&str, u64); 6] =
    [("1", 86_400), ("2", 172_800), ("0.5", 43_200), ("0.0834", 7_206), ("90", 7_776_000), ("1.25", 108_000)];
/// Each makes a declaration unusable, when it stands among the keys of a name.
const MISTAKES: [&str; 7] = [
    "days: 0.01",
    "days: 90.5",
    "usages: everything",
    "ip: 10.0.0.256",
    "aliases: '*.psf.io'",
    "aliases: ca.psf.io",
    "rolls: [db]",
];

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) names: Vec<Name>,
    roles: Vec<(&'static str, Pattern)>,
    two_files: bool,
    mistake: Option<&'static str>,
}

#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) name: &'static str,
    roles: Vec<&'static str>,
    days: Option<(&'static str, u64)>,
    aliases: Vec<&'static str>,
    ip: Vec<&'static str>,
    usages: Option<(bool, bool)>,
    key: Option<&'static str>,
    ca_made_key: bool,
    /// Whether values are written in the other of two ways.
    other_style: bool,
}

impl Name {
    pub(super) fn seconds(&self) -> u64 {
        self.days.map_or(86_400, |(_, seconds)| seconds)
    }

    pub(super) fn dns(&self) -> BTreeSet<String> {
        self.aliases.iter().chain([&self.name]).map(|&name| name.to_owned()).collect()
    }

    pub(super) fn ip(&self) -> BTreeSet<IpAddr> {
        self.ip.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    /// For servers, for clients.
    pub(super) fn usages(&self) -> (bool, bool) {
        self.usages.unwrap_or((true, false))
    }

    pub(super) fn key(&self) -> &'static str {
        self.key.unwrap_or("ecdsa-p256")
    }

    pub(super) fn ca_made_key(&self) -> bool {
        self.ca_made_key
    }

    fn write(&self) -> String {
        // There is one spelling of a name, and others are read as that.
        let name = if self.other_style { self.name.to_uppercase() + "." } else { self.name.to_owned() };
        let list = |values: &[&str]| match values {
            [only] if self.other_style => format!("'{only}'"),
            values if self.other_style => values.iter().map(|value| format!("\n        - \"{value}\"")).collect(),
            values => format!("[{}]", values.iter().map(|value| format!("'{value}'")).collect::<Vec<_>>().join(", ")),
        };
        let usages = self.usages.map(|usages| match usages {
            (true, true) => vec!["client", "server"],
            (true, false) => vec!["server"],
            (false, _) => vec!["client"],
        });
        let lines = [
            (!self.roles.is_empty()).then(|| format!("roles: {}", list(&self.roles))),
            self.days.map(|(days, _)| format!("days: {days}")),
            (!self.aliases.is_empty()).then(|| format!("aliases: {}", list(&self.aliases))),
            (!self.ip.is_empty()).then(|| format!("ip: {}", list(&self.ip))),
            usages.map(|usages| format!("usages: {}", list(&usages))),
            self.key.map(|key| format!("key: {key}")),
            self.ca_made_key.then(|| "ca_made_key: true".to_owned()),
        ];
        let lines: String = lines.into_iter().flatten().map(|line| format!("      {line}\n")).collect();
        if lines.is_empty() { format!("    {name}: {{}}\n") } else { format!("    {name}:\n{lines}") }
    }
}

impl Model {
    /// The texts of its files.
    pub(super) fn files(&self) -> Vec<String> {
        let mut names: String = self.names.iter().map(Name::write).collect();
        if let Some(mistake) = self.mistake {
            names += &format!("    mistaken.psf.io:\n      {mistake}\n");
        }
        let names = format!("tls:\n  gen_certs:\n{names}");
        let role = |(name, pattern): &(&str, Pattern)| {
            let text = pattern.write().replace('\\', "\\\\");
            if text.len() % 2 == 0 {
                format!("  {name}: \"{text}\"\n")
            } else {
                format!("  {name}:\n    purpose: a test\n    pattern: \"{text}\"\n")
            }
        };
        let roles = format!("roles:\n{}", self.roles.iter().map(role).collect::<String>());
        if self.two_files { vec![roles, names] } else { vec![names + &roles] }
    }

    /// Whether the declaration may come in force.
    pub(super) fn is_good(&self) -> bool {
        self.mistake.is_none()
    }

    pub(super) fn declared(&self, name: &str) -> Option<&Name> {
        self.names.iter().find(|declared| declared.name == name)
    }

    /// The role by which `host` may have `name`: the first one listed that the host has.
    pub(super) fn role(&self, name: &Name, host: &str) -> Option<&'static str> {
        let has = |role: &&&str| self.roles.iter().any(|(defined, pattern)| defined == *role && pattern.matches(host));
        name.roles.iter().find(has).copied()
    }
}

/// A pattern, as a tree and not as words.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Glob(Vec<Glob>),
    Regex(Vec<(Atom, &'static str)>),
    List(Vec<&'static str>),
    Not(Box<Pattern>),
    And(Vec<Pattern>),
    Or(Vec<Pattern>),
}

/// A part of a glob.
#[derive(Debug, Clone, Copy)]
pub(super) enum Glob {
    Char(char),
    One,
    Any,
    Among(char),
    NotAmong(char),
    Digit,
}

/// A part of a regular expression; beside it stands how often.
#[derive(Debug, Clone, Copy)]
pub(super) enum Atom {
    Char(char),
    Dot,
    Digit,
    Either(&'static str, &'static str),
}

impl Pattern {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Glob(parts) => glob(parts, host),
            Self::Regex(parts) => regex(parts, host),
            Self::List(hosts) => hosts.contains(&host),
            Self::Not(inner) => !inner.matches(host),
            Self::And(parts) => parts.iter().all(|part| part.matches(host)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(host)),
        }
    }

    /// With parentheses only where `not`, `and`, `or`, in this order, would bind otherwise.
    fn write(&self) -> String {
        let within = |inner: &Self, bare: bool| match bare {
            true => inner.write(),
            false => format!("( {} )", inner.write()),
        };
        match self {
            Self::Glob(parts) => parts.iter().map(Glob::write).collect(),
            Self::Regex(parts) => "E@".chars().chain(parts.iter().flat_map(written).collect::<Vec<_>>()).collect(),
            Self::List(hosts) => format!("L@{}", hosts.join(",")),
            Self::Not(inner) => format!("not {}", within(inner, inner.is_word())),
            Self::And(parts) => {
                let parts = parts.iter().map(|part| within(part, !matches!(part, Self::Or(_))));
                // A `not` behind another pattern means `and not`.
                parts.collect::<Vec<_>>().join(" and ").replacen(" and not ", " not ", 1)
            }
            Self::Or(parts) => parts.iter().map(Self::write).collect::<Vec<_>>().join(" or "),
        }
    }

    fn is_word(&self) -> bool {
        matches!(self, Self::Glob(_) | Self::Regex(_) | Self::List(_))
    }
}

impl Glob {
    fn write(&self) -> String {
        match self {
            Self::Char(c) => c.to_string(),
            Self::One => "?".to_owned(),
            Self::Any => "*".to_owned(),
            Self::Among(c) => format!("[{c}xy]"),
            Self::NotAmong(c) => format!("[!{c}q]"),
            Self::Digit => "[0-9]".to_owned(),
        }
    }
}

fn written((atom, often): &(Atom, &str)) -> Vec<char> {
    let atom = match atom {
        Atom::Char('.') => "\\.".to_owned(),
        Atom::Char(c) => c.to_string(),
        Atom::Dot => ".".to_owned(),
        Atom::Digit => "[0-9]".to_owned(),
        Atom::Either(a, b) => format!("(?:{a}|{b})"),
    };
    (atom + often).chars().collect()
}

fn glob(parts: &[Glob], text: &str) -> bool {
    let Some((part, rest)) = parts.split_first() else { return text.is_empty() };
    if matches!(part, Glob::Any) {
        return (0..=text.len()).any(|skip| glob(rest, &text[skip..]));
    }
    let Some(c) = text.chars().next() else { return false };
    let fits = match part {
        Glob::Char(wanted) => c == *wanted,
        Glob::Among(other) => c == *other || c == 'x' || c == 'y',
        Glob::NotAmong(other) => c != *other && c != 'q',
        Glob::Digit => c.is_ascii_digit(),
        Glob::One | Glob::Any => true,
    };
    fits && glob(rest, &text[1..])
}

fn regex(parts: &[(Atom, &str)], text: &str) -> bool {
    let Some(((atom, often), rest)) = parts.split_first() else { return text.is_empty() };
    let once = |text: &str| -> Vec<usize> {
        let first = text.chars().next();
        let one = |fits: bool| if fits { vec![1] } else { vec![] };
        match atom {
            Atom::Char(c) => one(first == Some(*c)),
            Atom::Dot => one(first.is_some()),
            Atom::Digit => one(first.is_some_and(|c| c.is_ascii_digit())),
            Atom::Either(a, b) => [a, b].into_iter().filter(|s| text.starts_with(**s)).map(|s| s.len()).collect(),
        }
    };
    // Every place that the atom can lead to, so many times over.
    let (least, most) = match *often {
        "?" => (0, 1),
        "*" => (0, text.len()),
        "+" => (1, text.len()),
        _ => (1, 1),
    };
    let mut places = BTreeSet::from([0]);
    let mut reached = if least == 0 { places.clone() } else { BTreeSet::new() };
    for _ in 0..most {
        places = places.iter().flat_map(|&at| once(&text[at..]).into_iter().map(move |more| at + more)).collect();
        reached.extend(&places);
    }
    reached.into_iter().any(|at| regex(rest, &text[at..]))
}

/// A pattern that fits some host, or nearly so.
fn word() -> impl Strategy<Value = Pattern> {
    let turns = proptest::collection::vec(0..24u8, 12);
    let glob = (select(&HOSTS[..]), turns.clone()).prop_map(|(host, turns)| {
        let part = |(c, turn): (char, &u8)| match turn {
            0 => Glob::One,
            1 | 2 => Glob::Any,
            3 => Glob::Among(c),
            4 => Glob::NotAmong('z'),
            5 => Glob::NotAmong(c),
            6 if c.is_ascii_digit() => Glob::Digit,
            _ => Glob::Char(c),
        };
        Pattern::Glob(host.chars().zip(turns.iter().cycle()).map(part).collect())
    });
    let regex = (select(&HOSTS[..]), turns).prop_map(|(host, turns)| {
        let part = |(c, turn): (char, &u8)| match turn {
            0 => (Atom::Dot, ""),
            1 => (Atom::Dot, "*"),
            2 => (Atom::Char(c), "?"),
            3 => (Atom::Char(c), "+"),
            4 => (Atom::Either("pg", "lb"), "?"),
            5 if c.is_ascii_digit() => (Atom::Digit, "+"),
            _ => (Atom::Char(c), ""),
        };
        Pattern::Regex(host.chars().zip(turns.iter().cycle()).map(part).collect())
    });
    let list = proptest::collection::vec(select(&HOSTS[..]), 1..4).prop_map(Pattern::List);
    prop_oneof![3 => glob, 2 => regex, 1 => list]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    word().prop_recursive(3, 12, 3, |inner| {
        // Salt reads no `not not`, and neither does anything here.
        let not = inner.clone().prop_map(|inner| match inner {
            Pattern::Not(_) => inner,
            other => Pattern::Not(Box::new(other)),
        });
        let several = || proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![not, several().prop_map(Pattern::And), several().prop_map(Pattern::Or)]
    })
}

fn name(name: &'static str) -> impl Strategy<Value = Name> {
    let key = proptest::option::weighted(0.4, select(&["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa"][..]));
    let ip = proptest::sample::subsequence(&["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"][..], 0..3);
    let usages = proptest::option::of(select(&[(true, false), (false, true), (true, true)][..]));
    let aliases = proptest::sample::subsequence(&ALIASES[..], 0..3);
    let roles = proptest::sample::subsequence(&ROLES[..], 0..4).prop_shuffle();
    let days = proptest::option::of(select(&DAYS[..]));
    (roles, days, aliases, ip, usages, key, any::<bool>(), any::<bool>()).prop_map(
        move |(roles, days, aliases, ip, usages, key, ca_made_key, other_style)| {
            let ca_made_key = ca_made_key && key != Some("rsa");
            Name { name, roles, days, aliases, ip, usages, key, ca_made_key, other_style }
        },
    )
}

pub(super) fn model() -> impl Strategy<Value = Model> {
    let names = proptest::sample::subsequence(&NAMES[..], 3..=NAMES.len());
    let names = names.prop_flat_map(|names| names.into_iter().map(name).collect::<Vec<_>>());
    let roles = (pattern(), pattern(), pattern());
    let roles = roles.prop_map(|(a, b, c)| ROLES.into_iter().zip([a, b, c]).collect::<Vec<_>>());
    let mistake = prop_oneof![9 => Just(None), 1 => select(&MISTAKES[..]).prop_map(Some)];
    (names, roles, any::<bool>(), mistake).prop_map(|(names, roles, two_files, mistake)| Model {
        names,
        roles,
        two_files,
        mistake,
    })
}
