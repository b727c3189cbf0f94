use super::*;

fn report(outcomes: &[Outcome]) -> Report {
    let due = Timestamp::from_unix(0);
    let line = |outcome: &Outcome| Line::new("a.psf.io".parse().unwrap(), outcome.clone());
    Report {
        host: "pg0.psf.io".parse().unwrap(),
        identity: Outcome::NotDue { due, not_after: due },
        trust_problem: None,
        trust_written: false,
        ledger_trouble: None,
        ledger_recovered: None,
        remarks: Vec::new(),
        settings_problems: Vec::new(),
        strays: Vec::new(),
        unasked: None,
        names: outcomes.iter().map(line).collect(),
        untold: None,
    }
}

#[test]
fn the_most_urgent_trouble_decides_the_exit_code() {
    let failed = |code, critical| Outcome::Failed { error: "x".to_owned(), code, critical };
    assert_eq!(report(&[]).exit_code(), 0);
    assert_eq!(report(&[failed(4, false)]).exit_code(), 4);
    assert_eq!(report(&[failed(4, false), failed(3, false)]).exit_code(), 3);
    assert_eq!(report(&[failed(3, false), failed(1, false)]).exit_code(), 1);
    assert_eq!(report(&[failed(1, false), failed(4, true)]).exit_code(), 5);
    let trust = Report { trust_problem: Some("x".to_owned()), ..report(&[failed(4, false)]) };
    assert_eq!(trust.exit_code(), 1);
    let ledger = |refused| Some(LedgerTrouble { problem: "x".to_owned(), refused });
    let with =
        |refused, outcomes: &[Outcome]| Report { ledger_trouble: ledger(refused), ..report(outcomes) }.exit_code();
    assert_eq!((with(false, &[]), with(true, &[])), (6, 6));
    assert_eq!(with(false, &[failed(4, true)]), 5);
    assert_eq!(with(true, &[failed(1, false)]), 6);
    assert_eq!(report(&[failed(1, false), failed(LEDGER, false)]).exit_code(), 6);
    let owing = |outcome| {
        let mut report = report(&[outcome]);
        report.names[0].loaded = Loaded::Owed { since: None, attempts: 1, error: None };
        report.exit_code()
    };
    // An outage of the CA is no failure of the unit; a service that did not load its certificate is.
    assert_eq!((owing(Outcome::ByHand), owing(failed(4, false))), (7, 7));
    assert_eq!((owing(failed(3, false)), owing(failed(4, true))), (3, 5));
}
