use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_795_255_200 + seconds)
}

fn recovery() -> Recovery {
    Recovery {
        given_up: 30,
        given_up_root: Some(Digest::of(b"lost")),
        size: 12,
        root: Digest::of(b"head"),
        ledger_key: NoteVerifier::new("psf.io/PSF_CA", [7; 32]).unwrap(),
        time: at(0),
    }
}

#[test]
fn the_form_of_a_recovery_never_changes() {
    let signed = SignedRecovery::new(recovery(), [1, 2, 3, 4], vec![5; 8]);
    assert_eq!(
        signed.to_text(),
        "psfca-root-statement/v1 ledger-recovery\n\
         origin psf.io/PSF_CA\n\
         given-up 30 dvdeYSn+MBNb1E2Aq3zEb9uoGQd1jcgI8+JRe+7ysek=\n\
         head 12 ny5tM6NxfugmNTpAS6RhjRrutoea15Nrzo7V9GgUkk0=\n\
         ledger-key psf.io/PSF_CA+fc8ddf7a+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n\
         time 2026-11-21T10:00:00Z\n\
         \n\
         \u{2014} psf.io/PSF_CA AQIDBAUFBQUFBQUF\n"
    );
    assert_eq!(SignedRecovery::parse(&signed.to_text()).unwrap(), signed);
    let unknown = SignedRecovery::new(Recovery { given_up_root: None, ..recovery() }, [0; 4], vec![]);
    assert!(unknown.to_text().contains("\ngiven-up 30 unknown\n"));
    assert_eq!(SignedRecovery::parse(&unknown.to_text()).unwrap(), unknown);
}

#[test]
fn what_is_signed_can_never_be_the_der_of_a_certificate() {
    assert_ne!(recovery().text().as_bytes()[0], 0x30);
}

#[test]
fn there_is_one_way_to_write_a_statement() {
    let text = SignedRecovery::new(recovery(), [1, 2, 3, 4], vec![5; 8]).to_text();
    for (from, to) in [
        ("/v1", "/v2"),
        ("ledger-recovery", "anchors"),
        ("origin psf.io/PSF_CA", "origin psf.io/OTHER"),
        ("given-up 30", "given-up 030"),
        ("given-up 30", "given-up +30"),
        ("given-up 30", "given-up 99999999999999999999"),
        ("given-up 30", "given-up  30"),
        ("head 12", "head -12"),
        ("kk0=\n", "kk1=\n"),
        ("time 2026-11-21T10:00:00Z", "time 2026-11-21T10:00:00.5Z"),
        ("time 2026-11-21T10:00:00Z", "time 2026-11-21T11:00:00+01:00"),
        ("time 2026-11-21T10:00:00Z\n", "time 2026-11-21T10:00:00Z\nmore\n"),
        ("time 2026-11-21T10:00:00Z\n", "time 2026-11-21T10:00:00Z\r\n"),
        ("\u{2014} ", "- "),
        ("\u{2014} psf.io/PSF_CA", "\u{2014} psf.io/PSF_CB"),
        ("AQIDBAUFBQUFBQUF\n", "AQIDBAUFBQUFBQUF"),
        ("AQIDBAUFBQUFBQUF\n", "AQIDBAUFBQUFBQUF\n\u{2014} psf.io/PSF_CA AQIDBAUFBQUFBQUF\n"),
        ("AQIDBAUFBQUFBQUF\n", "AQID\n"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from:?}");
        let outcome = SignedRecovery::parse(&changed);
        assert!(matches!(outcome, Err(StatementError::Malformed(_))), "{from:?} to {to:?}: {outcome:?}");
    }
    assert!(SignedRecovery::parse(&"x".repeat(MAX_STATEMENT + 1)).is_err());
}

#[test]
fn only_a_root_makes_it_believed() {
    let signed = SignedRecovery::new(recovery(), [1, 2, 3, 4], vec![5; 8]);
    let told = signed.clone().verified(|key_id, text, signature| {
        (key_id, text, signature) == ([1, 2, 3, 4], recovery().text().as_bytes(), &[5; 8])
    });
    assert_eq!(told, Ok(recovery()));
    assert_eq!(signed.verified(|_, _, _| false), Err(StatementError::NotByARoot));
}

/// Everything small: each size, root, moment and memory in every combination, against the promise in words.
#[test]
fn a_recovery_is_obeyed_only_for_heads_that_it_gives_up_once_and_in_its_time() {
    let (mut obeyed, mut refused) = (0, 0);
    let times = [0, 1, 2, 3];
    for (given_up, size, seen_size) in product(5) {
        for (made, seen, now) in times.iter().flat_map(|&a| times.iter().flat_map(move |&b| times.map(|c| (a, b, c)))) {
            for before in [None, Some(0), Some(1), Some(2), Some(3)] {
                for (known, same_root, same_origin) in [
                    (true, true, true),
                    (true, false, true),
                    (false, true, true),
                    (false, false, true),
                    (true, true, false),
                ] {
                    let lost = Digest::of(b"lost");
                    let statement =
                        Recovery { given_up, given_up_root: known.then_some(lost), size, time: at(made), ..recovery() };
                    let remembered = Remembered {
                        origin: if same_origin { "psf.io/PSF_CA" } else { "psf.io/OTHER" },
                        size: seen_size,
                        root: if same_root { lost } else { Digest::of(b"another") },
                        seen: at(seen),
                        obeyed: before.map(at),
                    };
                    let outcome = statement.judge(&remembered, at(now));
                    let given_up_here = seen_size < given_up || (seen_size == given_up && (!known || same_root));
                    let in_time = seen < made && made <= now && before.is_none_or(|before| made > before);
                    assert_eq!(
                        outcome.is_ok(),
                        same_origin && in_time && given_up_here,
                        "{statement:?} {remembered:?}"
                    );
                    if outcome.is_ok() {
                        obeyed += 1;
                        // What that host remembers next refuses the same statement, whatever it has seen since.
                        for (size, seen) in [(size, now), (size + 1, now), (0, 0)] {
                            let next = Remembered { size, seen: at(seen), obeyed: Some(at(made)), ..remembered };
                            assert_eq!(statement.judge(&next, at(3)), Err(NotObeyed::NotNewer(at(made))));
                        }
                    } else {
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(obeyed > 1_000 && refused > 1_000, "{obeyed} obeyed, {refused} refused");
}

fn product(upto: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    (0..upto).flat_map(move |a| (0..upto).flat_map(move |b| (0..upto).map(move |c| (a, b, c))))
}

#[test]
fn what_a_host_says_when_it_does_not_obey_tells_what_to_do() {
    let remembered =
        Remembered { origin: "psf.io/PSF_CA", size: 31, root: Digest::of(b"x"), seen: at(-5), obeyed: None };
    let said = recovery().judge(&remembered, at(9)).unwrap_err().to_string();
    assert_eq!(said, "it gives up 30 entries and this host has seen 31; an operator can make one with --seen 31");
}
