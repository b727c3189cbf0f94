//! What `certificates` selects, and in which order.

use super::*;

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
        let draft = Draft::new(recorded, record, tbs(number).into(), Condition::Always).unwrap();
        let _ = store.record(draft).await.unwrap();
    }
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
        ("expiring, exclusive", AuditQuery { expiring_before: Some(at(1_000)), ..all() }, vec![]),
        ("a serial", AuditQuery { serial: Some(record(3).serial), ..all() }, vec![3]),
        ("an unknown serial", AuditQuery { serial: Some(record(99).serial), ..all() }, vec![]),
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
                before: Some(6),
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
        let (certificates, next) = store.certificates(query.clone(), NOW).await.unwrap();
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
        let (page, next) = store.certificates(query, NOW).await.unwrap();
        (page.len(), next)
    };
    assert_eq!(page(None).await, (100, Some(1)));
    assert_eq!(page(Some(0)).await, (1, Some(100)));
    assert_eq!(page(Some(u32::MAX)).await, (101, None));
}
