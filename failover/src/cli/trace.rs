//! `failover trace`.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;

use crate::cli::Outcome;
use crate::cli::args::{ControlArgs, time};
use crate::cli::output;
use crate::control::client::Conversation;
use crate::control::{Answer, Request, TraceStep};
use crate::uplink::UplinkName;

/// Whose trace, and what becomes of it.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The uplink.
    #[arg(value_name = "NAME")]
    pub uplink: UplinkName,

    /// Ends it after this time, such as 90s, 30m or 12h; otherwise it goes on until it is stopped.
    #[arg(long = "for", value_name = "TIME", value_parser = time, conflicts_with = "stop")]
    pub time: Option<Duration>,

    /// Ends it now.
    #[arg(long)]
    pub stop: bool,

    /// Which daemon is meant.
    #[command(flatten)]
    pub daemon: ControlArgs,
}

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
