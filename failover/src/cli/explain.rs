//! `failover explain`.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::cli::Outcome;
use crate::cli::args::{End, ExplainArgs};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::control::client::Conversation;
use crate::control::{Answer, Request};
use crate::explain::{Question, table};
use crate::family::Family;
use crate::flows::Protocol;

/// A flow that cannot be.
#[derive(Debug, Error)]
enum NoSuchFlow {
    #[error("--from and --to are of different families")]
    Families,
    #[error("{0} has ports: --to needs one, such as {1}:443")]
    NoPort(Protocol, IpAddr),
    #[error("{0} has no ports: leave out that of --to")]
    Port(Protocol),
}

pub(super) fn explain(args: &ExplainArgs) -> Outcome {
    let question = question(args).map_err(Failure::usage)?;
    let mut conversation = Conversation::begin(&args.daemon.control, &Request::Explain(question))?;
    let Answer::Explained(explanation) = conversation.answer()? else {
        return Err(conversation.misunderstood().into());
    };
    if args.json {
        let json = serde_json::to_string_pretty(&explanation).map_err(Failure::no)?;
        return output::print(|out| writeln!(out, "{json}"));
    }
    output::print(|out| write!(out, "{}", table(&explanation)))
}

fn question(args: &ExplainArgs) -> Result<Question, NoSuchFlow> {
    let to = args.to;
    let unbound = End {
        address: match Family::of(to.address) {
            Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
        },
        port: None,
    };
    let from = args.from.unwrap_or(unbound);
    if Family::of(from.address) != Family::of(to.address) {
        return Err(NoSuchFlow::Families);
    }
    let icmp = match Family::of(to.address) {
        Family::Ipv4 => Protocol(failover_common::lifetime::protocol::ICMP),
        Family::Ipv6 => Protocol(failover_common::lifetime::protocol::ICMPV6),
    };
    let usual = if to.port.is_some() {
        Protocol::TCP
    } else {
        icmp
    };
    let protocol = args.proto.unwrap_or(usual);
    match to.port {
        None if protocol.has_ports() => return Err(NoSuchFlow::NoPort(protocol, to.address)),
        Some(_) if !protocol.has_ports() => return Err(NoSuchFlow::Port(protocol)),
        _ => {}
    }
    Ok(Question {
        source: from.address,
        source_port: from.port,
        destination: to.address,
        port: to.port,
        protocol,
        interface: args.iface.clone(),
        own: args.own,
        dscp: args.dscp,
        mark: args.mark,
        mac: args.mac,
    })
}
