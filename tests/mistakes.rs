//! What an operator sees for every class of mistake: the output of the real binary, as snapshots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use assert_cmd::Command;

const ROLES: &str = "roles:\n  postgresql: \"pg*.iad1.psf.io\"\n  loadbalancer: \"lb*.iad1.psf.io\"\n";
const CA: &str = "name: PSF_CA\nserver_names: [ca.psf.io]\ndeclaration: [tls.yaml, roles.yaml]\n";

/// Each class with `ca.yaml`, `tls.yaml` and `roles.yaml`.
fn classes() -> Vec<(&'static str, String, String, String)> {
    let tls = |class, text: &str| (class, CA.to_owned(), text.to_owned(), ROLES.to_owned());
    let name = |class, terms: &str| {
        let text =
            format!("tls:\n  gen_certs:\n    postgresql.psf.io:\n      roles: [postgresql, loadbalancer]\n{terms}");
        (class, CA.to_owned(), text, ROLES.to_owned())
    };
    let pattern = |class, pattern: &str| {
        let good = "tls:\n  gen_certs:\n    postgresql.psf.io:\n      roles: [postgresql]\n";
        (class, CA.to_owned(), good.to_owned(), format!("roles:\n  postgresql: {pattern}\n"))
    };
    let config = |class, more: &str| {
        let (_, ca, tls, roles) = name(class, "");
        (class, format!("{ca}{more}"), tls, roles)
    };
    vec![
        name("unknown_key", "      day: 7\n"),
        name("unknown_key_nothing_near", "      colour: blue\n"),
        tls(
            "unknown_role",
            "tls:\n  gen_certs:\n    a.psf.io:\n      roles:\n        - postgres\n        - loadbalancer\n",
        ),
        name("duplicate_key", "      days: 7\n      roles: [loadbalancer]\n"),
        name(
            "name_is_no_dns_name",
            "    my_db.psf.io: {roles: [postgresql]}\n    \"*.psf.io\": {roles: [postgresql]}\n",
        ),
        name(
            "days_out_of_range",
            "      days: 91\n    a.psf.io: {roles: [postgresql], days: 0.05}\n    b.psf.io: {roles: [postgresql], days: \"7\"}\n",
        ),
        name("two_names_with_one_file_path", "    PostgreSQL.psf.io.: {roles: [loadbalancer]}\n"),
        name("name_grants_server_names", "      aliases: [ca.psf.io]\n"),
        tls(
            "jinja",
            "tls:\n  gen_certs:\n{% for name in names %}\n    {{ name }}.psf.io: {roles: [postgresql]}\n{% endfor %}\n",
        ),
        tls("salt_renderer", "#!py\ndef run():\n    return {}\n"),
        tls("yaml_syntax", "tls:\n  gen_certs:\n    a.psf.io:\n      roles: [postgresql\n    b.psf.io: {}\n"),
        tls("yaml_tab", "tls:\n\tgen_certs: {}\n"),
        tls("yaml_alias", "tls:\n  gen_certs:\n    a.psf.io: &a {roles: [postgresql]}\n    b.psf.io: *a\n"),
        name("rsa_key_made_by_the_ca", "      key: rsa\n      ca_made_key: true\n"),
        name(
            "bad_values",
            "      key: dsa\n      usages: [email]\n      ip: 10.0.0.0/8\n      ca_made_key: yes\n      aliases: {a: b}\n",
        ),
        name(
            "overlapping_aliases",
            "      aliases: [db.psf.io]\n    lb.psf.io: {roles: [loadbalancer], aliases: [db.psf.io, postgresql.psf.io]}\n",
        ),
        tls("unused_roles", "tls:\n  gen_certs:\n    a.psf.io: {roles: [postgresql]}\n"),
        tls("nothing_declared", "tls:\n  gen_certs:\n"),
        tls(
            "same_role_in_two_files",
            "tls:\n  gen_certs:\n    a.psf.io: {roles: [postgresql, loadbalancer]}\nroles:\n  postgresql: x\n",
        ),
        pattern("pattern_that_rests_on_the_host", "G@os:Debian"),
        pattern("pattern_half_finished", "\"pg*.iad1.psf.io and\""),
        pattern("pattern_without_operator", "pg0.iad1.psf.io pg1.iad1.psf.io"),
        pattern("pattern_parenthesis", "(pg0.iad1.psf.io or pg1.iad1.psf.io)"),
        pattern("pattern_look_ahead", "E@pg(?!0).*"),
        pattern("pattern_missing", ""),
        config("config_unknown_key", "max_day: 7\n"),
        config("config_cn", "cert_opts: {CN: PSF_CA}\n"),
        config(
            "config_several",
            "listen: 8443\nmax_days: 9000\nlimits: {connections: 0}\naddress: other.psf.io:8443\n",
        ),
    ]
}

#[test]
fn every_class_of_mistake_is_shown_with_its_place_and_what_to_do() {
    for (class, ca, tls, roles) in classes() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [("ca.yaml", ca), ("tls.yaml", tls), ("roles.yaml", roles)] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let mut command = Command::cargo_bin("psfca").unwrap();
        let output = command.current_dir(dir.path()).args(["check", "--config", "ca.yaml"]).output().unwrap();
        let shown = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().unwrap();
        assert_eq!(code == 1, shown.contains("error: "), "{class}: exit code {code}\n{shown}");
        insta::assert_snapshot!(class, format!("{shown}\nexit code {code}"));
    }
}

#[test]
fn all_mistakes_of_all_files_come_in_one_run() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yaml"), "tls:\n  gen_certs:\n    a_b.io: {days: 1000, role: x}\n").unwrap();
    std::fs::write(dir.path().join("b.yaml"), "roles:\n  x: G@a:b\n  y: and\n").unwrap();
    let mut command = Command::cargo_bin("psfca").unwrap();
    let output = command.current_dir(dir.path()).args(["check", "--json", "a.yaml", "b.yaml"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let errors = report["messages"].as_array().unwrap().iter().filter(|message| message["severity"] == "error");
    assert_eq!((report["ok"].as_bool(), errors.count()), (Some(false), 5));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn files_that_cannot_be_used_are_all_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.yaml"), "").unwrap();
    let latin1 = b"roles:\n  caf\xe9: x\n";
    std::fs::write(dir.path().join("latin1.yaml"), latin1).unwrap();
    let run = |files: &[&str]| {
        let mut command = Command::cargo_bin("psfca").unwrap();
        let output = command.current_dir(dir.path()).arg("check").args(files).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    insta::assert_snapshot!("unusable_files", run(&["empty.yaml", "missing.yaml"]));
    insta::assert_snapshot!("not_utf8", run(&["latin1.yaml"]));
}

/// What `args` say on standard error when they fail.
fn complaint(directory: &std::path::Path, args: &[&str], input: &str) -> String {
    let output =
        Command::cargo_bin("psfca").unwrap().current_dir(directory).args(args).write_stdin(input).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn that_there_is_no_ledger_where_somebody_said_is_no_reason_to_make_a_ca() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("ca.yaml"), CA).unwrap();
    let none = |path: &str| format!("psfca: there is no ledger at {path}\n");
    assert_eq!(complaint(dir, &["audit", "verify", "nosuch"], ""), none("nosuch"));
    assert_eq!(complaint(dir, &["audit", "verify", "--state", "nosuch"], ""), none("nosuch/ledger.sqlite3"));
    let export = ["audit", "export", "tiles", "--state", "nosuch", "--config", "ca.yaml"];
    assert_eq!(complaint(dir, &export, ""), none("nosuch/ledger.sqlite3"));
}

#[test]
fn what_goes_wrong_on_the_first_evening_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("ca.yaml"), format!("{CA}state: state\n")).unwrap();
    std::fs::write(dir.join("host.yaml"), "state: host\n").unwrap();
    std::fs::write(dir.join("tls.yaml"), "tls:\n  gen_certs:\n    a.psf.io: {roles: [postgresql, loadbalancer]}\n")
        .unwrap();
    std::fs::write(dir.join("roles.yaml"), ROLES).unwrap();

    // The token that was to come through a pipe did not.
    assert_eq!(
        complaint(dir, &["enroll", "--config", "host.yaml"], ""),
        "psfca: no token came on standard input; make one on the CA machine: psfca token HOST\n"
    );
    assert_eq!(
        complaint(dir, &["serve", "--config", "ca.yaml"], ""),
        "psfca: there is no CA in state/ca; run psfca init first\n"
    );
    // Made by root, the keys would be closed to the user of the daemon.
    std::fs::create_dir(dir.join("state")).unwrap();
    if std::os::unix::fs::chown(dir.join("state"), Some(65_000), None).is_err() {
        println!("skipped: only root can make a directory of somebody else");
        return;
    }
    assert_eq!(
        complaint(dir, &["init", "--config", "ca.yaml"], ""),
        "psfca: state belongs to '#65000', who runs the daemon: sudo -u '#65000' psfca init\n"
    );
    assert_eq!(std::fs::read_dir(dir.join("state")).unwrap().count(), 0);
}

#[test]
fn a_file_full_of_mistakes_does_not_fill_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tls.yaml");
    let keys = "    a.psf.io: {}\n".repeat(20_000);
    std::fs::write(&file, format!("tls:\n  gen_certs:\n{keys}")).unwrap();
    for (arguments, more) in [(&[][..], "and 19899 more errors"), (&["--json"][..], "\"omitted\":")] {
        let out = Command::cargo_bin("psfca").unwrap().arg("check").args(arguments).arg(&file).output().unwrap();
        assert_eq!(out.status.code(), Some(1));
        let said = [out.stdout, out.stderr].concat();
        assert!(said.len() < 200_000, "{} bytes", said.len());
        assert!(String::from_utf8(said).unwrap().contains(more));
    }
}
