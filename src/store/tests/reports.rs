//! What hosts say, and the newest certificate of each holder.

use super::super::reports;
use super::*;
use crate::fleet::Holding;
use crate::grant::Place;
use crate::name::{DnsName, RoleName};
use crate::wire::{Deployment, Holder, HostReport, NameReport, ReportAnswer};

/// A service's certificate.
fn service(number: u32, host: &str, name: &str) -> Draft {
    let place = |line| Place { file: "tls.yaml".into(), line };
    let rule = Rule::Declaration {
        declaration: DECLARATION,
        listed: place(1),
        role: RoleName::parse("postgresql").unwrap(),
        defined: place(2),
        pattern: "*".into(),
    };
    let host = Some(HostName::parse(host).unwrap());
    let record = CertificateRecord { host, name: name.to_owned(), rule, ..record(number) };
    Draft::new(NOW, record, tbs(number).into(), Condition::Always).unwrap()
}

fn says(name: &str, number: u32) -> NameReport {
    let (name, serial) = (DnsName::parse(name).unwrap(), record(number).serial);
    NameReport { name, serial, not_after: at(86_400), deployment: Deployment::Installed }
}

async fn report(store: &Store, continued: bool, names: Vec<NameReport>) -> Result<ReportAnswer, RecordError> {
    let report = HostReport { continued, names };
    store.report(NewReport { at: at(60), identity: shown(), report }).await
}

async fn holdings(store: &Store, host: Option<&str>, name: Option<&str>, limit: usize) -> Vec<Holding> {
    let (host, name) =
        (host.map(|host| HostName::parse(host).unwrap()), name.map(|name| DnsName::parse(name).unwrap()));
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = store.holdings(after, host.clone(), name.clone(), limit).await.unwrap();
        assert!(page.len() <= limit);
        all.extend(page);
        after = next;
        if after.is_none() {
            return all;
        }
    }
}

fn shape(holdings: &[Holding]) -> Vec<(String, Serial)> {
    let of = |Holder { host, name }: &Holder| format!("{host} {name}");
    holdings.iter().map(|holding| (of(&holding.holder), holding.serial.clone())).collect()
}

#[tokio::test]
async fn of_each_name_on_each_host_the_newest_certificate_is_found_page_by_page() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    let issued = [
        ("pg0.iad1.psf.io", "b.psf.io"),
        ("pg0.iad1.psf.io", "a.psf.io"),
        ("pg0.iad1.psf.io", "b.psf.io"),
        // Its name begins with another's.
        ("pg0.iad1.psf.io.example", "a.psf.io"),
        ("lb0.iad1.psf.io", "a.psf.io"),
        ("pg0.iad1.psf.io", "b.psf.io"),
    ];
    for (number, (host, name)) in (0..).zip(issued) {
        let _ = store.record(service(number, host, name)).await.unwrap();
    }
    // No service's.
    let _ = store.record(draft(77, Condition::Always)).await.unwrap();
    let wanted = |numbers: &[u32]| {
        let of = |number: &u32| {
            let (host, name) = issued[*number as usize];
            (format!("{host} {name}"), record(*number).serial)
        };
        numbers.iter().map(of).collect::<Vec<_>>()
    };
    for limit in [1, 2, 100] {
        assert_eq!(shape(&holdings(&store, None, None, limit).await), wanted(&[4, 1, 5, 3]), "{limit}");
        assert_eq!(shape(&holdings(&store, Some("pg0.iad1.psf.io"), None, limit).await), wanted(&[1, 5]));
        assert_eq!(shape(&holdings(&store, None, Some("a.psf.io"), limit).await), wanted(&[4, 1, 3]));
        assert!(holdings(&store, Some("pg9.iad1.psf.io"), None, limit).await.is_empty());
    }
    // Each step is a search, however long the ledger is.
    let sql = ledger.sql();
    let holder = "SEARCH holder USING PRIMARY KEY (";
    let certificate = "SEARCH certificate USING INTEGER PRIMARY KEY (rowid=?)";
    for (query, expected) in [(reports::AFTER, &[holder, certificate][..]), (reports::HOLDS, &[holder])] {
        let mut statement = sql.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let parameters = vec![1; statement.parameter_count()];
        let steps = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap();
        let plan: Vec<String> = steps.map(|step| step.unwrap()).collect();
        let as_expected = plan.iter().zip(expected).all(|(step, expected)| step.starts_with(expected));
        assert!(as_expected && plan.len() == expected.len(), "{plan:?}");
    }
}

#[tokio::test]
async fn a_host_speaks_of_itself_and_of_what_it_was_given_and_its_last_word_counts() {
    let ledger = Ledger::new();
    let store = ledger.with_host().await;
    for (number, host, name) in [(1, "pg0.iad1.psf.io", "a.psf.io"), (2, "pg0.iad1.psf.io", "b.psf.io")] {
        let _ = store.record(service(number, host, name)).await.unwrap();
    }
    let _ = store.record(service(3, "lb0.iad1.psf.io", "lb.psf.io")).await.unwrap();
    let size = store.head().size;

    // Another host's name and one that is nobody's are passed over; another's serial number is none of its own.
    let names = vec![says("a.psf.io", 1), says("lb.psf.io", 3), says("x.psf.io", 1), says("b.psf.io", 3)];
    assert_eq!(report(&store, false, names).await.unwrap(), ReportAnswer { kept: 2, unknown: 2 });
    let found = holdings(&store, None, None, 100).await;
    let told: Vec<_> = found.iter().map(|holding| holding.told.as_ref().map(|told| told.recorded.is_some())).collect();
    assert_eq!(told, [None, Some(true), Some(false)], "lb0's is as it was");
    assert_eq!(found[1].told.as_ref().unwrap().at, at(60));

    let owed = Deployment::Owed { since: at(5), attempts: 2, error: Some("exit code 1".parse().unwrap()) };
    let [hooked, served] = [Deployment::Hooked { since: at(6) }, Deployment::Served { since: at(7) }];
    for deployment in [owed, hooked, served, Deployment::Installed] {
        let said = NameReport { deployment: deployment.clone(), ..says("b.psf.io", 2) };
        report(&store, false, vec![said]).await.unwrap();
        report(&store, true, vec![says("a.psf.io", 1)]).await.unwrap();
        let found = holdings(&store, Some("pg0.iad1.psf.io"), None, 100).await;
        assert!(found[0].told.is_some(), "what goes on with a report takes nothing of it back");
        assert_eq!(found[1].told.as_ref().unwrap().deployment, deployment);
    }
    report(&store, false, Vec::new()).await.unwrap();
    assert!(holdings(&store, None, None, 100).await.iter().all(|holding| holding.told.is_none()));
    assert_eq!(store.head().size, size, "hearsay is nothing for the ledger");

    let change = HostChange { host: pg0(), operator: crate::host::OperatorName::OperatorUid(0), remark: None };
    store.change_host(NewHostState { at: NOW, action: HostAction::Disable, change }).await.unwrap();
    let refused = report(&store, false, vec![says("a.psf.io", 1)]).await;
    assert!(matches!(refused, Err(RecordError::HostDisabled(_))), "{refused:?}");
}
