//! How a command ends: its exit code, and what it prints when it fails.

use std::error::Error;
use std::process::ExitCode;

use crate::causes::in_one_line;
use crate::config::ConfigError;
use crate::control::client::AskError;
use crate::policy::loading::NoSets;
use crate::reload::Refusal;

/// Why a command failed, with the cause and the exit code that scripts rely on.
#[derive(Debug)]
pub(super) struct Failure {
    kind: Kind,
    cause: Box<dyn Error + Send + Sync>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The answer is no, or the configuration or the kernel does not allow it.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The daemon cannot be reached.
    Unreachable = 3,
    /// Not permitted.
    NotPermitted = 4,
}

impl Failure {
    /// The answer is no, or the configuration or the kernel does not allow it.
    pub(super) fn no(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind: Kind::No,
            cause: cause.into(),
        }
    }

    /// The command line is wrong.
    pub(super) fn usage(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind: Kind::Usage,
            cause: cause.into(),
        }
    }

    /// Not permitted.
    pub(super) fn not_permitted(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind: Kind::NotPermitted,
            cause: cause.into(),
        }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let kind = match error {
            AskError::Unreachable { .. } | AskError::Broken { .. } | AskError::CutShort { .. } => {
                Kind::Unreachable
            }
            AskError::NotPermitted { .. } => Kind::NotPermitted,
            AskError::NotUnderstood { .. } | AskError::Refused(_) => Kind::No,
        };
        Self {
            kind,
            cause: error.into(),
        }
    }
}

/// Prints the chain of causes and gives the exit code.
#[expect(
    clippy::print_stderr,
    reason = "this is where the binary says why it fails"
)]
pub(super) fn report(failure: &Failure) -> ExitCode {
    // Each problem of a file begins with the file's name, for editors that jump to it.
    let cause = &failure.cause;
    let of_the_file = matches!(cause.downcast_ref(), Some(ConfigError::Rejected(_)))
        || matches!(cause.downcast_ref(), Some(Refusal::Rejected(_)))
        || cause.downcast_ref::<NoSets>().is_some();
    let program = if of_the_file { "" } else { "failover: " };
    let text = in_one_line(failure.cause.as_ref());
    eprintln!("{program}{text}");
    ExitCode::from(failure.kind as u8)
}
