//! `failover generate`.

use std::io::Write as _;

use clap::Args;

use crate::cli::Outcome;
use crate::cli::args::ConfigArgs;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::config;
use crate::family::Family;
use crate::generate::{self, Firewall};
use crate::kernel::network::NetworkObserver;

/// For which firewall.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// What the rules are for.
    #[arg(value_name = "FIREWALL")]
    pub firewall: Firewall,

    /// Those of ip6tables; nftables has both families in one file.
    #[arg(long)]
    pub ipv6: bool,

    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

pub(super) fn generate(args: &GenerateArgs) -> Outcome {
    let config = config::load(&args.config.config).map_err(Failure::no)?;
    // For the prefixes of uplinks that the configuration leaves to their interfaces.
    let view = super::runtime()?
        .block_on(async { NetworkObserver::open()?.view().await })
        .map_err(Failure::no)?;
    let family = if args.ipv6 {
        Family::Ipv6
    } else {
        Family::Ipv4
    };
    let rules = generate::rules(&config, &view, args.firewall, family).map_err(Failure::no)?;
    output::print(|out| out.write_all(rules.as_bytes()))
}
