//! Rule R3: a good declaration comes in force, and a bad one never replaces it, not even across kill -9.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;
use support::ask::{P256, ask, ask_admin, ask_as, csr, post_csr};
use support::{Ca, Host, ROLES_YAML, TLS_YAML, wait_until};

const POSTGRESQL: &str = "/v1/certs/postgresql.psf.io";

fn tls_yaml(ca: &Ca) -> PathBuf {
    ca.dir().join("tls.yaml")
}

/// The declaration with one name more.
fn with_name(name: &str) -> String {
    format!("{TLS_YAML}    {name}:\n      roles: [postgresql]\n")
}

fn health(ca: &Ca) -> Value {
    ask_admin(ca, &[], "/healthz").json()
}

fn problem(ca: &Ca) -> String {
    health(ca)["declaration"]["problem"].as_str().unwrap_or_default().to_owned()
}

fn names(ca: &Ca, host: &Host) -> Vec<String> {
    let answer = ask_as(ca, host, &[], "/v1/certs").json();
    answer["certs"].as_array().unwrap().iter().map(|cert| cert["name"].as_str().unwrap().to_owned()).collect()
}

/// How often a declaration came in force, as the ledger says.
fn changes(ca: &Ca) -> usize {
    let ledger = rusqlite::Connection::open(ca.state().join("ledger.sqlite3")).unwrap();
    let mut rows = ledger.prepare("SELECT bytes FROM entry ORDER BY idx").unwrap();
    let entries = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let entries = entries.map(|bytes| serde_json::from_slice::<Value>(&bytes.unwrap()).unwrap());
    entries.filter(|entry| entry["event"] == "declaration").count()
}

#[test]
fn a_good_change_comes_in_force_on_sighup_and_by_itself() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    assert!(!names(&ca, &host).contains(&"new.psf.io".to_owned()));
    std::fs::write(tls_yaml(&ca), with_name("new.psf.io")).unwrap();
    ca.signal("HUP");
    wait_until("it is in force on SIGHUP", || names(&ca, &host).contains(&"new.psf.io".to_owned()));

    // Without a signal, and by a rename, as configuration management does it.
    let fresh = ca.dir().join("tls.yaml.new");
    std::fs::write(&fresh, with_name("newer.psf.io")).unwrap();
    std::fs::rename(&fresh, tls_yaml(&ca)).unwrap();
    wait_until("it is in force by itself", || names(&ca, &host).contains(&"newer.psf.io".to_owned()));
    assert!(!names(&ca, &host).contains(&"new.psf.io".to_owned()));
    assert_eq!(health(&ca)["declaration"]["names"], 5);
    assert_eq!(health(&ca)["status"], "ok");
}

#[test]
fn the_ledger_has_one_entry_for_each_change_and_none_for_what_is_in_force_already() {
    let mut ca = Ca::start();
    assert_eq!(changes(&ca), 1);
    ca.signal("HUP");
    ca.wait_for_log("the declaration is unchanged");
    assert_eq!(changes(&ca), 1);
    for (text, wanted) in [(with_name("new.psf.io"), 2), (TLS_YAML.to_owned(), 3)] {
        std::fs::write(tls_yaml(&ca), text).unwrap();
        ca.signal("HUP");
        wait_until("the change is recorded", || changes(&ca) == wanted);
    }
    ca.serve();
    assert_eq!(changes(&ca), 3, "a restart changes nothing");
}

#[test]
fn a_role_that_is_taken_away_stops_the_next_renewal_at_once() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let request = csr(host.dir(), &P256);
    assert_eq!(post_csr(&ca, &host, &request, POSTGRESQL).status, 200);
    let renew = || host.psfca(&["renew", "--force"]);
    assert_eq!(renew().status.code(), Some(0));
    let before = std::fs::read(host.bundle("postgresql.psf.io")).unwrap();

    std::fs::write(ca.dir().join("roles.yaml"), ROLES_YAML.replace("pg*", "pg[1-9]*")).unwrap();
    ca.signal("HUP");
    ca.wait_for_log("a new declaration is in force");
    assert_eq!(post_csr(&ca, &host, &request, POSTGRESQL).refusal(), (403, "denied".to_owned()));
    assert!(names(&ca, &host).is_empty());
    renew();
    assert_eq!(std::fs::read(host.bundle("postgresql.psf.io")).unwrap(), before, "what is there is kept, not renewed");
}

/// Spoils the files, and says what health has to tell of it.
type Spoil = (&'static str, fn(&Ca), &'static str);

fn write(ca: &Ca, text: &str) {
    std::fs::write(tls_yaml(ca), text).unwrap();
}

fn remove(ca: &Ca) {
    let path = tls_yaml(ca);
    if path.is_dir() { std::fs::remove_dir(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
}

const SPOILT: [Spoil; 8] = [
    ("a mistake", |ca| write(ca, &TLS_YAML.replace("days: 30", "days: 900")), "tls.yaml:8:13: "),
    ("an empty file", |ca| write(ca, ""), "tls.yaml is empty"),
    ("no names at all", |ca| write(ca, "tls: {}\n"), "no name is declared"),
    ("no UTF-8", |ca| std::fs::write(tls_yaml(ca), b"tls: \xff\n").unwrap(), "UTF-8"),
    ("a missing file", remove, "tls.yaml cannot be read: No such file"),
    ("what cannot be read as a file", |ca| std::fs::create_dir(tls_yaml(ca)).unwrap(), "tls.yaml is no regular file"),
    (
        "a file that anyone can write",
        |ca| {
            remove(ca);
            write(ca, &with_name("world.psf.io"));
            std::fs::set_permissions(tls_yaml(ca), PermissionsExt::from_mode(0o666)).unwrap();
        },
        "tls.yaml can be written by anyone",
    ),
    (
        "a name that is the CA's own",
        |ca| {
            remove(ca);
            write(ca, &with_name("localhost"));
        },
        "localhost",
    ),
];

#[test]
fn a_bad_declaration_never_replaces_a_good_one_and_everything_says_so() {
    let mut ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let request = csr(host.dir(), &P256);
    let [good, own] = [health(&ca)["declaration"]["sha256"].clone(), names(&ca, &host).into()];
    for (what, spoil, told) in SPOILT {
        spoil(&ca);
        ca.signal("HUP");
        wait_until(&format!("health tells of {what}"), || problem(&ca).contains(told));
        let still_good = |ca: &Ca| {
            let health = health(ca);
            assert_eq!((&health["declaration"]["sha256"], &health["status"]), (&good, &"warning".into()), "{what}");
            assert_eq!(Value::from(names(ca, &host)), own, "{what}");
            assert_eq!(post_csr(ca, &host, &request, POSTGRESQL).status, 200, "{what}");
            let metrics = ask_admin(ca, &[], "/metrics").body;
            assert!(metrics.contains("psfca_declaration_current 0\n"), "{what}: {metrics}");
        };
        still_good(&ca);
        assert!(ca.log().contains("the new declaration is not in force; the last good one stays"), "{what}");

        // kill -9, and the bad files are all that the next daemon finds.
        ca.serve();
        assert!(problem(&ca).contains(told), "{what}: {}", problem(&ca));
        still_good(&ca);
        assert!(ca.log().contains("the last good one stays in force"), "{what}");
    }
    assert_eq!(changes(&ca), 1);
    remove(&ca);
    write(&ca, &with_name("new.psf.io"));
    wait_until("the repaired files are in force", || names(&ca, &host).contains(&"new.psf.io".to_owned()));
    assert_eq!((problem(&ca).as_str(), &health(&ca)["status"]), ("", &"ok".into()));
    assert!(ask_admin(&ca, &[], "/metrics").body.contains("psfca_declaration_current 1\n"));
}

#[test]
fn the_network_is_told_that_the_files_are_not_in_force_and_nothing_that_they_say() {
    let ca = Ca::start();
    // Twenty thousand mistakes, each with a text of the file in it.
    let keys = "    secret-name.psf.io: {}\n".repeat(20_000);
    write(&ca, &format!("{TLS_YAML}{keys}"));
    ca.signal("HUP");
    wait_until("health tells operators", || problem(&ca).contains("secret-name.psf.io"));
    assert!(problem(&ca).ends_with(" more") && problem(&ca).len() < 10_000, "{}", problem(&ca).len());
    assert!(ca.log().len() < 100_000, "{}", ca.log().len());

    let answer = ask(&ca, &[], "/healthz");
    let told = answer.json()["declaration"].clone();
    assert_eq!(told["problem"], "what lies in the files is not in force; psfca check on the CA machine says why");
    assert!(!answer.body.contains("secret-name") && !answer.body.contains("tls.yaml"), "{answer:?}");

    // Since when stays as it is for as long as there is any mistake.
    let since = told["problem_since"].clone();
    assert!(since.as_str().unwrap() >= told["since"].as_str().unwrap(), "{told}");
    write(&ca, "");
    ca.signal("HUP");
    wait_until("health tells the other mistake", || problem(&ca).contains("is empty"));
    assert_eq!(ask(&ca, &[], "/healthz").json()["declaration"]["problem_since"], since);
}

#[test]
fn a_first_start_without_a_good_declaration_is_refused() {
    let ca = Ca::made_with("");
    write(&ca, "");
    let out = ca.psfca(&["serve"]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("there is no declaration to work by") && said.contains("tls.yaml is empty"), "{said}");
}

#[test]
fn a_declaration_that_could_not_be_recorded_is_not_in_force_until_it_is() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let lock = rusqlite::Connection::open(ca.state().join("ledger.sqlite3")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    write(&ca, &with_name("new.psf.io"));
    ca.signal("HUP");
    wait_until("health tells of the ledger", || problem(&ca).contains("the declaration could not be recorded"));
    assert!(!names(&ca, &host).contains(&"new.psf.io".to_owned()));
    lock.execute_batch("ROLLBACK").unwrap();
    wait_until("it is in force by itself", || names(&ca, &host).contains(&"new.psf.io".to_owned()));
    assert_eq!(problem(&ca), "");
}
