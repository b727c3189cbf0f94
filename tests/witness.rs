//! The witness: a second machine that shows a fork, and a head that went back. Real witnesses and daemons.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use psfca::ca::key_file::load_ledger_key;
use psfca::digest::Digest;
use psfca::ledger::checkpoint::Checkpoint;
use psfca::store::LedgerCopy;
use serde_json::Value;
use support::connections::connect_from;
use support::rollback::{copy_ledger, next_second};
use support::strace::{Strace, usable};
use support::tools::{said, succeed};
use support::witness::{Witness, append};
use support::{Ca, Host, wait_until};

const NAME: &str = "postgresql.psf.io";
const ORIGIN: &str = "psf.io/PSF_CA";

/// A CA with a witness, its daemon started, and a host that wants the witness' word.
fn witnessed() -> (Ca, Witness, Host) {
    let mut ca = Ca::made_with("");
    let witness = Witness::of(&ca);
    append(ca.config(), &witness.for_ca());
    ca.serve();
    ca.keep_address();
    let host = Host::new("pg0.iad1.psf.io");
    append(host.config(), &format!("witness: {}\n", witness.key));
    let enrolled = host.enroll_with(&ca.token("pg0.iad1.psf.io"));
    assert!(enrolled.status.success(), "{}", said(&enrolled));
    host.ok(&["renew"]);
    (ca, witness, host)
}

fn checkpoint(host: &Host) -> String {
    let status: Value = serde_json::from_slice(&host.psfca(&["status", "--json"]).stdout).unwrap();
    status["ledger"]["checkpoint"].as_str().unwrap().to_owned()
}

fn health(ca: &Ca) -> Value {
    serde_json::from_str(&ca.curl(&[], "/healthz").1).unwrap()
}

fn refused(host: &Host, why: &str) {
    let old = fs::read(host.bundle(NAME)).unwrap();
    for args in [&["issue", NAME][..], &["renew", "--force"]] {
        let output = host.psfca(args);
        assert_eq!(output.status.code(), Some(6), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(why), "{why:?} in {}", said(&output));
    }
    assert!(fs::read(host.bundle(NAME)).unwrap() == old, "{why}");
}

const NOT_WITNESSED: &str = "the witness witness.psf.io/w1 has not cosigned the ledger's head";

#[test]
fn what_hosts_get_is_cosigned_and_an_independent_verifier_agrees() {
    let (ca, witness, host) = witnessed();
    let seen = checkpoint(&host);
    assert_eq!(seen.lines().filter(|line| line.starts_with('\u{2014}')).count(), 2, "{seen}");
    let newest = ca.ok(&["audit", "checkpoint"]);
    for note in [&seen, &newest] {
        let file = host.dir().join("note");
        fs::write(&file, note).unwrap();
        let verify = ["tests/independent/cosignature.py", file.to_str().unwrap(), &witness.key];
        let time: i64 = succeed("python3", &verify).trim().parse().unwrap();
        assert!(time > 1_700_000_000, "{time}");
    }
    assert_eq!(health(&ca)["witness"]["name"], "witness.psf.io/w1");
    assert_eq!((&health(&ca)["status"], &health(&ca)["witness"]["problem"]), (&"ok".into(), &Value::Null));
    let (_, metrics) = ca.curl_admin(&[], "/metrics");
    assert!(metrics.contains("psfca_witness_cosigns{witness=\"witness.psf.io/w1\"} 1"), "{metrics}");
    assert_eq!(witness.remembered(), newest.lines().nth(1).unwrap().parse::<u64>().unwrap());

    // Hosts that want no witness look at no cosignature; one that wants another has none.
    let plain = Host::enroll(&ca, "pg1.iad1.psf.io");
    plain.ok(&["renew"]);
    let other = Witness::of(&ca);
    append(plain.config(), &format!("witness: {}\n", other.key));
    refused(&plain, NOT_WITNESSED);
}

#[test]
fn many_answers_at_a_time_are_all_cosigned() {
    let (ca, witness, _host) = witnessed();
    let hosts: Vec<Host> = (1..=6).map(|n| Host::enroll(&ca, &format!("pg{n}.iad1.psf.io"))).collect();
    let running: Vec<Child> = hosts
        .iter()
        .map(|host| {
            append(host.config(), &format!("witness: {}\n", witness.key));
            host.command(&["renew", "--force"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn of_two_ledgers_that_part_the_witness_cosigns_one_and_says_fork() {
    let (mut ca, witness, host) = witnessed();
    let [second, plain] = ["pg1.iad1.psf.io", "pg2.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    second.ok(&["renew"]);
    plain.ok(&["renew"]);
    append(second.config(), &format!("witness: {}\n", witness.key));
    // Whoever has the daemon's machine can run it twice.
    ca.terminate();
    let mut other = Ca::unmade(&witness.for_ca());
    succeed("cp", &["-a", ca.state().to_str().unwrap(), other.state().to_str().unwrap()]);
    ca.serve();
    host.ok(&["renew", "--force"]);
    other.serve();
    for host in [&second, &plain] {
        append(host.config(), &format!("server: ['{}']\n", other.address()));
    }
    plain.ok(&["renew", "--force"]);
    refused(&second, NOT_WITNESSED);
    host.ok(&["renew", "--force"]);
    // Once the second has as many entries, two heads can be compared.
    for n in 0..20 {
        other.token(&format!("other{n}.iad1.psf.io"));
    }
    wait_until("the witness says so", || {
        refused(&second, NOT_WITNESSED);
        witness.log().contains("FORK: the ledger showed a head that does not continue")
    });
    // The log holds both heads, signed: that is the proof.
    let log = witness.log();
    let fork = log.lines().find(|line| line.contains("FORK: ")).unwrap();
    assert!(fork.contains("cosigned=psf.io/PSF_CA\\n") && fork.contains("shown=psf.io/PSF_CA\\n"), "{fork}");
    other.wait_for_log("THE LEDGER WAS FORKED");
    assert_eq!(health(&other)["status"], "warning");
    let problem = health(&other)["witness"]["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("THE LEDGER WAS FORKED"), "{problem}");
    assert_eq!(health(&ca)["status"], "ok");
}

#[test]
fn a_witness_that_was_killed_remembers_what_it_cosigned() {
    let (mut ca, mut witness, host) = witnessed();
    let backup = tempfile::tempdir().unwrap();
    ca.terminate();
    copy_ledger(&ca.state(), backup.path());
    ca.serve();
    for _ in 0..5 {
        host.ok(&["renew", "--force"]);
    }
    let cosigned = checkpoint(&host).lines().nth(1).unwrap().parse::<u64>().unwrap();
    witness.kill();
    assert!(witness.remembered() >= cosigned);
    witness.start();
    // The connection to the one before is gone, and that is no reason to be without an answer.
    host.ok(&["renew", "--force"]);

    ca.terminate();
    copy_ledger(backup.path(), &ca.state());
    let before = witness.remembered();
    ca.serve();
    ca.wait_for_log("THE LEDGER WENT BACK: the witness has cosigned");
    wait_until("the witness says so", || {
        witness.log().contains("WENT BACK: the ledger showed a head with fewer entries")
    });
    refused(&host, NOT_WITNESSED);
    assert_eq!(witness.remembered(), before);
}

#[test]
fn a_head_is_durable_before_its_cosignature_leaves() {
    if !usable() {
        return;
    }
    let (_ca, witness, host) = witnessed();
    let pid = witness.running.as_ref().unwrap().0.id();
    let strace = Strace::attach(pid, &["-e", "trace=fsync,rename,renameat,renameat2,write,writev,sendto,sendmsg"]);
    host.ok(&["issue", NAME]);
    let calls = strace.detach();
    let left = calls.iter().find(|call| call.writes_network() && call.arguments.contains("200 OK"));
    let left = left.expect("the cosignature is sent");
    let before = |name: &str, what: &str, end: usize| {
        let found = calls.iter().rev().find(|call| {
            call.name.starts_with(name) && call.arguments.contains(what) && call.result == "0" && call.end < end
        });
        found.unwrap_or_else(|| panic!("no {name} of {what} before line {end}: {calls:?}")).start
    };
    let directory = before("fsync", "/state>", left.start);
    let renamed = before("rename", "witness.json", directory);
    before("fsync", ".witness.json.new>", renamed);
}

#[test]
fn without_its_witness_a_host_keeps_what_it_has_and_says_why() {
    let (ca, mut witness, host) = witnessed();
    let plain = Host::enroll(&ca, "pg1.iad1.psf.io");
    witness.kill();
    refused(&host, NOT_WITNESSED);
    assert_eq!(host.psfca(&["renew"]).status.code(), Some(6), "also while nothing is due");
    let status = host.psfca(&["status"]);
    assert!(status.status.code() == Some(5) && said(&status).contains(NOT_WITNESSED), "{}", said(&status));
    // Nobody else is held up, and the daemon says what is wrong.
    plain.ok(&["renew"]);
    assert!(ca.log().contains("the witness cannot be asked: "), "{}", ca.log());
    assert_eq!(health(&ca)["status"], "warning");
    let (_, metrics) = ca.curl_admin(&[], "/metrics");
    assert!(metrics.contains("psfca_witness_cosigns{witness=\"witness.psf.io/w1\"} 0"), "{metrics}");
    // An enrolment takes nothing either, and costs nothing: the token works again.
    let fresh = Host::new("pg2.iad1.psf.io");
    append(fresh.config(), &format!("witness: {}\n", witness.key));
    let token = ca.token("pg2.iad1.psf.io");
    let enrolled = fresh.enroll_with(&token);
    assert!(enrolled.status.code() == Some(6) && said(&enrolled).contains(NOT_WITNESSED), "{}", said(&enrolled));

    witness.start();
    wait_until("the host goes on by itself", || host.psfca(&["renew", "--force"]).status.success());
    ca.wait_for_log("the witness cosigns again");
    assert!(fresh.enroll_with(&token).status.success());
    assert_eq!(health(&ca)["status"], "ok");
}

#[test]
fn a_recovery_moves_the_witness_on_and_no_rollback_does() {
    let (mut ca, witness, host) = witnessed();
    let backup = tempfile::tempdir().unwrap();
    ca.terminate();
    copy_ledger(&ca.state(), backup.path());
    ca.serve();
    for _ in 0..5 {
        host.ok(&["renew", "--force"]);
    }
    let seen = witness.remembered();
    ca.terminate();
    copy_ledger(backup.path(), &ca.state());
    ca.serve();
    refused(&host, NOT_WITNESSED);

    ca.terminate();
    next_second();
    ca.ok(&["recover", "--yes", "--seen", &seen.to_string()]);
    let recovered = tempfile::tempdir().unwrap();
    copy_ledger(&ca.state(), recovered.path());
    ca.serve();
    let output = host.psfca(&["renew", "--force"]);
    assert!(output.status.success() && said(&output).contains("LEDGER RECOVERED"), "{}", said(&output));
    assert!(witness.log().contains("the ledger was recovered by the root's word"), "{}", witness.log());
    for _ in 0..5 {
        host.ok(&["renew", "--force"]);
    }

    // The same statement again, by a daemon that went back to it.
    let before = witness.remembered();
    ca.terminate();
    copy_ledger(recovered.path(), &ca.state());
    ca.serve();
    refused(&host, NOT_WITNESSED);
    assert_eq!(witness.remembered(), before);
}

/// The ledger's newest head, signed as its daemon signs it, without anybody having asked the witness about it.
fn not_cosigned(ca: &Ca) -> String {
    ca.token("pg9.iad1.psf.io");
    let head = LedgerCopy::open(&ca.state().join("ledger.sqlite3")).unwrap().head().unwrap();
    let signer = load_ledger_key(&ca.state().join("ca/ledger.key"), ORIGIN).unwrap();
    Checkpoint { origin: ORIGIN.to_owned(), size: head.size, root: head.root }.sign(&signer)
}

#[test]
fn nobody_makes_the_witness_say_fork_without_two_heads_that_show_it_nor_fills_its_log() {
    let (ca, witness, _host) = witnessed();
    let started = std::time::Instant::now();
    let size = witness.remembered();
    let note = not_cosigned(&ca);
    // Any head of the ledger goes with a proof that proves nothing.
    let nothing = "A".repeat(43) + "=";
    for proof in [format!("{nothing}\n"), String::new(), format!("{nothing}\n").repeat(9)] {
        assert_eq!(witness.post("/add-checkpoint", &format!("old {size}\n{proof}\n{note}")).0, 422);
    }
    assert!(!witness.log().contains("FORK"), "{}", witness.log());
    assert!(witness.log().contains("the proof does not fit"), "{}", witness.log());
    // An old head is anybody's who kept one.
    let signer = load_ledger_key(&ca.state().join("ca/ledger.key"), ORIGIN).unwrap();
    let old = signer.sign(&format!("{ORIGIN}\n1\n{nothing}\n"));
    let mut stream = TcpStream::connect(&witness.address).unwrap();
    let body = format!("old 0\n\n{old}");
    let request = format!(
        "POST /add-checkpoint HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
        witness.address,
        body.len()
    );
    for _ in 0..400 {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 409 "));
    }
    let lines = || witness.log().lines().filter(|line| line.contains("WENT BACK: ")).count() as u64;
    wait_until("the lines are there", || lines() >= 90);
    assert!(lines() <= 101 + started.elapsed().as_secs(), "{} lines", lines());
    // And that hides nothing of a true one.
    let other = signer.sign(&format!("{ORIGIN}\n{size}\n{nothing}\n"));
    assert_eq!(witness.post("/add-checkpoint", &format!("old {size}\n\n{other}")).0, 409);
    wait_until("the witness says fork", || witness.log().contains("FORK: "));
}

/// Whoever can answer in the witness' place.
struct Impostor {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Impostor {
    /// Answers `refusal` to what is posted and `kept` to all else.
    fn at(address: &str, refusal: &'static str, kept: &str) -> Self {
        let (listener, stop) = (TcpListener::bind(address).unwrap(), Arc::new(AtomicBool::new(false)));
        let kept = Arc::new(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{kept}", kept.len()));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (mut stream, kept, stopped) = (stream.unwrap(), Arc::clone(&kept), Arc::clone(&stopped));
                std::thread::spawn(move || {
                    let mut request = [0; 32 * 1024];
                    while let Ok(read @ 1..) = stream.read(&mut request) {
                        if stopped.load(Ordering::Relaxed) {
                            return;
                        }
                        // The rest of what is posted, where it came in two pieces, gets no answer of its own.
                        let answer = match &request[..read.min(4)] {
                            b"POST" => refusal,
                            b"GET " => &*kept,
                            _ => continue,
                        };
                        stream.write_all(answer.as_bytes()).unwrap();
                    }
                });
            }
        });
        Self { stop, thread }
    }

    /// Leaves the address to whoever comes next.
    fn end(self, address: &str) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(address));
        self.thread.join().unwrap();
    }
}

#[test]
fn what_is_said_in_the_witness_place_without_its_signature_raises_no_alarm() {
    const LIE: &str = "HTTP/1.1 409 Conflict\r\nContent-Type: text/x.tlog.size\r\n\
                       Content-Length: 7\r\n\r\n999999\n";
    const ANOTHER: &str = "HTTP/1.1 422 Unprocessable Entity\r\nContent-Length: 0\r\n\r\n";
    let (mut ca, mut witness, host) = witnessed();
    let path = format!("/{}/checkpoint", Digest::of(ORIGIN.as_bytes()));
    let (status, kept) = witness.get(&path);
    assert_eq!(status, 200);
    for (refusal, kept) in [(LIE, ""), (LIE, &*kept), (ANOTHER, &*kept), (ANOTHER, "nonsense")] {
        witness.kill();
        let impostor = Impostor::at(&witness.address, refusal, kept);
        ca.terminate();
        ca.serve();
        refused(&host, NOT_WITNESSED);
        ca.wait_for_log("is not signed and proves nothing");
        let problem = health(&ca)["witness"]["problem"].as_str().unwrap().to_owned();
        assert!(problem.contains("is not signed and proves nothing"), "{problem}");
        assert!(!ca.log().contains("THE LEDGER"), "{}", ca.log());
        impostor.end(&witness.address);
        witness.start();
        wait_until("it is asked anew", || host.psfca(&["renew", "--force"]).status.success());
        ca.wait_for_log("the witness cosigns again");
    }
}

#[test]
fn anybody_can_see_what_the_witness_cosigned_last() {
    let (ca, mut witness, host) = witnessed();
    let path = format!("/{}/checkpoint", Digest::of(ORIGIN.as_bytes()));
    host.ok(&["renew", "--force"]);
    let (status, note) = witness.get(&path);
    assert_eq!(status, 200);
    let ledger = load_ledger_key(&ca.state().join("ca/ledger.key"), ORIGIN).unwrap();
    assert_eq!(Checkpoint::open(&note, ledger.verifier()).unwrap().size, witness.remembered());
    let file = host.dir().join("note");
    fs::write(&file, &note).unwrap();
    let verify = ["tests/independent/cosignature.py", file.to_str().unwrap(), &witness.key];
    let time: i64 = succeed("python3", &verify).trim().parse().unwrap();
    assert!(time > 1_700_000_000, "{time}");
    // Whatever else whoever sent the checkpoint has put below it is not passed on.
    let junk = format!("{note}\u{2014} junk AAAAAAAA\n");
    assert_eq!(witness.post("/add-checkpoint", &format!("old {}\n\n{junk}", witness.remembered())).0, 200);
    assert!(!witness.get(&path).1.contains("junk"));
    assert_eq!(witness.get("/0123/checkpoint").0, 404);
    witness.kill();
    witness.start();
    assert_eq!(witness.get(&path), (200, note));
}

#[test]
fn an_honest_recovery_is_no_fork_to_the_witness() {
    let (mut ca, witness, host) = witnessed();
    let backup = tempfile::tempdir().unwrap();
    ca.terminate();
    copy_ledger(&ca.state(), backup.path());
    ca.serve();
    host.ok(&["renew", "--force"]);
    let seen = witness.remembered();
    ca.terminate();
    copy_ledger(backup.path(), &ca.state());
    next_second();
    ca.ok(&["recover", "--yes", "--seen", &seen.to_string()]);
    ca.serve();
    // Its head may be longer than the lost one before the witness hears of it.
    for n in 0..20 {
        ca.token(&format!("other{n}.iad1.psf.io"));
    }
    let output = host.psfca(&["renew", "--force"]);
    assert!(output.status.success() && said(&output).contains("LEDGER RECOVERED"), "{}", said(&output));
    let log = witness.log();
    assert!(log.contains("the ledger was recovered by the root's word"), "{log}");
    assert!(!log.contains("FORK") && !log.contains("WENT BACK"), "{log}");
    assert!(witness.remembered() > seen);
}

#[test]
fn idle_connections_keep_no_daemon_from_its_witness() {
    let (mut ca, witness, host) = witnessed();
    ca.terminate();
    let attack: Vec<_> = (0..200).map(|_| TcpStream::connect(&witness.address).unwrap()).collect();
    ca.serve();
    host.ok(&["renew", "--force"]);
    drop(attack);
    ca.terminate();
    let from = |n: usize| Ipv4Addr::new(127, 1, 0, (n + 1) as u8);
    let attack: Vec<_> = (0..200).map(|n| connect_from(from(n), &witness.address)).collect();
    ca.serve();
    host.ok(&["renew", "--force"]);
    drop(attack);
}

#[test]
fn the_protocol_answers_as_it_is_specified() {
    let (mut ca, witness, _host) = witnessed();
    ca.terminate();
    let size = witness.remembered();
    let state: Value =
        serde_json::from_slice(&fs::read(witness.dir.path().join("state/witness.json")).unwrap()).unwrap();
    let text = state["logs"]["psf.io/PSF_CA"]["checkpoint"].as_str().unwrap();
    let text = &text[..=text.find("\n\n").unwrap()];
    let signer = load_ledger_key(&ca.state().join("ca/ledger.key"), "psf.io/PSF_CA").unwrap();
    let note = signer.sign(text);
    // The same head again.
    let (status, line) = witness.post("/add-checkpoint", &format!("old {size}\n\n{note}"));
    assert!(
        status == 200 && line.starts_with("\u{2014} witness.psf.io/w1 ") && line.ends_with('\n'),
        "{status} {line}"
    );
    for (status, body) in [
        (400, String::new()),
        (400, format!("old {}\n\n{note}", size + 1)),
        (400, format!("old 0{size}\n\n{note}")),
        (404, format!("old {size}\n\n{}", note.replacen("PSF_CA", "OTHER", 1))),
        (403, format!("old {size}\n\n{}", note.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size + 1), 1))),
        (403, format!("old {size}\n\n{text}\n")),
        (
            422,
            format!(
                "old {size}\n\n{}",
                signer.sign(&text.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size + 1), 1))
            ),
        ),
    ] {
        assert_eq!(witness.post("/add-checkpoint", &body).0, status, "{body}");
    }
    let (status, told) = witness.post("/add-checkpoint", &format!("old 0\n\n{note}"));
    assert_eq!((status, told), (409, format!("{size}\n")));
    let other_root = signer.sign(&format!("psf.io/PSF_CA\n{size}\n{}\n", "A".repeat(43) + "="));
    let (status, told) = witness.post("/add-checkpoint", &format!("old {size}\n\n{other_root}"));
    assert_eq!((status, told), (409, format!("{size}\n")));
    assert_eq!(witness.post("/add-checkpoint", &"x".repeat(40_000)).0, 413);
    assert_eq!(witness.post("/recover-log", &note).0, 403);
    assert_eq!(witness.post("/elsewhere", "").0, 404);
    assert_eq!(witness.remembered(), size);
}

#[test]
fn a_witness_that_lost_its_memory_does_not_start() {
    let ca = Ca::made_with("");
    let mut witness = Witness::of(&ca);
    let running = witness.command().output().unwrap();
    assert!(said(&running).contains("another psfca witness is at work on "), "{}", said(&running));
    witness.kill();
    let memory = witness.dir.path().join("state/witness.json");
    let kept = fs::read(&memory).unwrap();
    for damage in [None, Some(&kept[..kept.len() / 2])] {
        match damage {
            None => fs::remove_file(&memory).unwrap(),
            Some(text) => fs::write(&memory, text).unwrap(),
        }
        let output = witness.command().output().unwrap();
        assert!(!output.status.success() && said(&output).contains("must never be used again"), "{}", said(&output));
    }
    // A new one has another key, which nobody trusts yet.
    fs::remove_file(&memory).unwrap();
    fs::remove_file(witness.dir.path().join("state/witness.key")).unwrap();
    let key = String::from_utf8(witness.command().arg("--key").output().unwrap().stdout).unwrap();
    assert!(key.starts_with("witness.psf.io/w1+") && key.trim() != witness.key, "{key}");
}
