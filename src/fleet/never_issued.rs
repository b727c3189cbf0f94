//! Names that hosts may have by the declaration in force and never got: no entry of the ledger tells of them.
//!
//! They are found in the same walk, by host and name, as what was issued, a stretch at a time, so that none of it is
//! held in memory whole.

use std::collections::BTreeMap;

use super::{GRACE, Holding};
use crate::clock::Timestamp;
use crate::declaration::Declaration;
use crate::host::HostState;
use crate::name::{DnsName, HostName};
use crate::policy::{Verdict, entitlements, judge};
use crate::profile::KeyKind;
use crate::wire::{FleetEntry, Holder, Lag, LagReason};

/// Most declared names that are held against hosts in one stretch: some hundredths of a second.
const MOST_JUDGED: usize = 100_000;

/// A host as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub host: HostName,
    /// Its state.
    pub state: HostState,
    /// Since when.
    pub since: Timestamp,
    /// When it was last enrolled.
    pub enrolled: Timestamp,
}

/// A name on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A certificate was issued.
    Held(Holding),
    /// None ever was, and the host could have asked for one since this moment.
    NeverIssued(Timestamp),
}

/// What one stretch of the walk goes by.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// The declaration in force.
    pub declaration: &'a Declaration,
    /// Since when it is.
    pub since: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// What lies behind: everything up to this.
    pub after: Option<&'a Holder>,
    /// Only this name.
    pub name: Option<&'a DnsName>,
    /// Most names on hosts that come out of it.
    pub most: usize,
}

impl Stretch<'_> {
    /// How many hosts, from that of [`Self::after`] on, are asked for what they may have: two at least, so that
    /// each stretch ends behind the one before it.
    #[must_use]
    pub fn hosts(&self) -> usize {
        let names = if self.name.is_some() { 1 } else { self.declaration.services().len() };
        (MOST_JUDGED / names.max(1)).clamp(2, self.most.max(2))
    }

    /// Puts what was issued, up to `end` or to the last, together with what `members` never got; and says where to go
    /// on. `more` tells that other hosts follow the last of the members.
    #[must_use]
    pub fn merge(
        &self,
        holdings: Vec<Holding>,
        end: Option<Holder>,
        members: &[Member],
        more: bool,
    ) -> (Vec<(Holder, Found)>, Option<Holder>) {
        let last = members.last().filter(|_| more).map(|member| &member.host);
        let held = holdings.into_iter().map(|holding| (holding.holder.clone(), Found::Held(holding)));
        let mut found: BTreeMap<_, _> =
            held.filter(|(holder, _)| last.is_none_or(|last| holder.host <= *last)).collect();
        for member in members {
            let Some(since) = self.expected_since(member) else { continue };
            for name in self.may_have(&member.host) {
                let holder = Holder { host: member.host.clone(), name };
                if self.after.is_none_or(|after| holder > *after) && end.as_ref().is_none_or(|end| holder <= *end) {
                    found.entry(holder).or_insert(Found::NeverIssued(since));
                }
            }
        }
        let next = match last {
            Some(last) if end.as_ref().is_none_or(|end| end.host > *last) => Some(Self::behind(last, &found)),
            _ => end,
        };
        if found.len() <= self.most {
            return (found.into_iter().collect(), next);
        }
        let found: Vec<_> = found.into_iter().take(self.most).collect();
        let next = found.last().map(|(holder, _)| holder.clone());
        (found, next)
    }

    /// Since when the host should have what it may have; none while nobody expects it.
    fn expected_since(&self, member: &Member) -> Option<Timestamp> {
        let since = member.since.max(member.enrolled).max(self.since);
        (member.state == HostState::Enabled && since.plus(GRACE) < self.now).then_some(since)
    }

    /// But for keys that a person makes, who puts the certificate where psfca does not look.
    fn may_have(&self, host: &HostName) -> Vec<DnsName> {
        let grants = match self.name {
            None => entitlements(self.declaration, host),
            Some(name) => match judge(self.declaration, host, name) {
                Verdict::Granted(grant) => vec![grant],
                Verdict::Denied(_) => Vec::new(),
            },
        };
        let grants = grants.iter().filter(|grant| grant.key() != KeyKind::Rsa);
        grants.filter_map(|grant| DnsName::parse(grant.name()).ok()).collect()
    }

    /// A place behind all names of `host`: its last, or any where it has none.
    fn behind(host: &HostName, found: &BTreeMap<Holder, Found>) -> Holder {
        let last = found.keys().next_back().filter(|holder| holder.host == *host);
        last.cloned().unwrap_or_else(|| Holder { host: host.clone(), name: host.clone().into() })
    }
}

/// As operators see a name that a host never got.
#[must_use]
pub fn entry(holder: Holder, since: Timestamp) -> FleetEntry {
    let lag = Lag { why: LagReason::NeverIssued, since, critical: false };
    FleetEntry { holder, certificate: None, allowed: true, report: None, lag: Some(lag) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::declaration::Rules;
    use crate::diagnostic::SourceFile;
    use crate::serial::Serial;

    const BEGIN: Timestamp = Timestamp::from_unix(1_795_255_200);
    const TEXT: &str = "\
tls:
  gen_certs:
    a.psf.io: {roles: [all]}
    byhand.psf.io: {roles: [all], key: rsa}
    c.psf.io: {roles: [all]}
    z.psf.io: {roles: [few]}
roles:
  all: \"*\"
  few: h1*.psf.io
";

    fn declaration() -> Declaration {
        Declaration::parse(&[SourceFile::new("tls.yaml", TEXT.to_owned())], &Rules::default()).unwrap().0
    }

    fn holder(host: &str, name: &str) -> Holder {
        Holder { host: host.parse().unwrap(), name: name.parse().unwrap() }
    }

    fn member(host: &str, state: HostState, since: Timestamp) -> Member {
        Member { host: host.parse().unwrap(), state, since, enrolled: BEGIN }
    }

    fn holding(holder: Holder) -> Holding {
        let not_after = BEGIN.plus(Duration::from_secs(86_400));
        Holding { holder, serial: Serial::parse("0a1b").unwrap(), recorded: BEGIN, not_after, told: None }
    }

    /// The whole walk as the store would serve it, at most `most` holders and names in a stretch: what was found, and
    /// in how many stretches.
    fn walk(held: &[Holder], members: &[Member], name: Option<&DnsName>, most: usize) -> (Vec<(Holder, bool)>, usize) {
        let (declaration, now) = (declaration(), BEGIN.plus(GRACE + Duration::from_secs(1)));
        let (mut all, mut after, mut count) = (Vec::new(), None::<Holder>, 0);
        loop {
            let stretch = Stretch { declaration: &declaration, since: BEGIN, now, after: after.as_ref(), name, most };
            let ahead = held.iter().filter(|holder| after.as_ref().is_none_or(|after| *holder > after));
            let page: Vec<_> = ahead.clone().take(most).cloned().collect();
            let end = if ahead.count() >= most { page.last().cloned() } else { None };
            let page = page.into_iter().filter(|holder| name.is_none_or(|name| holder.name == *name));
            let first = members.partition_point(|member| after.as_ref().is_some_and(|after| member.host < after.host));
            let some = &members[first..members.len().min(first + stretch.hosts())];
            let more = some.len() == stretch.hosts();
            let (found, next) = stretch.merge(page.map(holding).collect(), end, some, more);
            assert!(found.len() <= most, "{found:?}");
            all.extend(found.into_iter().map(|(holder, found)| (holder, matches!(found, Found::Held(_)))));
            assert!(next.is_none() || next > after, "{next:?} is not behind {after:?}");
            after = next;
            count += 1;
            if after.is_none() {
                return (all, count);
            }
        }
    }

    #[test]
    fn what_a_host_may_have_and_never_got_is_found_once_however_the_walk_is_cut() {
        let hosts: Vec<_> = (0..30).map(|number| format!("h{number:02}.psf.io")).collect();
        let members: Vec<_> = hosts.iter().map(|host| member(host, HostState::Enabled, BEGIN)).collect();
        // Some have something, of which one is a name that is declared no longer, and one its identity.
        let mut held = vec![holder("h29.psf.io", "h29.psf.io")];
        for (number, host) in hosts.iter().enumerate() {
            let names = [("a.psf.io", 2), ("b.psf.io", 3), ("c.psf.io", 5)];
            held.extend(names.iter().filter(|(_, n)| number % n == 0).map(|(name, _)| holder(host, name)));
        }
        held.sort();
        let mut expected: HashSet<_> = held.iter().cloned().map(|holder| (holder, true)).collect();
        for host in &hosts {
            let names = if host.starts_with("h1") {
                &["a.psf.io", "c.psf.io", "z.psf.io"][..]
            } else {
                &["a.psf.io", "c.psf.io"]
            };
            let missing = names.iter().map(|name| holder(host, name)).filter(|holder| !held.contains(holder));
            expected.extend(missing.map(|holder| (holder, false)));
        }
        for most in [1, 2, 3, 7, 1_000] {
            let (found, _) = walk(&held, &members, None, most);
            assert!(found.is_sorted_by(|a, b| a.0 < b.0), "{most}: {found:?}");
            assert_eq!(found.into_iter().collect::<HashSet<_>>(), expected, "{most}");
            let name = DnsName::parse("c.psf.io").unwrap();
            let (found, _) = walk(&held, &members, Some(&name), most);
            let of_it = expected.iter().filter(|(holder, _)| holder.name == name).cloned();
            assert_eq!(found.into_iter().collect::<HashSet<_>>(), of_it.collect(), "{most}");
        }
    }

    #[test]
    fn nothing_is_missed_of_a_host_that_gets_nothing_or_may_have_it_for_less_than_an_hour() {
        let later = BEGIN.plus(Duration::from_secs(60));
        let members = [
            member("h2.psf.io", HostState::Disabled, BEGIN),
            member("h3.psf.io", HostState::Removed, BEGIN),
            member("h4.psf.io", HostState::Frozen, BEGIN),
            member("h5.psf.io", HostState::Enabled, later),
            Member { enrolled: later, ..member("h6.psf.io", HostState::Enabled, BEGIN) },
        ];
        assert_eq!(walk(&[], &members, None, 2).0, []);
        // Nor an hour after a declaration came in force.
        let declaration = declaration();
        let (now, since) = (BEGIN.plus(GRACE * 2), BEGIN.plus(GRACE));
        let stretch = Stretch { declaration: &declaration, since, now, after: None, name: None, most: 10 };
        assert_eq!(stretch.merge(Vec::new(), None, &[member("h1.psf.io", HostState::Enabled, BEGIN)], false).0, []);
    }

    #[test]
    fn a_stretch_judges_no_more_for_a_large_declaration_and_a_large_fleet() {
        let names: String = (0..2_000).map(|n| format!("    n{n}.psf.io: {{roles: [all]}}\n")).collect();
        let text = format!("tls:\n  gen_certs:\n{names}roles:\n  all: \"nobody.psf.io\"\n");
        let declaration = Declaration::parse(&[SourceFile::new("t.yaml", text)], &Rules::default()).unwrap().0;
        let now = BEGIN.plus(GRACE * 2);
        let stretch = Stretch { declaration: &declaration, since: BEGIN, now, after: None, name: None, most: 500 };
        assert_eq!(stretch.hosts(), 50);
        let name = DnsName::parse("n1.psf.io").unwrap();
        assert_eq!(Stretch { name: Some(&name), ..stretch }.hosts(), 500);
    }
}
