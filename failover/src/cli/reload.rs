//! `failover reload`.

use std::io::Write as _;

use thiserror::Error;

use crate::cli::Outcome;
use crate::cli::args::AskArgs;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::control::client::Conversation;
use crate::control::{Answer, Request};

/// The configuration is the new one, and the kernel does not follow.
#[derive(Debug, Error)]
#[error(
    "the configuration is taken over, but the kernel does not follow yet, and it is tried again: {0}"
)]
struct Behind(String);

pub(super) fn reload(args: &AskArgs) -> Outcome {
    let mut conversation = Conversation::begin(&args.daemon.control, &Request::Reload)?;
    let reloaded = match conversation.answer()? {
        Answer::Reloaded(reloaded) => reloaded,
        Answer::NotReloaded(refusal) => return Err(Failure::no(refusal)),
        _ => return Err(conversation.misunderstood().into()),
    };
    let text = if args.json {
        serde_json::to_string_pretty(&reloaded).map_err(Failure::no)?
    } else {
        reloaded.to_string()
    };
    output::print(|out| writeln!(out, "{text}"))?;
    match reloaded.problem {
        Some(problem) => Err(Failure::no(Behind(problem))),
        None => Ok(()),
    }
}
