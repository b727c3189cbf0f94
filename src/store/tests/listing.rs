//! What `entries` selects, and in which order.

use std::sync::Arc;

use crate::grant::Place;
use crate::name::RoleName;
use crate::wire::{CertificateState, EventKind};

use super::*;

fn by_role(role: &str) -> Rule {
    let place = |line| Place { file: "tls.yaml".into(), line };
    Rule::Declaration {
        declaration: DECLARATION,
        listed: place(1),
        role: RoleName::parse(role).unwrap(),
        defined: place(2),
        pattern: "*".into(),
    }
}

/// Six certificates; number N differs from the others in the way that its comment says.
async fn six(ledger: &Ledger) -> Store {
    let store = ledger.open();
    for number in 0..6 {
        let mut record = record(number);
        let mut recorded = at(number.into());
        match number {
            1 => record.name = "lb.psf.io".to_owned(),
            2 => record.host = Some(HostName::parse("pg1.iad1.psf.io").unwrap()),
            3 => record.host = None,        // the daemon's own
            4 => record.not_after = at(-1), // over
            5 => recorded = at(1_000),      // much later
            _ => {}
        }
        if number == 0 {
            record.not_after = at(1_000); // soon
        }
        record.rule = by_role("postgresql");
        if number == 5 {
            record.rule = by_role("loadbalancer");
        }
        let draft = Draft::new(recorded, record, tbs(number).into(), Condition::Always).unwrap();
        let recorded = store.record(draft).await.unwrap();
        if number != 2 {
            store.release(&recorded, b"signature".to_vec()); // number 2 was lost on the way
        }
    }
    store.probe().await.unwrap();
    store
}

#[tokio::test]
async fn every_filter_selects_what_it_says_and_all_that_are_given_hold() {
    let ledger = Ledger::new();
    let store = six(&ledger).await;
    let all = AuditQuery::default;
    let cases = [
        ("everything", all(), vec![5, 4, 3, 2, 1, 0]),
        ("a name", AuditQuery { name: Some("lb.psf.io".to_owned()), ..all() }, vec![1]),
        ("no pattern", AuditQuery { name: Some("%.psf.io".to_owned()), ..all() }, vec![]),
        ("a host", AuditQuery { host: Some(HostName::parse("pg1.iad1.psf.io").unwrap()), ..all() }, vec![2]),
        ("since, inclusive", AuditQuery { since: Some(at(4)), ..all() }, vec![5, 4]),
        ("until, exclusive", AuditQuery { until: Some(at(2)), ..all() }, vec![1, 0]),
        ("expiring and not over", AuditQuery { expiring_before: Some(at(1_001)), ..all() }, vec![0]),
        (
            "expiring, what ends first first",
            AuditQuery { expiring_before: Some(at(90_000)), ..all() },
            vec![0, 1, 2, 3, 5],
        ),
        (
            "expiring, after a page",
            AuditQuery { expiring_before: Some(at(90_000)), before: Some(1), ..all() },
            vec![2, 3, 5],
        ),
        (
            "expiring, of a name",
            AuditQuery { expiring_before: Some(at(90_000)), name: Some("postgresql.psf.io".to_owned()), ..all() },
            vec![0, 2, 3, 5],
        ),
        (
            "expiring, of a name, after a page",
            AuditQuery {
                expiring_before: Some(at(90_000)),
                name: Some("postgresql.psf.io".to_owned()),
                before: Some(2),
                ..all()
            },
            vec![3, 5],
        ),
        (
            "expiring, of a role",
            AuditQuery {
                expiring_before: Some(at(90_000)),
                role: Some(RoleName::parse("loadbalancer").unwrap()),
                ..all()
            },
            vec![5],
        ),
        (
            "a name and a role",
            AuditQuery {
                name: Some("postgresql.psf.io".to_owned()),
                role: Some(RoleName::parse("loadbalancer").unwrap()),
                ..all()
            },
            vec![5],
        ),
        (
            "a name and a role that it never had",
            AuditQuery {
                name: Some("lb.psf.io".to_owned()),
                role: Some(RoleName::parse("loadbalancer").unwrap()),
                ..all()
            },
            vec![],
        ),
        ("expiring, exclusive", AuditQuery { expiring_before: Some(at(1_000)), ..all() }, vec![]),
        ("a serial", AuditQuery { serial: Some(record(3).serial), ..all() }, vec![3]),
        ("an unknown serial", AuditQuery { serial: Some(record(99).serial), ..all() }, vec![]),
        ("a role", AuditQuery { role: Some(RoleName::parse("loadbalancer").unwrap()), ..all() }, vec![5]),
        ("unreleased", AuditQuery { state: Some(CertificateState::Recorded), ..all() }, vec![2]),
        ("released", AuditQuery { state: Some(CertificateState::Issued), ..all() }, vec![5, 4, 3, 1, 0]),
        ("a kind", AuditQuery { event: Some(EventKind::Certificate), ..all() }, vec![5, 4, 3, 2, 1, 0]),
        ("another kind", AuditQuery { event: Some(EventKind::TokenMade), ..all() }, vec![]),
        ("before", AuditQuery { before: Some(2), ..all() }, vec![1, 0]),
        ("before the first", AuditQuery { before: Some(0), ..all() }, vec![]),
        ("before beyond any", AuditQuery { before: Some(u64::MAX), since: Some(at(5)), ..all() }, vec![5]),
        ("both", AuditQuery { host: Some(pg0()), since: Some(at(1)), until: Some(at(5)), ..all() }, vec![4, 1]),
        (
            "every one at once",
            AuditQuery {
                name: Some("postgresql.psf.io".to_owned()),
                host: Some(pg0()),
                since: Some(at(0)),
                until: Some(at(1)),
                expiring_before: Some(at(86_401)),
                serial: Some(record(0).serial),
                event: Some(EventKind::Certificate),
                role: Some(RoleName::parse("postgresql").unwrap()),
                state: Some(CertificateState::Issued),
                before: None,
                limit: Some(1),
            },
            vec![0],
        ),
    ];
    for (what, query, expected) in cases {
        assert_eq!(listed(&store, query).await, expected, "{what}");
    }
}

#[tokio::test]
async fn pages_go_from_new_to_old_and_do_not_shift_while_the_ledger_grows() {
    let ledger = Ledger::new();
    let store = six(&ledger).await;
    let (mut query, mut seen) = (AuditQuery { limit: Some(2), ..AuditQuery::default() }, Vec::new());
    for page in 1.. {
        let (certificates, next) = store.entries(query.clone(), NOW).await.unwrap();
        seen.extend(certificates.iter().map(|certificate| certificate.index));
        query.before = next;
        // What comes meanwhile belongs before the first page and moves nothing.
        let _ = store.record(draft(100 + page, Condition::Always)).await.unwrap();
        if next.is_none() {
            assert_eq!(page, 3, "the last page is full and says that it is the last");
            break;
        }
    }
    assert_eq!(seen, [5, 4, 3, 2, 1, 0]);
}

#[tokio::test]
async fn a_page_has_at_least_one_row_and_a_hundred_when_nothing_is_said() {
    let ledger = Ledger::new();
    let store = ledger.open();
    for number in 0..101 {
        let _ = store.record(draft(number, Condition::Always)).await.unwrap();
    }
    let page = async |limit| {
        let query = AuditQuery { limit, ..AuditQuery::default() };
        let (page, next) = store.entries(query, NOW).await.unwrap();
        (page.len(), next)
    };
    assert_eq!(page(None).await, (100, Some(1)));
    assert_eq!(page(Some(0)).await, (1, Some(100)));
    assert_eq!(page(Some(u32::MAX)).await, (101, None));
}

#[tokio::test]
async fn certificates_and_other_events_come_in_the_order_of_the_ledger() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    let _ = store.record(draft(7, Condition::Always)).await.unwrap();
    let all = AuditQuery::default;
    let (page, _) = store.entries(all(), NOW).await.unwrap();
    let kinds: Vec<_> = page.iter().map(|entry| (entry.index, entry.event.kind())).collect();
    let expected = [
        (4, EventKind::Certificate),
        (3, EventKind::Declaration),
        (2, EventKind::Certificate),
        (1, EventKind::HostEnrolled),
        (0, EventKind::TokenMade),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(page.iter().map(|entry| entry.event.clone()).rev().collect::<Vec<_>>(), {
        ledger.entries().into_iter().map(|entry| entry.event).collect::<Vec<_>>()
    });
    let cases = [
        ("the host", AuditQuery { host: Some(pg0()), ..all() }, vec![4, 2, 1, 0]),
        ("its token", AuditQuery { host: Some(pg0()), event: Some(EventKind::TokenMade), ..all() }, vec![0]),
        ("declarations", AuditQuery { event: Some(EventKind::Declaration), ..all() }, vec![3]),
        (
            "a certificate's filter",
            AuditQuery { event: Some(EventKind::Declaration), name: Some("a".into()), ..all() },
            vec![],
        ),
        ("a time", AuditQuery { since: Some(NOW), until: Some(at(1)), ..all() }, vec![4, 3, 2, 1, 0]),
        ("before", AuditQuery { before: Some(2), ..all() }, vec![1, 0]),
    ];
    for (what, query, expected) in cases {
        assert_eq!(listed(&store, query).await, expected, "{what}");
    }
    let (page, next) = store.entries(AuditQuery { limit: Some(2), ..all() }, NOW).await.unwrap();
    assert_eq!((page.len(), next), (2, Some(3)));
}

#[tokio::test]
async fn a_time_range_finds_everything_also_where_clocks_went_back() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let mut times = Vec::new();
    // Four tiles and a bit; one clock an hour ahead for a while, one back, others overtaking each other.
    for number in 0..1_100u32 {
        let ahead = if (300..420).contains(&number) { 3_600 } else { 0 };
        let back = if (700..710).contains(&number) { 650 } else { 0 };
        times.push(i64::from(number ^ 3) + ahead - back);
    }
    let drafts = times
        .iter()
        .zip(0..)
        .map(|(&time, number)| Draft::new(at(time), record(number), tbs(number).into(), Condition::Always).unwrap());
    for draft in drafts {
        let _ = store.record(draft).await.unwrap();
    }
    for (since, until) in
        [(0, 20), (40, 70), (255, 257), (500, 760), (1_050, 1_200), (3_900, 4_000), (9_000, 9_999), (90, 90)]
    {
        let expected = times
            .iter()
            .zip(0u64..)
            .filter(|(time, _)| (since..until).contains(*time))
            .map(|(_, index)| index)
            .collect::<Vec<_>>();
        let query =
            AuditQuery { since: Some(at(since)), until: Some(at(until)), limit: Some(1_000), ..AuditQuery::default() };
        assert_eq!(listed(&store, query).await, expected.into_iter().rev().collect::<Vec<_>>(), "{since} to {until}");
    }
}

#[tokio::test]
async fn in_the_order_of_ends_what_is_not_listed_is_no_place_to_go_on() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    let _ = store.record(draft(20, Condition::Always)).await.unwrap();
    let expiring =
        |before| AuditQuery { expiring_before: Some(at(90_000)), before: Some(before), ..AuditQuery::default() };
    let listed = store.entries(AuditQuery { before: None, ..expiring(0) }, NOW).await.unwrap().0;
    let last = listed.last().unwrap().index;
    assert!(store.entries(expiring(last), NOW).await.unwrap().0.is_empty());
    // It has ended since.
    store.entries(expiring(last), at(86_401)).await.unwrap();
    let of_another = AuditQuery { name: Some("other.psf.io".to_owned()), ..expiring(last) };
    for query in [expiring(0), expiring(99), expiring(u64::MAX), of_another] {
        let refused = store.entries(query, NOW).await.unwrap_err();
        assert!(matches!(refused, StoreError::NotListed(_)), "{refused}");
    }
}

/// Three segments of 4,096 entries; what is rare lies in one of them, and what ends first in none before all others.
#[tokio::test]
async fn every_filter_finds_what_it_says_in_every_segment_of_a_long_ledger() {
    const COUNT: u32 = 9_000;
    let ledger = Ledger::new();
    let store = Arc::new(ledger.open());
    let mut tasks = Vec::new();
    for number in 0..COUNT {
        let mut record = record(number);
        record.name = if number % 3_000 == 7 { "rare.psf.io".to_owned() } else { format!("n{}.psf.io", number % 5) };
        record.host = (number % 7 > 0).then(|| HostName::parse(&format!("h{}.psf.io", number % 9)).unwrap());
        record.not_after = at(i64::from(number * 7_919 % COUNT));
        record.rule = by_role(if number == 4_100 { "rare" } else { ["a", "b"][number as usize % 2] });
        let (time, store) = (at(number.into()), Arc::clone(&store));
        let draft = Draft::new(time, record.clone(), tbs(0).into(), Condition::Always).unwrap();
        tasks.push(tokio::spawn(async move { (store.record(draft).await.unwrap().index(), time, record) }));
    }
    let mut records = Vec::new();
    for task in tasks {
        records.push(task.await.unwrap());
    }
    records.sort_by_key(|(index, ..)| *index);
    let all = || AuditQuery { limit: Some(70), ..AuditQuery::default() };
    let name = |name: &str| Some(name.to_owned());
    let host = |host: &str| Some(HostName::parse(host).unwrap());
    let role = |role: &str| Some(RoleName::parse(role).unwrap());
    let queries = [
        AuditQuery { name: name("rare.psf.io"), ..all() },
        AuditQuery { name: name("n3.psf.io"), before: Some(4_150), ..all() },
        AuditQuery { name: name("n3.psf.io"), role: role("rare"), ..all() },
        AuditQuery { name: name("n3.psf.io"), until: Some(at(40)), ..all() },
        AuditQuery { host: host("h3.psf.io"), before: Some(4_098), ..all() },
        AuditQuery { host: host("h3.psf.io"), name: name("n3.psf.io"), before: Some(8_193), ..all() },
        AuditQuery { host: host("h3.psf.io"), expiring_before: Some(at(1_000)), ..all() },
        AuditQuery { role: role("rare"), ..all() },
        AuditQuery { role: role("a"), since: Some(at(4_090)), until: Some(at(4_200)), ..all() },
        AuditQuery { role: role("a"), expiring_before: Some(at(9_000)), ..all() },
        AuditQuery { name: name("rare.psf.io"), expiring_before: Some(at(9_000)), ..all() },
        AuditQuery { name: name("n2.psf.io"), expiring_before: Some(at(5_000)), before: Some(0), ..all() },
    ];
    for mut query in queries {
        let matches = |time: Timestamp, record: &CertificateRecord| {
            query.name.as_ref().is_none_or(|name| *name == record.name)
                && query.host.as_ref().is_none_or(|host| record.host.as_ref() == Some(host))
                && query.role.as_ref().is_none_or(|role| record.rule.role() == Some(role))
                && query.since.is_none_or(|since| time >= since)
                && query.until.is_none_or(|until| time < until)
                && query.expiring_before.is_none_or(|end| record.not_after < end && record.not_after >= NOW)
        };
        let found = records.iter().filter(|(_, time, record)| matches(*time, record));
        let mut expected: Vec<_> = found.map(|(index, _, record)| (record.not_after, *index)).collect();
        if query.expiring_before.is_some() {
            expected.sort_unstable();
            query.before = query.before.map(|_| expected.remove(0).1);
        } else {
            expected.retain(|(_, index)| query.before.is_none_or(|before| *index < before));
            expected.reverse();
        }
        expected.truncate(70);
        assert!(!expected.is_empty() || query.name.is_some() && query.role.is_some(), "{query:?}");
        let expected: Vec<_> = expected.into_iter().map(|(_, index)| index).collect();
        let (page, _) = store.entries(query.clone(), NOW).await.unwrap();
        assert_eq!(page.iter().map(|entry| entry.index).collect::<Vec<_>>(), expected, "{query:?}");
    }
}
