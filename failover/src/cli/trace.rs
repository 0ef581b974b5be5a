//! `failover trace`.

use std::io::Write as _;

use crate::cli::Outcome;
use crate::cli::args::TraceArgs;
use crate::cli::output;
use crate::control::client::Conversation;
use crate::control::{Answer, Request, TraceStep};

pub(super) fn trace(args: &TraceArgs) -> Outcome {
    let step = if args.stop {
        TraceStep::Stop
    } else {
        TraceStep::Start { time: args.time }
    };
    let request = Request::Trace {
        uplink: args.uplink.clone(),
        step,
    };
    let mut conversation = Conversation::begin(&args.daemon.control, &request)?;
    let Answer::Traced { file, running } = conversation.answer()? else {
        return Err(conversation.misunderstood().into());
    };
    let (name, file) = (&args.uplink, file.display());
    let text = match (step, running) {
        (TraceStep::Start { .. }, false) => format!("{name} is traced into {file}"),
        (TraceStep::Start { .. }, true) => format!("{name} is traced already, into {file}"),
        (TraceStep::Stop, true) => format!("{name} is traced no more; the trace is {file}"),
        (TraceStep::Stop, false) => format!("{name} was not traced; a trace would be {file}"),
    };
    output::print(|out| writeln!(out, "{text}"))
}
