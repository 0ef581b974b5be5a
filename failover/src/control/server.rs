//! The daemon's side of the control socket.
//!
//! One task accepts, one task per connection reads a line and writes one or several. Questions reach
//! the controller through a bounded channel, and answers come through one that is as bounded; a
//! client that is slow or silent costs its own task only, and is cut off.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::control::{Answer, MAX_LINE, Reply, Request};

/// How long a client may take to ask, and to take each line of an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long we may take for a line; counting flows in a table of millions takes seconds.
const WORK: Duration = Duration::from_secs(15);

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub request: Request,
    /// Where the answers go.
    pub reply: Reply,
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
                    if let Err(error) = converse(stream, questions).await {
                        debug!(%error, "a control connection broke");
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
    let (reply, mut lines) = Reply::new();
    match serde_json::from_str(&line) {
        Ok(request) => {
            let question = Question { request, reply };
            if let Err(unasked) = questions.send(question).await {
                let refusal = Answer::Error("the daemon is stopping".to_owned());
                unasked.0.reply.finish(&refusal).await;
            }
        }
        Err(error) => {
            let refusal = Answer::Error(format!("not a request: {error}"));
            reply.finish(&refusal).await;
        }
    }
    while let Some(line) = tokio::time::timeout(WORK, lines.next()).await? {
        tokio::time::timeout(PATIENCE, write.write_all(&line)).await??;
    }
    Ok(())
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
