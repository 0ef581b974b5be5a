//! Programs: one call for each message, with the facts in the environment and as JSON on standard
//! input.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::wait::WaitStatus;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tracing::debug;

use crate::notify::failure::{NotSent, in_a_line};
use crate::notify::message::Message;
use crate::notify::settings::ProgramConfig;
use crate::process_group::ProcessGroup;

/// How much of what it prints is kept, in bytes: the beginning.
const KEPT: usize = 2048;
/// How long its last words may take to come out of the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The group is killed when the program has ended, when its time is up, and when this is dropped.
pub(super) async fn run(config: &ProgramConfig, message: &Message) -> Result<(), NotSent> {
    let failed =
        |why: &dyn std::fmt::Display| NotSent::yet(format!("{}: {why}", config.program.display()));
    let facts = serde_json::to_vec(message).map_err(|error| NotSent::of(&error))?;
    // Before the program begins, so that its end is not missed.
    let mut ends = signal(SignalKind::child()).map_err(|error| failed(&error))?;
    let command = command(config, message);
    let begun = tokio::task::spawn_blocking(move || ProcessGroup::begin(command)).await;
    let mut group = begun
        .map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))?;
    let (input, output, errors) = group.pipes();
    let told = async {
        if let Some(mut input) = input {
            // It need not read.
            input.write_all(&facts).await.ok();
        }
    };
    let mut printed = (Vec::new(), Vec::new());
    let outcome = {
        let ended = async {
            loop {
                match group.ended() {
                    Ok(Some(status)) => return Ok(status),
                    Ok(None) => ends.recv().await,
                    Err(error) => return Err(failed(&error)),
                };
            }
        };
        let talk = async {
            let (first, second) = &mut printed;
            tokio::join!(told, keep(output, first), keep(errors, second));
        };
        let limited = tokio::time::timeout(config.timeout, ended);
        let mut talk = std::pin::pin!(talk);
        let mut limited = std::pin::pin!(limited);
        tokio::select! {
            biased;
            outcome = &mut limited => {
                // Somebody in the background may hold the pipe open.
                tokio::time::timeout(LAST_WORDS, talk).await.ok();
                outcome
            }
            () = &mut talk => limited.await,
        }
    };
    let (output, errors) = printed;
    let said = |bytes: &[u8]| in_a_line(&String::from_utf8_lossy(bytes));
    let (output, errors) = (said(&output), said(&errors));
    debug!(program = %config.program.display(), %output, %errors, "a program of notifications ended");
    let complaint = if errors.is_empty() {
        String::new()
    } else {
        format!(": {errors}")
    };
    match outcome {
        Err(_) => Err(failed(&format_args!(
            "did not end within {:?} and was killed{complaint}",
            config.timeout
        ))),
        Ok(Err(error)) => Err(error),
        Ok(Ok(WaitStatus::Exited(_, 0))) => Ok(()),
        Ok(Ok(WaitStatus::Exited(_, status))) => Err(failed(&format_args!(
            "ended with status {status}{complaint}"
        ))),
        Ok(Ok(WaitStatus::Signaled(_, signal, _))) => {
            Err(failed(&format_args!("was killed by {signal}{complaint}")))
        }
        Ok(Ok(other)) => Err(failed(&format_args!("ended with {other:?}{complaint}"))),
    }
}

fn command(config: &ProgramConfig, message: &Message) -> Command {
    let mut command = Command::new(&config.program);
    command
        .args(&config.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir("/")
        // The service manager is told of the daemon's state by the daemon alone.
        .env_remove("NOTIFY_SOCKET");
    for name in Message::FACTS {
        // No variable can hold a zero byte.
        let fact = message.fact(name).replace('\0', " ");
        command.env(format!("FAILOVER_{}", name.to_ascii_uppercase()), fact);
    }
    command
}

/// Reads to the end, and keeps the beginning.
async fn keep(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = [0; 1024];
    while let Ok(read) = pipe.read(&mut piece).await
        && read > 0
    {
        let room = KEPT.saturating_sub(kept.len());
        kept.extend(piece.iter().take(read.min(room)));
    }
}
