//! `failover status`.

use std::io::{IsTerminal as _, Write as _, stdout};

use jiff::Timestamp;

use crate::cli::Outcome;
use crate::cli::args::StatusArgs;
use crate::cli::exit::Failure;
use crate::control::client::ask;
use crate::control::{Answer, Request};
use crate::status::render;

pub(super) fn status(args: &StatusArgs) -> Outcome {
    let document = match ask(&args.control, Request::Status)? {
        Answer::Status(document) => document,
        Answer::Error(refusal) => return Err(Failure::no(refusal)),
    };
    let text = if args.json {
        let mut text = serde_json::to_string_pretty(&document).map_err(Failure::no)?;
        text.push('\n');
        text
    } else {
        render(&document, Timestamp::now(), stdout().is_terminal())
    };
    stdout().write_all(text.as_bytes()).map_err(Failure::no)
}
