//! The system calls of a running process, watched and made to fail.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use super::tools::{said, wrapped};

/// Enough of every argument to find a serial number in a database page.
const STRING: &str = "5000";

/// strace on a process that runs; it lets go when dropped.
pub struct Strace {
    child: Child,
    trace: tempfile::NamedTempFile,
    /// What it says of threads that begin; it would die if nobody could read that.
    _said: BufReader<ChildStderr>,
}

/// One system call. Positions are line numbers of the trace.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    pub arguments: String,
    pub result: String,
    pub start: usize,
    pub end: usize,
}

/// Whether strace may be used here. It says so when not, and fails where everything is required.
pub fn usable() -> bool {
    let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
    let attached = Strace::try_attach(sleep.id(), &[]);
    let missing = attached.err();
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    let Some(why) = missing else { return true };
    let required = std::env::var_os("PSFCA_REQUIRE_SHARED").is_some_and(|value| value == "1");
    assert!(!required, "PSFCA_REQUIRE_SHARED=1, and strace does not work: {why}");
    std::io::stderr().write_all(format!("skipped: strace does not work here: {why}\n").as_bytes()).unwrap();
    false
}

/// `command` as it runs under strace with these arguments.
pub fn under(args: &[&str], trace: &Path, command: &Command) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-o"]).arg(trace).args(args).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced
}

/// Runs `command` and kills it as it enters its `n`-th `call`; tells whether it got that far.
pub fn killed_at(command: &Command, call: &str, n: usize) -> bool {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when={n}"));
    // Without -f: the agent works in its first thread, and strace counts in each thread for itself.
    let output = wrapped(&["strace", "-o", "/dev/null", "-e", &trace, "-e", &inject], command).output().unwrap();
    // strace dies the death of its child.
    let killed = output.status.signal() == Some(9);
    assert!(killed || output.status.success(), "{call} {n}: {}", said(&output));
    killed
}

impl Strace {
    /// Watches every thread of `pid`, with these arguments more.
    pub fn attach(pid: u32, args: &[&str]) -> Self {
        Self::try_attach(pid, args).unwrap()
    }

    fn try_attach(pid: u32, args: &[&str]) -> Result<Self, String> {
        let trace = tempfile::NamedTempFile::new().unwrap();
        let mut child = Command::new("strace")
            .args(["-f", "-yy", "-s", STRING, "-o"])
            .arg(trace.path())
            .args(args)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let (mut first, mut said) = (String::new(), BufReader::new(child.stderr.take().unwrap()));
        said.read_line(&mut first).unwrap();
        let strace = Self { child, trace, _said: said };
        if first.contains("attached") { Ok(strace) } else { Err(first) }
    }

    /// Lets the process go on alone, and returns what it did.
    pub fn detach(mut self) -> Vec<Call> {
        self.end();
        calls(&String::from_utf8_lossy(&std::fs::read(self.trace.path()).unwrap()))
    }

    /// Ends strace where the process was killed: in the middle of a delay it would wait for that without end, and
    /// the process would stay until strace is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn end(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            // Upon SIGTERM strace detaches; upon SIGKILL it might leave the process stopped.
            Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
            self.child.wait().unwrap();
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads `THREAD  NAME(ARGUMENTS) = RESULT`, also where another thread's line stands in between.
fn calls(trace: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        let (start, text) = if let Some(text) = text.strip_suffix("<unfinished ...>") {
            begun.insert(thread, (number, text));
            continue;
        } else if text.starts_with("<... ") {
            let Some((start, first)) = begun.remove(thread) else { continue };
            let rest = text.split_once(" resumed>").unwrap().1;
            (start, format!("{first}{rest}"))
        } else {
            (number, text.to_owned())
        };
        // Neither a signal (`--- SIGTERM`) nor the end of a thread (`+++ exited`).
        let (Some((call, result)), false) = (text.rsplit_once(" = "), text.starts_with(['-', '+'])) else { continue };
        let (name, arguments) = call.split_once('(').unwrap();
        let (name, arguments, result) = (name.to_owned(), arguments.to_owned(), result.to_owned());
        calls.push(Call { name, arguments, result, start, end: number });
    }
    calls
}

impl Call {
    /// A write to the ledger's write-ahead log.
    pub fn writes_log(&self) -> bool {
        self.name == "pwrite64" && self.arguments.contains("ledger.sqlite3-wal>")
    }

    /// An fsync of the ledger's write-ahead log.
    pub fn syncs_log(&self) -> bool {
        matches!(&*self.name, "fsync" | "fdatasync") && self.arguments.contains("ledger.sqlite3-wal>")
    }

    /// Something that came from, or goes to, the network.
    pub fn reads_network(&self) -> bool {
        matches!(&*self.name, "read" | "readv" | "recvfrom" | "recvmsg") && self.arguments.contains("<TCP:")
    }

    pub fn writes_network(&self) -> bool {
        matches!(&*self.name, "write" | "writev" | "sendto" | "sendmsg") && self.arguments.contains("<TCP:")
    }

    /// The two addresses of the connection that it is about.
    pub fn connection(&self) -> Option<&str> {
        Some(self.arguments.split_once("<TCP:[")?.1.split_once("]>")?.0)
    }

    /// How many octets it moved.
    pub fn moved(&self) -> usize {
        self.result.parse().unwrap_or(0)
    }

    /// A draw of 32 random bytes or more. Every signature needs one for its nonce; a serial number
    /// takes fewer.
    pub fn draws_for_signature(&self) -> bool {
        self.name == "getrandom" && self.result.parse().is_ok_and(|bytes: u32| bytes >= 32)
    }
}
