//! `failover trust`.

use std::io::Write as _;

use crate::cli::Outcome;
use crate::cli::args::UplinkArgs;
use crate::cli::output;
use crate::control::client::Conversation;
use crate::control::{Answer, Request};

pub(super) fn trust(args: &UplinkArgs) -> Outcome {
    let request = Request::Trust {
        uplink: args.uplink.clone(),
    };
    let mut conversation = Conversation::begin(&args.daemon.control, &request)?;
    let families = match conversation.answer()? {
        Answer::Trusted { families } => families,
        _ => return Err(conversation.misunderstood().into()),
    };
    let name = &args.uplink;
    let text = if families.is_empty() {
        format!("{name} is not held back; its failures are forgotten")
    } else {
        let families: Vec<String> = families.iter().map(ToString::to_string).collect();
        format!("{name} is trusted again in {}", families.join(" and "))
    };
    output::print(|out| writeln!(out, "{text}"))
}
