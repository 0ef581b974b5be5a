//! Doing as root what only root may do.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use thiserror::Error;

use crate::workspace::find_program;

/// How this user gets root's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// It is root.
    Root,
    /// Through sudo.
    Sudo,
}

/// Why root's rights cannot be had.
#[derive(Debug, Error)]
pub(crate) enum NoPrivilege {
    /// Neither root nor sudo.
    #[error("this needs root, and sudo is not installed: run it as root")]
    NoSudo,
    /// sudo says no, or would ask for a password where nobody can type one.
    #[error(
        "this needs root, and sudo refuses or asks for a password: run it as root, or run `sudo -v` first"
    )]
    Refused,
    /// Who we are could not be found out.
    #[error("finding out whether this is root, from /proc/self: {0}")]
    Unknown(#[from] io::Error),
}

impl Privilege {
    /// Finds out how to become root. Asks for a password if a person is there to type it.
    pub(crate) fn obtain() -> Result<Self, NoPrivilege> {
        // The folder belongs to the effective user of the process that looks at it.
        if fs::metadata("/proc/self")?.uid() == 0 {
            return Ok(Self::Root);
        }
        let sudo = find_program("sudo").ok_or(NoPrivilege::NoSudo)?;
        let silent = Command::new(&sudo)
            .args(["-n", "true"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if silent.success() {
            return Ok(Self::Sudo);
        }
        if io::stdin().is_terminal() && Command::new(&sudo).arg("-v").status()?.success() {
            return Ok(Self::Sudo);
        }
        Err(NoPrivilege::Refused)
    }

    /// A call of a program as root. sudo drops the environment: `environment` says what to keep.
    pub(crate) fn command(
        self,
        program: impl AsRef<OsStr>,
        environment: &[(&str, &OsStr)],
    ) -> Command {
        match self {
            Self::Root => {
                let mut command = Command::new(program);
                command.envs(environment.iter().copied());
                command
            }
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.args(self.prefix(environment).into_iter().skip(1));
                command.arg(program);
                command
            }
        }
    }

    /// What to put before a program so that it runs as root, with these variables set; nothing for
    /// root itself, who hands on its environment.
    pub(crate) fn prefix(self, environment: &[(&str, &OsStr)]) -> Vec<std::ffi::OsString> {
        match self {
            Self::Root => Vec::new(),
            Self::Sudo => ["sudo", "env"]
                .into_iter()
                .map(Into::into)
                .chain(environment.iter().map(|(name, value)| {
                    let mut assignment = std::ffi::OsString::from(name);
                    assignment.push("=");
                    assignment.push(value);
                    assignment
                }))
                .collect(),
        }
    }
}
