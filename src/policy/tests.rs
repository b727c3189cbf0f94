use super::*;
use crate::declaration::Rules;
use crate::diagnostic::SourceFile;
use crate::profile::Usages;

const TEXT: &str = "\
tls:
  gen_certs:
    lb.psf.io: {roles: [loadbalancer]}
    postgresql.psf.io:
      days: 2
      aliases: [db.psf.io]
      usages: [server, client]
      roles:
        - gone
        - postgresql
    nobody.psf.io: {}
roles:
  loadbalancer: lb*.iad1.psf.io
  postgresql: pg*.iad1.psf.io
  primary: pg0.iad1.psf.io
";

fn declaration() -> Declaration {
    let file = SourceFile::new("ca-config/tls.yaml", TEXT.into());
    Declaration::parse(&[file], &Rules::default()).unwrap().0
}

fn verdict(host: &str, name: &str) -> Result<Grant, String> {
    match judge(&declaration(), &HostName::parse(host).unwrap(), &DnsName::parse(name).unwrap()) {
        Verdict::Granted(grant) => Ok(grant),
        Verdict::Denied(denial) => Err(denial.to_string()),
    }
}

#[test]
fn a_grant_carries_the_terms_and_the_lines_that_gave_it() {
    let grant = verdict("pg0.iad1.psf.io", "postgresql.psf.io").unwrap();
    assert_eq!(grant.lifetime().to_string(), "2 days");
    assert_eq!(grant.usages(), Usages::Both);
    let dns: Vec<_> = grant.alt_names().dns.iter().map(DnsName::as_str).collect();
    assert_eq!(dns, ["postgresql.psf.io", "db.psf.io"]);
    let Rule::Declaration { listed, role, defined, pattern, declaration: digest } = grant.rule() else {
        panic!("by the declaration")
    };
    assert_eq!((listed.line, role.as_str(), defined.line), (10, "postgresql", 14));
    assert_eq!((&**pattern, *digest), ("pg*.iad1.psf.io", declaration().digest()));
}

#[test]
fn deny_is_the_default_and_says_why() {
    assert_eq!(
        verdict("lb0.iad1.psf.io", "postgresql.psf.io").unwrap_err(),
        "lb0.iad1.psf.io may not have postgresql.psf.io: its roles are loadbalancer; postgresql.psf.io \
             lists gone (which is defined nowhere), postgresql (ca-config/tls.yaml:9)"
    );
    assert_eq!(
        verdict("pg0.iad1.psf.io", "lb.psf.io").unwrap_err(),
        "pg0.iad1.psf.io may not have lb.psf.io: its roles are postgresql, primary; lb.psf.io lists \
             loadbalancer (ca-config/tls.yaml:3)"
    );
    assert_eq!(
        verdict("x.io", "nobody.psf.io").unwrap_err(),
        "x.io may not have nobody.psf.io: it has no role; nobody.psf.io lists no roles (ca-config/tls.yaml:11)"
    );
    assert_eq!(
        verdict("pg0.iad1.psf.io", "postgres.psf.io").unwrap_err(),
        "pg0.iad1.psf.io may not have postgres.psf.io: no such name is declared; did you mean postgresql.psf.io?"
    );
    // An alias is no name of its own.
    assert_eq!(
        verdict("pg0.iad1.psf.io", "db.psf.io").unwrap_err(),
        "pg0.iad1.psf.io may not have db.psf.io: db.psf.io is an alias of postgresql.psf.io; ask for that name"
    );
}

#[test]
fn a_name_is_suggested_only_where_it_was_probably_meant() {
    for (word, meant) in [
        ("postgres.psf.io", Some("postgresql.psf.io")),
        ("postgersql.psf.io", Some("postgresql.psf.io")),
        ("postgresql", Some("postgresql.psf.io")),
        ("postgresql.iad1.psf.io", Some("postgresql.psf.io")),
        ("lb.psf.i", Some("lb.psf.io")),
        ("nosuch.psf.io", None),
        ("consul.psf.io", None),
        ("lc.psf.io", None),
        ("x.psf.io", None),
    ] {
        let said = verdict("pg0.iad1.psf.io", word).unwrap_err();
        let expected = meant.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        assert_eq!(said, format!("pg0.iad1.psf.io may not have {word}: no such name is declared{expected}"));
    }
}

#[test]
fn entitlements_are_exactly_the_names_that_would_be_granted() {
    let declaration = declaration();
    for host in ["pg0.iad1.psf.io", "lb0.iad1.psf.io", "x.io"].map(|host| HostName::parse(host).unwrap()) {
        let names: Vec<_> = entitlements(&declaration, &host).iter().map(|grant| grant.name().to_owned()).collect();
        let judged = declaration.services().map(|service| &service.name);
        let judged = judged.filter(|name| matches!(judge(&declaration, &host, name), Verdict::Granted(_)));
        assert_eq!(names, judged.map(ToString::to_string).collect::<Vec<_>>());
    }
}

/// A denial by a declaration with ten thousand names and roles.
fn denied(name: &str) -> Denial {
    let names = (0..10_000).map(|n| format!("    name-{n}.psf.io: {{roles: [r{n}]}}\n")).collect::<String>();
    let roles = (0..10_000).map(|n| format!("  r{n}: \"host-*.iad{n}.psf.io or *\"\n")).collect::<String>();
    let text = format!("tls:\n  gen_certs:\n{names}    closed.psf.io: {{}}\nroles:\n{roles}");
    let file = SourceFile::new("t.yaml", text);
    let declaration = Declaration::parse(&[file], &Rules::default()).unwrap().0;
    match judge(&declaration, &HostName::parse("host-1.psf.io").unwrap(), &DnsName::parse(name).unwrap()) {
        Verdict::Denied(denial) => denial,
        Verdict::Granted(_) => panic!("{name} is granted"),
    }
}

#[test]
fn an_answer_that_denies_costs_no_more_for_a_large_declaration() {
    let long = format!("{}.io", vec!["abcdefghij".repeat(6); 4].join(".").split_at(240).0);
    for name in [long.as_str(), "name-77.psf.i", "closed.psf.io"] {
        let denial = denied(name);
        let (mut answer, mut full) = (Effort::of_an_answer(), Effort::without_limit());
        let _ = (denial.reason(&mut answer), denial.reason(&mut full));
        assert!(answer.spent() <= 250_000, "{name}: {}", answer.spent());
        assert!(full.spent() > 5 * answer.spent(), "{name}: {}", full.spent());
        assert!(denial.to_string().len() < 1_000, "{denial}");
    }
}

#[test]
fn what_an_answer_leaves_out_a_person_is_told_all_the_same() {
    let denial = denied("name-77.psf.i");
    assert!(denial.to_string().ends_with("no such name is declared"), "{denial}");
    assert!(denial.in_full().ends_with("did you mean name-77.psf.io?"), "{}", denial.in_full());
    let denial = denied("closed.psf.io");
    assert!(denial.to_string().contains("r10, r11 and "), "{denial}");
    assert!(denial.in_full().contains("r9998, r9999; closed.psf.io lists no roles"));
}
