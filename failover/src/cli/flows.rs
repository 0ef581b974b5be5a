//! `failover flows`.
//!
//! A thread takes the answers as they come, so that a pager that stands still holds up nobody but
//! itself: what is not printed yet waits here, and that is the whole table at most.

use std::io::{self, IsTerminal as _, Write as _, stdout};
use std::sync::mpsc::{Receiver, channel};

use clap::Args;

use crate::cli::Outcome;
use crate::cli::args::ControlArgs;
use crate::cli::exit::Failure;
use crate::cli::output::{self, Output};
use crate::control::client::{AskError, Conversation};
use crate::control::{Answer, Request};
use crate::flows::{FlowEntry, render, sort};
use crate::uplink::UplinkName;

/// Which flows to show, and of which daemon.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// Shows only the flows of this uplink.
    #[arg(long, value_name = "NAME")]
    pub uplink: Option<UplinkName>,

    /// Prints JSON, for scripts.
    #[arg(long)]
    pub json: bool,

    /// Which daemon is meant.
    #[command(flatten)]
    pub daemon: ControlArgs,
}

type Piece = Result<Vec<FlowEntry>, AskError>;

pub(super) fn flows(args: &FlowsArgs) -> Outcome {
    let request = Request::Flows {
        uplink: args.uplink.clone(),
    };
    let mut conversation = Conversation::begin(&args.daemon.control, &request)?;
    let Answer::FlowsBegin { mode } = conversation.answer()? else {
        return Err(conversation.misunderstood().into());
    };
    let (sender, pieces) = channel();
    std::thread::spawn(move || {
        while let Some(piece) = next(&mut conversation).transpose() {
            let last = piece.is_err();
            if sender.send(piece).is_err() || last {
                return;
            }
        }
    });
    if args.json {
        print_json(&pieces)
    } else {
        print_table(&mode, &pieces)
    }
}

/// The next flows; `None` at the end.
fn next(conversation: &mut Conversation) -> Result<Option<Vec<FlowEntry>>, AskError> {
    match conversation.answer()? {
        Answer::Flows(entries) => Ok(Some(entries)),
        Answer::FlowsEnd => Ok(None),
        _ => Err(conversation.misunderstood()),
    }
}

/// One array, a flow per line, as they come. After a failure the array has no end, so that nobody
/// takes a part for the whole.
fn print_json(pieces: &Receiver<Piece>) -> Outcome {
    let mut failed = None;
    output::print(|out| {
        let mut before = "[\n";
        for piece in pieces {
            match piece {
                Ok(entries) => json_lines(out, &entries, &mut before)?,
                Err(error) => {
                    failed = Some(error);
                    return Ok(());
                }
            }
        }
        out.write_all(if before == "[\n" { b"[]\n" } else { b"\n]\n" })
    })?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn json_lines(out: &mut Output, entries: &[FlowEntry], before: &mut &str) -> io::Result<()> {
    for entry in entries {
        out.write_all(before.as_bytes())?;
        *before = ",\n";
        serde_json::to_writer(&mut *out, entry)?;
    }
    Ok(())
}

fn print_table(mode: &str, pieces: &Receiver<Piece>) -> Outcome {
    let mut entries = Vec::new();
    for piece in pieces {
        entries.append(&mut piece.map_err(Failure::from)?);
    }
    sort(&mut entries);
    let coloured = stdout().is_terminal();
    output::print(|out| render(out, mode, &entries, coloured))
}
