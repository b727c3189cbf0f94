//! The demo's PostgreSQL: a real server with the bundle as certificate and key, and a real client
//! with `sslmode=verify-full`. Left out, with a word about it, where PostgreSQL is not installed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::stage::Stage;
use crate::accounts;

/// PostgreSQL refuses to run as root; Debian's package brings a user for it.
const USER: &str = "postgres";

/// Lines of `host.yaml` that let the server read the bundle: its own user where there is one.
pub(super) fn bundle_owner() -> String {
    if as_other_user() { format!("owner: {USER}\ngroup: {USER}\n") } else { String::new() }
}

fn as_other_user() -> bool {
    rustix::process::geteuid().is_root() && accounts::user_id(USER).is_ok()
}

/// Starts a server and connects with the right name, then with a wrong one.
pub(super) fn play(stage: &mut Stage) -> anyhow::Result<()> {
    stage.title("A real PostgreSQL serves the bundle to a verify-full client")?;
    let Some(binaries) = binaries() else {
        stage.say("Left out: there is no PostgreSQL server here (on Debian: apt-get install postgresql).")?;
        return Ok(());
    };
    if rustix::process::geteuid().is_root() && !as_other_user() {
        stage.say("Left out: PostgreSQL does not run as root, and there is no user postgres here.")?;
        return Ok(());
    }
    let directory = stage.directory().display().to_string();
    let prefix =
        if as_other_user() { format!("setpriv --reuid={USER} --regid={USER} --init-groups ") } else { String::new() };
    stage.make_directory("pg0/data")?;
    if as_other_user() {
        stage.prepare(&format!("chown {USER}:{USER} pg0 pg0/data && chmod 755 pg0 && chmod 700 pg0/data"))?;
    }
    let initdb = binaries.join("initdb");
    stage.prepare(&format!("{prefix}{} -D {directory}/pg0/data -U demo -A trust --no-sync", initdb.display()))?;
    let port = free_port()?;
    let bundle = format!("{directory}/pg0/bundles/postgresql.psf.io.pem");
    let server = format!(
        "{prefix}{} -D {directory}/pg0/data -c listen_addresses=127.0.0.1 -c port={port} \
         -c unix_socket_directories= -c ssl=on -c ssl_cert_file={bundle} -c ssl_key_file={bundle}",
        binaries.join("postgres").display()
    );
    stage.say(&format!("$ {server} &"))?;
    stage.start(&server, "ready to accept connections")?;
    let client = |host: &str| {
        format!(
            "psql \"host={host} hostaddr=127.0.0.1 port={port} user=demo dbname=postgres sslmode=verify-full \
             sslrootcert=PSF_CA.pem\" -c \"select version, cipher from pg_stat_ssl where pid = pg_backend_pid()\""
        )
    };
    stage.run(&client("postgresql.psf.io"), 0)?;
    stage.say("The same server under a name that its certificate does not carry is refused by the client:")?;
    stage.run(&client("other.psf.io"), 2)
}

/// Where the server's programs are: in the path, or where Debian keeps them.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let candidates = debian.map(|version| version.path().join("bin")).chain(std::env::split_paths(&path));
    let has = |directory: &Path, name: &str| directory.join(name).is_file();
    candidates.into_iter().find(|directory| has(directory, "initdb") && has(directory, "postgres"))
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}
