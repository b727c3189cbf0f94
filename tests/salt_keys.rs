//! How a host is let in by the key of its Salt minion, which the master has accepted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::ask::{P256, ask, csr, openssl};
use support::minion::{HOST, OTHER, Request, challenge, enroll, started, started_ca};
use support::tools::{said, skip};
use support::{Ca, Host, clock, psfca};

fn events(ca: &Ca, kind: &str) -> Vec<Value> {
    let listed = ca.ok(&["audit", "list", "--event", kind, "--json"]);
    listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn holds(ca: &Ca) {
    let said = ca.ok(&["audit", "verify", ca.state().to_str().unwrap()]);
    assert!(said.contains("Everything holds."), "{said}");
}

fn bad(what: &str) -> (u16, String) {
    (403, format!("bad-{what}"))
}

#[test]
fn a_minion_whose_key_was_accepted_enrols_by_it_in_either_form() {
    let (ca, master) = started();
    let (first, second) = (Host::new(HOST), Host::new(OTHER));
    let out = enroll(&ca, &first, HOST, &master.key(HOST));
    assert!(out.status.success() && said(&out).contains("pg0.iad1.psf.io is enrolled at"), "{}", said(&out));
    first.ok(&["issue", "postgresql.psf.io"]);
    let pkcs8 = second.dir().join("pkcs8.pem");
    let [from, to] = [master.key(OTHER), pkcs8.clone()];
    openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", from.to_str().unwrap(), "-out", to.to_str().unwrap()]);
    assert!(enroll(&ca, &second, OTHER, &pkcs8).status.success());

    let enrolled = events(&ca, "host_enrolled");
    assert_eq!(enrolled[1]["salt_key"], master.hash(HOST));
    let identity = ca.ok(&["audit", "list", "--name", HOST, "--json"]);
    let identity: Value = serde_json::from_str(identity.trim()).unwrap();
    assert_eq!(identity["rule"], json!({ "by": "salt_key", "salt_key": master.hash(HOST) }));
    assert!(ca.ok(&["audit", "show", identity["serial"].as_str().unwrap()]).contains("accepted Salt minion key"));
    holds(&ca);
}

/// Real Salt's own keys, where it is installed (tests/setup does it).
#[test]
fn keys_that_salt_itself_made_are_read_on_both_sides() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = std::env::var_os("PSFCA_VENV").map_or_else(|| manifest.join("target/venv"), |venv| manifest.join(venv));
    let python = venv.join("bin/python");
    if !python.exists() {
        return skip("real Salt is not installed (tests/setup does it)");
    }
    let (ca, master) = started();
    let script = "import inspect, sys, salt.crypt as c\n\
                  names = list(inspect.signature(c.gen_keys).parameters)\n\
                  c.gen_keys(sys.argv[1], 'salted', 2048) if names[0] == 'keydir' else c.write_keys(sys.argv[1], 'salted', 2048)";
    let made = Command::new(&python).args(["-c", script, master.dir()]).output().unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let (key, public) = (master.0.path().join("salted.pem"), master.0.path().join("salted.pub"));
    std::fs::copy(public, master.public("lb0.iad1.psf.io", "minions")).unwrap();
    assert!(master.import(&ca).status.success());
    let host = Host::new("lb0.iad1.psf.io");
    let out = enroll(&ca, &host, &host.name, &key);
    assert!(out.status.success(), "{}", said(&out));
}

#[test]
fn a_signature_is_for_one_ca_one_host_one_key_and_one_moment() {
    let (ca, master) = started();
    let request = Request::new(&ca, &master, HOST);
    let (csr, signature) = (&request.csr, request.signature());
    let unsigned = || bad("signature");
    // Another key, another host, another CA, another minion's signature, another challenge, and none at all.
    let other_csr = support::ask::csr(ca.dir(), &P256);
    assert_eq!(request.send(&ca, HOST, &other_csr, &signature).refusal(), unsigned());
    assert_eq!(request.send(&ca, OTHER, csr, &signature).refusal(), unsigned());
    assert_eq!(request.send(&ca, "lb0.iad1.psf.io", csr, &signature).refusal(), unsigned());
    let elsewhere = Request { ca_root: vec![7; 32], csr: csr.clone(), ..Request::new(&ca, &master, HOST) };
    assert_eq!(elsewhere.send(&ca, HOST, csr, &elsewhere.signature()).refusal(), unsigned());
    let stranger = Request { key: master.key(OTHER), csr: csr.clone(), ..Request::new(&ca, &master, HOST) };
    assert_eq!(stranger.send(&ca, HOST, csr, &stranger.signature()).refusal(), unsigned());
    let swapped = Request { challenge: challenge(&ca), csr: csr.clone(), ..Request::new(&ca, &master, HOST) };
    assert_eq!(swapped.send(&ca, HOST, csr, &signature).refusal(), unsigned());
    for nothing in [&[][..], &[0; 256], &signature[1..]] {
        assert_eq!(request.send(&ca, HOST, csr, nothing).refusal(), unsigned());
    }
    let foreign = started_ca();
    for text in [challenge(&foreign), "AAAA".to_owned(), String::new(), request.challenge[2..].to_owned()] {
        let request =
            Request { challenge: text, host: HOST.to_owned(), csr: csr.clone(), ..Request::new(&ca, &master, HOST) };
        assert_eq!(request.send(&ca, HOST, csr, &signature).refusal(), bad("challenge"));
    }
    assert!(events(&ca, "host_enrolled").is_empty());

    // None of that has used the challenge up; the good one does. It cannot be said again, by whomever.
    let first = request.send(&ca, HOST, csr, &signature);
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(request.send(&ca, HOST, csr, &signature).refusal(), bad("challenge"));
    // The answer was lost: the same key gets it again with a new challenge, and another key does not.
    let again = Request { csr: csr.clone(), ..Request::new(&ca, &master, HOST) };
    let answer = again.send(&ca, HOST, csr, &again.signature());
    assert_eq!((answer.status, answer.header("psfca-serial")), (200, first.header("psfca-serial")));
    let another = Request::new(&ca, &master, HOST);
    let answer = another.send(&ca, HOST, &another.csr, &another.signature());
    assert_eq!(answer.refusal(), (409, "already-enrolled".to_owned()));
    assert_eq!(events(&ca, "host_enrolled").len(), 1);
    holds(&ca);
}

#[test]
fn r9_the_same_key_gets_the_same_answer_from_a_daemon_that_was_killed_and_no_challenge_outlives_it() {
    let (mut ca, master) = started();
    let request = Request::new(&ca, &master, HOST);
    let (old, csr) = (Request { csr: request.csr.clone(), ..Request::new(&ca, &master, HOST) }, &request.csr);
    let first = request.send(&ca, HOST, csr, &request.signature());
    assert_eq!(first.status, 200, "{first:?}");
    ca.stop();
    ca.serve();
    for replayed in [&request, &old] {
        assert_eq!(replayed.send(&ca, HOST, csr, &replayed.signature()).refusal(), bad("challenge"));
    }
    let again = Request { csr: csr.clone(), ..Request::new(&ca, &master, HOST) };
    let answer = again.send(&ca, HOST, csr, &again.signature());
    assert_eq!((answer.status, answer.header("psfca-serial")), (200, first.header("psfca-serial")));
}

#[test]
fn fifty_uses_of_one_challenge_at_once_are_one_and_a_flood_of_challenges_is_no_matter() {
    let (ca, master) = started();
    for _ in 0..200 {
        challenge(&ca);
    }
    let request = Request::new(&ca, &master, HOST);
    let signature = request.signature();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let send = || request.send(&ca, HOST, &request.csr, &signature).status;
        let sending: Vec<_> = (0..50).map(|_| scope.spawn(send)).collect();
        sending.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|&&status| status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 403)), "{statuses:?}");
}

#[test]
fn a_challenge_is_good_for_a_minute() {
    let (mut ca, master) = started();
    let time = ca.dir().join("time");
    std::fs::write(&time, "+0").unwrap();
    let mut command = psfca();
    command.arg("serve").env("PSFCA_CONFIG", ca.config());
    let Some(command) = clock::by_file(&time, command) else { return };
    ca.serve_by(command);
    let late = Request::new(&ca, &master, HOST);
    std::fs::write(&time, "+61s").unwrap();
    assert_eq!(late.send(&ca, HOST, &late.csr, &late.signature()).refusal(), bad("challenge"));
}

#[test]
fn an_import_is_the_whole_set_and_says_which_files_are_no_keys() {
    let (ca, master) = started();
    let minions = |name: &str| master.public(name, "minions");
    // What the master has not accepted does not count, nor do links, nor what is no fit key.
    for (n, directory) in ["minions_pre", "minions_rejected", "minions_denied"].into_iter().enumerate() {
        master.minion(&format!("lb{n}.iad1.psf.io"), directory, 2048);
    }
    master.minion("short.psf.io", "minions", 1024);
    std::fs::write(minions("empty.psf.io"), "").unwrap();
    std::fs::write(minions("large.psf.io"), vec![b'x'; 20_000]).unwrap();
    std::fs::copy(minions(HOST), minions("Upper_Case")).unwrap();
    std::fs::write(minions(".key_cache"), "Salt's own").unwrap();
    std::os::unix::fs::symlink(minions(HOST), minions("link.psf.io")).unwrap();
    std::fs::create_dir(minions("directory.psf.io")).unwrap();
    assert!(Command::new("mkfifo").arg(minions("pipe.psf.io")).status().unwrap().success());
    // The private key by mistake: it is not sent, and not shown.
    std::fs::copy(master.key(HOST), minions("private.psf.io")).unwrap();
    let out = master.import(&ca);
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    for (name, problem) in [
        ("short.psf.io", "no RSA key of 2048 to 8192 bits"),
        ("empty.psf.io", "no public key in PEM"),
        ("large.psf.io", "longer than 16384 octets"),
        ("Upper_Case", "no host name"),
        ("link.psf.io", "a symbolic link"),
        ("directory.psf.io", "no regular file"),
        ("pipe.psf.io", "no regular file"),
        ("private.psf.io", "no public key in PEM"),
    ] {
        let line = format!("{name}: ");
        let said = said(&out);
        assert!(said.lines().any(|found| found.contains(&line) && found.contains(problem)), "{name}: {said}");
    }
    assert!(said(&out).starts_with("0 keys imported, 0 accepted no longer, 2 as before\n"), "{}", said(&out));
    assert!(!said(&out).contains("key_cache") && !said(&out).contains("BEGIN"), "{}", said(&out));

    // A directory that was emptied, or the wrong one, takes away no key unless somebody says so.
    let emptied = tempfile::tempdir().unwrap();
    std::fs::create_dir(emptied.path().join("minions")).unwrap();
    let empty = |more: &[&str]| ca.psfca(&[&["host", "import-salt", emptied.path().to_str().unwrap()], more].concat());
    let out = empty(&[]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("nothing was imported; if that is meant: --allow-empty"), "{}", said(&out));
    assert_eq!(events(&ca, "salt_key_removed").len(), 0);

    // One is rejected, one has a new key: one event for each.
    std::fs::rename(minions(OTHER), master.public(OTHER, "minions_rejected")).unwrap();
    let before = master.hash(HOST);
    let old = Request::new(&ca, &master, HOST);
    let signature = old.signature();
    master.minion(HOST, "minions", 2048);
    assert!(said(&master.import(&ca)).starts_with("1 key imported, 1 accepted no longer, 0 as before\n"));
    let (imported, removed) = (events(&ca, "salt_key_imported"), events(&ca, "salt_key_removed"));
    assert_eq!((imported.len(), removed.len(), &removed[0]["host"]), (3, 1, &OTHER.into()));
    assert_eq!((&imported[0]["salt_key"], &imported[2]["salt_key"]), (&master.hash(HOST).into(), &before.into()));
    assert_eq!(imported[0]["operator_uid"], rustix::process::getuid().as_raw());

    assert_eq!(old.send(&ca, HOST, &old.csr, &signature).refusal(), bad("signature"), "by the key from before");
    let rejected = enroll(&ca, &Host::new(OTHER), OTHER, &master.key(OTHER));
    assert_eq!(rejected.status.code(), Some(3), "{}", said(&rejected));
    assert!(said(&rejected).contains("not signed by the accepted Salt minion key of pg1.iad1.psf.io"));
    assert!(enroll(&ca, &Host::new(HOST), HOST, &master.key(HOST)).status.success());
    assert!(said(&ca.psfca(&["host", "import-salt", "/nonexistent"])).contains("DIR is the master's"));
    assert_eq!(events(&ca, "salt_key_removed").len(), 1);
    let out = empty(&["--allow-empty"]);
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(said(&out), "0 keys imported, 1 accepted no longer, 0 as before\n");
    holds(&ca);
}

#[test]
fn a_minion_that_is_enrolled_disabled_frozen_or_removed_needs_an_operators_token() {
    let (ca, master) = started();
    let host = Host::new(HOST);
    assert!(enroll(&ca, &host, HOST, &master.key(HOST)).status.success());
    let identity = host.identity();
    let again = |text: &str| {
        let out = enroll(&ca, &Host::new(HOST), HOST, &master.key(HOST));
        assert_eq!(out.status.code(), Some(3), "{text}: {}", said(&out));
        assert!(said(&out).contains(text), "{text:?} in {}", said(&out));
    };
    again("pg0.iad1.psf.io is enrolled already");
    for request in [csr(ca.dir(), &P256), csr(ca.dir(), &P256)] {
        let body = format!("@{}", request.display());
        let kind = "Content-Type: application/pkcs10";
        ask(&ca, &["--cert", identity.to_str().unwrap(), "--header", kind, "--data-binary", &body], "/v1/identity");
    }
    again("pg0.iad1.psf.io is frozen");
    ca.ok(&["host", "disable", HOST]);
    again("pg0.iad1.psf.io is disabled");
    ca.ok(&["host", "remove", HOST]);
    again("pg0.iad1.psf.io is removed");
    let token = ca.ok(&["token", HOST, "--replace"]);
    assert!(Host::new(HOST).enroll_with(token.trim()).status.success());
}

#[test]
fn a_key_of_the_wrong_kind_or_for_nobody_here_says_so() {
    let (ca, master) = started();
    let host = Host::new(HOST);
    let file = |name: &str| host.dir().join(name);
    openssl(&["genpkey", "-algorithm", "ED25519", "-out", file("ed25519.pem").to_str().unwrap()]);
    openssl(&["genrsa", "-out", file("short.pem").to_str().unwrap(), "1024"]);
    std::fs::write(file("none.pem"), "no key").unwrap();
    for (name, text) in [
        ("ed25519.pem", "no RSA key of 2048 to 4096 bits"),
        ("short.pem", "no RSA key of 2048 to 4096 bits"),
        ("none.pem", "it is no PEM file"),
        ("missing.pem", "No such file"),
    ] {
        let out = enroll(&ca, &host, HOST, &file(name));
        assert_eq!(out.status.code(), Some(1), "{name}: {}", said(&out));
        assert!(said(&out).contains(text), "{name}: {}", said(&out));
    }
    let public = enroll(&ca, &host, HOST, &master.public(HOST, "minions"));
    assert!(said(&public).contains("no RSA private key"), "{}", said(&public));
    let without = host.psfca(&["enroll", "--salt-key", master.key(HOST).to_str().unwrap(), "--host", HOST]);
    assert!(said(&without).contains("--ca-fingerprint"), "{}", said(&without));
}
