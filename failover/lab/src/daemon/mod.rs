//! The program under test: the `failover` binary, run in the gateway as its users run it.

mod mode;
mod status;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::error::LabError;
use crate::eventually::patient;
use crate::lab::Lab;
use crate::node::{Node, Output, Program, ProgramSpec, Refusal};

pub use mode::Mode;
pub use status::{
    ByHand, ConnectionsStatus, FamilyStatus, FastPath, FlowTable, State, Status, UplinkStatus,
};

/// How long the daemon may take until it answers; with the largest sets it takes some seconds, and on
/// a busy machine many.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may be before a daemon that was ready answers: less than a command waits for that.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to end after it was told to.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait between two looks at the status, at least.
const POLL: Duration = Duration::from_millis(20);
/// How long a command may take: those that ask the daemon are answered when it is ready.
const COMMAND_LIMIT: Duration = READY_WITHIN;

/// The exit status of a command that did not reach the daemon.
const NOT_REACHED: i32 = 3;

/// The `failover` binary with a configuration, in a lab's gateway. The running daemon is killed when
/// this is dropped.
#[derive(Debug)]
pub struct Daemon {
    failover: Failover,
    program: Program,
}

/// The `failover` binary with a configuration in a lab's gateway, whether or not a daemon runs.
#[derive(Clone, Debug)]
pub struct Failover {
    node: Node,
    binary: PathBuf,
    config: PathBuf,
    /// What is added to each configuration.
    places: String,
    control: PathBuf,
    refusal: Option<Refusal>,
    /// What is added to the environment of each command.
    variables: Vec<(String, String)>,
}

impl Failover {
    /// Writes the configuration into the lab. The keys `control`, `state_dir` and `bpffs` are added:
    /// they name folders of the lab. The binary is the one that `FAILOVER_BIN` names, or else the
    /// one that was built together with this program.
    ///
    /// # Errors
    /// When there is no binary, or the file cannot be written.
    pub fn new(lab: &Lab, config: &str) -> Result<Self, LabError> {
        Self::with_binary(lab, binary()?, config)
    }

    /// The same with a given binary.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn with_binary(
        lab: &Lab,
        binary: impl Into<PathBuf>,
        config: &str,
    ) -> Result<Self, LabError> {
        let gateway = lab.gateway().node();
        Self::at(gateway, lab.files(), &lab.pin_folder(), binary, config)
    }

    /// The same in any node, with its files in a folder of its own, and another one on a BPF file
    /// system.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn at(
        node: &Node,
        files: &Path,
        pins: &Path,
        binary: impl Into<PathBuf>,
        config: &str,
    ) -> Result<Self, LabError> {
        let control = files.join("control.sock");
        let path = files.join("failover.yaml");
        let places = format!(
            "control: {}\nstate_dir: {}\nbpffs: {}\n",
            control.display(),
            files.join("state").display(),
            pins.display(),
        );
        let failover = Self {
            node: node.clone(),
            binary: binary.into(),
            config: path,
            places,
            control,
            refusal: None,
            variables: Vec::new(),
        };
        failover.rewrite(config)?;
        Ok(failover)
    }

    /// Writes another configuration over the file, with the same keys added.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn rewrite(&self, config: &str) -> Result<(), LabError> {
        let text = format!("{}\n{}", config.trim_end(), self.places);
        std::fs::write(&self.config, text)
            .map_err(LabError::io(format!("write {}", self.config.display())))
    }

    /// The same with the binary that a user named, from wherever the user stands, if one was named.
    ///
    /// # Errors
    /// As [`Failover::new`].
    pub fn chosen(lab: &Lab, binary: Option<&Path>, config: &str) -> Result<Self, LabError> {
        let Some(named) = binary else {
            return Self::new(lab, config);
        };
        let binary = std::path::absolute(named).map_err(LabError::io(format!(
            "find the path of {}",
            named.display()
        )))?;
        if !binary.is_file() {
            let looked_at = vec![binary];
            return Err(LabError::NoBinary { looked_at });
        }
        Self::with_binary(lab, binary, config)
    }

    /// Has the kernel refuse the binary a system call, in all of its commands.
    #[must_use]
    pub const fn refused(mut self, refusal: Refusal) -> Self {
        self.refusal = Some(refusal);
        self
    }

    /// Sets a variable of the environment, for all of its commands.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The configuration file, with the added keys.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The control socket of the daemon.
    #[must_use]
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// The binary.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// A command of the binary, as in `check` or `status --json`, with `--config` or `--control`
    /// added as it takes them; for those who want to change something about it before it is run.
    #[must_use]
    pub fn program(&self, line: &str) -> ProgramSpec {
        let name = line.split_whitespace().next().unwrap_or_default();
        let (option, path) = if matches!(name, "run" | "check" | "clean" | "events")
            || line.starts_with("notify test")
        {
            ("--config", &self.config)
        } else {
            ("--control", &self.control)
        };
        let spec = ProgramSpec::new(&self.binary)
            .arguments(line.split_whitespace())
            .arguments([option])
            .arguments([path])
            .limit(COMMAND_LIMIT);
        let spec =
            (self.variables.iter()).fold(spec, |spec, (name, value)| spec.variable(name, value));
        match self.refusal {
            Some(refusal) => spec.refuse(refusal),
            None => spec,
        }
    }

    /// Runs such a [program](Self::program) in the gateway.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time; its exit status is a result.
    pub async fn command(&self, line: &str) -> Result<Output, LabError> {
        self.node.output(self.program(line)).await
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// When it ends, or does not answer within 60 s; the error has its log.
    pub async fn run(&self) -> Result<Daemon, LabError> {
        let level = std::env::var_os("RUST_LOG").unwrap_or_else(|| "failover=debug".into());
        self.run_as(self.program("run").variable("RUST_LOG", level))
            .await
    }

    /// The same with the [program](Self::program) `run`, changed as one likes.
    ///
    /// # Errors
    /// As [`Failover::run`].
    pub async fn run_as(&self, spec: ProgramSpec) -> Result<Daemon, LabError> {
        let daemon = Daemon {
            failover: self.clone(),
            program: self.node.start(spec).await?,
        };
        daemon.answers_within(READY_WITHIN).await?;
        Ok(daemon)
    }
}

impl Daemon {
    /// Writes the configuration into the lab, starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// As [`Failover::new`] and [`Failover::run`].
    pub async fn start(lab: &Lab, config: &str) -> Result<Self, LabError> {
        Failover::new(lab, config)?.run().await
    }

    /// The binary with its configuration, to run other commands of it or the daemon anew.
    #[must_use]
    pub const fn failover(&self) -> &Failover {
        &self.failover
    }

    /// What the daemon knows, as `failover status --json` prints it.
    ///
    /// # Errors
    /// When the daemon has ended or does not answer, or its answer is not as documented.
    pub async fn status(&self) -> Result<Status, LabError> {
        self.answers_within(ANSWERS_WITHIN).await
    }

    async fn answers_within(&self, limit: Duration) -> Result<Status, LabError> {
        self.wait_until("the daemon answers", limit, |_status| true)
            .await
    }

    /// `None` when the daemon runs and does not answer (yet).
    async fn try_status(&self) -> Result<Option<Status>, LabError> {
        let output = self.failover.command("status --json").await?;
        match output.status.code() {
            Some(0) => serde_json::from_str(&output.stdout)
                .map(Some)
                .map_err(|source| LabError::Status {
                    source,
                    text: output.stdout,
                }),
            Some(NOT_REACHED) => match self.program.ended() {
                Some(status) => Err(self.failed(format!("ended with {status}"))),
                None => Ok(None),
            },
            _ => Err(self.failed(format!(
                "was asked for its status, which ended with {}: {}",
                output.status, output.stderr
            ))),
        }
    }

    /// Asks for the status again and again until it is as wanted, and returns it.
    ///
    /// # Errors
    /// [`LabError::NotInTime`] with `what` and the last answer when the time is over; at once when the
    /// daemon has ended.
    pub async fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status, LabError> {
        let start = Instant::now();
        let limit = patient(limit);
        loop {
            let asked = Instant::now();
            let said = match self.try_status().await? {
                Some(status) if wanted(&status) => return Ok(status),
                Some(status) => status.to_string(),
                None => "the daemon did not answer when it was asked last".to_owned(),
            };
            if start.elapsed() >= limit {
                return Err(LabError::NotInTime {
                    what: what.to_owned(),
                    limit,
                    detail: format!("\n{said}\nthe daemon's log:\n{}", self.log()),
                });
            }
            // Where a program takes long to start, asking must not be all that the machine does.
            tokio::time::sleep(POLL.max(asked.elapsed() * 2)).await;
        }
    }

    /// Everything that the daemon has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.stderr()
    }

    /// The process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Ends the daemon as a service manager does (SIGTERM), waits for it and returns its log.
    ///
    /// # Errors
    /// When it does not end within 10 s, or with another status than 0.
    pub async fn terminate(self) -> Result<String, LabError> {
        self.program.signal(Signal::SIGTERM);
        let status = self.program.wait(END_WITHIN).await?;
        if status.success() {
            Ok(self.log())
        } else {
            Err(self.failed(format!("was terminated and ended with {status}")))
        }
    }

    /// Has the daemon read its configuration again, as `kill -HUP` does.
    pub fn hang_up(&self) {
        self.program.signal(Signal::SIGHUP);
    }

    /// Kills the daemon without giving it a chance (SIGKILL), waits for its end and returns its log.
    ///
    /// # Errors
    /// When the kernel does not end it within 10 s.
    pub async fn kill(self) -> Result<String, LabError> {
        self.program.signal(Signal::SIGKILL);
        self.program.wait(END_WITHIN).await?;
        Ok(self.log())
    }

    fn failed(&self, what: String) -> LabError {
        LabError::Daemon {
            what,
            log: self.log(),
        }
    }
}

/// `FAILOVER_BIN`, or the `failover` that was built beside this program or (for tests, which are
/// one folder deeper) above it.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf, LabError> {
    let looked_at = match std::env::var_os("FAILOVER_BIN") {
        Some(path) => vec![PathBuf::from(path)],
        None => {
            let program =
                std::env::current_exe().map_err(LabError::io("find the path of this program"))?;
            let folders = program.ancestors().skip(1).take(2);
            folders.map(|folder| folder.join("failover")).collect()
        }
    };
    match looked_at.iter().find(|path| path.is_file()) {
        // Absolute, because a program is started from wherever the lab stands.
        Some(path) => std::path::absolute(path)
            .map_err(LabError::io(format!("find the path of {}", path.display()))),
        None => Err(LabError::NoBinary { looked_at }),
    }
}
