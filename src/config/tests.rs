use super::*;
use crate::grant::CertificateKind;

const LEAST: &str = "name: PSF_CA\nserver_names: [ca.psf.io, 10.0.0.1]\ndeclaration: [tls.yaml, /etc/roles.yaml]\n";

fn parse(text: &str) -> Result<CaConfig, String> {
    let file = SourceFile::new("conf/ca.yaml", text.to_owned());
    CaConfig::parse(&file).map(|(config, _)| config).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn three_keys_are_enough_and_the_defaults_are_those_that_are_documented() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.trust_domain.as_str(), "psf.io");
    assert_eq!(config.declaration, [PathBuf::from("conf/tls.yaml"), PathBuf::from("/etc/roles.yaml")]);
    assert_eq!(config.listen.to_string(), "0.0.0.0:8443");
    assert_eq!(config.trust_bundle, PathBuf::from("/var/lib/psfca/PSF_CA.pem"));
    assert_eq!(config.admin_socket, PathBuf::from("/run/psfca/admin.sock"));
    assert_eq!(config.max_lifetime.to_string(), "90 days");
    assert_eq!(config.identity_grace, Duration::from_secs(7 * 86_400));
    assert_eq!((config.ca_key, config.address), (CaKeyKind::EcdsaP256, None));
    assert_eq!(config.retention, Some(Duration::from_secs(400 * 86_400)));
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn everything_can_be_set() {
    let more = "trust_domain: hosts.example\nca_key: ecdsa-p384\nlisten: \"[::1]:0\"\naddress: ca.psf.io:9443\n\
                state: state\ntrust_bundle: out/x.pem\nadmin_socket: admin.sock\nadmin_group: psfca-admin\noperators: [ops0.psf.io]\n\
                max_days: 0.5\nmin_outage: 3h 30m\nretention: 30\nidentity_grace_days: 0\ncert_opts: {C: US, ST: NH, O: Pythön, emailAddress: a@b.io}\n\
                limits: {connections: 7, body_kib: 4, handshake_seconds: 1, header_seconds: 2, request_seconds: 3, \
                connections_each: 2, issue_burst: 4, issue_per_second: 5, enroll_burst: 6, enroll_per_minute: 8}\n";
    let config = parse(&format!("{LEAST}{more}")).unwrap();
    assert_eq!(config.trust_domain.as_str(), "hosts.example");
    assert_eq!(config.ca_key, CaKeyKind::EcdsaP384);
    assert_eq!(config.address.unwrap().to_string(), "ca.psf.io:9443");
    assert_eq!(config.state_dir, PathBuf::from("conf/state"));
    assert_eq!(config.trust_bundle, PathBuf::from("conf/out/x.pem"));
    assert_eq!(config.admin_socket, PathBuf::from("conf/admin.sock"));
    assert_eq!(config.operators.iter().map(|host| host.as_str()).collect::<Vec<_>>(), ["ops0.psf.io"]);
    assert_eq!((config.max_lifetime.to_string().as_str(), config.identity_grace), ("12 hours", Duration::ZERO));
    assert_eq!(config.min_outage, Some(Duration::from_secs(12_600)));
    assert_eq!(config.subject.organization.as_deref(), Some("Pythön"));
    assert_eq!(config.retention, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(parse(&format!("{LEAST}retention: forever\n")).unwrap().retention, None);
    assert_eq!((config.limits.connections, config.limits.body_bytes), (7, 4096));
    assert_eq!(config.limits.request, Duration::from_secs(3));
    assert_eq!(config.limits.connections_each, 2);
    assert_eq!(config.limits.issue, Rate::per_second(count(4), count(5)));
    assert_eq!(config.limits.enroll, Rate::per_minute(count(6), count(8)));
}

#[test]
fn every_mistake_is_reported_at_once() {
    let text = "nam: x\nname: a/b\ncert_opts: {C: usa, CN: x, O: \" x\", emailAddress: nobody}\nserver_names: [CA.psf.io]\n\
                declaration: []\nlisten: 8443\naddress: nowhere\nmax_days: 1000\nmin_outage: soon\nretention: 0\nidentity_grace_days: 31\n\
                ca_key: rsa\nadmin_group: \"a b\"\n\
                limits: {connections: 0, body_kib: many, hand: 1}\n";
    insta::assert_snapshot!(parse(text).unwrap_err());
}

#[test]
fn what_has_to_be_there_is_named() {
    insta::assert_snapshot!(parse("listen: 0.0.0.0:1\n").unwrap_err());
    assert!(parse("name: X\nserver_names: [10.0.0.1]\ndeclaration: [x]\n").unwrap_err().contains("trust_domain"));
}

#[test]
fn the_daemon_may_serve_exactly_the_server_names_for_a_week() {
    let grant = parse(LEAST).unwrap().daemon_grant();
    assert_eq!(grant.kind(), CertificateKind::Daemon);
    assert_eq!(grant.lifetime().to_string(), "7 days");
    assert_eq!(grant.alt_names().dns, [DnsName::parse("ca.psf.io").unwrap()]);
    assert_eq!(grant.alt_names().ip.len(), 1);
}

#[test]
fn a_witness_has_a_url_and_a_key_or_is_a_mistake() {
    const KEY: &str = "w+f26ca44c+BAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
    let with = |url: &str, key: &str| parse(&format!("{LEAST}witness:\n  url: {url}\n  key: {key}\n"));
    let witness = with("http://witness.psf.io:8444/log/", KEY).unwrap().witness.unwrap();
    assert_eq!(
        (witness.url.address.to_string().as_str(), witness.url.prefix.as_str()),
        ("witness.psf.io:8444", "/log")
    );
    assert_eq!(witness.key.to_string(), KEY);
    for url in ["https://w:1", "w:1", "http://w", "http://w:1/a b", "http://w:1/a?b", "http://w:1/\u{e9}"] {
        assert!(with(&format!("{url:?}"), KEY).unwrap_err().contains("that is not the URL of a witness"), "{url}");
    }
    assert!(with("http://w:1", "nothing").unwrap_err().contains("a note's key is written as NAME+HASH+KEY"));
    let half = parse(&format!("{LEAST}witness:\n  url: http://w:1\n")).unwrap_err();
    assert!(half.contains("the key \"key\" is missing"), "{half}");
}
