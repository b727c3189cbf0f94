//! Real parts for integration tests: a CA and hosts, each in a directory of its own, run by the
//! binary that is being tested. What was started is stopped by its process id, also after a panic.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

pub mod ask;
pub mod clock;
pub mod connections;
pub mod dice;
pub mod disk;
pub mod forge;
pub mod kept;
pub mod ledger;
pub mod minion;
pub mod office;
pub mod postgresql;
pub mod rollback;
pub mod stored_ledger;
pub mod strace;
pub mod tools;
pub mod witness;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The longest wait for anything; it bounds hangs and measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The declaration that tests begin with.
pub const TLS_YAML: &str = "\
tls:
  ciphers:
    default: ECDH+AESGCM
  gen_certs:
    postgresql.psf.io:
      roles: [postgresql]
    lb.psf.io:
      days: 30
      roles: [loadbalancer]
    app.psf.io:
      usages: client
      roles: [postgresql]
    made.psf.io:
      ca_made_key: true
      aliases: [made-alias.psf.io]
      ip: [192.0.2.10]
      roles: [postgresql]
";

/// Its roles.
pub const ROLES_YAML: &str = "\
roles:
  postgresql: \"pg*.iad1.psf.io\"
  loadbalancer: \"lb*.iad1.psf.io\"
";

/// A CA with its daemon.
pub struct Ca {
    dir: tempfile::TempDir,
    daemon: Option<Daemon>,
    config_extra: String,
}

/// A running `psfca serve`; killed when dropped.
pub struct Daemon {
    child: Child,
    /// What it logged so far.
    pub log: std::sync::Arc<std::sync::Mutex<String>>,
    address: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, without whatever the environment says about TLS or psfca.
pub fn psfca() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_psfca"));
    for name in
        ["SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "PSFCA_CONFIG", "PSFCA_HOST_CONFIG", "NOTIFY_SOCKET"]
    {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// Copies the binary to where another user can reach it. A process of its own does the writing: a file that is open
/// for writing here, in whatever thread, cannot be run by what another thread starts at that moment.
pub fn copy_binary(to: &Path) {
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_psfca")).arg(to).status().unwrap().success());
}

impl Ca {
    /// Makes a CA and starts its daemon on a free port.
    pub fn start() -> Self {
        let mut ca = Self::made_with("");
        ca.serve();
        ca
    }

    /// Makes a CA whose `ca.yaml` has these lines more; the daemon is not started.
    pub fn made_with(config_extra: &str) -> Self {
        let ca = Self::unmade(config_extra);
        let made = ca.psfca(&["init"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        ca
    }

    /// Configuration and declaration only.
    pub fn unmade(config_extra: &str) -> Self {
        let ca = Self { dir: tempfile::tempdir().unwrap(), daemon: None, config_extra: config_extra.to_owned() };
        std::fs::write(ca.dir().join("tls.yaml"), TLS_YAML).unwrap();
        std::fs::write(ca.dir().join("roles.yaml"), ROLES_YAML).unwrap();
        std::fs::write(
            ca.config(),
            format!(
                "name: PSF_CA\n\
                 cert_opts:\n  C: US\n  ST: NH\n  L: Wolfeboro\n  O: Python Software Foundation\n  \
                 OU: Infrastructure Team\n  emailAddress: infrastructure-staff@python.org\n\
                 trust_domain: psf.io\n\
                 declaration: [tls.yaml, roles.yaml]\n\
                 listen: 127.0.0.1:0\n\
                 server_names: [localhost]\n\
                 state: state\n\
                 trust_bundle: PSF_CA.pem\n\
                 admin_socket: admin.sock\n{config_extra}"
            ),
        )
        .unwrap();
        ca
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its `ca.yaml`.
    pub fn config(&self) -> PathBuf {
        self.dir().join("ca.yaml")
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// Its `PSF_CA.pem`.
    pub fn trust_bundle(&self) -> PathBuf {
        self.dir().join("PSF_CA.pem")
    }

    /// Its admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.dir().join("admin.sock")
    }

    /// `localhost:PORT` of the running daemon.
    pub fn address(&self) -> &str {
        &self.daemon.as_ref().expect("the daemon runs").address
    }

    /// Runs an operator's command against this CA.
    pub fn psfca(&self, args: &[&str]) -> Output {
        psfca().args(args).env("PSFCA_CONFIG", self.config()).output().unwrap()
    }

    /// As [`Ca::psfca`], and it must succeed; returns standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        expect_success(args, self.psfca(args))
    }

    /// A fresh token for `host`.
    pub fn token(&self, host: &str) -> String {
        self.ok(&["token", host]).trim().to_owned()
    }

    /// Starts the daemon and waits until it serves.
    pub fn serve(&mut self) {
        let mut command = psfca();
        command.arg("serve").env("PSFCA_CONFIG", self.config());
        self.serve_by(command);
    }

    /// Starts the daemon by `command`, for instance under strace, and waits until it serves.
    pub fn serve_by(&mut self, mut command: Command) {
        self.stop();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let (send, receive) = std::sync::mpsc::channel();
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()), std::sync::Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some(port) = line.split("address=127.0.0.1:").nth(1).filter(|_| line.contains("serving")) {
                    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
                    let _ = send.send(format!("localhost:{port}"));
                }
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let mut daemon = Daemon { child, log, address: String::new() };
        match receive.recv_timeout(PATIENCE) {
            Ok(address) => daemon.address = address,
            Err(_) => panic!("the daemon does not serve: {}", daemon.log.lock().unwrap()),
        }
        self.daemon = Some(daemon);
    }

    /// From now on the daemon comes up at the address that it has now, so that hosts find it again.
    pub fn keep_address(&self) {
        let config = std::fs::read_to_string(self.config()).unwrap();
        let port = self.address().rsplit(':').next().unwrap();
        std::fs::write(self.config(), config.replace("listen: 127.0.0.1:0", &format!("listen: 127.0.0.1:{port}")))
            .unwrap();
    }

    /// What the daemon logged so far.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(|daemon| daemon.log.lock().unwrap().clone()).unwrap_or_default()
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").child.id()
    }

    /// Waits until the log has a line with `text`.
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the log says {text:?}"), || self.log().contains(text));
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap().success());
    }

    /// Whether the daemon was killed, also where a tracer still keeps what is left of it.
    pub fn is_dead(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        matches!(stat.rsplit_once(") ").unwrap().1.chars().next(), Some('Z' | 'X'))
    }

    /// Kills the daemon (SIGKILL).
    pub fn stop(&mut self) {
        self.daemon = None;
    }

    /// Asks the daemon to end (SIGTERM) and returns how it did.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        self.signal("TERM");
        let mut daemon = self.daemon.take().expect("the daemon runs");
        let mut status = None;
        wait_until("the daemon ends", || {
            status = daemon.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// One request to the network listener with curl; returns status and body.
    pub fn curl(&self, args: &[&str], path: &str) -> (u16, String) {
        let url = format!("https://{}{path}", self.address());
        curl(&[&["--cacert", self.trust_bundle().to_str().unwrap()], args].concat(), &url)
    }

    /// One request to the admin socket with curl; returns status and body.
    pub fn curl_admin(&self, args: &[&str], path: &str) -> (u16, String) {
        let url = format!("http://localhost{path}");
        curl(&[&["--unix-socket", self.admin_socket().to_str().unwrap()], args].concat(), &url)
    }
}

fn curl(args: &[&str], url: &str) -> (u16, String) {
    let out = Command::new("curl")
        .env_remove("CURL_CA_BUNDLE")
        .env_remove("SSL_CERT_FILE")
        .args(["--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}"])
        .args(args)
        .arg(url)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    let status = status.parse().unwrap_or(0);
    (status, if status == 0 { String::from_utf8_lossy(&out.stderr).into_owned() } else { body.to_owned() })
}

/// A host with a directory of its own.
pub struct Host {
    dir: tempfile::TempDir,
    /// Its name.
    pub name: String,
}

impl Host {
    /// A host that is not enrolled yet.
    pub fn new(name: &str) -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap(), name: name.to_owned() };
        std::fs::create_dir(host.dir().join("bundles")).unwrap();
        // Not this machine's own hooks.
        let settings = "state: state\nbundles: bundles\nhooks: hooks.d\ntrust_bundle: PSF_CA.pem\n";
        std::fs::write(host.config(), settings).unwrap();
        host
    }

    /// A host that has enrolled with a token from `ca`.
    pub fn enroll(ca: &Ca, name: &str) -> Self {
        let host = Self::new(name);
        let out = host.enroll_with(&ca.token(name));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        host
    }

    /// Enrols with `token`, which comes in by standard input.
    pub fn enroll_with(&self, token: &str) -> Output {
        let mut child = self
            .command(&["enroll"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its `host.yaml`.
    pub fn config(&self) -> PathBuf {
        self.dir().join("host.yaml")
    }

    /// A command on this host, to be run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = psfca();
        command.args(args).env("PSFCA_HOST_CONFIG", self.config());
        command
    }

    /// Runs a command on this host.
    pub fn psfca(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// As [`Host::psfca`], and it must succeed; returns standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        expect_success(args, self.psfca(args))
    }

    /// Where the bundle of `name` is installed.
    pub fn bundle(&self, name: &str) -> PathBuf {
        self.dir().join("bundles").join(format!("{name}.pem"))
    }

    /// Its copy of `PSF_CA.pem`.
    pub fn trust_bundle(&self) -> PathBuf {
        self.dir().join("PSF_CA.pem")
    }

    /// Its identity, chain and key, taken out of its enrolment into a PEM file.
    pub fn identity(&self) -> PathBuf {
        let enrolment = std::fs::read(self.dir().join("state/enrolment.json")).unwrap();
        let enrolment: serde_json::Value = serde_json::from_slice(&enrolment).unwrap();
        let file = self.dir().join("identity.pem");
        std::fs::write(&file, enrolment["identity"].as_str().unwrap()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    }
}

fn expect_success(args: &[&str], out: Output) -> String {
    assert!(out.status.success(), "psfca {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Polls until `done`, for at most [`PATIENCE`].
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "in vain waited until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
