//! Disks of any size: a tmpfs in a mount namespace of its own, under a daemon's state directory or any directory of a
//! host. Nothing of it outlives the namespace.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::tools::{said, works, wrapped};
use super::{Ca, psfca, wait_until};

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

/// A disk over one directory, for commands that are run in its namespace; gone when dropped.
pub struct Mounted {
    keeper: Child,
    disk: Disk,
}

impl Mounted {
    /// Mounts a tmpfs with these options over `place`, and puts there what is there now.
    pub fn over(place: &Path, options: &str) -> Self {
        let script = "exec 3<\"$1\" && mount -t tmpfs -o \"$2\" tmpfs \"$1\" && cp -a /proc/self/fd/3/. \"$1\" && \
                      touch \"$1/ready\" && exec sleep 600";
        let keeper =
            Command::new("unshare").args(["--mount", "sh", "-c", script, "sh"]).arg(place).arg(options).spawn();
        let keeper = keeper.unwrap();
        let disk = Disk { pid: keeper.id(), place: place.to_owned() };
        let mounted = Self { keeper, disk };
        let ready = mounted.outside(place).join("ready");
        wait_until("the disk is mounted", || fs::remove_file(&ready).is_ok());
        mounted
    }

    /// The disk itself.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// `command`, as it runs where it sees the disk.
    pub fn inside(&self, command: &Command) -> Command {
        wrapped(&["nsenter", "--target", &self.disk.pid.to_string(), "--mount"], command)
    }

    /// `path` as it is reached from outside of the namespace.
    pub fn outside(&self, path: &Path) -> PathBuf {
        self.disk.outside(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

impl Disk {
    /// The disk as it is reached from outside of the namespace.
    fn path(&self) -> PathBuf {
        self.outside(&self.place)
    }

    fn outside(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(path.strip_prefix("/").unwrap())
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
