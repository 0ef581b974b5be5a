//! `failover generate`.

use std::io::Write as _;

use crate::cli::Outcome;
use crate::cli::args::GenerateArgs;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::config;
use crate::family::Family;
use crate::generate;
use crate::kernel::network::NetworkObserver;

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
