use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::diagnostic::Severity;
use crate::profile::{KeyKind, Usages};

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile::new(path, text.to_owned())
}

fn read(text: &str) -> Result<(Declaration, String), String> {
    let rules = Rules { server_names: vec![ServerName::parse("ca.psf.io").unwrap()], ..Rules::default() };
    match Declaration::parse(&[file("t", text)], &rules) {
        Ok((declaration, warnings)) => Ok((declaration, warnings.to_string())),
        Err(mistakes) => Err(mistakes.to_string()),
    }
}

#[test]
fn both_forms_of_roles_and_every_term_are_read() {
    let text = "tls:\n  ciphers: {default: ECDH+AESGCM}\n  gen_certs:\n    A.psf.io.:\n      roles: [old, new]\n      days: 0.5\n      \
                aliases: b.psf.io\n      ip: [10.0.0.1, \"fd00::1\"]\n      usages: client\n      key: ed25519\n      \
                ca_made_key: true\n    z.psf.io: {roles: [old]}\nroles:\n  old: \"a*\"\n  new: {pattern: b*, purpose: x, contact: \"\", category: c}\n";
    let (declaration, warnings) = read(text).unwrap();
    assert_eq!(warnings, "t:4:5: warning: \"A.psf.io.\" is read as a.psf.io");
    let service = declaration.service(&DnsName::parse("a.psf.io").unwrap()).unwrap();
    assert_eq!(service.terms.lifetime.to_string(), "12 hours");
    assert_eq!((service.terms.usages, service.terms.key), (Usages::Client, KeyKind::Ed25519));
    assert_eq!((service.terms.aliases.len(), service.terms.ip.len(), service.terms.ca_made_key), (1, 2, true));
    let other = declaration.service(&DnsName::parse("z.psf.io").unwrap()).unwrap();
    assert_eq!(other.terms.lifetime.to_string(), "1 day");
    assert_eq!((other.terms.usages, other.terms.key), (Usages::Server, KeyKind::EcdsaP256));
    assert_eq!(declaration.ciphers(None), Some("ECDH+AESGCM"));
    assert_eq!(declaration.roles().len(), 2);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = "tls:\n  gen_cert: {}\n  gen_certs:\n    ca.psf.io: {roles: [a]}\n    b.psf.io: {roles: [a], days: 91, key: rsa, ca_made_key: true, ip: 10.0.0.0/8}\n    \
                \"*.psf.io\": {roles: [a], aliases: [ca.psf.io], usages: email, days: 0.01, role: a}\n    10.0.0.1: {days: ten}\nroles:\n  a: a and\n  b c: x\n  d:\n";
    insta::assert_snapshot!(read(text).unwrap_err());
}

#[test]
fn names_that_differ_only_in_spelling_collide() {
    for twins in ["A.io: {}\n    a.io: {}", "a.io: {}\n    a.io.: {}", "a.io: {}\n    A.IO.: {}"] {
        let errors = read(&format!("tls:\n  gen_certs:\n    {twins}\n")).unwrap_err();
        assert!(errors.contains("is declared twice: both bundles would be a.io.pem"), "{errors}");
    }
}

#[test]
fn a_role_or_a_name_may_stand_in_one_file_only() {
    let files = [
        file("a", "tls: {gen_certs: {x.io: {roles: [r]}}}\nroles: {r: x}\n"),
        file("b", "tls: {gen_certs: {x.io: {roles: [r]}}}\nroles: {r: y}\n"),
    ];
    let errors = Declaration::parse(&files, &Rules::default()).unwrap_err().to_string();
    assert!(errors.contains("b:2:9: error: the role \"r\" is defined in two files"), "{errors}");
    assert!(errors.contains("b:1:19: error: x.io is declared twice"), "{errors}");
}

#[test]
fn a_file_that_cannot_be_read_makes_no_role_unknown() {
    let files = [file("a", "tls: {gen_certs: {x.io: {roles: [r]}}}\n"), file("b", "roles: {r: \"x\n")];
    let errors = Declaration::parse(&files, &Rules::default()).unwrap_err().to_string();
    assert!(!errors.contains("unknown role") && errors.lines().count() == 1, "{errors}");
}

#[test]
fn without_a_name_there_is_no_declaration() {
    assert!(read("roles: {r: x}\n").unwrap_err().contains("no name is declared"));
    assert!(read("tls: {gen_certs: }\n").unwrap_err().contains("no name is declared"));
    assert!(Declaration::parse(&[], &Rules::default()).unwrap_err().to_string().contains("no name is declared"));
}

#[test]
fn the_digest_tells_any_two_sets_of_files_apart() {
    let digest = |files: &[(&'static str, &'static str)]| super::digest(files.iter().copied());
    let sets: [&[(&str, &str)]; 6] = [
        &[("a", "bc")],
        &[("ab", "c")],
        &[("a", "b"), ("c", "")],
        &[("a", ""), ("b", "c")],
        &[("a", "bc"), ("", "")],
        &[],
    ];
    let digests: std::collections::BTreeSet<_> = sets.iter().map(|set| digest(set)).collect();
    assert_eq!(digests.len(), sets.len());
}

#[test]
#[allow(clippy::print_stdout, reason = "reports what it took")]
fn a_large_declaration_is_read_in_time_for_a_reload() {
    let mut text = String::from("tls:\n  gen_certs:\n");
    for n in 0..10_000 {
        let _ = writeln!(
            text,
            "    svc{n}.psf.io:\n      days: 7\n      roles:\n        - role{}\n        - role{}",
            n % 1_000,
            n % 7
        );
    }
    text.push_str("roles:\n");
    for n in 0..1_000 {
        let _ = writeln!(text, "  role{n}: \"host{n}-*.psf.io and not host{n}-0.psf.io\"");
    }
    let start = std::time::Instant::now();
    let (declaration, _) = read(&text).unwrap();
    println!("10,000 names and 1,000 roles were read in {:?}", start.elapsed());
    assert!(start.elapsed().as_secs() < 10);
    let (host, name) = (HostName::parse("host5-1.psf.io").unwrap(), DnsName::parse("svc5005.psf.io").unwrap());
    let start = std::time::Instant::now();
    for _ in 0..10_000 {
        assert!(matches!(crate::policy::judge(&declaration, &host, &name), crate::policy::Verdict::Granted(_)));
    }
    println!("one verdict took {:?}", start.elapsed() / 10_000);
}

proptest! {
    #[test]
    fn a_canonical_name_is_its_own_canonical_spelling(text in "[A-Za-z0-9.-]{1,20}") {
        if let Ok(name) = canonical(&text) {
            prop_assert_eq!(canonical(name.as_str()), Ok(name.clone()));
            prop_assert_eq!(canonical(&format!("{}.", name.as_str().to_ascii_uppercase())), Ok(name.clone()));
            let without_dot = text.strip_suffix('.').unwrap_or(&text);
            prop_assert!(without_dot.eq_ignore_ascii_case(name.as_str()));
        }
    }

    #[test]
    fn no_text_makes_the_declaration_panic(
        lines in proptest::collection::vec("( ){0,6}(tls|gen_certs|roles|a\\.io|days|aliases|ip|key|- a|- b\\.io|[a-z]{1,3}): ?(1|0\\.1|\\[a, b\\]|\"pg\\*\"|\\{\\}|x and)?", 0..12)
    ) {
        let _ = read(&lines.join("\n"));
    }
}

#[test]
fn a_cipher_list_is_one_line_and_belongs_to_a_name_or_to_all() {
    let gen_certs = "  gen_certs:\n    a.psf.io: {roles: [r]}\nroles: {r: \"*\"}\n";
    let parse = |ciphers: &str| {
        let text = format!("tls:\n  ciphers: {ciphers}\n{gen_certs}");
        Declaration::parse(&[file("t", &text)], &Rules::default())
    };
    let (declaration, _) = parse("{default: D, a.psf.io: A}").unwrap();
    let name = |text| DnsName::parse(text).unwrap();
    assert_eq!(declaration.ciphers(Some(&name("a.psf.io"))), Some("A"));
    assert_eq!(declaration.ciphers(Some(&name("b.psf.io"))), Some("D"));
    assert_eq!(parse("{a.psf.io: A}").unwrap().0.ciphers(None), None);
    assert!(parse(r#"{default: "D\nssl_prefer_server_ciphers off"}"#).is_err());
}

#[test]
fn all_programs_of_a_declaration_have_one_bound_and_the_mistake_has_its_place() {
    let roles = |count, pattern: &str| {
        let roles: Vec<_> = (0..count).map(|n| format!("  r{n}: '{pattern}'\n")).collect();
        let roles = roles.concat();
        let text = format!("tls: {{gen_certs: {{a.psf.io: {{roles: [r0]}}}}}}\nroles:\n{roles}");
        Declaration::parse(&[file("t", &text)], &Rules::default())
    };
    // Each alone is good, and 9,000 of them fit into 360 kB of text.
    let large = "E@[a-z]{2000}[0-9]{1500}";
    assert!(roles(1, large).is_ok());
    let mistakes = roles(9_000, large).unwrap_err();
    assert_eq!(mistakes.count(Severity::Error), 1, "{mistakes}");
    let only = mistakes.iter().find(|mistake| mistake.severity == Severity::Error).unwrap();
    assert!(only.message.ends_with("take more than 64 MiB when they are compiled"), "{}", only.message);
    let (line, column) = only.file.line_column(only.span.start);
    assert!((10..9_000).contains(&line) && column > 6, "{line}:{column}");
    // What people write is far from it.
    assert!(roles(9_000, r"E@pg[0-9]+\.iad1\.psf\.io").is_ok());
}

#[test]
fn a_name_that_no_host_could_install_is_a_mistake() {
    let name = |length: usize| format!("{}.io", ["a".repeat(60).as_str(); 4].join(".").split_at(length - 3).0);
    let declared = |name: String| read(&format!("tls: {{gen_certs: {{{name}: {{roles: [r]}}}}}}\nroles: {{r: '*'}}\n"));
    assert!(declared(name(LONGEST_NAME)).is_ok());
    let mistake = declared(name(LONGEST_NAME + 1)).unwrap_err();
    assert!(mistake.contains("228 characters, too many for the name of its bundle's file"), "{mistake}");
}
