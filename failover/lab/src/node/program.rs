//! Programs in a node: started from the node's thread, hence in its namespace, and killed with it.

use std::ffi::{OsStr, OsString};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};

use super::refusal::{Refusal, filter};
use super::{Node, search};
use crate::error::LabError;
use crate::eventually::patient;
use crate::sys;

/// How long a program that is run to its end may take.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);

/// A program and what it is given.
#[derive(Clone, Debug)]
pub struct ProgramSpec {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    input: Option<String>,
    limit: Duration,
    refused: Vec<Refusal>,
}

impl ProgramSpec {
    /// A program, looked for in `PATH` and the folders of root unless it has a slash, without arguments.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            input: None,
            limit: DEFAULT_LIMIT,
            refused: Vec::new(),
        }
    }

    /// A program and its arguments, separated by white space, as in `ip -6 rule`.
    #[must_use]
    pub fn line(line: &str) -> Self {
        let mut words = line.split_whitespace();
        Self::new(words.next().unwrap_or_default()).arguments(words)
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        let arguments = arguments.into_iter();
        self.arguments
            .extend(arguments.map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What the program reads from standard input; nothing by default.
    #[must_use]
    pub fn input(mut self, input: impl Into<String>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// How long it may run when it is waited for; 30 s by default.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Has it started by another program, which is given it and its arguments behind its own words.
    #[must_use]
    pub fn through<W: AsRef<OsStr>>(mut self, launcher: impl IntoIterator<Item = W>) -> Self {
        let launcher = launcher.into_iter().map(|word| word.as_ref().to_owned());
        let mut words = launcher.chain([self.program]).chain(self.arguments);
        self.program = words.next().unwrap_or_default();
        self.arguments = words.collect();
        self
    }

    /// Refuses the program, and all that it starts, a system call.
    #[must_use]
    pub fn refuse(mut self, refusal: Refusal) -> Self {
        self.refused.push(refusal);
        self
    }

    /// The command line for messages.
    fn describe(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env("PATH", search::path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(match self.input {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        sys::die_with_parent(&mut command);
        if !self.refused.is_empty() {
            sys::filter_calls(&mut command, &filter(&self.refused));
        }
        command
    }
}

/// What a program wrote, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    command: String,
    node: Node,
    pid: u32,
    stdout: Written,
    stderr: Written,
    signals: mpsc::UnboundedSender<Signal>,
    end: watch::Receiver<Option<ExitStatus>>,
}

/// What a program has written so far.
#[derive(Clone, Debug, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn fill(self, source: Option<impl AsyncRead + Unpin>) {
        let Some(mut source) = source else { return };
        let mut buffer = vec![0_u8; 16 * 1024];
        loop {
            match source.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let read = buffer.get(..length).unwrap_or_default();
                    self.0
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend_from_slice(read);
                }
            }
        }
    }
}

impl Node {
    /// Starts a program in the namespace and leaves it running.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(&self, spec: ProgramSpec) -> Result<Program, LabError> {
        let command = spec.describe();
        let (stdout, stderr) = (Written::default(), Written::default());
        let (signals, orders) = mpsc::unbounded_channel();
        let (ended, end) = watch::channel(None);
        let outputs = (stdout.clone(), stderr.clone());
        let pid = self
            .run(move || async move {
                let mut child = spec.command().spawn()?;
                let pid = child.id().unwrap_or_default();
                let stdin = child.stdin.take();
                tokio::task::spawn_local(async move {
                    if let (Some(mut stdin), Some(input)) = (stdin, spec.input) {
                        // A program may end without reading all: how it ended says whether that
                        // was right.
                        stdin.write_all(input.as_bytes()).await.ok();
                    }
                });
                let out = tokio::task::spawn_local(outputs.0.fill(child.stdout.take()));
                let err = tokio::task::spawn_local(outputs.1.fill(child.stderr.take()));
                tokio::task::spawn_local(async move {
                    let status = attend(child, orders).await;
                    // The output is complete before the end is told. A grandchild may hold the
                    // pipes open, so this does not wait for long.
                    let rest = async { (out.await, err.await) };
                    tokio::time::timeout(Duration::from_secs(1), rest)
                        .await
                        .ok();
                    ended.send_replace(status);
                });
                Ok::<u32, std::io::Error>(pid)
            })
            .await?
            .map_err(|source| LabError::ProgramStart {
                node: self.name().to_owned(),
                command: command.clone(),
                source,
            })?;
        Ok(Program {
            command,
            node: self.clone(),
            pid,
            stdout,
            stderr,
            signals,
            end,
        })
    }

    /// Runs a program to its end, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub async fn output(&self, spec: ProgramSpec) -> Result<Output, LabError> {
        let limit = spec.limit;
        let program = self.start(spec).await?;
        let status = program.wait(limit).await?;
        Ok(Output {
            status,
            stdout: program.stdout(),
            stderr: program.stderr(),
        })
    }

    /// Runs a program that must end with status 0, and returns what it wrote to standard output.
    ///
    /// # Errors
    /// When it cannot be started, does not end in time or ends with another status.
    pub async fn must(&self, spec: ProgramSpec) -> Result<String, LabError> {
        let command = spec.describe();
        let output = self.output(spec).await?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(LabError::ProgramFailed {
                node: self.name().to_owned(),
                command,
                status: output.status.to_string(),
                output: output.stderr + &output.stdout,
            })
        }
    }

    /// Loads an nftables rule set into the namespace, as `nft -f` does.
    ///
    /// # Errors
    /// When `nft` is missing or refuses it.
    pub async fn nft(&self, ruleset: impl Into<String>) -> Result<(), LabError> {
        let spec = ProgramSpec::line("nft -f -").input(ruleset);
        self.must(spec).await.map(drop)
    }
}

/// Passes signals on until the program has ended; only here is it known whether its number is
/// still its own.
async fn attend(
    mut child: tokio::process::Child,
    mut orders: mpsc::UnboundedReceiver<Signal>,
) -> Option<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status.ok(),
            order = orders.recv() => {
                // No sender left: the program is not wanted any more.
                let signal = order.unwrap_or(Signal::SIGKILL);
                if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok())
                    && let Err(error) = kill(Pid::from_raw(pid), signal)
                {
                    tracing::warn!(pid, %signal, %error, "cannot send a signal");
                }
                if order.is_none() {
                    return child.wait().await.ok();
                }
            }
        }
    }
}

impl Program {
    /// The process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.end.borrow()
    }

    /// Sends a signal. That it has ended meanwhile is no error. Returns when it was sent.
    pub fn signal(&self, signal: Signal) -> Instant {
        // The receiver is gone only when the program has ended.
        self.signals.send(signal).ok();
        Instant::now()
    }

    /// Waits for the end, but not longer than `limit`. The program goes on running when the time
    /// is over.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn wait(&self, limit: Duration) -> Result<ExitStatus, LabError> {
        let mut end = self.end.clone();
        let limit = patient(limit);
        let ended = tokio::time::timeout(limit, end.wait_for(Option::is_some)).await;
        match ended {
            Ok(Ok(status)) => status.ok_or_else(|| self.node.gone()),
            Ok(Err(_)) => Err(self.node.gone()),
            Err(_) => Err(LabError::ProgramTimeout {
                node: self.node.name().to_owned(),
                command: self.command.clone(),
                limit,
                output: self.stderr() + &self.stdout(),
            }),
        }
    }
}
