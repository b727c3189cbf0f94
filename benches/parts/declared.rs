//! Judging by a declaration of any size, and reading it.

use std::fmt::Write as _;

use psfca::declaration::{Declaration, Rules};
use psfca::diagnostic::SourceFile;
use psfca::name::{DnsName, HostName};
use psfca::pattern::Pattern;
use psfca::policy::{Verdict, entitlements, judge};

use crate::table::Table;

/// Roles that a name lists; the host that is granted it has the last.
const LISTED: usize = 3;
/// The most that a name may list.
const MOST_LISTED: usize = 100;
/// Pairs of host and name that are judged in turn, so that every name has its turn.
const PAIRS: usize = 10_000;

/// How much is declared.
#[derive(Clone, Copy)]
struct Size {
    names: usize,
    roles: usize,
    hosts: usize,
}

const SMALL: Size = Size { names: 10, roles: 10, hosts: 1_000 };
const LARGE: Size = Size { names: 10_000, roles: 1_000, hosts: 100_000 };

pub(crate) fn measure(table: &mut Table) {
    if table.wants("judge") {
        for (size, of) in [(SMALL, "10 names"), (LARGE, "10,000 names")] {
            judging(table, size, of);
        }
        most_roles(table);
    }
    if table.wants("pattern") {
        patterns(table);
    }
    if table.wants("read") {
        for (size, of) in [(SMALL, "10 names"), (LARGE, "10,000 names")] {
            let files = size.files();
            table.part(&format!("read/{of}"), || Declaration::parse(&files, &Rules::default()).unwrap());
        }
    }
}

impl Size {
    /// A tenth of the roles are regular expressions, and a tenth are compound.
    fn files(self) -> [SourceFile; 2] {
        let mut tls = "tls:\n  gen_certs:\n".to_owned();
        for name in 0..self.names {
            let roles: Vec<String> = self.listed(name).map(|role| format!("role{role}")).collect();
            writeln!(tls, "    name{name}.psf.io:\n      days: 30\n      roles: [{}]", roles.join(", ")).unwrap();
        }
        let mut roles = "roles:\n".to_owned();
        for role in 0..self.roles {
            let pattern = match role % 10 {
                8 => format!("E@host[0-9]+\\.site{role}\\.psf\\.io"),
                9 => format!("host*.site{role}.psf.io and not ( L@host.site{role}.psf.io or gone*.psf.io )"),
                _ => format!("host*.site{role}.psf.io"),
            };
            writeln!(roles, "  role{role}: '{pattern}'").unwrap();
        }
        [SourceFile::new("tls.yaml", tls), SourceFile::new("roles.yaml", roles)]
    }

    fn declaration(self) -> Declaration {
        Declaration::parse(&self.files(), &Rules::default()).unwrap().0
    }

    fn listed(self, name: usize) -> impl Iterator<Item = usize> {
        (0..LISTED).map(move |n| (name + n * self.roles / LISTED) % self.roles)
    }

    /// Hosts spread evenly over the roles.
    fn host(self, role: usize, number: usize) -> HostName {
        let number = number % (self.hosts / self.roles);
        HostName::parse(&format!("host{number}.site{role}.psf.io")).unwrap()
    }

    /// Names with hosts that may have them, or with hosts that may not.
    fn pairs(self, granted: bool) -> Vec<(HostName, DnsName)> {
        let pair = |n: usize| {
            // Every name and many hosts, in no order that a processor could foresee.
            let (name, number) = (n * 7_919 % self.names, (n * 40_503) >> 3);
            let last = self.listed(name).last().unwrap();
            let role = if granted { last } else { (last + 1) % self.roles };
            (self.host(role, number), DnsName::parse(&format!("name{name}.psf.io")).unwrap())
        };
        (0..PAIRS).map(pair).collect()
    }
}

fn judging(table: &mut Table, size: Size, of: &str) {
    let declaration = size.declaration();
    for (granted, verdict) in [(true, "granted"), (false, "denied")] {
        let pairs = size.pairs(granted);
        let mut turn = pairs.iter().cycle();
        table.part(&format!("judge/{of}, {verdict}"), || {
            let (host, name) = turn.next().unwrap();
            let verdict = judge(&declaration, host, name);
            assert_eq!(matches!(verdict, Verdict::Granted(_)), granted, "{host} {name}");
            verdict
        });
    }
    let mut hosts = (0..).map(|n| size.host(n % size.roles, n / size.roles));
    table.part(&format!("judge/{of}, all that a host may have"), || {
        let of_host = entitlements(&declaration, &hosts.next().unwrap());
        assert_eq!(of_host.len(), LISTED * size.names / size.roles);
        of_host
    });
}

/// The most that a name can ask: it lists as many roles as it may, and the host has none of them.
fn most_roles(table: &mut Table) {
    let [tls, roles] = LARGE.files();
    let all: Vec<String> = (0..MOST_LISTED).map(|role| format!("role{role}")).collect();
    let tls = format!("{}    all.psf.io:\n      roles: [{}]\n", tls.text(), all.join(", "));
    let files = [SourceFile::new("tls.yaml", tls), roles];
    let declaration = Declaration::parse(&files, &Rules::default()).unwrap().0;
    let (host, name) = (HostName::parse("host0.nowhere.psf.io").unwrap(), DnsName::parse("all.psf.io").unwrap());
    table.part("judge/name of 100 roles, denied", || judge(&declaration, &host, &name));
}

fn patterns(table: &mut Table) {
    let hosts = ["host17.site7.psf.io", "host17.site8.psf.io"].map(|host| HostName::parse(host).unwrap());
    for (kind, text) in [
        ("glob", "host*.site7.psf.io"),
        ("regular expression", "E@host[0-9]+\\.site7\\.psf\\.io"),
        ("list", "L@host16.site7.psf.io,host17.site7.psf.io"),
        ("compound", "host*.site7.psf.io and not ( host0.* or L@host1.site7.psf.io,host2.site7.psf.io )"),
    ] {
        let pattern = Pattern::parse(text).unwrap();
        assert_eq!(hosts.each_ref().map(|host| pattern.matches(host)), [true, false]);
        for (host, what) in hosts.iter().zip(["matches", "does not"]) {
            table.part(&format!("pattern/{kind}, {what}"), || pattern.matches(std::hint::black_box(host)));
        }
    }
}
