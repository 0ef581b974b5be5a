//! A program of the user. Its end with 0 is an answer.
//!
//! It is the leader of a process group of its own, and that group is killed when it ends, when its
//! time is up, and when nobody wants to know any more. While one runs no other of the same target is
//! begun: whoever asks then is told what that one says.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::wait::WaitStatus;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Answer;
use crate::config::ExecTarget;
use crate::family::Family;
use crate::health::{ExecFailure, Failure};
use crate::probe::way::Way;
use crate::process_group::ProcessGroup;

/// A program of one plan.
#[derive(Debug)]
pub(super) struct Program {
    way: Arc<Way>,
    target: ExecTarget,
    /// What the last run says, once it does; its sender is gone when it was broken off.
    last_run: Mutex<Option<watch::Receiver<Option<Answer>>>>,
}

/// Whether to run, or whom to ask who runs.
enum Part {
    Run(watch::Sender<Option<Answer>>),
    Join(watch::Receiver<Option<Answer>>),
}

impl Program {
    pub(super) const fn new(way: Arc<Way>, target: ExecTarget) -> Self {
        Self {
            way,
            target,
            last_run: Mutex::new(None),
        }
    }

    pub(super) async fn ask(&self, timeout: Duration) -> Answer {
        match self.part() {
            Part::Run(told) => {
                let answer = self.run(timeout).await;
                told.send_replace(Some(answer.clone()));
                answer
            }
            Part::Join(mut running) => {
                let broken_off = || Failure::NotSent("the program was broken off".to_owned());
                let answer = running.wait_for(Option::is_some).await;
                answer
                    .ok()
                    .and_then(|answer| answer.clone())
                    .unwrap_or_else(|| Err(broken_off()))
            }
        }
    }

    fn part(&self) -> Part {
        // Nothing in here breaks off half-way.
        let mut last = self.last_run.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*last
            && running.borrow().is_none()
            && running.has_changed().is_ok()
        {
            return Part::Join(running.clone());
        }
        let (sender, receiver) = watch::channel(None);
        *last = Some(receiver);
        Part::Run(sender)
    }

    async fn run(&self, timeout: Duration) -> Answer {
        let not_run = |why: String| {
            let program = self.target.program.display();
            Failure::Exec(ExecFailure::NotRun(format!("{program}: {why}")))
        };
        let begun = Instant::now();
        // Before the program begins, so that its end is not missed.
        let mut ends = signal(SignalKind::child()).map_err(|error| not_run(error.to_string()))?;
        let command = self.command();
        let ended = async {
            // Reading the program from a slow disk keeps who begins it waiting.
            let group = tokio::task::spawn_blocking(move || ProcessGroup::begin(command))
                .await
                .map_err(|error| not_run(error.to_string()))?
                .map_err(|error| not_run(error.to_string()))?;
            loop {
                match group.ended() {
                    Ok(Some(WaitStatus::Exited(_, 0))) => return Ok(begun.elapsed()),
                    Ok(Some(WaitStatus::Exited(_, status))) => {
                        return Err(Failure::Exec(ExecFailure::Exit(status)));
                    }
                    Ok(Some(WaitStatus::Signaled(_, signal, _))) => {
                        return Err(Failure::Exec(ExecFailure::Signal(signal as i32)));
                    }
                    Ok(_) => ends.recv().await,
                    Err(error) => return Err(not_run(error.to_string())),
                };
            }
        };
        tokio::time::timeout(timeout, ended)
            .await
            .unwrap_or(Err(Failure::Timeout))
    }

    fn command(&self) -> Command {
        let way = &self.way;
        let mut command = Command::new(&self.target.program);
        command
            .args(&self.target.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // The service manager is told of the daemon's state by the daemon alone.
            .env_remove("NOTIFY_SOCKET")
            .env("FAILOVER_UPLINK", way.uplink.as_str())
            .env("FAILOVER_INTERFACE", way.interface.as_str())
            .env(
                "FAILOVER_FAMILY",
                match way.family {
                    Family::Ipv4 => "ipv4",
                    Family::Ipv6 => "ipv6",
                },
            )
            .env("FAILOVER_SOURCE", way.source.to_string())
            .env(
                "FAILOVER_GATEWAY",
                way.gateway
                    .map(|gateway| gateway.to_string())
                    .unwrap_or_default(),
            )
            .env("FAILOVER_MARK", way.mark.to_string());
        command
    }
}
