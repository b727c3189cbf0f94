//! Names that are to be taken for another's: none gets a token, none reaches the ledger.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use support::ask::{Answer, ask, ask_admin, ask_as};
use support::tools::said;
use support::{Ca, Host};

/// Of 253 characters, the most that a name has.
fn longest() -> String {
    let name = format!("{}.psf.io", vec!["a".repeat(62); 4].join(".").split_off(5));
    assert_eq!(name.len(), 253);
    name
}

fn tricks() -> Vec<String> {
    let fixed = [
        "",
        " ",
        ".",
        "..",
        "../../etc/passwd",
        "..%2fpg0.iad1.psf.io",
        "pg0.iad1.psf.io/../lb0.iad1.psf.io",
        "pg0.iad1.psf.io/",
        "pg0%2eiad1.psf.io",
        "pg0%252eiad1.psf.io",
        "pg0.iad1.psf.io%00",
        "PG0.iad1.psf.io",
        "pg0.iad1.PSF.io",
        "pg0.iad1.psf.io.",
        ".pg0.iad1.psf.io",
        "pg0..iad1.psf.io",
        "pg0.iad1.psf.io ",
        "\tpg0.iad1.psf.io",
        "pg0.iad1.psf.io\n",
        "pg0.iad1.psf.io\r\nX: y",
        "pg0.iad1.psf.io\0",
        "pg0.iad1.psf.io\0.evil.example",
        "*",
        "*.iad1.psf.io",
        "pg*.iad1.psf.io",
        "pg[0-9].iad1.psf.io",
        "E@pg0.iad1.psf.io",
        "pg0.iad1.psf.io,pg1.iad1.psf.io",
        "pg0_iad1.psf.io",
        "-pg0.iad1.psf.io",
        "pg0-.iad1.psf.io",
        "10.0.0.1",
        "::1",
        "[::1]",
        "pg0.iad1.psf.io:443",
        "https://pg0.iad1.psf.io",
        "root@pg0.iad1.psf.io",
        // Look-alikes: Cyrillic p and i, a letter and a dot of full width, a Turkish i, a joiner that nobody sees.
        "\u{0440}g0.iad1.psf.io",
        "pg0.iad1.psf.\u{0456}o",
        "\u{ff50}g0.iad1.psf.io",
        "pg0\u{3002}iad1.psf.io",
        "pg0.\u{0131}ad1.psf.io",
        "pg0\u{200d}.iad1.psf.io",
    ];
    let too_long = [format!("a{}", longest()), format!("{}.psf.io", "a".repeat(64)), "a".repeat(60_000)];
    fixed.into_iter().map(ToOwned::to_owned).chain(too_long).collect()
}

fn token_by_api(ca: &Ca, body: &str) -> Answer {
    let file = ca.dir().join("body.json");
    std::fs::write(&file, body).unwrap();
    let body = format!("@{}", file.display());
    ask_admin(ca, &["--header", "Content-Type: application/json", "--data-binary", &body], "/v1/tokens")
}

#[test]
fn no_token_is_made_for_what_is_no_hosts_name() {
    let ca = Ca::start();
    for trick in tricks() {
        let answer = token_by_api(&ca, &serde_json::json!({ "host": trick }).to_string());
        assert_eq!(answer.refusal(), (400, "malformed".to_owned()), "{trick:?}");
        // An argument cannot hold a NUL.
        if !trick.contains('\0') {
            let output = ca.psfca(&["token", "--", &trick]);
            assert!(!output.status.success(), "{trick:?}: {}", said(&output));
            assert!(output.stdout.is_empty(), "{trick:?}: {}", said(&output));
        }
    }
    // Nor for two hosts at once, or for one among other things.
    for body in [
        r#"{"host":"pg0.iad1.psf.io","host":"lb0.iad1.psf.io"}"#,
        r#"{"host":["pg0.iad1.psf.io","lb0.iad1.psf.io"]}"#,
        r#"{"host":"pg0.iad1.psf.io","Host":"lb0.iad1.psf.io"}"#,
        r#"{"host":"pg0.iad1.psf.io","replace":"true"}"#,
        r#"{"host":null}"#,
        r#"{"host":"pg0.iad1.psf.io"}{"host":"lb0.iad1.psf.io"}"#,
        &"[".repeat(60_000),
    ] {
        assert_eq!(token_by_api(&ca, body).refusal(), (400, "malformed".to_owned()), "{body}");
    }
    assert_eq!(ca.ok(&["audit", "list", "--event", "token_made", "--json"]), "");
    assert_eq!(ask_admin(&ca, &[], "/v1/hosts").json(), serde_json::json!([]));
}

#[test]
fn a_host_whose_name_has_253_characters_is_a_host_like_any_other() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, &longest());
    let answer = ask_as(&ca, &host, &[], "/v1/certs").json();
    assert_eq!((&answer["host"], &answer["certs"]), (&longest().into(), &serde_json::json!([])));
}

#[test]
fn a_host_that_resembles_one_of_a_role_does_not_have_it() {
    let ca = Ca::start();
    // Names that a host can have, each near to what the pattern pg*.iad1.psf.io matches.
    for name in ["xn--g0-tlc.iad1.psf.io", "pg0.iad1.psf.io.evil.example", "pg0.iad1-psf.io", "apg0.iad1.psf.io", "pg0"]
    {
        let host = Host::enroll(&ca, name);
        assert_eq!(ask_as(&ca, &host, &[], "/v1/certs").json()["certs"], serde_json::json!([]), "{name}");
        let refused = host.psfca(&["issue", "postgresql.psf.io"]);
        assert_eq!(refused.status.code(), Some(3), "{name}: {}", said(&refused));
    }
}

#[test]
fn a_host_that_says_who_it_is_is_not_believed() {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "lb0.iad1.psf.io");
    // Whatever a proxy might once have been trusted to say.
    let said = |name: &str| format!("{name}: pg0.iad1.psf.io");
    let names = ["X-Forwarded-Host", "X-Client-Cert-CN", "X-SSL-Client-S-DN", "Ssl-Client-Cert", "X-Host", "Host"];
    let headers: Vec<String> = names.map(said).into();
    let args: Vec<&str> = headers.iter().flat_map(|header| ["--header", header]).collect();
    let certs = ask_as(&ca, &host, &args, "/v1/certs?host=pg0.iad1.psf.io").json();
    assert_eq!((certs["host"].as_str(), certs["certs"].as_array().unwrap().len()), (Some("lb0.iad1.psf.io"), 1));
    assert_eq!(ask(&ca, &args, "/v1/certs").refusal(), (401, "no-identity".to_owned()));
}
