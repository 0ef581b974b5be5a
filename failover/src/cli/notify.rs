//! `failover notify`.

use std::io::Write as _;

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use thiserror::Error;

use crate::cli::Outcome;
use crate::cli::args::{AskArgs, ConfigArgs};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::config;
use crate::control::client::Conversation;
use crate::control::{Answer, Request};
use crate::notify;
use crate::notify::settings::Channels;

/// What is to be done about notifications.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Sends a test message, and says what came of it; exit code 1 where one was not delivered.
    ///
    /// Variables of the environment that hold secrets must be set here as they are for the daemon.
    Test(NotifyTestArgs),
    /// Says how the daemon's channels fare.
    Status(AskArgs),
}

/// By which channel, of which configuration.
#[derive(Debug, Args)]
pub struct NotifyTestArgs {
    /// Only this channel.
    #[arg(value_name = "CHANNEL")]
    pub channel: Option<String>,

    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Why nothing, or not all, was tried or delivered.
#[derive(Debug, Error)]
enum NotifyError {
    #[error("the configuration has no channel `{name}`: {known}")]
    NoSuchChannel { name: String, known: String },
    #[error("the configuration names no channels: the key `notify` has them")]
    NoChannels,
    #[error("{failed} of {all} channels did not deliver")]
    NotDelivered { failed: usize, all: usize },
}

pub(super) fn notify(command: &NotifyCommand) -> Outcome {
    match command {
        NotifyCommand::Test(args) => test(args),
        NotifyCommand::Status(args) => status(args),
    }
}

fn test(args: &NotifyTestArgs) -> Outcome {
    let config = config::load(&args.config.config).map_err(Failure::no)?;
    let mut channels: Channels = config.notify;
    if channels.is_empty() {
        return Err(Failure::no(NotifyError::NoChannels));
    }
    if let Some(name) = &args.channel {
        let known: Vec<String> = channels.keys().map(ToString::to_string).collect();
        channels.retain(|channel, _| channel.to_string() == *name);
        if channels.is_empty() {
            let (name, known) = (name.clone(), known.join(", "));
            return Err(Failure::no(NotifyError::NoSuchChannel { name, known }));
        }
    }
    let runtime = super::runtime()?;
    let all = channels.len();
    let mut failed = 0;
    for (name, channel) in &channels {
        let kind = channel.carrier.kind();
        output::print(|out| write!(out, "{name} ({kind}): "))?;
        let sent = runtime.block_on(notify::test(channel));
        let told = match &sent {
            Ok(()) => "delivered".to_owned(),
            Err(error) => format!("not delivered: {error}"),
        };
        failed += usize::from(sent.is_err());
        output::print(|out| writeln!(out, "{told}"))?;
    }
    // A secret on a disk that does not answer is not waited for.
    runtime.shutdown_background();
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::no(NotifyError::NotDelivered { failed, all }))
    }
}

fn status(args: &AskArgs) -> Outcome {
    let mut conversation = Conversation::begin(&args.daemon.control, &Request::Status)?;
    let Answer::Status(document) = conversation.answer()? else {
        return Err(conversation.misunderstood().into());
    };
    if args.json {
        let text = serde_json::to_string_pretty(&document.notify).map_err(Failure::no)?;
        return output::print(|out| writeln!(out, "{text}"));
    }
    output::print(|out| {
        for channel in &document.notify {
            let delivered = channel.last_delivery.map_or_else(
                || "nothing delivered yet".to_owned(),
                |time| {
                    let time = time.to_zoned(TimeZone::system());
                    format!("last delivery {}", time.strftime("%Y-%m-%d %H:%M:%S"))
                },
            );
            let problem = channel.problem.as_ref();
            let problem =
                problem.map_or_else(String::new, |problem| format!("; failing: {problem}"));
            writeln!(
                out,
                "{} ({}): {delivered}, {} waiting{problem}",
                channel.name, channel.kind, channel.waiting
            )?;
        }
        Ok(())
    })
}
