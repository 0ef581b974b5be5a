//! Asking the running daemon.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::control::{Answer, MAX_LINE, Request};

/// How long the daemon may take; counting flows in a table of millions takes seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no daemon answers at {socket}; start `failover run`, or name its `control` socket with --control"
    )]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error("not permitted to talk to the daemon at {socket}: run this as root")]
    NotPermitted {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the daemon at {socket} did not answer")]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon is of another version.
    #[error(
        "the daemon at {socket} answers in a way that this version does not understand: is it older or newer?"
    )]
    NotUnderstood {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The daemon refused.
    #[error("the daemon says: {0}")]
    Refused(String),
}

/// Asks the daemon behind a socket.
///
/// # Errors
/// When it cannot be reached, refuses, or is not understood.
pub fn ask(socket: &Path, request: Request) -> Result<Answer, AskError> {
    let mut stream = UnixStream::connect(socket).map_err(|source| {
        let socket = socket.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            AskError::NotPermitted { socket, source }
        } else {
            AskError::Unreachable { socket, source }
        }
    })?;
    let broken = |source| AskError::Broken {
        socket: socket.to_owned(),
        source,
    };
    let not_understood = |source| AskError::NotUnderstood {
        socket: socket.to_owned(),
        source,
    };
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    let mut line = serde_json::to_vec(&request).map_err(not_understood)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_LINE))
        .read_line(&mut answer)
        .map_err(broken)?;
    match serde_json::from_str(&answer).map_err(not_understood)? {
        Answer::Error(refusal) => Err(AskError::Refused(refusal)),
        answer => Ok(answer),
    }
}
