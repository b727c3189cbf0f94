//! A CA that goes back: its ledger's files, copied away and put in place again.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Ca, Host, wait_until};

/// The files of the ledger, as a backup would have them; what is at `to` goes.
pub fn copy_ledger(from: &Path, to: &Path) {
    for entry in fs::read_dir(to).unwrap().map(Result::unwrap) {
        if entry.file_name().to_str().unwrap().starts_with("ledger.sqlite3") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_name().to_str().unwrap().starts_with("ledger.sqlite3") {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Starts the daemon, and tells the host its new port.
pub fn restart(ca: &mut Ca, host: &Host) {
    ca.serve();
    let kept = fs::read_to_string(host.config()).unwrap();
    let kept: String =
        kept.lines().filter(|line| !line.starts_with("server:")).map(|line| format!("{line}\n")).collect();
    fs::write(host.config(), format!("{kept}server: ['{}']\n", ca.address())).unwrap();
}

/// Times are told in seconds; waits until what comes is later than what was.
pub fn next_second() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = second();
    wait_until("the next second", || second() > before);
}
