//! Runs one program that nobody vouches for: in its own process group, with a time limit, and with output that
//! is bounded and never waited for once the program has ended.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How much of the output is kept: its end, where errors stand.
pub(super) const MAX_OUTPUT: usize = 16 << 10;
/// How long a process that was killed may take to be gone; one that waits for a dead disk never is.
const DEATH: Duration = Duration::from_secs(5);

/// What became of a program.
#[derive(Debug)]
pub(super) struct Ran {
    /// How it ended; none when it was killed because its time was over.
    pub(super) status: Option<ExitStatus>,
    /// The end of what it said, standard output and error as they came.
    pub(super) output: String,
}

/// Runs `command` to its end, for `limit` at most. What it leaves running in its process group is killed, in
/// both cases; what left the group is not waited for.
///
/// # Errors
/// What the system says when it cannot be started.
pub(super) async fn run(mut command: Command, limit: Duration) -> std::io::Result<Ran> {
    use std::os::unix::process::CommandExt as _;
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = command.spawn()?;
    // It holds the writing ends, which must be nobody's but the child's.
    drop(command);
    let mut group = Group::of(&child)?;
    let mut output =
        Output { pipe: pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?, kept: Vec::new(), cut: false };
    let ended = timeout(limit, output.read_until(&mut group.ended)).await.is_ok();
    // The leader is not reaped yet, so the number of its group is nobody else's.
    group.kill()?;
    let gone = ended || timeout(DEATH, &mut group.ended).await.is_ok();
    let status = if gone { Some(child.wait()?) } else { None };
    output.read_what_is_there();
    Ok(Ran { status: status.filter(|_| ended), output: output.text() })
}

/// A process group whose leader is watched without being reaped.
struct Group {
    leader: Pid,
    ended: oneshot::Receiver<()>,
}

impl Group {
    fn of(child: &Child) -> std::io::Result<Self> {
        let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        let (tell, ended) = oneshot::channel();
        // A thread of its own, which nobody has to wait for: a process may be stuck beyond any signal.
        std::thread::Builder::new().name("hook".to_owned()).spawn(move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(leader), options), Err(Errno::INTR)) {}
            let _ = tell.send(());
        })?;
        Ok(Self { leader, ended })
    }

    fn kill(&self) -> std::io::Result<()> {
        match kill_process_group(self.leader, Signal::KILL) {
            // Nobody is left, or what is left became another user.
            Err(Errno::SRCH | Errno::PERM) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The end of what comes through a pipe.
struct Output {
    pipe: pipe::Receiver,
    kept: Vec<u8>,
    cut: bool,
}

impl Output {
    /// Reads until `ended`.
    async fn read_until(&mut self, ended: &mut oneshot::Receiver<()>) {
        let mut part = [0; 4096];
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                _ = &mut *ended => return,
                read = self.pipe.read(&mut part), if open => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(count) => keep(&mut self.kept, &mut self.cut, &part[..count]),
                },
            }
        }
    }

    /// Asks the pipe itself: the runtime may not have heard yet of what came last.
    fn read_what_is_there(&mut self) {
        let mut part = [0; 4096];
        // Somebody who left the group may write for ever; a pipe holds 64 KiB.
        for _ in 0..32 {
            match rustix::io::read(&self.pipe, &mut part) {
                Ok(count) if count > 0 => keep(&mut self.kept, &mut self.cut, &part[..count]),
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        format!("{}{}", if self.cut { "…" } else { "" }, text.trim_end())
    }
}

fn keep(kept: &mut Vec<u8>, cut: &mut bool, part: &[u8]) {
    kept.extend_from_slice(part);
    if let Some(over) = kept.len().checked_sub(MAX_OUTPUT).filter(|over| *over > 0) {
        kept.drain(..over);
        *cut = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, limit: Duration) -> Ran {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, limit).await.unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_end_of_a_long_output_is_kept_and_nothing_else() {
        let ran =
            shell("i=0; while [ $i -lt 9000 ]; do echo line $i; i=$((i+1)); done; echo last >&2; exit 3", LONG).await;
        assert_eq!(ran.status.unwrap().code(), Some(3));
        assert!(ran.output.starts_with('…') && ran.output.ends_with("line 8999\nlast"), "{}", ran.output);
        assert!(ran.output.len() <= MAX_OUTPUT + '…'.len_utf8());
    }

    #[tokio::test]
    async fn what_is_said_last_is_never_lost() {
        for _ in 0..100 {
            assert_eq!(shell("echo because; exit 9", LONG).await.output, "because");
        }
    }

    #[tokio::test]
    async fn a_child_that_keeps_the_pipe_open_is_not_waited_for_and_is_killed() {
        let ran = shell("sleep 600 & echo $!", LONG).await;
        assert!(ran.status.unwrap().success());
        gone(&ran.output);
        // Nor one that left the group, which we may not touch.
        let ran = shell("setsid sleep 20 & echo started", LONG).await;
        assert_eq!(ran.output, "started");
    }

    #[tokio::test]
    async fn when_its_time_is_over_the_whole_group_is_killed() {
        let ran = shell("trap '' TERM; sleep 600 & echo $!; wait", Duration::from_millis(300)).await;
        assert!(ran.status.is_none());
        gone(&ran.output);
    }

    /// The process is dead, if not yet reaped by whoever inherited it.
    fn gone(pid: &str) {
        let end = std::time::Instant::now() + LONG;
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            if stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z')) {
                return;
            }
            assert!(std::time::Instant::now() < end, "{stat}");
            std::thread::yield_now();
        }
    }
}
