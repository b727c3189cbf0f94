//! Requests that run while what they are judged by changes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hyper::Method;
use psfca::ca::bundle::Bundle;
use psfca::client::{Answer, Client};
use psfca::clock::SystemClock;
use psfca::tls::client_config;
use psfca::token::ServerAddress;
use psfca::wire::{INDEX_HEADER, PKCS10, SERIAL_HEADER};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use support::ask::{P256, csr};
use support::{Ca, Host, ledger, wait_until};
use tokio::sync::watch;

const NAME: &str = "postgresql.psf.io";
const HOSTS: usize = 8;
const RELOADS: u32 = 24;
/// What each host asks for while each declaration comes in force; in all fewer than any limit of one host.
const REQUESTS: usize = 2;

/// Who may have the name by the `n`th declaration: the first four hosts, the others, all, and so on.
fn allowed(n: u32) -> Vec<String> {
    let hosts = [0..HOSTS / 2, HOSTS / 2..HOSTS, 0..HOSTS][n as usize % 3].clone();
    hosts.map(|n| format!("pg{n}.iad1.psf.io")).collect()
}

/// The `n`th declaration; certificates live for `n` days, so each tells which one it is by.
fn declare(ca: &Ca, n: u32) {
    let text = format!(
        "tls:\n  gen_certs:\n    {NAME}:\n      days: {n}\n      roles: [r{n}]\nroles:\n  r{n}: \"L@{}\"\n",
        allowed(n).join(",")
    );
    // By a rename, so that nobody sees half of it.
    let new = ca.dir().join("new.yaml");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, ca.dir().join("tls.yaml")).unwrap();
    ca.signal("HUP");
}

/// A connection as the host.
async fn connect(address: &str, root: &Path, identity: &[u8]) -> Client {
    let identity = Bundle::parse(identity).unwrap();
    let chain = identity.chain().certificates().to_vec();
    let root = CertificateDer::from_pem_file(root).unwrap();
    let config = client_config(&[root], Some((chain, identity.key().to_rustls())), Arc::new(SystemClock)).unwrap();
    Client::connect_tls(&ServerAddress::parse(address).unwrap(), config).await.unwrap()
}

/// The declaration that was in force when entry `index` was appended, and how many there had been.
fn in_force(entries: &[Value], index: usize) -> (&str, u32) {
    let mut declarations = entries[..index].iter().filter(|entry| entry["event"] == "declaration");
    let count = declarations.clone().count();
    (declarations.next_back().unwrap()["sha256"].as_str().unwrap(), u32::try_from(count).unwrap())
}

#[test]
fn while_declarations_change_each_certificate_is_by_the_one_in_force_at_its_entry() {
    let mut ca = Ca::made_with("");
    std::fs::write(ca.dir().join("roles.yaml"), "roles: {}\n").unwrap();
    std::fs::write(ca.dir().join("tls.yaml"), format!("tls: {{gen_certs: {{{NAME}: {{}}}}}}\n")).unwrap();
    ca.serve();
    let request = std::fs::read(csr(ca.dir(), &P256)).unwrap();
    let (coming, _) = watch::channel(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut tasks = Vec::new();
    for n in 0..HOSTS {
        let host = Host::enroll(&ca, &format!("pg{n}.iad1.psf.io"));
        let identity = std::fs::read(host.identity()).unwrap();
        let mut client = runtime.block_on(connect(ca.address(), &ca.trust_bundle(), &identity));
        let (request, mut coming) = (request.clone(), coming.subscribe());
        tasks.push(runtime.spawn(async move {
            let (path, mut answers) = (format!("/v1/certs/{NAME}"), Vec::new());
            for n in 1..=RELOADS {
                coming.wait_for(|coming| *coming >= n).await.unwrap();
                for _ in 0..REQUESTS {
                    answers.push(client.send(Method::POST, &path, PKCS10, "", request.clone()).await.unwrap());
                }
            }
            (host.name, answers)
        }));
    }
    // The first of all declarations gave the name to nobody.
    for n in 1..=RELOADS {
        coming.send_replace(n);
        declare(&ca, n);
        wait_until("the declaration is in force", || {
            let entries = ledger::entries(&ca);
            in_force(&entries, entries.len()).1 == n + 1
        });
    }
    let answers: Vec<_> = tasks.into_iter().map(|task| runtime.block_on(task).unwrap()).collect();

    let entries = ledger::entries(&ca);
    let mut released: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (host, answer) in answers.iter().flat_map(|(host, answers)| answers.iter().map(move |answer| (host, answer))) {
        if answer.status != 200 {
            // Not allowed just then, or the declaration changed too often.
            assert!(matches!(answer.status.as_u16(), 403 | 503), "{:?}", answer.problem());
            continue;
        }
        released
            .entry(check(&entries, host, answer))
            .or_default()
            .push(answer.header(SERIAL_HEADER).unwrap().to_owned());
    }
    assert!(released.len() > 3, "too few declarations released anything: {released:?}");
    for (n, serials) in released {
        let why: Value = serde_json::from_str(&ca.ok(&["audit", "why", &serials[0], "--json"])).unwrap();
        let (host, rule) = (why["host"].as_str().unwrap(), &why["declaration"]);
        assert_eq!(rule["listed"]["text"].as_str().unwrap().trim(), format!("roles: [r{n}]"), "{why}");
        assert!(
            rule["defined"]["text"].as_str().unwrap().contains(host) && allowed(n).iter().any(|name| name == host),
            "{why}"
        );
    }
}

/// That this certificate for `host` is by the declaration in force at its entry; gives its number.
fn check(entries: &[Value], host: &str, answer: &Answer) -> u32 {
    let index: usize = answer.header(INDEX_HEADER).unwrap().parse().unwrap();
    let (entry, (sha256, count)) = (&entries[index], in_force(entries, index));
    let n = count - 1;
    assert_eq!(entry["rule"]["declaration"], sha256, "{entry}");
    assert_eq!((&entry["host"], &entry["serial"]), (&host.into(), &answer.header(SERIAL_HEADER).unwrap().into()));
    assert!(allowed(n).iter().any(|name| name == host), "{host} by declaration {n}: {entry}");
    let leaf = pem::parse_many(&answer.body).unwrap().swap_remove(0).into_contents();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let validity = leaf.validity();
    let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
    assert_eq!(seconds, i64::from(n) * 86_400 + 3_600, "the certificate is by another declaration: {entry}");
    n
}
