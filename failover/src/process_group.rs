//! Programs of the user: each leads a process group of its own, and all of that is killed with it.
//!
//! What a program moves out of its group (`setsid`) is out of reach.

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// A program that was begun, and all that it began in its process group; dies with this value.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    leader: Child,
    id: Pid,
}

impl ProcessGroup {
    /// Begins it. Reading it from a slow disk keeps who calls this waiting.
    pub(crate) fn begin(mut command: Command) -> io::Result<Self> {
        let leader = command.process_group(0).spawn()?;
        let id = leader
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw)
            .ok_or_else(|| io::Error::other("it has no process id"))?;
        Ok(Self { leader, id })
    }

    /// How the leader ended, if it did. It stays a zombie, so that its number, which is that of the
    /// group, is nobody else's when the group is killed.
    pub(crate) fn ended(&self) -> Result<Option<WaitStatus>, Errno> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.id), flags)? {
            WaitStatus::StillAlive => Ok(None),
            ended => Ok(Some(ended)),
        }
    }

    /// What it reads and writes, once, as far as that is piped.
    pub(crate) const fn pipes(
        &mut self,
    ) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (
            self.leader.stdin.take(),
            self.leader.stdout.take(),
            self.leader.stderr.take(),
        )
    }
}

impl Drop for ProcessGroup {
    /// The runtime reaps the leader, since nobody has waited for it.
    fn drop(&mut self) {
        if let Err(error) = killpg(self.id, Signal::SIGKILL)
            && error != Errno::ESRCH
        {
            tracing::warn!(%error, leader = ?self.leader.id(), "a program cannot be killed");
        }
    }
}
