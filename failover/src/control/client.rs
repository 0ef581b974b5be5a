//! Asking the running daemon.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::control::{Answer, MAX_LINE, Request};

/// How long the daemon may take; counting flows in a table of millions takes seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// Bytes that are read at once.
const BUFFER: usize = 128 * 1024;

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
    /// The answer has no end.
    #[error("the daemon at {socket} ended before its answer did")]
    CutShort {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon refused.
    #[error("the daemon says: {0}")]
    Refused(String),
}

/// A question that was asked, and the answers to it.
#[derive(Debug)]
pub struct Conversation {
    socket: PathBuf,
    answers: BufReader<UnixStream>,
    line: String,
}

impl Conversation {
    /// Asks the daemon behind a socket.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn begin(socket: &Path, request: &Request) -> Result<Self, AskError> {
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
        stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
        let mut line = serde_json::to_vec(request).map_err(|error| broken(error.into()))?;
        line.push(b'\n');
        stream.write_all(&line).map_err(broken)?;
        Ok(Self {
            socket: socket.to_owned(),
            answers: BufReader::with_capacity(BUFFER, stream),
            line: String::new(),
        })
    }

    /// The next answer.
    ///
    /// # Errors
    /// When there is none, or it is a refusal, or is not understood.
    pub fn answer(&mut self) -> Result<Answer, AskError> {
        self.line.clear();
        (&mut self.answers)
            .take(MAX_LINE)
            .read_line(&mut self.line)
            .map_err(|source| AskError::Broken {
                socket: self.socket.clone(),
                source,
            })?;
        if self.line.is_empty() {
            return Err(AskError::CutShort {
                socket: self.socket.clone(),
            });
        }
        match serde_json::from_str(&self.line) {
            Ok(Answer::Error(refusal)) => Err(AskError::Refused(refusal)),
            Ok(answer) => Ok(answer),
            Err(source) => Err(self.not_understood(source)),
        }
    }

    /// What to say of an answer to another question than was asked.
    pub fn misunderstood(&self) -> AskError {
        self.not_understood(serde::de::Error::custom("it answers another question"))
    }

    fn not_understood(&self, source: serde_json::Error) -> AskError {
        AskError::NotUnderstood {
            socket: self.socket.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What is answered by a daemon that says this and ends.
    fn answers(name: &str, said: &'static str) -> Vec<Result<Answer, AskError>> {
        let name = format!("failover-client-{}-{name}", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            request
        });
        let mut conversation =
            Conversation::begin(&socket, &Request::Flows { uplink: None }).unwrap();
        std::fs::remove_file(&socket).unwrap();
        let mut answers = Vec::new();
        while answers.iter().all(Result::is_ok) {
            answers.push(conversation.answer());
        }
        let request: Request = serde_json::from_str(&daemon.join().unwrap()).unwrap();
        assert_eq!(request, Request::Flows { uplink: None });
        answers
    }

    #[test]
    fn a_part_is_not_taken_for_the_whole() {
        let answers = answers(
            "part",
            "{\"flows_begin\":{\"mode\":\"classic\"}}\n{\"flows\":[]}\n",
        );
        assert!(
            matches!(
                answers.as_slice(),
                [
                    Ok(Answer::FlowsBegin { .. }),
                    Ok(Answer::Flows(_)),
                    Err(AskError::CutShort { .. })
                ]
            ),
            "{answers:?}"
        );
    }

    #[test]
    fn half_a_line_and_a_refusal_are_no_answers() {
        let answered = answers("half", "{\"flows\":[");
        assert!(
            matches!(answered.as_slice(), [Err(AskError::NotUnderstood { .. })]),
            "{answered:?}"
        );
        let answered = answers("refusal", "{\"error\":\"no\"}\n");
        assert!(
            matches!(answered.as_slice(), [Err(AskError::Refused(why))] if why == "no"),
            "{answered:?}"
        );
    }
}
