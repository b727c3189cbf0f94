//! Programs that see another time, by libfaketime.

use std::path::PathBuf;
use std::process::Command;

use super::tools::skip;

/// The library itself. The faketime program would stand between us and the process to be killed, and two of
/// them with one process id, one after the other, can meet in shared memory.
fn library() -> Option<PathBuf> {
    let directories = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    directories.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

/// Whether [`at`] works here; says so aloud where it does not.
pub fn works() -> bool {
    let found = library().is_some();
    if !found {
        skip("libfaketime is not installed (tests/setup does it)");
    }
    found
}

/// `command` as it runs `offset` from now, such as `+2h`; none, said aloud, without libfaketime.
pub fn at(offset: &str, mut command: Command) -> Option<Command> {
    if !works() {
        return None;
    }
    command.env("LD_PRELOAD", library()?);
    command.env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Some(command)
}

/// `command` with a clock that follows the file: an offset such as `+4d`, read anew each time. None, said aloud,
/// without libfaketime.
pub fn by_file(file: &std::path::Path, mut command: Command) -> Option<Command> {
    if !works() {
        return None;
    }
    command.env("LD_PRELOAD", library()?).env("FAKETIME_TIMESTAMP_FILE", file);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Some(command)
}

/// A daemon whose clock stands still at the moment that the file says, until the file says another.
pub struct Stopped {
    file: std::path::PathBuf,
    begin: psfca::clock::Timestamp,
}

impl Stopped {
    /// Starts the daemon of `ca` so. None, said aloud, without libfaketime.
    pub fn serve(ca: &mut super::Ca) -> Option<Self> {
        use psfca::clock::Clock as _;
        let stopped = Self { file: ca.dir().join("time"), begin: psfca::clock::SystemClock.now() };
        stopped.set(0);
        let mut daemon = super::psfca();
        daemon.arg("serve").env("PSFCA_CONFIG", ca.config()).env("TZ", "UTC");
        ca.serve_by(by_file(&stopped.file, daemon)?);
        Some(stopped)
    }

    /// So many seconds after the beginning.
    pub fn set(&self, seconds: u64) {
        // Without an @ or a sign in front, libfaketime lets no time pass.
        let now = self.begin.plus(std::time::Duration::from_secs(seconds)).to_string().replace('T', " ");
        // By a rename, since the daemon may read at any moment.
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, now.trim_end_matches('Z')).unwrap();
        std::fs::rename(fresh, &self.file).unwrap();
    }
}

/// Starts the daemon of `ca` with a clock that stands still for good; none, said aloud, without libfaketime. Where many
/// threads ask for the time at once, [`Stopped`] now and then tells the true one, since each of them reads the file.
pub fn stand_still(ca: &mut super::Ca) -> Option<()> {
    use psfca::clock::Clock as _;
    let now = psfca::clock::SystemClock.now().to_string().replace('T', " ");
    let mut daemon = super::psfca();
    daemon.arg("serve").env("PSFCA_CONFIG", ca.config()).env("TZ", "UTC");
    ca.serve_by(at(now.trim_end_matches('Z'), daemon)?);
    Some(())
}
