//! The daemon's side of the control socket.
//!
//! One task accepts, one short-lived task per connection reads a line and writes a line. Questions
//! reach the controller through a bounded channel; a client that is slow or silent costs its own
//! task only, and is cut off.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use crate::control::{Answer, MAX_LINE, Request};

/// How long a client may take to ask, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

/// Why the socket cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot {what} {path}: set `control` to a place that this user may write")]
pub struct ListenError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Listens on the socket; a socket left by an earlier daemon is replaced (the state lock says that
/// none runs). Only the owner may connect.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ListenError { what, path, source }
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed("create the folder", folder))?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let error = io::Error::other("there is something else, which is not removed");
            return Err(failed("make the socket", path)(error));
        }
        Ok(_) => fs::remove_file(path).map_err(failed("replace the old socket", path))?,
        // What else is wrong with the place is said when the socket is made.
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed("listen on", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(failed("set the permissions of", path))?;
    Ok(listener)
}

/// Takes the socket away, so that who asks is told at once that nobody listens.
pub fn forget(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        warn!(%error, socket = %path.display(), "cannot remove the control socket");
    }
}

/// Serves until the controller is gone.
pub async fn serve(listener: UnixListener, questions: mpsc::Sender<Question>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let questions = questions.clone();
                tokio::spawn(async move {
                    match tokio::time::timeout(PATIENCE * 3, converse(stream, questions)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!(%error, "a control connection broke"),
                        Err(_) => debug!("a control connection was too slow"),
                    }
                });
            }
            Err(error) => {
                warn!(%error, "the control socket cannot accept; trying again in a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        if questions.is_closed() {
            return;
        }
    }
}

async fn converse(mut stream: UnixStream, questions: mpsc::Sender<Question>) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let mut limited = BufReader::new(read.take(MAX_LINE));
    tokio::time::timeout(PATIENCE, limited.read_line(&mut line)).await??;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            let asked = questions.send(Question { request, reply }).await.is_ok();
            match answer.await {
                Ok(answer) if asked => answer,
                _ => Answer::Error("the daemon is stopping".to_owned()),
            }
        }
        Err(error) => Answer::Error(format!("not a request: {error}")),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, write.write_all(&line)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_not_removed() {
        let folder = std::env::temp_dir().join(format!("failover-listen-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("notes");
        fs::write(&path, "precious").unwrap();
        assert!(listen(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

        let path = folder.join("sock");
        drop(listen(&path).unwrap());
        listen(&path).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
