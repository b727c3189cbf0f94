//! Where the demo happens: a directory, a shell for its commands, and daemons that end with it.

use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// The longest wait for a daemon of the demo.
const PATIENCE: Duration = Duration::from_secs(30);

/// The stage; dropping it ends what runs on it and removes its directory.
pub(super) struct Stage {
    directory: PathBuf,
    path: std::ffi::OsString,
    daemons: Vec<Child>,
    titles: u32,
}

impl Stage {
    /// Makes the directory and puts this binary into the path of the commands.
    pub(super) fn new() -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("psfca-demo-{}", std::process::id()));
        // PostgreSQL runs as a user of its own, which has to get in.
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(&directory)
            .with_context(|| format!("{} could not be made", directory.display()))?;
        let mut stage = Self { directory, path: std::ffi::OsString::new(), daemons: Vec::new(), titles: 0 };
        let binary = std::env::current_exe().context("the path of this binary is unknown")?;
        let before = std::env::var_os("PATH").unwrap_or_default();
        let directories = binary.parent().into_iter().map(Path::to_owned).chain(std::env::split_paths(&before));
        stage.path = std::env::join_paths(directories).context("PATH cannot be extended")?;
        Ok(stage)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("{} could not be written", path.display()))
    }

    pub(super) fn make_directory(&self, name: &str) -> anyhow::Result<()> {
        let path = self.directory.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("{} could not be made", path.display()))
    }

    /// Where this binary is, for people who type its commands themselves.
    pub(super) fn binary_directory(&self) -> PathBuf {
        std::env::split_paths(&self.path).next().unwrap_or_default()
    }

    /// Prints a line.
    pub(super) fn say(&self, text: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{text}")
    }

    /// Prints the heading of a step.
    pub(super) fn title(&mut self, text: &str) -> io::Result<()> {
        self.titles += 1;
        self.say(&format!("\n{}. {text}", self.titles))
    }

    /// A command in the stage's directory, without what the environment says about TLS or psfca.
    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.directory).env("PATH", &self.path).stdin(Stdio::null());
        for name in ["PSFCA_CONFIG", "PSFCA_HOST_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        command
    }

    /// Prints and runs a command line, which must end with `expected`.
    pub(super) fn run(&self, line: &str, expected: i32) -> anyhow::Result<()> {
        self.say(&format!("$ {line}"))?;
        // One stream, so that what a command says stands below it also where this is piped.
        let status = self.shell(line).stderr(io::stdout()).status().context("sh could not be run")?;
        if status.code() != Some(expected) {
            bail!("that should have ended with code {expected}, and ended with {status}");
        }
        Ok(())
    }

    /// Runs a command line without a word, and fails with what it said if it fails.
    pub(super) fn prepare(&self, line: &str) -> anyhow::Result<()> {
        let out = self.shell(line).output().context("sh could not be run")?;
        if !out.status.success() {
            bail!("{line}: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        Ok(())
    }

    /// Prints and starts the daemon, and waits until it serves.
    pub(super) fn serve(&mut self, line: &str) -> anyhow::Result<()> {
        self.say(&format!("$ {line} &"))?;
        let ready = self.start(line, "serving")?;
        Ok(self.say(&ready)?)
    }

    /// Starts a command line and waits until a line of its standard error holds `sign`; returns that line.
    pub(super) fn start(&mut self, line: &str, sign: &'static str) -> anyhow::Result<String> {
        // exec, so that the process that is ended later is the daemon and not its shell.
        let mut child = self
            .shell(&format!("exec {line}"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("sh could not be run")?;
        let lines = child.stderr.take().map(BufReader::new);
        self.daemons.push(child);
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            for text in lines.into_iter().flat_map(io::BufRead::lines).map_while(Result::ok) {
                if text.contains(sign) {
                    let _ = send.send(Ok(text));
                    seen.clear();
                } else {
                    seen.push(text);
                }
            }
            let _ = send.send(Err(seen.join("\n")));
        });
        match receive.recv_timeout(PATIENCE) {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(said)) => bail!("{line} ended at once: {said}"),
            Err(_) => bail!("{line} does not say {sign:?}"),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The last first: a database before the CA that it trusts.
        for mut daemon in self.daemons.drain(..).rev() {
            if let Some(pid) = i32::try_from(daemon.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
            }
            let _ = daemon.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
