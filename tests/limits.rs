//! What one host, one address, or all of them together cannot do to the others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use psfca::declaration::{Declaration, Rules};
use psfca::diagnostic::SourceFile;
use psfca::in_force::InForce;
use psfca::profile::Lifetime;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::ask::{Answer, P256, ask, ask_admin, ask_as, csr, enroll_from, post_csr, secret};
use support::clock::{Stopped, stand_still};
use support::connections::{
    Tls, begin_request, client, exchange, handshake, is_served, read_all, tcp, tcp_from, tls, tls_as,
};
use support::stored_ledger::Books;
use support::{Ca, Host, ROLES_YAML, TLS_YAML, wait_until};

const PATH: &str = "/v1/certs/postgresql.psf.io";
const HOUR: i64 = 3_600;

fn serving(limits: &str) -> Ca {
    let mut ca = Ca::made_with(&format!("limits: {{{limits}}}\n"));
    ca.serve();
    ca
}

fn metric(ca: &Ca, name: &str) -> u64 {
    let metrics = ask_admin(ca, &[], "/metrics").body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_default()
}

fn ended(ca: &Ca, cause: &str) -> u64 {
    metric(ca, &format!("psfca_connections_ended_total{{cause=\"{cause}\"}}"))
}

/// The statuses of `count` requests for a certificate, one after the other on one connection.
fn flood(stream: &mut Tls, csr: &Path, count: usize) -> Vec<u16> {
    let body = std::fs::read_to_string(csr).unwrap();
    let head = "Host: localhost\r\nContent-Type: application/pkcs10";
    let request = format!("POST {PATH} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let status = |answer: String| answer["HTTP/1.1 ".len()..][..3].parse().unwrap();
    (0..count).map(|_| exchange(stream, request.as_bytes()).map_or(0, status)).collect()
}

fn granted(statuses: &[u16]) -> usize {
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    statuses.iter().filter(|&&status| status == 200).count()
}

fn allow_files(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|files| files < count) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum: limit.maximum }).unwrap();
    }
}

/// `count` connections that say nothing, half of them after the handshake, from as many addresses as `from` gives.
fn idle(ca: &Ca, count: usize, from: impl Fn(usize) -> Ipv4Addr) -> (Vec<std::net::TcpStream>, Vec<Tls>) {
    let nobody = client(ca, None);
    let silent = (0..count / 2).map(|n| tcp_from(ca, from(n))).collect();
    let shaken = (count / 2..count).map(|n| handshake(tcp_from(ca, from(n)), &nobody)).collect();
    (silent, shaken)
}

fn works(ca: &Ca, name: &str) {
    let host = Host::enroll(ca, name);
    host.ok(&["issue", "postgresql.psf.io"]);
    host.ok(&["renew", "--force"]);
}

#[test]
fn two_thousand_idle_connections_keep_no_host_from_enrolling_issuing_and_renewing() {
    allow_files(4_000);
    // Longer than the test takes, so that no time limit does what this is about.
    let ca = serving("handshake_seconds: 300, header_seconds: 300");
    let attack = idle(&ca, 2_000, |_| Ipv4Addr::LOCALHOST);
    works(&ca, "pg0.iad1.psf.io");
    assert!(ended(&ca, "share") >= 1_900);
    drop(attack);
    wait_until("every connection is closed", || metric(&ca, "psfca_connections") == 0);

    let before = ended(&ca, "share");
    let attack = idle(&ca, 2_000, |n| Ipv4Addr::new(127, 1, (n / 250) as u8, (n % 250 + 1) as u8));
    works(&ca, "pg1.iad1.psf.io");
    assert!(ended(&ca, "unproven") >= 1_000);
    assert_eq!(ended(&ca, "share"), before);
    assert_eq!(metric(&ca, "psfca_connections_refused_total"), 0);
    wait_until("places are kept", || metric(&ca, "psfca_connections") <= 1_000);
    drop(attack);
}

#[test]
fn where_open_files_run_out_before_connections_do_a_host_is_served_all_the_same() {
    let mut ca = Ca::made_with("limits: {handshake_seconds: 300}\n");
    let mut daemon = std::process::Command::new("sh");
    daemon.args(["-c", "ulimit -n 64; exec \"$0\" serve", env!("CARGO_BIN_EXE_psfca")]);
    daemon.env("PSFCA_CONFIG", ca.config());
    ca.serve_by(daemon);
    ca.wait_for_log("this process may open 64 files, and limits.connections needs 1100");
    let attack: Vec<_> = (0..150).map(|_| tcp(&ca)).collect();
    works(&ca, "pg0.iad1.psf.io");
    assert!(ended(&ca, "unproven") + ended(&ca, "share") > 0);
    drop(attack);
}

#[test]
fn a_host_with_more_connections_than_its_share_loses_its_own_and_no_others() {
    let ca = serving("connections: 12, connections_each: 4, header_seconds: 300");
    let [greedy, other] = ["pg0.iad1.psf.io", "pg1.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    let mut kept = [tls_as(&ca, &other), tls_as(&ca, &other), tls(&ca)];
    let mut many: Vec<Tls> = (0..10).map(|_| tls_as(&ca, &greedy)).collect();
    for closed in &mut many[..6] {
        assert_eq!(read_all(closed), "");
    }
    assert!(many[6..].iter_mut().chain(&mut kept).all(is_served));
    assert_eq!((ended(&ca, "share"), ended(&ca, "unproven"), ended(&ca, "idle")), (6, 0, 0));
}

#[test]
fn a_host_at_work_is_never_cut_and_when_all_are_at_work_new_connections_are_closed_at_once() {
    let ca = serving("connections: 2");
    let [first, second] = ["pg0.iad1.psf.io", "pg1.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    let (mut working, idle) = (tls_as(&ca, &first), tls_as(&ca, &second));
    begin_request(&mut working);
    wait_until("it is at work", || metric(&ca, "psfca_requests_at_work") == 1);
    // The other one gives its place to whoever comes, the working one does not.
    for _ in 0..3 {
        wait_until("somebody else is served", || ask(&ca, &[], "/healthz").status == 200);
    }
    drop(idle);
    let mut also = tls_as(&ca, &second);
    begin_request(&mut also);
    wait_until("both are at work", || metric(&ca, "psfca_requests_at_work") == 2);
    for _ in 0..5 {
        assert_eq!(read_all(&mut tcp(&ca)), "", "closed without a word");
    }
    assert_eq!(metric(&ca, "psfca_connections_refused_total"), 5);
    for stream in [&mut working, &mut also] {
        let rest = exchange(stream, &[b'-'; 99]).expect("it was cut");
        assert!(rest.starts_with("HTTP/1.1 415 "), "{rest}");
    }
    wait_until("the places are free again", || ask(&ca, &[], "/healthz").status == 200);
}

#[test]
fn when_the_daemon_has_too_much_to_do_hosts_whose_certificates_are_about_to_end_go_first() {
    let mut ca = Ca::made_with("limits: {connections: 8, request_seconds: 600, header_seconds: 300}\n");
    let Some(clock) = Stopped::serve(&mut ca) else { return };
    let [busy, host] = ["pg0.iad1.psf.io", "pg1.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    let request = csr(host.dir(), &P256);
    assert_eq!(post_csr(&ca, &host, &request, PATH).status, 200);
    let held: Vec<Tls> = (0..6)
        .map(|_| {
            let mut stream = tls_as(&ca, &busy);
            begin_request(&mut stream);
            stream
        })
        .collect();
    let ask_now = || ask_as(&ca, &host, &[], "/v1/certs");
    let refused = |answer: &Answer| answer.status == 503 && answer.problem() == "overloaded";
    wait_until("six are at work", || metric(&ca, "psfca_requests_at_work") == 6);
    let answer = ask_now();
    assert!(refused(&answer) && answer.header("retry-after") == "5", "{answer:?}");
    assert_eq!(ask(&ca, &[], "/healthz").status, 200, "who has no identity takes no host's place");
    assert_eq!(metric(&ca, "psfca_urgent_requests_total"), 0);

    // A quarter of a day's life is six hours.
    clock.set(19 * 3_600);
    assert_eq!(ask_now().status, 200);
    assert_eq!(post_csr(&ca, &host, &request, PATH).status, 200);
    wait_until("it has what it needs and waits like everyone else", || refused(&ask_now()));
    assert!(metric(&ca, "psfca_urgent_requests_total") >= 2);
    drop(held);
    wait_until("there is time for all", || ask_now().status == 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_urgent_by_its_newest_certificates_for_names_that_it_may_still_have() {
    let books = Books::open().await;
    let [host, stranger] = [books.enroll("pg0.iad1.psf.io").await, books.enroll("pg1.iad1.psf.io").await];
    let is_urgent = async |host| books.ca.is_urgent(host).await.unwrap();
    let declare = |roles: &str| {
        let files =
            [("tls.yaml", TLS_YAML), ("roles.yaml", roles)].map(|(path, text)| SourceFile::new(path, text.into()));
        let max_lifetime = Lifetime::days(std::num::NonZero::new(90).unwrap());
        let declaration = Declaration::parse(&files, &Rules { max_lifetime, ..Rules::default() }).unwrap().0;
        drop(books.ca.declaration.replace(InForce { declaration, since: books.ca.clock.now() }));
    };
    assert!(!is_urgent(&host).await, "no service rests on what it never had");
    books.issue(std::slice::from_ref(&host), 2).await;
    for (hours, urgent) in [(0, false), (17, false), (19, true), (30, true)] {
        books.clock.set(hours * HOUR);
        // That an entry is released is written with the next batch.
        let _ = books.ca.store.probe().await;
        assert_eq!(is_urgent(&host).await, urgent, "after {hours} hours");
        assert!(!is_urgent(&stranger).await);
    }
    declare(&ROLES_YAML.replace("pg*", "db*"));
    assert!(!is_urgent(&host).await, "it may not have the name any more");
    declare(ROLES_YAML);
    assert!(is_urgent(&host).await);
    books.issue(std::slice::from_ref(&host), 1).await;
    assert!(is_urgent(&host).await, "one of two names is renewed");
    books.issue(std::slice::from_ref(&host), 2).await;
    let _ = books.ca.store.probe().await;
    assert!(!is_urgent(&host).await);
    let sql = rusqlite::Connection::open(psfca::init::ledger_path(&books.state())).unwrap();
    let lost = "UPDATE certificate SET released = 0
                WHERE idx = (SELECT max(idx) FROM certificate WHERE name = 'app.psf.io')";
    assert_eq!(sql.execute(lost, []).unwrap(), 1);
    assert!(is_urgent(&host).await, "its answer was lost, so the host has what it had before");
    books.issue(std::slice::from_ref(&host), 2).await;
    let _ = books.ca.store.probe().await;
    assert!(!is_urgent(&host).await);
    // Identities live 30 days.
    books.clock.set(23 * 24 * HOUR);
    assert!(is_urgent(&stranger).await);
    books.clock.set(31 * 24 * HOUR);
    assert!(is_urgent(&stranger).await, "an identity in its grace has to be renewed now");
    books.clock.set(38 * 24 * HOUR);
    assert!(!is_urgent(&stranger).await, "after its grace it is not served, so nothing is urgent");
}

#[test]
fn sixty_certificates_at_once_then_one_a_second_for_each_host_alone() {
    let mut ca = Ca::made_with("");
    let Some(clock) = Stopped::serve(&mut ca) else { return };
    let [host, other] = ["pg0.iad1.psf.io", "pg1.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    let request = csr(host.dir(), &P256);
    let mut stream = tls_as(&ca, &host);
    assert_eq!(granted(&flood(&mut stream, &request, 100)), 60);
    let answer = post_csr(&ca, &host, &request, PATH);
    assert_eq!(answer.refusal(), (429, "too-many-requests".to_owned()));
    assert_eq!(answer.header("retry-after"), "1");
    // Before anything is looked at that costs more, and whatever is asked for.
    let nonsense = host.dir().join("nonsense");
    std::fs::write(&nonsense, "no request").unwrap();
    for path in [PATH, "/v1/certs/nobody.psf.io", "/v1/identity"] {
        assert_eq!(post_csr(&ca, &host, &nonsense, path).status, 429, "{path}");
    }
    assert_eq!(ask_as(&ca, &host, &[], "/v1/certs").status, 200, "what costs little is not limited");
    assert_eq!(granted(&flood(&mut tls_as(&ca, &other), &request, 1)), 1);

    for (seconds, more) in [(1, 1), (31, 30), (30, 0), (10_000, 60)] {
        clock.set(seconds);
        assert_eq!(granted(&flood(&mut stream, &request, 70)), more, "after {seconds} s");
    }
    let refused = metric(&ca, "psfca_requests_refused_total{reason=\"too-many-requests\"}");
    assert_eq!(refused, 40 + 1 + 3 + 69 + 40 + 70 + 10);
}

#[test]
fn the_flood_of_one_host_does_not_keep_another_from_renewing() {
    let mut ca = Ca::made_with("");
    let Some(()) = stand_still(&mut ca) else { return };
    let [host, other] = ["pg0.iad1.psf.io", "pg1.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    let request = csr(host.dir(), &P256);
    let as_host = client(&ca, Some(&host));
    let (begun, stop) = (std::sync::Barrier::new(9), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut stream = handshake(tcp(&ca), &as_host);
                let mut statuses = flood(&mut stream, &request, 20);
                begun.wait();
                while !stop.load(Ordering::Relaxed) {
                    statuses.extend(flood(&mut stream, &request, 20));
                }
                granted(&statuses);
            });
        }
        begun.wait();
        let commands = [&["issue", "postgresql.psf.io"][..], &["renew", "--force"], &["renew", "--force"]];
        let outcomes = commands.map(|command| other.psfca(command));
        // Before anything can fail here: the threads would go on for ever.
        stop.store(true, Ordering::Relaxed);
        for out in outcomes {
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
    });
    let listed = |host: &Host| ca.ok(&["audit", "list", "--role", "postgresql", "--host", &host.name, "--json"]);
    assert_eq!(listed(&host).lines().count(), 60, "what is refused leaves no entry");
    assert_eq!(listed(&other).lines().count(), 1 + 2 * 3, "one name, then twice all three");
}

#[test]
fn enrolments_are_counted_for_each_address_and_failures_count() {
    let mut ca = Ca::made_with("");
    let Some(clock) = Stopped::serve(&mut ca) else { return };
    let request = csr(ca.dir(), &P256);
    let [first, second] = ["pg0.iad1.psf.io", "pg1.iad1.psf.io"].map(|name| secret(&ca.token(name)));
    for n in 0..10 {
        let refusal = enroll_from(&ca, "127.0.0.1", &"A".repeat(43), &request).refusal();
        assert_eq!(refusal, (403, "bad-token".to_owned()), "{n}");
    }
    let answer = enroll_from(&ca, "127.0.0.1", &first, &request);
    assert_eq!(answer.refusal(), (429, "too-many-enrolments".to_owned()));
    assert_eq!(answer.header("retry-after"), "10");
    assert_eq!(ask(&ca, &["--data-binary", "{}"], "/v1/enroll").status, 429, "malformed ones too");
    assert_eq!(enroll_from(&ca, "127.0.0.2", &second, &request).status, 200, "from elsewhere");
    clock.set(9);
    assert_eq!(enroll_from(&ca, "127.0.0.1", &first, &request).header("retry-after"), "1");
    clock.set(10);
    assert_eq!(enroll_from(&ca, "127.0.0.1", &first, &request).status, 200, "the token was not spent by being refused");
    assert_eq!(metric(&ca, "psfca_requests_refused_total{reason=\"too-many-enrolments\"}"), 3);
}

#[test]
fn a_body_of_100_mb_is_refused_without_being_read() {
    const SIZE: usize = 100_000_000;
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    let chunk = [b'x'; 65_536];
    for (what, mut stream, path) in
        [("a host", tls_as(&ca, &host), PATH), ("nobody", tls(&ca), "/v1/enroll"), ("nobody", tls(&ca), "/healthz")]
    {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut sent = 0;
        while sent < SIZE && stream.write_all(&chunk).and_then(|()| stream.flush()).is_ok() {
            sent += chunk.len();
        }
        // What fits into the buffers of two sockets is sent before the answer comes.
        assert!(sent < SIZE / 4, "{what}, {path}: {sent} bytes");
        let answer = read_all(&mut stream);
        let status = if path == "/healthz" { "405" } else { "413" };
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}, {path}: {answer}");
    }
    let body = host.dir().join("large");
    std::fs::write(&body, vec![b'x'; 65_537]).unwrap();
    assert_eq!(post_csr(&ca, &host, &body, PATH).refusal(), (413, "too-large".to_owned()));
    assert!(metric(&ca, "psfca_requests_refused_total{reason=\"too-large\"}") >= 3);
    assert_eq!(metric(&ca, "psfca_certificates_issued_total{kind=\"service\"}"), 0);
}

#[test]
fn who_is_refused_all_the_time_does_not_fill_the_log() {
    let mut ca = Ca::made_with("");
    let Some(clock) = Stopped::serve(&mut ca) else { return };
    let lines = |text: &str| ca.log().lines().filter(|line| line.contains(text)).count();
    let mut stream = tls(&ca);
    for _ in 0..300 {
        assert!(exchange(&mut stream, b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n").is_some());
    }
    assert_eq!(lines("no-such-path"), 100);
    for _ in 0..150 {
        let mut stream = tcp(&ca);
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let _ = read_all(&mut stream);
    }
    assert_eq!(lines("handshake failed"), 100);
    assert_eq!(ended(&ca, "handshake"), 150);
    clock.set(1);
    assert_eq!(ask(&ca, &[], "/nothing").status, 404);
    ca.wait_for_log("left_out=200");
}

#[test]
fn a_host_that_is_refused_all_the_time_fills_no_log_and_hides_no_other() {
    let mut ca = Ca::made_with("");
    let Some(clock) = Stopped::serve(&mut ca) else { return };
    let [disabled, other] = ["pg0.iad1.psf.io", "pg1.iad1.psf.io"].map(|name| Host::enroll(&ca, name));
    let mut stream = tls_as(&ca, &disabled);
    ca.ok(&["host", "disable", "pg0.iad1.psf.io"]);
    let lines = || ca.log().lines().filter(|line| line.contains("reason=\"disabled\"")).count();
    for _ in 0..300 {
        let answer = exchange(&mut stream, b"GET /v1/certs HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    assert_eq!(lines(), 100);
    assert_eq!(ask_as(&ca, &other, &[], "/v1/nothing").status, 404);
    ca.wait_for_log("reason=\"no-such-path\"");
    clock.set(1);
    assert_eq!(ask_as(&ca, &disabled, &[], "/v1/certs").status, 403);
    ca.wait_for_log("left_out=200");
    assert_eq!(lines(), 101);
    // What is issued is always told, and what operators do.
    let mut stream = tls_as(&ca, &other);
    assert_eq!(granted(&flood(&mut stream, &csr(other.dir(), &P256), 60)), 60);
    let told = |what: &str| ca.log().lines().filter(|line| line.contains(what)).count();
    wait_until("every certificate is told", || told("name=postgresql.psf.io") >= 60);
    assert_eq!(told("name=postgresql.psf.io"), 60);
}

#[test]
fn idle_connections_to_the_admin_socket_are_bounded_and_keep_no_operator_out() {
    let ca = Ca::start();
    let attack: Vec<_> = (0..300).map(|_| UnixStream::connect(ca.admin_socket()).unwrap()).collect();
    ca.ok(&["token", "pg0.iad1.psf.io"]);
    let open = std::fs::read_dir(format!("/proc/{}/fd", ca.pid())).unwrap().count();
    assert!(open < 200, "{open} open files");
    let mut first = &attack[0];
    first.set_read_timeout(Some(support::PATIENCE)).unwrap();
    assert_eq!(read_all(&mut first), "", "the oldest was closed");
    ca.wait_for_log("too many connections to the admin socket; one of uid ");
    works(&ca, "pg1.iad1.psf.io");
}

#[test]
fn who_does_not_take_the_answers_is_cut_after_the_time_for_a_request() {
    let ca = serving("request_seconds: 1, header_seconds: 300");
    let mut stream = tls(&ca);
    stream.sock.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // Nothing is read, so the answers fill every buffer on the way, and then the requests do.
    let ask = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    while stream.write_all(ask.as_bytes()).and_then(|()| stream.flush()).is_ok() {}
    wait_until("its place is free", || metric(&ca, "psfca_connections") == 0);
}

#[test]
fn limits_of_time_and_size_are_counted() {
    let ca = serving("handshake_seconds: 1, header_seconds: 1, request_seconds: 1");
    let (mut silent, mut slow) = (tcp(&ca), tls(&ca));
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").unwrap();
    slow.flush().unwrap();
    read_all(&mut silent);
    read_all(&mut slow);
    let mut body = tls(&ca);
    body.write_all(b"POST /v1/enroll HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{").unwrap();
    read_all(&mut body);
    wait_until("all are counted", || ended(&ca, "slow-handshake") == 1 && ended(&ca, "slow-head") >= 1);
    assert_eq!(metric(&ca, "psfca_requests_refused_total{reason=\"too-slow\"}"), 1);
    let mut large = tls(&ca);
    large.write_all(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000)).as_bytes()).unwrap();
    read_all(&mut large);
    wait_until("so is a head that is too large", || ended(&ca, "bad-head") == 1);
}
