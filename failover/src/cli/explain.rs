//! `failover explain`.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use clap::Args;
use thiserror::Error;

use crate::cli::Outcome;
use crate::cli::args::ControlArgs;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::control::client::Conversation;
use crate::control::{Answer, Request};
use crate::explain::{Question, table};
use crate::family::Family;
use crate::flows::Protocol;
use crate::interface::InterfaceName;
use crate::network::MacAddress;
use crate::policy::Dscp;

/// Which flow is meant.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Where it comes from: ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT; for ICMP the identifier stands for
    /// the port.
    #[arg(long, value_name = "ADDRESS[:PORT]", required_unless_present = "own")]
    pub from: Option<End>,

    /// The flow is one of this host itself; --from is then what its socket is bound to, if anything.
    #[arg(long, conflicts_with_all = ["iface", "mac"])]
    pub own: bool,

    /// Where it goes, likewise; a port is needed where the protocol has ports.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub to: End,

    /// What it speaks, by name or number; by default tcp where --to has a port, else icmp.
    #[arg(long, value_name = "PROTOCOL")]
    pub proto: Option<Protocol>,

    /// The downlink that it comes in by; by default that whose network has --from.
    #[arg(long, value_name = "INTERFACE")]
    pub iface: Option<InterfaceName>,

    /// Its code point, such as ef or 46.
    #[arg(long, value_name = "DSCP", default_value = "cs0")]
    pub dscp: Dscp,

    /// Its mark, in decimal or hexadecimal.
    #[arg(long, value_name = "MARK", default_value = "0", value_parser = mark)]
    pub mark: u32,

    /// The hardware address that it comes from.
    #[arg(long, value_name = "ADDRESS")]
    pub mac: Option<MacAddress>,

    /// Prints JSON, for scripts.
    #[arg(long)]
    pub json: bool,

    /// Which daemon is meant.
    #[command(flatten)]
    pub daemon: ControlArgs,
}

/// An address, and maybe a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: Option<u16>,
}

/// A text is no address with or without port.
#[derive(Debug, Error)]
#[error(
    "allowed: an address with or without a port, such as 10.0.0.5, 10.0.0.5:443 or [fd00::5]:443"
)]
pub struct InvalidEnd;

impl FromStr for End {
    type Err = InvalidEnd;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self {
                address,
                port: None,
            });
        }
        let both: SocketAddr = text.parse().map_err(|_| InvalidEnd)?;
        Ok(Self {
            address: both.ip(),
            port: Some(both.port()),
        })
    }
}

fn mark(text: &str) -> Result<u32, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

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
