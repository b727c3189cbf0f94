//! Services from Debian, for real: the hook that is shipped for each makes it read a renewed bundle, the probe proves that it
//! does, and says so while it does not; what was connected before still works after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use psfca::ca::bundle::Bundle;
use serde_json::Value;
use support::postgresql::{Postgres, Session, as_installed, is_root};
use support::tools::{said, succeed, works};
use support::{Ca, Host, wait_until};

const NAME: &str = "postgresql.psf.io";

/// A host with a bundle, where nobody knows of any service yet.
fn start() -> (Ca, Host) {
    let ca = Ca::start();
    let host = Host::enroll(&ca, "pg0.iad1.psf.io");
    host.ok(&["issue", NAME]);
    as_installed(&host.bundle(NAME));
    (ca, host)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn serial(host: &Host) -> String {
    Bundle::parse(&fs::read(host.bundle(NAME)).unwrap()).unwrap().leaf().serial.to_string()
}

/// A service that is stopped when it is dropped.
struct Service(Child);

impl Service {
    fn start(program: &str, args: &[&str], log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Asked first: a master that is killed outright leaves its workers behind.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        for _ in 0..500 {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Puts the shipped hook in place, with these variables.
fn install_hook(host: &Host, service: &str, variables: &[(&str, &Path)]) -> PathBuf {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/hooks").join(service);
    let set: String = variables.iter().map(|(name, value)| format!("export {name}='{}'\n", value.display())).collect();
    let hook = host.dir().join("hooks.d").join(NAME).join(service);
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let fresh = host.dir().join("fresh-hook");
    fs::write(&fresh, format!("#!/bin/sh\nset -eu\n{set}exec '{}'\n", shipped.display())).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(fresh, &hook).unwrap();
    hook
}

/// A renewal with the reload suppressed, which is told, and then with the hook, which is proven; `alive` uses what was
/// connected before.
fn assert_reloaded_and_proven(
    host: &Host,
    service: &str,
    variables: &[(&str, &Path)],
    probe: &str,
    mut alive: impl FnMut(),
) {
    let settings = format!("names:\n  {NAME}: {{probe: '{probe}'}}\n");
    fs::write(host.config(), fs::read_to_string(host.config()).unwrap() + &settings).unwrap();
    let proven = host.psfca(&["renew"]);
    assert_eq!(proven.status.code(), Some(0), "{}", said(&proven));
    assert!(said(&proven).contains("loaded  its service proved that on"), "{}", said(&proven));
    alive();

    let before = serial(host);
    let owed = host.psfca(&["renew", "--force"]);
    assert_eq!(owed.status.code(), Some(7), "{}", said(&owed));
    let (after, line) = (serial(host), format!("{probe} serves serial {before}, until "));
    assert!(said(&owed).contains(&line), "{line:?} in {}", said(&owed));
    let line = format!(", and not {after}, which is installed");
    assert!(said(&owed).contains(&line), "{line:?} in {}", said(&owed));
    let status = host.psfca(&["status"]);
    assert_eq!(status.status.code(), Some(7), "{}", said(&status));
    alive();

    install_hook(host, service, variables);
    let paid = host.psfca(&["renew"]);
    assert_eq!(paid.status.code(), Some(0), "{}", said(&paid));
    assert_eq!(serial(host), after);
    let status: Value = serde_json::from_str(&host.ok(&["status", "--json"])).unwrap();
    let bundle = status["bundles"].as_array().unwrap().iter().find(|bundle| bundle["name"] == NAME).unwrap();
    assert_eq!(bundle["loaded"]["state"], "served", "{bundle}");
    alive();
    // And all at once, as the timer does it.
    let renewed = host.psfca(&["renew", "--force"]);
    assert_eq!(renewed.status.code(), Some(0), "{}", said(&renewed));
    alive();
}

#[test]
fn postgresql_loads_a_renewed_bundle_and_sessions_live_on() {
    let (ca, host) = start();
    let postgres = Postgres::start(&host.bundle(NAME), &ca.trust_bundle());
    let mut session = Session::open(&mut postgres.application(NAME, &ca.trust_bundle(), "user=postgres"));
    let backend = session.ask("SELECT pg_backend_pid()");
    assert!(backend.parse::<u32>().is_ok(), "{backend:?}");
    let probe = format!("postgres://127.0.0.1:{}", postgres.port);
    let data = postgres.path("data");
    assert_reloaded_and_proven(&host, "postgresql", &[("PGDATA", &data)], &probe, || {
        assert_eq!(session.ask("SELECT pg_backend_pid()"), backend, "{}", postgres.log());
    });
    // What PostgreSQL itself does not say: it keeps the old one, because it cannot read the new one.
    fs::write(postgres.path("data/postgresql.auto.conf"), "ssl_key_file = '/nonexistent'\n").unwrap();
    let output = host.psfca(&["renew", "--force"]);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(
        said(&output).contains("postgresql: done") && said(&output).contains(" serves serial "),
        "{}",
        said(&output)
    );
}

/// An `openssl s_client` that stays connected, having verified chain and name.
struct Connection {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Connection {
    fn open(ca: &Ca, port: u16) -> Self {
        let (address, ca) = (format!("127.0.0.1:{port}"), ca.trust_bundle());
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-verify_return_error", "-verify_hostname", NAME, "-servername", NAME]);
        command.args(["-connect", &address, "-CAfile", ca.to_str().unwrap()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    fn say(&mut self, text: &str) {
        self.to.write_all(text.as_bytes()).unwrap();
        self.to.flush().unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn haproxy_loads_a_renewed_bundle_and_open_connections_live_on() {
    if !works(&["haproxy", "-v"]) {
        return;
    }
    let (ca, host) = start();
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, backend) = (free_port(), echo.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in echo.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    let (config, pid) = (host.dir().join("haproxy.cfg"), host.dir().join("haproxy.pid"));
    let text = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 5m\n  timeout server 5m\n\
         frontend in\n  bind 127.0.0.1:{port} ssl crt {}\n  default_backend out\n\
         backend out\n  server echo 127.0.0.1:{backend}\n",
        host.bundle(NAME).display()
    );
    fs::write(&config, text).unwrap();
    let log = host.dir().join("haproxy.log");
    let haproxy = Service::start("haproxy", &["-W", "-f", config.to_str().unwrap()], &log);
    fs::write(&pid, haproxy.0.id().to_string()).unwrap();
    wait_until("HAProxy listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());

    let mut open = Connection::open(&ca, port);
    let mut asked = 0;
    let probe = format!("tls://127.0.0.1:{port}");
    assert_reloaded_and_proven(&host, "haproxy", &[("PID_FILE", &pid), ("CONFIG", &config)], &probe, || {
        asked += 1;
        open.say(&format!("hello {asked}\n"));
        assert_eq!(open.line(), format!("hello {asked}\n"), "{}", fs::read_to_string(&log).unwrap());
    });
}

#[test]
fn nginx_loads_a_renewed_bundle_and_a_request_in_progress_is_answered() {
    if !works(&["nginx", "-v"]) {
        return;
    }
    let (ca, host) = start();
    // It answers bit by bit, whenever the test wants it to.
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free_port();
    let (config, pid) = (host.dir().join("nginx.conf"), host.dir().join("nginx.pid"));
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {}/{kind};\n", host.dir().display()));
    let text = format!(
        "daemon off;\n{user}pid {pid};\nerror_log {dir}/nginx.log;\nevents {{}}\nhttp {{\n  access_log off;\n{temporary}\
         server {{\n  listen 127.0.0.1:{port} ssl;\n  ssl_certificate {bundle};\n  ssl_certificate_key {bundle};\n\
         location / {{ proxy_pass http://127.0.0.1:{backend}; proxy_buffering off; proxy_read_timeout 5m; }}\n}}\n}}\n",
        user = if is_root() { "user root;\n" } else { "" },
        pid = pid.display(),
        dir = host.dir().display(),
        temporary = temporary.concat(),
        bundle = host.bundle(NAME).display(),
        backend = backend.local_addr().unwrap().port(),
    );
    fs::write(&config, text).unwrap();
    let log = host.dir().join("nginx.said");
    let _nginx = Service::start("nginx", &["-c", config.to_str().unwrap()], &log);
    wait_until("nginx listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());

    let mut open = Connection::open(&ca, port);
    open.say("GET / HTTP/1.0\r\n\r\n");
    let (mut answering, _) = backend.accept().unwrap();
    let mut heard = [0; 1024];
    assert!(answering.read(&mut heard).unwrap() > 0);
    answering.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
    while open.line().trim() != "" {}
    let mut asked = 0;
    let probe = format!("tls://127.0.0.1:{port}");
    assert_reloaded_and_proven(&host, "nginx", &[("PID_FILE", &pid), ("CONFIG", &config)], &probe, || {
        asked += 1;
        writeln!(answering, "part {asked}").unwrap();
        assert_eq!(
            open.line(),
            format!("part {asked}\n"),
            "{}",
            fs::read_to_string(host.dir().join("nginx.log")).unwrap()
        );
    });
}

#[test]
fn mariadb_loads_a_renewed_bundle_and_sessions_live_on() {
    if !works(&["mariadbd", "--version"]) {
        return;
    }
    let (ca, host) = start();
    let at = |file: &str| host.dir().join(file);
    let (data, socket, port) = (at("data").display().to_string(), at("sock"), free_port());
    let user = if is_root() { "root" } else { "" };
    let user = format!("--user={user}");
    let user: &[&str] = if is_root() { &[&user] } else { &[] };
    let directory = format!("--datadir={data}");
    let made = ["--no-defaults", &directory, "--auth-root-authentication-method=normal", "--skip-test-db"];
    succeed("mariadb-install-db", &[&made, user].concat());
    let bundle = host.bundle(NAME).display().to_string();
    let args = [
        "--no-defaults".to_owned(),
        directory,
        format!("--socket={}", socket.display()),
        format!("--port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--ssl-cert={bundle}"),
        format!("--ssl-key={bundle}"),
        format!("--pid-file={}", at("mariadb.pid").display()),
        "--innodb-buffer-pool-size=16M".to_owned(),
        "--innodb-flush-log-at-trx-commit=0".to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).chain(user.iter().copied()).collect();
    let log = at("mariadb.log");
    let _mariadb = Service::start("mariadbd", &args, &log);
    wait_until("MariaDB listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());

    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--host=127.0.0.1", "--user=root", "--ssl", "--batch", "--skip-column-names"]);
    client.args(["--unbuffered", &format!("--port={port}"), &format!("--ssl-ca={}", ca.trust_bundle().display())]);
    let mut session = Session::open(&mut client);
    let connection = session.ask("SELECT CONNECTION_ID()");
    assert!(connection.parse::<u32>().is_ok(), "{connection:?}: {}", fs::read_to_string(&log).unwrap());
    let probe = format!("mysql://127.0.0.1:{port}");
    assert_reloaded_and_proven(&host, "mariadb", &[("SOCKET", &socket)], &probe, || {
        assert_eq!(session.ask("SELECT CONNECTION_ID()"), connection);
    });
}
