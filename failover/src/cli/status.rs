//! `failover status`.

use std::io::{IsTerminal as _, Write as _, stdout};

use jiff::Zoned;

use crate::cli::Outcome;
use crate::cli::args::AskArgs;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::control::client::Conversation;
use crate::control::{Answer, Request};
use crate::status::render;

pub(super) fn status(args: &AskArgs) -> Outcome {
    let mut conversation = Conversation::begin(&args.daemon.control, &Request::Status)?;
    let Answer::Status(document) = conversation.answer()? else {
        return Err(conversation.misunderstood().into());
    };
    let text = if args.json {
        let mut text = serde_json::to_string_pretty(&document).map_err(Failure::no)?;
        text.push('\n');
        text
    } else {
        render(&document, &Zoned::now(), stdout().is_terminal())
    };
    output::print(|out| out.write_all(text.as_bytes()))
}
