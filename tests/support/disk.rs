//! A disk of any size under a daemon's state directory: a tmpfs in a mount namespace that the daemon alone
//! is in, so that nothing of it outlives the daemon.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use super::tools::{said, works};
use super::{Ca, psfca};

/// Whether file systems can be mounted here; said aloud when not.
pub fn mountable() -> bool {
    works(&["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
}

/// What the state directory of a running daemon lies on.
pub struct Disk {
    pid: u32,
    /// Where the namespace has it.
    place: PathBuf,
}

/// Starts the daemon of `ca`, which has not run yet, on a disk of one MiB.
pub fn serve_on(ca: &mut Ca) -> Disk {
    let (made, place) = (ca.dir().join("made"), ca.dir().join("disk"));
    fs::rename(ca.state(), &made).unwrap();
    fs::create_dir(&place).unwrap();
    let config = fs::read_to_string(ca.config()).unwrap();
    fs::write(ca.config(), config.replace("\nstate: state\n", "\nstate: disk/state\n")).unwrap();
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=1m,mode=0755 tmpfs \"$1\" && cp -a \"$2\" \"$1/state\" && exec \"$0\" serve";
    command.args(["--mount", "sh", "-c", script]).arg(psfca().get_program());
    command.args([&place, &made]).env("PSFCA_CONFIG", ca.config()).env_remove("NOTIFY_SOCKET");
    ca.serve_by(command);
    let disk = Disk { pid: ca.pid(), place };
    // Whoever looks at the CA's state from here sees that disk.
    std::os::unix::fs::symlink(disk.path().join("state"), ca.state()).unwrap();
    disk
}

impl Disk {
    /// The disk as it is reached from outside of the namespace.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(self.place.strip_prefix("/").unwrap())
    }

    /// Lets another file take all the room that is left.
    pub fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
    }

    /// Takes that file away.
    pub fn free(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }

    /// Runs a command in the namespace; whether it succeeded, and what it said.
    pub fn run(&self, command: &[&str]) -> (bool, String) {
        let pid = self.pid.to_string();
        let out = Command::new("nsenter").args(["--target", &pid, "--mount"]).args(command).output().unwrap();
        (out.status.success(), said(&out))
    }

    /// Makes it as large as leaves so much room.
    pub fn leave_kib(&self, free: u64) {
        let place = self.place.to_str().unwrap();
        let (_, used) = self.run(&["df", "--output=used", "--block-size=1K", place]);
        let used: u64 = used.lines().nth(1).unwrap().trim().parse().unwrap();
        let (done, said) = self.run(&["mount", "-o", &format!("remount,size={}k", used + free), place]);
        assert!(done, "{said}");
    }
}
