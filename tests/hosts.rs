//! Operators and hosts: who is known, what each may have and has, and what disabling and removing do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::process::Stdio;

use serde_json::Value;
use support::ask::{P256, ask_as, csr, post_csr};
use support::tools::said;
use support::{Ca, Host, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const NAME: &str = "postgresql.psf.io";
const HOST: &str = "pg0.iad1.psf.io";

/// One JSON object per line.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn show(ca: &Ca, host: &str) -> Value {
    serde_json::from_str(&ca.ok(&["host", "show", host, "--json"])).unwrap()
}

fn states(ca: &Ca) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines(&ca.ok(&["host", "list", "--json"])).iter().map(|host| (text(&host["host"]), text(&host["state"]))).collect()
}

/// That this command fails with 1 and says `text`.
fn refused(ca: &Ca, args: &[&str], text: &str) {
    let out = ca.psfca(args);
    assert_eq!(out.status.code(), Some(1), "{args:?}: {}", said(&out));
    assert!(said(&out).contains(text), "{text:?} in {}", said(&out));
}

#[test]
fn an_operator_sees_each_host_what_it_may_have_by_which_lines_and_all_that_it_has() {
    let ca = Ca::start();
    assert!(ca.ok(&["host", "list"]).starts_with("No host is enrolled"));
    let host = Host::enroll(&ca, HOST);
    let _idle = Host::enroll(&ca, "web0.iad1.psf.io");
    host.ok(&["issue", NAME]);
    host.ok(&["issue", NAME]);
    let newest = lines(&ca.ok(&["audit", "list", "--name", NAME, "--limit", "1", "--json"]));

    let enabled = |host: &str| (host.to_owned(), "enabled".to_owned());
    assert_eq!(states(&ca), [enabled(HOST), enabled("web0.iad1.psf.io")]);
    let shown = show(&ca, HOST);
    let names: Vec<_> = shown["may_have"].as_array().unwrap().iter().map(|grant| &grant["name"]).collect();
    assert_eq!(names, ["app.psf.io", "made.psf.io", NAME]);
    let rule = &shown["may_have"][2]["rule"];
    assert_eq!((&rule["listed"]["line"], &rule["defined"]["line"]), (&6.into(), &2.into()), "{rule}");
    let has: Vec<_> = shown["has"].as_array().unwrap().iter().map(|held| &held["name"]).collect();
    assert_eq!(has, [HOST, NAME, NAME], "who steals the host's disk may find each of them");
    assert_eq!(shown["has"][1]["serial"], newest[0]["serial"], "the newest of the two first");
    assert_eq!(shown["has_more"], 0);
    let text = ca.ok(&["host", "show", HOST]);
    for part in [
        "postgresql.psf.io  1 day, server, ecdsa-p256",
        "tls.yaml:6: it lists the role postgresql",
        "roles.yaml:2: postgresql is \"pg*.iad1.psf.io\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(ca.ok(&["host", "show", "web0.iad1.psf.io"]).contains("  nothing; psfca why NAME web0.iad1.psf.io says"));

    for certificate in shown["has"].as_array().unwrap() {
        assert!(text.contains(certificate["serial"].as_str().unwrap()), "{certificate}: {text}");
    }

    // What the declaration gives no longer is told apart.
    let roles = std::fs::read_to_string(ca.dir().join("roles.yaml")).unwrap();
    std::fs::write(ca.dir().join("roles.yaml"), roles.replace("pg*", "db*")).unwrap();
    ca.signal("HUP");
    wait_until("the new declaration is in force", || show(&ca, HOST)["may_have"].as_array().unwrap().is_empty());
    assert!(ca.ok(&["host", "show", HOST]).contains("may have it no longer"));
    refused(&ca, &["host", "show", "pg9.iad1.psf.io"], "pg9.iad1.psf.io is not known here: it was never enrolled");
}

#[test]
fn a_disabled_host_gets_nothing_until_it_is_enabled_and_the_audit_says_who_did_it_and_why() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    let request = csr(host.dir(), &P256);
    let everything = ["/v1/identity", "/v1/certs/postgresql.psf.io"];
    let said = ca.ok(&["host", "disable", HOST, "--reason", "lost, \"perhaps\" stolen"]);
    assert!(said.starts_with("pg0.iad1.psf.io is disabled: it gets nothing from now on."), "{said}");
    for path in everything {
        assert_eq!(post_csr(&ca, &host, &request, path).refusal(), (403, "disabled".to_owned()), "{path}");
    }
    for path in ["/v1/certs", "/v1/audit", "/v1/ledger/checkpoint"] {
        assert_eq!(ask_as(&ca, &host, &[], path).refusal(), (403, "disabled".to_owned()), "{path}");
    }
    assert!(ca.ok(&["host", "disable", HOST]).contains("was disabled already; nothing changed"));
    let shown = show(&ca, HOST);
    assert_eq!((&shown["state"], &shown["remark"]), (&"disabled".into(), &"lost, \"perhaps\" stolen".into()));

    assert!(ca.ok(&["host", "enable", HOST, "--reason", "found"]).contains("is enabled, and served again"));
    for path in everything {
        assert_eq!(post_csr(&ca, &host, &request, path).status, 200, "{path}");
    }
    let me = rustix::process::getuid().as_raw();
    let events = |kind: &str| lines(&ca.ok(&["audit", "list", "--event", kind, "--json"]));
    for (kind, remark) in [("host_disabled", "lost, \"perhaps\" stolen"), ("host_enabled", "found")] {
        let [event] = &events(kind)[..] else { panic!("{kind}: one event for one change") };
        assert_eq!(
            (&event["host"], &event["operator_uid"], &event["remark"]),
            (&HOST.into(), &me.into(), &remark.into())
        );
    }
    assert!(ca.ok(&["audit", "list"]).contains("(lost, \"perhaps\" stolen)"));
    assert!(ca.ok(&["audit", "list", "--csv"]).contains(",\"lost, \"\"perhaps\"\" stolen\","));
    assert!(ca.ok(&["audit", "verify", ca.state().to_str().unwrap()]).contains("Everything holds."));
    for reason in ["", "two\nlines", "\u{1b}[2J", &"x".repeat(201)] {
        let out = ca.psfca(&["host", "disable", HOST, "--reason", reason]);
        assert_eq!(out.status.code(), Some(2), "{reason:?}: {}", support::tools::said(&out));
    }
    assert_eq!(states(&ca)[0].1, "enabled");
}

/// One request on a connection that stays open, by `openssl s_client`.
async fn request(client: &mut tokio::process::Child) -> String {
    let (input, output) = (client.stdin.as_mut().unwrap(), client.stdout.as_mut().unwrap());
    input.write_all(b"GET /v1/certs HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    // The answer's body is one JSON object, and nothing follows it.
    while !answer.trim_end().ends_with('}') {
        let mut octets = [0; 4_096];
        let read = tokio::time::timeout(support::PATIENCE, output.read(&mut octets)).await.unwrap().unwrap();
        assert!(read > 0, "the connection was closed: {answer}");
        answer.push_str(std::str::from_utf8(&octets[..read]).unwrap());
    }
    answer
}

#[tokio::test]
async fn disabling_and_removing_act_on_a_connection_that_is_open() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    let identity = host.identity();
    let mut client = tokio::process::Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", ca.address(), "-servername", "localhost"])
        .args(["-cert", identity.to_str().unwrap(), "-cert_chain", identity.to_str().unwrap()])
        .args(["-key", identity.to_str().unwrap(), "-CAfile", ca.trust_bundle().to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    assert!(request(&mut client).await.starts_with("HTTP/1.1 200"));
    for (args, status, problem) in [
        (["host", "disable", HOST], "HTTP/1.1 403", "urn:psfca:problem:disabled"),
        (["host", "enable", HOST], "HTTP/1.1 200", NAME),
        (["host", "remove", HOST], "HTTP/1.1 403", "urn:psfca:problem:not-enrolled"),
    ] {
        ca.ok(&args);
        let answer = request(&mut client).await;
        assert!(answer.starts_with(status) && answer.contains(problem), "{args:?}: {answer}");
    }
}

#[test]
fn a_removed_host_comes_back_with_a_token_that_replaces_and_not_otherwise() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, HOST);
    let before = ca.ok(&["token", HOST, "--replace"]);
    ca.ok(&["host", "remove", HOST]);
    let request = csr(host.dir(), &P256);
    assert_eq!(post_csr(&ca, &host, &request, "/v1/identity").refusal(), (403, "not-enrolled".to_owned()));
    for action in ["enable", "disable"] {
        refused(&ca, &["host", action, HOST], "pg0.iad1.psf.io was removed; it has to enrol again: psfca token");
    }
    refused(&ca, &["token", HOST], "pg0.iad1.psf.io is removed; an operator can make a token that lets it come back");
    let again = Host::new(HOST);
    let out = again.enroll_with(before.trim());
    assert_eq!(out.status.code(), Some(3), "a token from before the removal: {}", said(&out));
    assert_eq!(states(&ca), [(HOST.to_owned(), "removed".to_owned())]);

    let out = again.enroll_with(ca.ok(&["token", HOST, "--replace"]).trim());
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(states(&ca), [(HOST.to_owned(), "enabled".to_owned())]);
    again.ok(&["issue", NAME]);
    let identities: Vec<_> = show(&ca, HOST)["has"].as_array().unwrap()[..2].to_vec();
    assert_eq!(identities.iter().map(|has| &has["void"]).collect::<Vec<_>>(), [&Value::Null, &true.into()]);
    assert!(ca.ok(&["host", "show", HOST]).contains("void: the host enrolled again since"));
    assert!(ca.ok(&["audit", "verify", ca.state().to_str().unwrap()]).contains("Everything holds."));
    refused(&ca, &["host", "remove", "pg9.iad1.psf.io"], "it was never enrolled");
}

#[test]
fn a_host_that_ca_yaml_names_may_list_show_and_disable_and_no_more() {
    let mut ca = Ca::made_with("operators: [ops0.iad1.psf.io]\n");
    ca.serve();
    let operator = Host::enroll(&ca, "ops0.iad1.psf.io");
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let asked = |by: &Host, words: &[&str]| by.psfca(&[&["host"], words, &["--as-host"]].concat());

    let listed = asked(&operator, &["list"]);
    assert!(said(&listed).contains("pg0.iad1.psf.io"), "{}", said(&listed));
    assert!(said(&asked(&operator, &["show", "pg0.iad1.psf.io"])).contains("postgresql.psf.io"));
    let disabled = asked(&operator, &["disable", "pg0.iad1.psf.io", "--reason", "stolen"]);
    assert!(disabled.status.success(), "{}", said(&disabled));
    assert_eq!(host.psfca(&["issue", "postgresql.psf.io"]).status.code(), Some(3));
    let entry = ca.ok(&["audit", "list", "--event", "host_disabled", "--json"]);
    assert!(entry.contains(r#""operator_host":"ops0.iad1.psf.io""#) && !entry.contains("operator_uid"), "{entry}");

    for words in [["enable", "pg0.iad1.psf.io"], ["remove", "pg0.iad1.psf.io"]] {
        let refused = asked(&operator, &words);
        assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
        assert!(said(&refused).contains("this can be done on the admin socket only"), "{}", said(&refused));
    }
    // Who is not named, and who is no longer served, is no operator.
    ca.ok(&["host", "enable", "pg0.iad1.psf.io"]);
    for words in [&["list"][..], &["show", "ops0.iad1.psf.io"], &["disable", "ops0.iad1.psf.io"]] {
        let refused = asked(&host, words);
        assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
        assert!(said(&refused).contains("the hosts that ca.yaml names under operators"), "{}", said(&refused));
    }
    ca.ok(&["host", "disable", "ops0.iad1.psf.io"]);
    assert!(said(&asked(&operator, &["list"])).contains("ops0.iad1.psf.io is disabled"));
}
