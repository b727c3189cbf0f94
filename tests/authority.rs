//! Rule R2, whole: for random declarations, hosts and requests, a certificate is released if and only if an evaluator of
//! its own says so, and it is exactly the one that the evaluator describes. The real spine and store, at a fixed time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

#[path = "authority/model.rs"]
mod model;
mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::{ALIASES, HOSTS, Model, NAMES, Name, SERVER_NAME};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use psfca::ca::identity::HostIdentity;
use psfca::clock::{Clock as _, Timestamp};
use psfca::declaration::{Declaration, Rules};
use psfca::diagnostic::SourceFile;
use psfca::digest::Digest;
use psfca::in_force::InForce;
use psfca::issue::{IssueError, Issued, KeySource};
use psfca::name::{DnsName, HostName};
use psfca::profile::Lifetime;
use psfca::store::NewDeclaration;
use psfca::token::ServerName;
use serde_json::Value;
use support::ask::openssl;
use support::stored_ledger::{BEGIN, Books};
use support::tools::say;
use x509_parser::prelude::{GeneralName, X509Certificate, parse_x509_certificate};

/// Requests that run at the same time, under each declaration.
const REQUESTS: usize = 50;
/// Certificate requests that hosts send; none in the place of an empty body.
const SAMPLES: usize = 9;

/// A host asks.
#[derive(Debug, Clone, Copy)]
struct Ask {
    /// The last of the hosts is enrolled nowhere.
    host: usize,
    standing: Standing,
    name: &'static str,
    sample: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Standing {
    Good,
    Expired,
    Replaced,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    NoIdentity,
    Denied,
    BadKey,
    NoCaMadeKey,
    Released(&'static str),
}

/// A certificate request of some kind of key, and whether its sender holds the key.
struct Sample {
    body: Vec<u8>,
    kind: &'static str,
    signed: bool,
    spki: Vec<u8>,
}

fn ask() -> impl Strategy<Value = Ask> {
    let standing = prop_oneof![8 => Just(Standing::Good), 1 => Just(Standing::Expired), 1 => Just(Standing::Replaced)];
    let names = [&NAMES[..], &NAMES, &NAMES, &NAMES, &ALIASES, &[SERVER_NAME, "nowhere.psf.io"]].concat();
    // Most hosts send the kind of key that is declared without a word, or nothing.
    let sample = prop_oneof![3 => 0..2usize, 2 => Just(SAMPLES), 3 => 0..SAMPLES];
    (0..HOSTS.len(), standing, select(names), sample).prop_map(|(host, standing, name, sample)| Ask {
        host,
        standing,
        name,
        sample,
    })
}

/// What `docs/declaration.md` says to it.
fn expected(model: &Model, ask: Ask, samples: &[Sample]) -> Outcome {
    if ask.host == HOSTS.len() - 1 || ask.standing != Standing::Good {
        return Outcome::NoIdentity;
    }
    let Some(name) = model.declared(ask.name) else { return Outcome::Denied };
    let Some(role) = model.role(name, HOSTS[ask.host]) else { return Outcome::Denied };
    match samples.get(ask.sample) {
        None if !name.ca_made_key() => Outcome::NoCaMadeKey,
        Some(sample) if sample.kind != name.key() || !sample.signed => Outcome::BadKey,
        _ => Outcome::Released(role),
    }
}

fn samples() -> Vec<Sample> {
    let dir = tempfile::tempdir().unwrap();
    let greedy = [
        "-addext",
        "subjectAltName=DNS:ca.psf.io,URI:spiffe://psf.io/host/a",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
    ];
    let p256 = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"][..];
    let p384 = &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"][..];
    let kinds: [(&str, Vec<&str>, bool); SAMPLES] = [
        ("ecdsa-p256", p256.to_vec(), true),
        ("ecdsa-p256", [p256, &greedy].concat(), true),
        ("ecdsa-p256", p256.to_vec(), false),
        ("ecdsa-p384", p384.to_vec(), true),
        ("ecdsa-p384", [p384, &greedy].concat(), true),
        ("ed25519", vec!["ed25519"], true),
        ("ed25519", vec!["ed25519"], false),
        ("rsa", vec!["rsa:2048"], true),
        ("rsa", vec!["rsa:1024"], false),
    ];
    let sample = |(kind, args, signed): (&'static str, Vec<&str>, bool)| {
        let [file, key] = ["request", "key"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
        let fixed =
            ["req", "-new", "-subj", "/CN=asked.example", "-nodes", "-outform", "DER", "-keyout", &key, "-out", &file];
        openssl(&[&fixed[..], &["-newkey"], &args].concat());
        let mut body = std::fs::read(&file).unwrap();
        let (_, request) = x509_parser::prelude::FromDer::from_der(&body).unwrap();
        let request: x509_parser::certification_request::X509CertificationRequest<'_> = request;
        let spki = request.certification_request_info.subject_pki.raw.to_vec();
        if !signed {
            *body.last_mut().unwrap() ^= 1;
        }
        Sample { body, kind, signed, spki }
    };
    kinds.into_iter().map(sample).collect()
}

/// The CA with its hosts, and what is in force.
struct World {
    books: Books,
    hosts: Vec<HostIdentity>,
    samples: Arc<Vec<Sample>>,
    in_force: Option<(Model, Digest)>,
    seen: BTreeMap<String, usize>,
}

impl World {
    async fn new() -> Self {
        let books = Books::open().await;
        let mut hosts = Vec::new();
        for host in &HOSTS[..HOSTS.len() - 1] {
            hosts.push(books.enroll(host).await);
        }
        let stranger = HostName::parse(HOSTS[HOSTS.len() - 1]).unwrap();
        hosts.push(HostIdentity { host: stranger, ..hosts[0].clone() });
        Self { books, hosts, samples: Arc::new(samples()), in_force: None, seen: BTreeMap::new() }
    }

    /// Puts a declaration in force, unless it has a mistake (rule R3).
    async fn declare(&mut self, model: &Model) {
        let files = model.files();
        let files: Vec<_> =
            files.into_iter().enumerate().map(|(n, text)| SourceFile::new(&format!("{n}.yaml"), text)).collect();
        let max_lifetime = Lifetime::days(std::num::NonZero::new(90).unwrap());
        let server_names = vec![ServerName::parse(SERVER_NAME).unwrap()];
        let parsed = Declaration::parse(&files, &Rules { max_lifetime, min_outage: None, server_names });
        if !model.is_good() {
            assert!(parsed.is_err());
            return;
        }
        let declaration = parsed.unwrap_or_else(|mistakes| panic!("{mistakes}")).0;
        let (at, sha256) = (self.books.clock.now(), declaration.digest());
        let files = files.iter().map(|file| (file.path().to_owned(), file.text().to_owned())).collect();
        let new = NewDeclaration { at, sha256, names: declaration.services().len(), files };
        self.books.ca.store.put_in_force(new).await.unwrap();
        drop(self.books.ca.declaration.replace(InForce { declaration, since: at }));
        self.in_force = Some((model.clone(), sha256));
    }

    /// Has all of them asked at once, and compares.
    async fn judge(&mut self, asks: &[Ask]) {
        let Some((model, declaration)) = self.in_force.clone() else { return };
        let before = self.books.ca.store.head().size;
        let mut tasks = tokio::task::JoinSet::new();
        for &ask in asks {
            let (ca, samples) = (Arc::clone(&self.books.ca), Arc::clone(&self.samples));
            let mut identity = self.hosts[ask.host].clone();
            match ask.standing {
                Standing::Good => {}
                Standing::Expired => identity.not_after = ca.clock.now().minus(std::time::Duration::from_secs(1)),
                // A serial that the ledger does not have is judged by its time.
                Standing::Replaced => {
                    identity.serial = psfca::serial::Serial::parse("7f").unwrap();
                    identity.issued = Timestamp::from_unix(BEGIN - 1);
                }
            }
            tasks.spawn(async move {
                let name = DnsName::parse(ask.name).unwrap();
                let key =
                    samples.get(ask.sample).map_or(KeySource::MadeHere, |sample| KeySource::Request(&sample.body));
                (ask, ca.issue(&identity, &name, key).await)
            });
        }
        let mut released = 0;
        for (ask, answer) in tasks.join_all().await {
            let expected = expected(&model, ask, &self.samples);
            let outcome = match &answer {
                Ok(issued) => Outcome::Released(self.check(&model, declaration, ask, issued)),
                Err(IssueError::Identity(_)) => Outcome::NoIdentity,
                Err(IssueError::Denied(_)) => Outcome::Denied,
                Err(IssueError::Key(_)) => Outcome::BadKey,
                Err(IssueError::NoCaMadeKey { .. }) => Outcome::NoCaMadeKey,
                Err(other) => panic!("{ask:?}: {other}"),
            };
            assert_eq!(outcome, expected, "{ask:?}: {answer:?}");
            released += u64::from(answer.is_ok());
            let kind = format!("{outcome:?}").split('(').next().unwrap().to_owned();
            *self.seen.entry(kind).or_default() += 1;
        }
        assert_eq!(self.books.ca.store.head().size, before + released, "nothing else was recorded");
    }

    /// That the certificate is the one of the grant, and its entry tells why; gives the role that the entry tells.
    fn check(&self, model: &Model, declaration: Digest, ask: Ask, issued: &Issued) -> &'static str {
        let name = model.declared(ask.name).expect("released for a name that nobody declared");
        let (_, leaf) = parse_x509_certificate(&issued.leaf).unwrap();
        let chain = pem::parse_many(&issued.chain_pem).unwrap();
        let (_, issuer) = parse_x509_certificate(chain[1].contents()).unwrap();
        assert_eq!((chain.len(), chain[0].contents()), (2, &issued.leaf[..]));
        leaf.verify_signature(Some(issuer.public_key())).unwrap();
        assert_eq!(leaf.issuer().as_raw(), issuer.subject().as_raw());
        let key = self.samples.get(ask.sample).map(|sample| sample.spki.as_slice());
        assert_eq!(issued.made_key.is_some(), key.is_none());
        assert!(key.is_none_or(|key| leaf.public_key().raw == key), "another key");
        check_terms(&leaf, name, self.books.clock.now());

        issued.proof.verify(self.books.ca.checkpoints.verifier()).unwrap();
        let entry: Value = serde_json::from_slice(&issued.proof.entry).unwrap();
        let told =
            ["event", "kind", "name", "host", "key_sha256"].map(|field| entry[field].as_str().unwrap().to_owned());
        let sha256 = Digest::of(leaf.public_key().raw).to_string();
        assert_eq!(told, ["certificate", "service", ask.name, HOSTS[ask.host], &sha256]);
        assert_eq!(entry["rule"]["declaration"], declaration.to_string());
        let role = model.role(name, HOSTS[ask.host]).expect("released without a role");
        assert_eq!(entry["rule"]["role"], role);
        role
    }
}

/// Names, lifetime and usages, as RFC 5280 writes them.
fn check_terms(leaf: &X509Certificate<'_>, name: &Name, now: Timestamp) {
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    let (mut dns, mut ip) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => ip.push(match octets.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(*octets).unwrap()),
                _ => IpAddr::from(<[u8; 16]>::try_from(*octets).unwrap()),
            }),
            other => panic!("{other}"),
        }
    }
    assert_eq!((dns.len(), ip.len()), (name.dns().len(), name.ip().len()), "a name twice");
    assert_eq!((dns.into_iter().collect(), ip.into_iter().collect()), (name.dns(), name.ip()));
    let common_name: Vec<_> = leaf.subject().iter_common_name().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(common_name, if name.name.len() <= 64 { vec![name.name] } else { Vec::new() });
    let validity = leaf.validity();
    assert_eq!(validity.not_before.timestamp(), now.unix() - 3_600);
    assert_eq!(validity.not_after.timestamp(), now.unix() + i64::try_from(name.seconds()).unwrap());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert_eq!((extended.server_auth, extended.client_auth), name.usages());
    assert!(!extended.any && !extended.code_signing && !extended.email_protection && extended.other.is_empty());
    assert!(!extended.time_stamping && !extended.ocsp_signing && !leaf.is_ca());
    // digitalSignature, and keyEncipherment for an RSA key.
    let usage = leaf.key_usage().unwrap().unwrap().value.flags;
    assert_eq!(usage, if name.key() == "rsa" { 0b101 } else { 0b1 });
    assert_eq!(leaf.extensions().len(), 6);
}

#[test]
fn r2_a_certificate_is_released_if_and_only_if_the_declaration_says_so_and_is_exactly_what_it_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let world = RefCell::new(runtime.block_on(World::new()));
    let usual = Config::default();
    let declarations = usual.cases.saturating_mul(2);
    let config = Config { cases: declarations, failure_persistence: None, max_shrink_iters: 200, ..usual };
    let strategy = (model::model(), proptest::collection::vec(ask(), REQUESTS));
    let outcome = TestRunner::new(config).run(&strategy, |(model, asks)| {
        let mut world = world.borrow_mut();
        runtime.block_on(async {
            world.declare(&model).await;
            world.judge(&asks).await;
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let world = world.into_inner();
    let total: usize = world.seen.values().sum();
    say(&format!("{total} requests judged as the evaluator does: {:?}", world.seen));
    assert!(total >= 10_000 || declarations < 512, "too few requests: {total}");
    for (kind, count) in &world.seen {
        assert!(count * 100 >= total, "too few of {kind} to say much: {count} of {total}");
    }
}
