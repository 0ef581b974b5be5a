//! What `bench forwarding` is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use failover_tests::bench::forwarding::{Options, Part, Protocol, USUAL_UPLINKS, Variant};

use super::FamilyArgument;

#[derive(Debug, Args)]
pub(super) struct ForwardingArguments {
    /// Only this variant, and those that are named likewise; all by default
    #[arg(long = "variant", value_enum, value_name = "NAME")]
    variants: Vec<Variant>,
    /// Only this part, and those that are named likewise; all by default
    #[arg(long = "part", value_enum, value_name = "NAME")]
    parts: Vec<Part>,
    /// With so many known flows; may be given several times
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_900_000))]
    flows: Vec<u32>,
    /// With frames of this length in bytes; may be given several times
    #[arg(long = "size", value_name = "BYTES", value_parser = clap::value_parser!(u16).range(60..=1514))]
    sizes: Vec<u16>,
    /// The address family
    #[arg(long, value_enum, default_value_t = FamilyArgument::Both)]
    family: FamilyArgument,
    /// Only this protocol
    #[arg(long, value_enum, value_name = "NAME")]
    protocol: Option<ProtocolArgument>,
    /// How many uplinks failover has; others that choose have three
    #[arg(long, default_value_t = USUAL_UPLINKS, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=64))]
    uplinks: u8,
    /// How many rounds; 7 by default, or 3 with --quick
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: Option<u8>,
    /// A first look: fewer cases, rounds and packets. Takes one to two minutes instead of up to fifteen
    #[arg(long)]
    quick: bool,
    /// The binary to measure; by default the one that was built together with this program
    #[arg(long, value_name = "PATH")]
    failover: Option<PathBuf>,
    /// Writes the result to this file, too
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Draws the first case into this file
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProtocolArgument {
    /// Datagrams
    Udp,
    /// Connections
    Tcp,
}

impl ForwardingArguments {
    /// What is to be measured.
    pub(super) fn options(&self) -> Options {
        let usual = if self.quick { 3 } else { 7 };
        Options {
            variants: self.variants.clone(),
            parts: self.parts.clone(),
            flows: self.flows.clone(),
            sizes: self.sizes.iter().copied().map(usize::from).collect(),
            families: self.family.families(),
            protocols: self.protocol.iter().map(|one| one.protocol()).collect(),
            uplinks: self.uplinks,
            rounds: usize::from(self.rounds.unwrap_or(usual)),
            quick: self.quick,
            binary: self.failover.clone(),
        }
    }
}

impl ProtocolArgument {
    const fn protocol(self) -> Protocol {
        match self {
            Self::Udp => Protocol::Udp,
            Self::Tcp => Protocol::Tcp,
        }
    }
}
