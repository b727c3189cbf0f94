//! What hosts say that they have, and what operators see of it: issued, installed, served, and who lags.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use psfca::clock::Timestamp;
use serde_json::{Value, json};
use support::ask::{Answer, P256, ask_admin, ask_as, csr};
use support::tools::said;
use support::{Ca, Host, clock, psfca, wait_until};

const PG: &str = "pg0.iad1.psf.io";
const LB: &str = "lb0.iad1.psf.io";
const NAME: &str = "postgresql.psf.io";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn fleet(ca: &Ca, args: &[&str]) -> Vec<Value> {
    lines(&String::from_utf8(ca.psfca(&[&["fleet", "--json"], args].concat()).stdout).unwrap())
}

/// The one entry of a name on a host.
fn entry(ca: &Ca, host: &str, name: &str) -> Value {
    let found = fleet(ca, &["--host", host, "--name", name]);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

fn report(ca: &Ca, host: &Host, body: &str) -> Answer {
    let file = host.dir().join("report.json");
    std::fs::write(&file, body).unwrap();
    ask_as(ca, host, &["--data-binary", &format!("@{}", file.display())], "/v1/report")
}

/// A report of one name, with `more` fields.
fn says(name: &str, serial: &Value, more: &Value) -> Value {
    let mut said = json!({ "name": name, "serial": serial, "not_after": "2026-11-22T09:00:00Z" });
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

fn whole(names: &[Value]) -> String {
    json!({ "names": names }).to_string()
}

#[test]
fn a_host_tells_what_it_installed_and_then_nothing_until_there_is_news() {
    let mut ca = Ca::made_with("");
    let mut daemon = psfca();
    daemon.arg("serve").env("PSFCA_CONFIG", ca.config()).env("PSFCA_LOG", "debug");
    ca.serve_by(daemon);
    let host = Host::enroll(&ca, PG);
    let reports = || ca.log().lines().filter(|line| line.contains("/v1/report")).count();
    host.ok(&["issue", NAME]);
    let seen = entry(&ca, PG, NAME);
    assert_eq!((&seen["report"]["state"], &seen["report"]["serial"]), (&"installed".into(), &seen["serial"]));
    assert_eq!((&seen["allowed"], &seen["lag"]), (&true.into(), &Value::Null));
    assert_eq!(reports(), 1);

    // The first run gets the other names; the next ones have nothing to say.
    host.ok(&["renew"]);
    assert_eq!(reports(), 2);
    assert_eq!(fleet(&ca, &[]).iter().filter(|entry| entry["report"]["state"] == "installed").count(), 3);
    for _ in 0..3 {
        host.ok(&["renew"]);
    }
    host.ok(&["renew", "--force", "--dry-run"]);
    assert_eq!(reports(), 2, "no news");
    // A day later it is told again.
    let file = host.dir().join("state/told.json");
    let mut told: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let day = std::time::Duration::from_secs(86_400);
    told["at"] = Timestamp::parse(told["at"].as_str().unwrap()).unwrap().minus(day).to_string().into();
    std::fs::write(&file, told.to_string()).unwrap();
    host.ok(&["renew"]);
    assert_eq!(reports(), 3);

    // What is no longer there is no longer said to be; what was issued stays issued.
    std::fs::remove_file(host.bundle(NAME)).unwrap();
    std::fs::write(ca.dir().join("roles.yaml"), "roles:\n  postgresql: db*\n  loadbalancer: lb*\n").unwrap();
    ca.signal("HUP");
    wait_until("the name is given no longer", || entry(&ca, PG, NAME)["allowed"] == false);
    host.ok(&["renew"]);
    let seen = entry(&ca, PG, NAME);
    assert!(seen["report"].is_null() && seen["serial"].is_string(), "{seen}");
}

#[test]
fn that_the_ca_cannot_be_told_changes_no_exit_code_and_is_said() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, PG);
    std::fs::create_dir_all(host.dir().join("state/told.json/in the way")).unwrap();
    for args in [&["issue", NAME][..], &["renew"]] {
        let out = host.psfca(args);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert!(said(&out).contains("could not be told to the CA, which changes nothing here"), "{}", said(&out));
    }
    // Nor does it where the host says it too often.
    std::fs::remove_dir_all(host.dir().join("state/told.json")).unwrap();
    wait_until("the rate is used up", || report(&ca, &host, &whole(&[])).status == 429);
    let refused = report(&ca, &host, &whole(&[]));
    assert_eq!(refused.refusal(), (429, "too-many-requests".to_owned()));
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 0);
    let out = host.psfca(&["issue", NAME]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
}

#[test]
fn operators_see_how_far_each_certificate_is_and_the_newest_trouble_first() {
    let mut ca = Ca::made_with("operators: [ops0.iad1.psf.io]\n");
    ca.serve();
    assert_eq!(ca.ok(&["fleet"]), "No host holds a certificate that this asks for.\n");
    let hosts = ["ops0.iad1.psf.io", PG, LB].map(|name| Host::enroll(&ca, name));
    let [operator, pg, lb] = &hosts;
    pg.ok(&["renew"]);
    lb.ok(&["renew"]);
    let serial = |host: &str, name: &str| entry(&ca, host, name)["serial"].clone();
    let since = |hours: i64| {
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        Timestamp::from_unix(now - hours * 3_600 - 60).to_string()
    };
    let owed = json!({ "state": "owed", "since": since(2), "attempts": 3, "error": "exit code 1: no such unit" });
    let names = [
        says(NAME, &serial(PG, NAME), &json!({ "state": "served", "since": since(1) })),
        says("app.psf.io", &serial(PG, "app.psf.io"), &owed),
        says("made.psf.io", &serial(PG, "made.psf.io"), &json!({ "state": "hooked", "since": since(1) })),
    ];
    assert_eq!(report(&ca, pg, &whole(&names)).json(), json!({ "kept": 3, "unknown": 0 }));
    ca.ok(&["host", "disable", LB]);

    let all = fleet(&ca, &[]);
    let of = |entry: &Value| entry["host"].as_str().unwrap().to_owned() + " " + entry["name"].as_str().unwrap();
    let order =
        [format!("{LB} lb.psf.io"), format!("{PG} app.psf.io"), format!("{PG} made.psf.io"), format!("{PG} {NAME}")];
    assert_eq!(all.iter().map(of).collect::<Vec<_>>(), order);
    let lagging: Vec<_> = fleet(&ca, &["--lagging"]).iter().map(|entry| entry["lag"]["why"].clone()).collect();
    assert_eq!(lagging, ["host_disabled", "owed"]);
    assert_eq!(fleet(&ca, &["--name", NAME]).len(), 1);
    assert_eq!(fleet(&ca, &["--host", LB]).len(), 1);
    assert!(fleet(&ca, &["--host", "pg9.iad1.psf.io"]).is_empty());

    let masked = |text: &str| {
        // The moments of renewal are drawn, and a test may run for a second.
        let text = regex::Regex::new(r"in \d+ (hours|days)( *)").unwrap().replace_all(text, "in N $1$2").into_owned();
        regex::Regex::new(r"(just now|for \d+ seconds?):").unwrap().replace_all(&text, "for N seconds:").into_owned()
    };
    let columns = |text: &str| regex::Regex::new(" {2,}").unwrap().replace_all(text, "  ").into_owned();
    insta::assert_snapshot!("table", columns(&masked(&ca.ok(&["fleet"]))));
    insta::assert_snapshot!("lagging", columns(&masked(&ca.ok(&["fleet", "--lagging"]))));

    let why = ca.ok(&["audit", "why", serial(PG, NAME).as_str().unwrap()]);
    assert!(why.contains("pg0.iad1.psf.io said ") && why.contains(": it is served since "), "{why}");
    let metrics = ask_admin(&ca, &[], "/metrics").body;
    for line in [
        "psfca_fleet_names{part=\"all\"} 4",
        "psfca_fleet_names{part=\"lagging\"} 2",
        "psfca_fleet_names{part=\"critical\"} 0",
        "psfca_fleet_lagging_hosts 2",
        "psfca_fleet_first_end_seconds{kind=\"service\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found.starts_with(line)), "{line}: {metrics}");
    }
    // A host that ca.yaml names sees it too, and no other does.
    assert!(said(&operator.psfca(&["fleet", "--as-host"])).contains("no such unit"));
    assert_eq!(pg.psfca(&["fleet", "--as-host"]).status.code(), Some(3));
    assert_eq!(ask_as(&ca, pg, &[], "/v1/fleet").refusal(), (403, "not-an-operator".to_owned()));
}

#[test]
fn what_was_not_renewed_in_time_is_told_and_the_exit_code_says_so() {
    let mut ca = Ca::start();
    let host = Host::enroll(&ca, PG);
    host.ok(&["issue", NAME]);
    assert_eq!(ca.psfca(&["fleet"]).status.code(), Some(0));
    // It is due after 14.4 hours at the latest, and overdue 1.2 hours later; it ends soon from 18 hours on.
    for (later, why) in [("+16h", "overdue"), ("+20h", "expires_soon"), ("+25h", "expired")] {
        let mut daemon = psfca();
        daemon.arg("serve").env("PSFCA_CONFIG", ca.config());
        let Some(daemon) = clock::at(later, daemon) else { return };
        ca.serve_by(daemon);
        let lag = entry(&ca, PG, NAME)["lag"].clone();
        assert_eq!((&lag["why"], &lag["critical"]), (&why.into(), &(why != "overdue").into()), "{later}");
        let code = if why == "overdue" { 0 } else { 5 };
        let out = ca.psfca(&["fleet", "--lagging"]);
        assert_eq!(out.status.code(), Some(code), "{later}: {}", said(&out));
    }
}

#[test]
fn a_host_that_may_have_a_name_and_never_got_it_lags_an_hour_after_its_enrolment() {
    let mut ca = Ca::start();
    let host = Host::enroll(&ca, PG);
    let _nothing = Host::enroll(&ca, "web0.iad1.psf.io");
    let _timer_never_enabled = Host::enroll(&ca, LB);
    host.ok(&["issue", NAME]);
    assert_eq!(fleet(&ca, &[]).len(), 1, "nobody expects the others yet");
    let mut daemon = psfca();
    daemon.arg("serve").env("PSFCA_CONFIG", ca.config());
    let Some(daemon) = clock::at("+2h", daemon) else { return };
    ca.serve_by(daemon);
    let never: Vec<_> = fleet(&ca, &["--lagging"]).into_iter().filter(|entry| entry["serial"].is_null()).collect();
    let of =
        |entry: &Value| [&entry["host"], &entry["name"], &entry["lag"]["why"]].map(|v| v.as_str().unwrap().to_owned());
    let expected = [[LB, "lb.psf.io"], [PG, "app.psf.io"], [PG, "made.psf.io"]];
    let expected = expected.map(|[host, name]| [host, name, "never_issued"].map(str::to_owned));
    assert_eq!(never.iter().map(of).collect::<Vec<_>>(), expected);
    assert_eq!(entry(&ca, LB, "lb.psf.io"), never[0]);
    let out = ca.psfca(&["fleet"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let text = said(&out);
    for part in [
        "the host may have it and never got one; does its timer run?",
        "1 certificate in use, 0 lagging; 3 never issued.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let metrics = ask_admin(&ca, &[], "/metrics").body;
    for line in ["psfca_fleet_names{part=\"lagging\"} 3", "psfca_fleet_lagging_hosts 2"] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}

#[test]
fn what_was_printed_instead_of_installed_makes_no_host_lag() {
    let mut ca = Ca::start();
    let host = Host::enroll(&ca, PG);
    host.ok(&["renew"]);
    let file = csr(host.dir(), &P256);
    let installed = entry(&ca, PG, NAME)["serial"].clone();
    for args in [&["issue", NAME, "--stdout"][..], &["issue", NAME, "--csr", file.to_str().unwrap()]] {
        host.ok(args);
        assert_ne!(entry(&ca, PG, NAME)["serial"], installed, "{args:?}");
    }
    let mut daemon = psfca();
    daemon.arg("serve").env("PSFCA_CONFIG", ca.config());
    // The certificate that is installed is due 7 hours after its issue at the earliest.
    let Some(daemon) = clock::at("+3h", daemon) else { return };
    ca.serve_by(daemon);
    let seen = entry(&ca, PG, NAME);
    assert_eq!((&seen["report"]["serial"], &seen["lag"]), (&installed, &Value::Null), "{seen}");
}

#[test]
fn no_report_makes_another_host_look_bad_or_good() {
    let ca = Ca::start();
    let [pg, lb] = [PG, LB].map(|name| Host::enroll(&ca, name));
    pg.ok(&["issue", NAME]);
    lb.ok(&["issue", "lb.psf.io"]);
    let entry_of_lb = entry(&ca, LB, "lb.psf.io");
    let entries = ask_admin(&ca, &[], "/healthz").json()["ledger_size"].clone();
    let (installed, serial) = (json!({ "state": "installed" }), &entry_of_lb["serial"]);

    // Another's name, and one of nobody, are passed over; another's serial is none of its own.
    let names =
        [says("lb.psf.io", serial, &installed), says("x.psf.io", serial, &installed), says(NAME, serial, &installed)];
    assert_eq!(report(&ca, &pg, &whole(&names)).json(), json!({ "kept": 1, "unknown": 2 }));
    assert_eq!(entry(&ca, PG, NAME)["lag"]["why"], "unknown_serial");
    assert_eq!(entry(&ca, LB, "lb.psf.io"), entry_of_lb);
    assert_eq!(fleet(&ca, &[]).len(), 2);

    // Who asks is the connection's to say, and nothing of this is for the ledger.
    let claimed = json!({ "host": LB, "names": [says(NAME, serial, &installed)] }).to_string();
    assert_eq!(report(&ca, &pg, &claimed).status, 200);
    assert_eq!(entry(&ca, LB, "lb.psf.io"), entry_of_lb);
    assert_eq!(ask_admin(&ca, &[], "/healthz").json()["ledger_size"], entries);
    assert!(ca.ok(&["audit", "verify", ca.state().to_str().unwrap()]).contains("Everything holds."));
}

#[test]
fn what_is_no_report_is_refused_whole_and_leaves_what_was_said_before() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, PG);
    host.ok(&["issue", NAME]);
    let before = entry(&ca, PG, NAME);
    let serial = &before["serial"];
    let owed = |error: &str| json!({ "state": "owed", "since": "2026-11-21T09:00:00Z", "attempts": 1, "error": error });
    let with = |more: Value| whole(&[says(NAME, serial, &more)]);
    let many = |count| whole(&vec![says("a.psf.io", &json!("01"), &json!({ "state": "installed" })); count]);
    for (what, body, status) in [
        ("control characters", with(owed("\u{1b}[2J")), 400),
        ("two lines", with(owed("a\nb")), 400),
        ("a long text", with(owed(&"x".repeat(201))), 400),
        ("no such state", with(json!({ "state": "fine" })), 400),
        ("a serial that is none", whole(&[says(NAME, &json!("0"), &json!({ "state": "installed" }))]), 400),
        ("257 names", many(257), 400),
        ("500 names", many(500), 400),
        ("more than 64 KiB", with(owed(&"x".repeat(65_536))), 413),
        ("100,000 names", many(100_000), 413),
        ("1 MiB", with(owed(&"x".repeat(1 << 20))), 413),
    ] {
        let found = report(&ca, &host, &body).status;
        // Long after the limit the connection is cut, perhaps before curl has read the answer.
        assert!(found == status || (status == 413 && found == 0), "{what}: {found}");
    }
    assert_eq!(entry(&ca, PG, NAME), before);
    ca.ok(&["host", "disable", PG]);
    assert_eq!(report(&ca, &host, &whole(&[])).refusal(), (403, "disabled".to_owned()));
    ca.ok(&["host", "remove", PG]);
    assert_eq!(report(&ca, &host, &whole(&[])).refusal(), (403, "not-enrolled".to_owned()));
    assert!(fleet(&ca, &[]).is_empty(), "who was removed is no part of the fleet");
}

#[test]
fn a_report_that_cannot_be_read_hides_no_other() {
    let mut ca = Ca::start();
    let host = Host::enroll(&ca, PG);
    host.ok(&["renew"]);
    let before = fleet(&ca, &[]);
    assert_eq!(before.len(), 3);
    ca.terminate();
    let sql = rusqlite::Connection::open(ca.state().join("ledger.sqlite3")).unwrap();
    for damage in ["state = 'fine'", "serial = x''", "state = 'owed', since = NULL, attempts = 1"] {
        let changed = sql.execute(&format!("UPDATE report SET {damage} WHERE name = '{NAME}'"), []).unwrap();
        assert_eq!(changed, 1);
        ca.serve();
        let (mut seen, mut expected) = (fleet(&ca, &[]), before.clone());
        assert_eq!(seen.len(), 3, "{damage}");
        for entry in seen.iter_mut().chain(&mut expected).filter(|entry| entry["name"] == NAME) {
            entry.as_object_mut().unwrap().remove("report");
        }
        assert_eq!(seen, expected, "{damage}");
        ca.wait_for_log("what pg0.iad1.psf.io said of postgresql.psf.io cannot be read");
        ca.terminate();
    }
}
