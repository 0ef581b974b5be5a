//! `failover flush`.

use std::io::Write as _;

use serde_json::json;

use crate::cli::Outcome;
use crate::cli::args::AskArgs;
use crate::cli::output;
use crate::control::client::Conversation;
use crate::control::{Answer, Request};

pub(super) fn flush(args: &AskArgs) -> Outcome {
    let mut conversation = Conversation::begin(&args.daemon.control, &Request::Flush)?;
    let Answer::Flushed { flows } = conversation.answer()? else {
        return Err(conversation.misunderstood().into());
    };
    let text = if args.json {
        json!({ "flows": flows }).to_string()
    } else {
        told(flows)
    };
    output::print(|out| writeln!(out, "{text}"))
}

fn told(flows: u64) -> String {
    match flows {
        0 => "no flow took the fast path".to_owned(),
        1 => "1 flow went back to the stack".to_owned(),
        _ => format!("{flows} flows went back to the stack"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_how_many_flows_went_back() {
        assert_eq!(told(0), "no flow took the fast path");
        assert_eq!(told(1), "1 flow went back to the stack");
        assert_eq!(told(12_345), "12345 flows went back to the stack");
    }
}
