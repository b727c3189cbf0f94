//! Who gets what: the table in docs/security.md, walked against a running daemon by every kind of caller.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use psfca::api::routes;
use serde_json::{Value, json};
use support::ask::{Answer, P256, ask, ask_admin, ask_to_be, csr, enroll, identity_file, key_hash, secret};
use support::minion::{Master, Request};
use support::{Ca, clock, psfca};

const SECURITY: &str = include_str!("../docs/security.md");
const OPENAPI: &str = include_str!("../docs/openapi.json");

/// No answer at all: TLS refuses the caller's certificate.
const NO_CONNECTION: &str = "–";
/// The path is not served to this caller, as if there were none.
const NO_PATH: &str = "·";

/// The table: for each endpoint, and each caller in the head of the table, the answer.
fn table() -> BTreeMap<String, BTreeMap<String, String>> {
    let lines = SECURITY.lines().skip_while(|line| !line.starts_with("| endpoint |"));
    let mut rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>()
    });
    let callers = rows.next().expect("docs/security.md has the table");
    rows.skip(1)
        .map(|row| {
            assert_eq!(row.len(), callers.len(), "{row:?}");
            let answers = callers.iter().cloned().zip(row.iter().cloned()).skip(1);
            (row[0].clone(), answers.collect())
        })
        .collect()
}

/// A daemon with hosts in every state, each as what it shows to the daemon.
struct World {
    ca: Ca,
    /// What each caller of the table shows; the admin socket asks for nothing.
    identities: BTreeMap<&'static str, Option<PathBuf>>,
    request: PathBuf,
    declaration: String,
    /// A Salt master that has accepted the one key in `minion` for all of [`salt_hosts`].
    master: Master,
    minion: PathBuf,
    /// How many hosts enrolled so far, so that each gets a name of its own.
    hosts: Cell<u32>,
    // The directory of the other CA's identity.
    _other: Ca,
}

const DAY: u32 = 86_400;
/// The host that waits to be approved.
const WAITING: &str = "pg8.iad1.psf.io";

/// Hosts with the key of a Salt minion, one for each caller.
fn salt_hosts() -> impl Iterator<Item = String> {
    (200..220).map(|number| format!("pg{number}.iad1.psf.io"))
}

impl World {
    /// None, said aloud, without libfaketime.
    fn make() -> Option<Self> {
        let config = "operators: [ops0.iad1.psf.io]\nlimits: {enroll_burst: 1000}\n";
        let [mut ca, mut other] = [Ca::made_with(config), Ca::made_with("")];
        // So that there is one to be told of.
        ca.ok(&["recover", "--seen", "99", "--yes"]);
        let time = ca.dir().join("time");
        let set = |days: u32| std::fs::write(&time, format!("+{}s", days * DAY)).unwrap();
        set(0);
        for ca in [&mut ca, &mut other] {
            let mut daemon = psfca();
            daemon.arg("serve").env("PSFCA_CONFIG", ca.config());
            ca.serve_by(clock::by_file(&time, daemon)?);
        }
        let enrolled = |ca: &Ca, host: &str| {
            let request = csr(ca.dir(), &P256);
            identity_file(&enroll(ca, &secret(&ca.token(host)), &request), &request)
        };
        // Thirty days of life and seven of grace.
        let expired = enrolled(&ca, "pg1.iad1.psf.io");
        set(9);
        let in_grace = enrolled(&ca, "pg2.iad1.psf.io");
        set(40);
        let right = enrolled(&ca, "pg0.iad1.psf.io");
        let frozen = enrolled(&ca, "pg3.iad1.psf.io");
        let request = csr(ca.dir(), &P256);
        let post = |identity: &PathBuf, request: &PathBuf, path: &str| {
            let body = format!("@{}", request.display());
            let shown = ["--insecure", "--cert", identity.to_str().unwrap()];
            let what = ["--header", "Content-Type: application/pkcs10", "--data-binary", &body];
            ask(&ca, &[&shown[..], &what].concat(), path)
        };
        let service = identity_file(&post(&right, &request, "/v1/certs/app.psf.io"), &request);
        assert_eq!(post(&frozen, &request, "/v1/identity").status, 200);
        let second = csr(ca.dir(), &P256);
        assert_eq!(post(&frozen, &second, "/v1/identity").refusal(), (403, "frozen".to_owned()));
        let disabled = enrolled(&ca, "pg4.iad1.psf.io");
        ca.ok(&["host", "disable", "pg4.iad1.psf.io", "--reason", "for the table"]);
        let removed = enrolled(&ca, "pg5.iad1.psf.io");
        ca.ok(&["host", "remove", "pg5.iad1.psf.io"]);
        let replaced = enrolled(&ca, "pg6.iad1.psf.io");
        let next = csr(ca.dir(), &P256);
        let token = ca.ok(&["token", "pg6.iad1.psf.io", "--replace"]);
        assert_eq!(enroll(&ca, &secret(token.trim()), &next).status, 200);
        let identities = BTreeMap::from([
            ("no certificate", None),
            ("another CA's", Some(enrolled(&other, "pg0.iad1.psf.io"))),
            ("service leaf", Some(service)),
            ("expired", Some(expired)),
            ("in grace", Some(in_grace)),
            ("frozen", Some(frozen)),
            ("disabled", Some(disabled)),
            ("removed", Some(removed)),
            ("replaced", Some(replaced)),
            ("wrong host", Some(enrolled(&ca, "lb0.iad1.psf.io"))),
            ("right host", Some(right)),
            ("operator host", Some(enrolled(&ca, "ops0.iad1.psf.io"))),
            ("admin socket", None),
        ]);
        enrolled(&ca, "pg7.iad1.psf.io");
        assert_eq!(ask_to_be(&ca, WAITING, &request).status, 202);
        let master = Master::new();
        let minion = master.key(support::minion::HOST);
        for host in salt_hosts() {
            std::fs::copy(master.public(support::minion::HOST, "minions"), master.public(&host, "minions")).unwrap();
        }
        assert!(master.import(&ca).status.success());
        let health = ask(&ca, &["--insecure"], "/healthz").json();
        let declaration = health["declaration"]["sha256"].as_str().unwrap().to_owned();
        Some(Self { ca, identities, request, declaration, master, minion, hosts: Cell::new(100), _other: other })
    }

    /// A host that nobody has heard of.
    fn new_host(&self) -> String {
        self.hosts.set(self.hosts.get() + 1);
        format!("pg{}.iad1.psf.io", self.hosts.get())
    }

    /// The path of a request that is right but for who asks, and its body, for those that have one.
    fn request(&self, route: &str) -> (String, Option<(&'static str, String)>) {
        let (method, path) = route.split_once(' ').unwrap();
        let path = match path {
            "/v1/ledger/consistency" => "/v1/ledger/consistency?old=1&new=2".to_owned(),
            path => path
                .replace("{name}", "postgresql.psf.io")
                .replace("{*path}", "0/000.p/2")
                .replace("{host}", if path.contains("/requests/") { WAITING } else { "pg7.iad1.psf.io" })
                .replace("{sha256}", &self.declaration),
        };
        let json = |value: Value| Some(("application/json", value.to_string()));
        let csr = || std::fs::read_to_string(&self.request).unwrap();
        let body = match route {
            _ if method == "GET" => None,
            "POST /v1/identity" | "POST /v1/certs/{name}" => Some(("application/pkcs10", csr())),
            "POST /v1/enroll" => json(json!({ "secret": secret(&self.ca.token(&self.new_host())), "csr": csr() })),
            "POST /v1/enroll/request" => json(json!({ "host": WAITING, "csr": csr() })),
            "POST /v1/enroll/challenge" => Some(("application/json", String::new())),
            "POST /v1/enroll/salt" => {
                let host = salt_hosts().nth(usize::try_from(self.hosts.replace(self.hosts.get() + 1)).unwrap() % 20);
                let signed =
                    Request { key: self.minion.clone(), ..Request::new(&self.ca, &self.master, &host.unwrap()) };
                json(signed.body())
            }
            "POST /v1/requests/{host}" => json(json!({ "action": "approve", "key_sha256": key_hash(&self.request) })),
            "POST /v1/salt-keys" => {
                let key = std::fs::read_to_string(self.master.public(support::minion::HOST, "minions")).unwrap();
                json(json!({ "keys": salt_hosts().map(|host| (host, key.clone())).collect::<BTreeMap<_, _>>() }))
            }
            "POST /v1/report" => json(json!({ "names": [] })),
            "POST /v1/hosts/{host}" => json(json!({ "action": "disable" })),
            "POST /v1/reopen" => json(json!({ "hosts": 1 })),
            "POST /v1/tokens" => json(json!({ "host": self.new_host() })),
            route => panic!("say here what is posted to {route}"),
        };
        (path, body)
    }

    fn ask(&self, caller: &str, route: &str) -> Answer {
        let (path, body) = self.request(route);
        let mut args = Vec::new();
        let header = body.as_ref().map(|(kind, _)| format!("Content-Type: {kind}"));
        if let (Some(header), Some((_, body))) = (&header, &body) {
            args.extend(["--header", header, "--data-binary", body]);
        }
        if caller == "admin socket" {
            return ask_admin(&self.ca, &args, &path);
        }
        // The daemon's clock is ahead, so its certificate is not valid yet for curl.
        args.push("--insecure");
        let identity = &self.identities[caller];
        if let Some(identity) = identity {
            args.extend(["--cert", identity.to_str().unwrap()]);
        }
        ask(&self.ca, &args, &path)
    }
}

#[test]
fn r2_every_kind_of_caller_gets_on_every_endpoint_what_the_table_in_the_docs_says_and_no_endpoint_is_missing() {
    let table = table();
    let served: BTreeSet<_> = routes().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(
        table.keys().cloned().collect::<BTreeSet<_>>(),
        served,
        "the endpoints of the table in docs/security.md"
    );
    let Some(world) = World::make() else { return };
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut wrong = Vec::new();
    for (route, expected) in &table {
        let callers: BTreeSet<_> = expected.keys().map(String::as_str).collect();
        assert_eq!(callers, world.identities.keys().copied().collect(), "the callers of the table");
        let (method, path) = route.split_once(' ').unwrap();
        let operation = &document["paths"][path][method.to_lowercase()];
        for (caller, expected) in expected {
            let answer = world.ask(caller, route);
            let found = match answer.status {
                0 if answer.body.contains("alert") => NO_CONNECTION.to_owned(),
                status @ 200..300 => status.to_string(),
                _ if answer.problem() == "no-such-path" => NO_PATH.to_owned(),
                _ => answer.problem(),
            };
            if found != *expected {
                wrong.push(format!("{route} by {caller}: {found}, and the table says {expected}: {answer:?}"));
            }
            let listener = if caller == "admin socket" { "admin" } else { "network" };
            let described = operation["x-listeners"].as_array().unwrap().contains(&listener.into());
            assert!(!described || found != NO_PATH, "docs/openapi.json has {route} on the {listener} listener");
            if found != NO_CONNECTION && described {
                let content = &operation["responses"][answer.status.to_string()]["content"];
                let kind = answer.header("content-type").split(';').next().unwrap();
                let known = content.as_object().is_some_and(|kinds| kinds.keys().any(|known| known.starts_with(kind)));
                assert!(known, "{route} answers {} with {kind}, which docs/openapi.json does not say", answer.status);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
