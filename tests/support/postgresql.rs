//! A real PostgreSQL 15 that serves a bundle, in a directory of its own on loopback; stopped however a test ends.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

/// A name for clients; as common name it is the role that they log in as.
pub const CLIENT: &str = "app.psf.io";
pub const HOST: &str = "pg0.iad1.psf.io";
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// Fails, like any other program, after a minute: a hang ends the test.
pub fn program(path: impl AsRef<Path>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", "60"]).arg(path.as_ref()).stdin(Stdio::null());
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env_remove(variable);
    }
    command
}

/// PostgreSQL refuses to run as root, so for root its programs run as the user `postgres`, as they do in real life.
fn server_program(name: &str) -> Command {
    let path = Path::new(PROGRAMS).join(name);
    assert!(path.exists(), "{} is missing: run tests/setup", path.display());
    if !is_root() {
        return program(path);
    }
    let mut command = program("/usr/bin/setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(path);
    command
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn id_of(database: &str, name: &str) -> u32 {
    let output = program("/usr/bin/getent").args([database, name]).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.split(':').nth(2).unwrap_or_else(|| panic!("no {name} in {database}")).parse().unwrap()
}

pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Gives a bundle the owner and mode that the agent gives it in `/etc/ssl/private` (root:ssl-cert 0640). Here the
/// agent leaves ownership alone, because it writes to a directory of the test's. Without root, the server runs as the
/// bundle's owner, and then takes nothing above 0600.
pub fn as_installed(bundle: &Path) {
    if is_root() {
        chown(bundle, Some(0), Some(id_of("group", "ssl-cert"))).unwrap();
        mode(bundle, 0o640);
        for directory in bundle.ancestors().skip(1).take_while(|path| *path != std::env::temp_dir()) {
            mode(directory, 0o711);
        }
    } else {
        mode(bundle, 0o600);
    }
}

/// A running PostgreSQL whose certificate and key are one bundle.
pub struct Postgres {
    dir: TempDir,
    pub port: u16,
}

impl Postgres {
    pub fn start(bundle: &Path, trust_bundle: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        mode(dir.path(), 0o755);
        if is_root() {
            chown(dir.path(), Some(id_of("passwd", "postgres")), None).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let postgres = Self { dir, port };
        // For logins without a password, the trust bundle and a home for psql that holds no surprises.
        fs::copy(trust_bundle, postgres.path("clients.pem")).unwrap();
        mode(&postgres.path("clients.pem"), 0o644);
        fs::create_dir(postgres.path("home")).unwrap();

        let initdb = ["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C"];
        succeed(server_program("initdb").args(initdb).arg(postgres.path("data")));
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{dir}'\nfsync = off\n\
             ssl = on\nssl_cert_file = '{bundle}'\nssl_key_file = '{bundle}'\nssl_ca_file = '{dir}/clients.pem'\n",
            dir = postgres.dir.path().display(),
            bundle = bundle.display(),
        );
        let rules = format!(
            "local all postgres trust\n\
             hostssl all postgres 127.0.0.1/32 trust\n\
             hostssl all \"{CLIENT}\",other,\"{HOST}\" 127.0.0.1/32 cert clientcert=verify-full\n"
        );
        fs::write(postgres.path("data/postgresql.conf"), settings).unwrap();
        fs::write(postgres.path("data/pg_hba.conf"), rules).unwrap();
        let output = postgres.control("start").args(["--log"]).arg(postgres.path("data/log")).output().unwrap();
        assert!(output.status.success(), "{}\n{}", said(&output), postgres.log());
        postgres
            .admin(&format!("CREATE ROLE \"{CLIENT}\" LOGIN; CREATE ROLE other LOGIN; CREATE ROLE \"{HOST}\" LOGIN"));
        postgres
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("data/log")).unwrap_or_default()
    }

    /// `pg_ctl` acts on the process whose id is in this server's own directory, and waits until it has acted.
    pub fn control(&self, action: &str) -> Command {
        let mut command = server_program("pg_ctl");
        // The server that it starts must not keep our pipes open.
        command.args([action, "--wait", "--timeout=50", "--silent", "--pgdata"]).arg(self.path("data"));
        command
    }

    fn psql(&self, connection: &str) -> Command {
        let mut command = program(Path::new(PROGRAMS).join("psql"));
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(variable);
        }
        let connection = format!("{connection} port={} dbname=postgres", self.port);
        command.env("HOME", self.path("home")).args(["-X", "-q", "-A", "-t", "-w", "-d", &connection]);
        command
    }

    /// Says something to the server over its socket, past TLS.
    pub fn admin(&self, sql: &str) -> String {
        succeed(self.psql(&format!("host={} user=postgres", self.dir.path().display())).args(["-c", sql]))
    }

    /// What an application says: `host` is the name that must be in the certificate.
    pub fn application(&self, host: &str, trust_bundle: &Path, more: &str) -> Command {
        self.psql(&format!(
            "host={host} hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={} {more}",
            trust_bundle.display()
        ))
    }

    /// The serial of the certificate that is served now.
    pub fn served_serial(&self) -> String {
        let address = format!("127.0.0.1:{}", self.port);
        let mut client = program("/usr/bin/openssl");
        let output = client.args(["s_client", "-starttls", "postgres", "-connect", &address]).output().unwrap();
        serial(&output.stdout)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.path("data/postmaster.pid").exists() {
            let _ = self.control("stop").arg("--mode=immediate").status();
        }
    }
}

/// The serial of the first certificate in some PEM text.
pub fn serial(pem: &[u8]) -> String {
    let mut openssl = program("/usr/bin/openssl");
    let openssl = openssl.args(["x509", "-noout", "-serial"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = openssl.spawn().unwrap();
    child.stdin.take().unwrap().write_all(pem).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "no certificate in {}", String::from_utf8_lossy(pem));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A psql that stays connected and answers one line for each question.
pub struct Session {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Session {
    pub fn open(psql: &mut Command) -> Self {
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (questions, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, questions, answers }
    }

    pub fn ask(&mut self, sql: &str) -> String {
        writeln!(self.questions, "{sql};").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
