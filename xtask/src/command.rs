//! Other programs: run with their output shown, read, or both.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

/// How long a program that has ended may leave its output open: whoever holds it then is a process
/// that it left behind.
const LINGER: Duration = Duration::from_secs(5);

/// Why another program was of no help.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    /// It could not be started.
    #[error("starting `{command}`: {source}")]
    Start {
        /// What was called.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// It said no.
    #[error("`{command}` failed ({status}){said}")]
    Failed {
        /// What was called.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote on standard error, if that was not shown; begins with a colon.
        said: String,
    },
    /// It ended, but something that it started still holds its output.
    #[error("`{command}` ended and left a process behind that still holds its output")]
    LeftBehind {
        /// What was called.
        command: String,
    },
    /// It wrote nothing for long, and was killed.
    #[error("`{command}` wrote nothing for {} s and was killed", patience.as_secs())]
    Silent {
        /// What was called.
        command: String,
        /// How long it was waited for.
        patience: Duration,
    },
}

/// The program and its arguments as one would type them.
fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        // Writing to a String cannot fail.
        let _infallible = write!(text, " {}", argument.to_string_lossy());
    }
    text
}

/// Runs a program to its end, with its output where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), CommandError> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|source| CommandError::Start {
            command: shown(command),
            source,
        })?;
    succeeded(command, status, String::new())
}

/// Runs a program to its end and returns what it wrote on standard output.
pub(crate) fn read(command: &mut Command) -> Result<String, CommandError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| CommandError::Start {
            command: shown(command),
            source,
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = match said.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    };
    succeeded(command, output.status, said)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end, shows both its outputs line by line as they come, and hands each line
/// to `heed`, in the order in which they were written.
pub(crate) fn follow(command: Command, mut heed: impl FnMut(&str)) -> Result<(), CommandError> {
    listen(command, None, |line| {
        eprintln!("{line}");
        heed(&line);
    })
}

/// Runs a program to its end, and hands each line of both its outputs to `heed`, in the order in
/// which they were written. With `patience` the program is killed when it has written nothing for so
/// long.
pub(crate) fn listen(
    mut command: Command,
    patience: Option<Duration>,
    mut heed: impl FnMut(String),
) -> Result<(), CommandError> {
    let name = shown(&command);
    let start = |source| CommandError::Start {
        command: name.clone(),
        source,
    };
    let (reader, writer) = io::pipe().map_err(start)?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(start)?)
        .stderr(writer);
    let mut child = command.spawn().map_err(start)?;
    // It holds the writing end, and as long as that is open the reader does not see the end.
    drop(command);

    let (lines, incoming) = mpsc::channel();
    // Not joined: it ends with the pipe, or with this program where a process was left behind.
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if lines
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
        }
    });

    let mut ended: Option<Instant> = None;
    let mut last = Instant::now();
    loop {
        match incoming.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                heed(line);
                last = Instant::now();
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(patience) = patience
            && last.elapsed() > patience
        {
            child.kill().map_err(start)?;
            child.wait().map_err(start)?;
            return Err(CommandError::Silent {
                command: name,
                patience,
            });
        }
        if ended.is_none() {
            ended = child.try_wait().map_err(start)?.map(|_| Instant::now());
        } else if ended.is_some_and(|when| when.elapsed() > LINGER) {
            return Err(CommandError::LeftBehind { command: name });
        }
    }
    let status = child.wait().map_err(start)?;
    if status.success() {
        Ok(())
    } else {
        Err(CommandError::Failed {
            command: name,
            status,
            said: String::new(),
        })
    }
}

fn succeeded(command: &Command, status: ExitStatus, said: String) -> Result<(), CommandError> {
    if status.success() {
        Ok(())
    } else {
        Err(CommandError::Failed {
            command: shown(command),
            status,
            said,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_of_both_outputs_come_in_order() {
        let mut lines = Vec::new();
        let ended = follow(shell("echo a; echo b >&2; echo c; exit 3"), |line| {
            lines.push(line.to_owned());
        });
        assert_eq!(lines, ["a", "b", "c"]);
        let said = ended.unwrap_err().to_string();
        assert!(said.contains("exit status: 3"), "{said}");
    }

    #[test]
    fn a_process_left_behind_is_told_of() {
        let mut left = String::new();
        // As long as the tests at most, in case nobody ends it.
        let ended = listen(shell("sleep 60 & echo $!"), None, |line| {
            left = line;
        });
        run(Command::new("kill").arg(&left)).unwrap();
        assert!(matches!(ended, Err(CommandError::LeftBehind { .. })));
    }

    #[test]
    fn what_is_silent_for_too_long_is_killed() {
        let mut process = String::new();
        let patience = Some(Duration::from_millis(300));
        let ended = listen(shell("echo $$; exec sleep 60"), patience, |line| {
            process = line;
        });
        assert!(matches!(ended, Err(CommandError::Silent { .. })));
        assert!(run(Command::new("kill").args(["-0", &process])).is_err());
    }

    #[test]
    fn a_failure_tells_what_the_program_said() {
        let said = read(&mut shell("echo not here >&2; exit 1"))
            .unwrap_err()
            .to_string();
        assert!(said.ends_with(": not here"), "{said}");
    }
}
