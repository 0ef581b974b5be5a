//! `failover disable`, `drain` and `enable`.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use jiff::Zoned;
use thiserror::Error;

use crate::by_hand::{ByHand, Order, by_the_clock};
use crate::cli::Outcome;
use crate::cli::args::{ControlArgs, UplinkArgs, time};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::control::client::Conversation;
use crate::control::{Answer, Obeyed, Request};
use crate::family::Family;
use crate::uplink::UplinkName;

/// Which uplink, for how long, and of which daemon.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The uplink.
    #[arg(value_name = "NAME")]
    pub uplink: UplinkName,

    /// Disables it after this time, such as 90s, 10m or 2h; 1s to 24h.
    #[arg(long = "for", value_name = "TIME", value_parser = time_to_drain)]
    pub time: Option<Duration>,

    /// Which daemon is meant.
    #[command(flatten)]
    pub daemon: ControlArgs,
}

fn time_to_drain(text: &str) -> Result<Duration, String> {
    let range = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
    let time = time(text)?;
    if range.contains(&time) {
        Ok(time)
    } else {
        Err(format!("`{text}` is no time from 1s to 24h"))
    }
}

/// It is done, but not all of it.
#[derive(Debug, Error)]
enum Incomplete {
    #[error("it is done, but the kernel does not follow yet, and it is tried again: {0}")]
    Behind(String),
    #[error("it is done, but will not be known after a restart: {0}")]
    Unkept(String),
}

pub(super) fn disable(args: &UplinkArgs) -> Outcome {
    obey(&args.uplink, Order::Disable, &args.daemon.control)
}

pub(super) fn drain(args: &DrainArgs) -> Outcome {
    let order = Order::Drain { time: args.time };
    obey(&args.uplink, order, &args.daemon.control)
}

pub(super) fn enable(args: &UplinkArgs) -> Outcome {
    obey(&args.uplink, Order::Enable, &args.daemon.control)
}

fn obey(uplink: &UplinkName, order: Order, control: &Path) -> Outcome {
    let request = Request::ByHand {
        uplink: uplink.clone(),
        order,
    };
    let mut conversation = Conversation::begin(control, &request)?;
    let obeyed = match conversation.answer()? {
        Answer::ByHand(obeyed) => obeyed,
        _ => return Err(conversation.misunderstood().into()),
    };
    let text = told(uplink, &obeyed, &Zoned::now());
    output::print(|out| writeln!(out, "{text}"))?;
    match (obeyed.problem, obeyed.unkept) {
        (_, Some(why)) => Err(Failure::no(Incomplete::Unkept(why))),
        (Some(why), None) => Err(Failure::no(Incomplete::Behind(why))),
        (None, None) => Ok(()),
    }
}

fn told(uplink: &UplinkName, obeyed: &Obeyed, now: &Zoned) -> String {
    let again = obeyed.before == obeyed.now;
    let mut text = match obeyed.now {
        None if again => format!("{uplink} is neither disabled nor draining"),
        None => format!("{uplink} takes part again: it is {}", obeyed.state.as_str()),
        Some(by_hand) if again => {
            let what = if by_hand.disables() {
                "disabled"
            } else {
                "draining"
            };
            let since = by_the_clock(by_hand.since, now);
            format!("{uplink} is {what} already, since {since}")
        }
        Some(by_hand) if by_hand.disables() => format!("{uplink} is disabled"),
        Some(ByHand {
            until: Some(until), ..
        }) => {
            let until = by_the_clock(until, now);
            format!("{uplink} is draining until {until}, and is disabled then")
        }
        Some(_) => format!("{uplink} is draining"),
    };
    let families = &obeyed.irreplaceable;
    if !families.is_empty() {
        text.push_str("\nno other uplink is usable");
        if families.len() < Family::ALL.len() {
            for family in families {
                text.push_str(&format!(" over {family}"));
            }
        }
        if obeyed.now.is_some_and(|by_hand| !by_hand.disables()) {
            text.push_str(", so new flows use it until one is");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::by_hand::Measure;
    use crate::status::State;

    const fn by_hand(what: Measure, since: Timestamp, until: Option<Timestamp>) -> Option<ByHand> {
        Some(ByHand { what, since, until })
    }

    fn said(before: Option<ByHand>, now: Option<ByHand>, irreplaceable: &[Family]) -> String {
        let obeyed = Obeyed {
            before,
            now,
            state: State::Up,
            irreplaceable: irreplaceable.to_vec(),
            unkept: None,
            problem: None,
        };
        let clock: Timestamp = "2026-11-22T09:55:00Z".parse().unwrap();
        let clock = clock.to_zoned(TimeZone::UTC);
        told(&"fiber".parse().unwrap(), &obeyed, &clock)
    }

    #[test]
    fn the_answer_says_what_is_so_now_and_what_was_so_already() {
        let since = "2026-11-22T09:00:00Z".parse().unwrap();
        let until = "2026-11-22T10:05:00Z".parse().unwrap();
        let disabled = by_hand(Measure::Disable, since, None);
        let draining = by_hand(Measure::Drain, since, None);
        let timed = by_hand(Measure::Drain, since, Some(until));
        let expected = [
            (said(None, disabled, &[]), "fiber is disabled"),
            (said(draining, disabled, &[]), "fiber is disabled"),
            (
                said(disabled, disabled, &[]),
                "fiber is disabled already, since 09:00:00",
            ),
            (said(timed, draining, &[]), "fiber is draining"),
            (
                said(draining, draining, &[]),
                "fiber is draining already, since 09:00:00",
            ),
            (
                said(draining, timed, &[]),
                "fiber is draining until 10:05:00, and is disabled then",
            ),
            (
                said(disabled, None, &[]),
                "fiber takes part again: it is up",
            ),
            (
                said(None, None, &[]),
                "fiber is neither disabled nor draining",
            ),
            (
                said(None, disabled, &Family::ALL),
                "fiber is disabled\nno other uplink is usable",
            ),
            (
                said(None, disabled, &[Family::Ipv6]),
                "fiber is disabled\nno other uplink is usable over IPv6",
            ),
            (
                said(None, draining, &Family::ALL),
                "fiber is draining\nno other uplink is usable, so new flows use it until one is",
            ),
        ];
        for (said, wanted) in expected {
            assert_eq!(said, wanted);
        }
    }
}
