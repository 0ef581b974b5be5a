//! `failover clean`.

use crate::cli::Outcome;
use crate::cli::args::ConfigArgs;
use crate::cli::exit::Failure;
use crate::config::{self, Config};
use crate::controller::apply::Applier;
use crate::controller::start::{StartError, open_kernel};
use crate::dataplane::Classic;
use crate::dataplane::ebpf::leftovers::Leftovers;
use crate::dataplane::ebpf::pins::Pins;
use crate::kernel::capabilities;
use crate::state::{StateLock, Store};

pub(super) fn clean(args: &ConfigArgs) -> Outcome {
    let config = config::load(&args.config).map_err(Failure::no)?;
    capabilities::require(&capabilities::DAEMON).map_err(Failure::not_permitted)?;
    super::runtime()?
        .block_on(remove_all(config))
        .map_err(Failure::no)
}

async fn remove_all(config: Config) -> Result<(), StartError> {
    let _lock = StateLock::take(&config.state_dir)?;
    let store = Store::new(&config.state_dir);
    let steering = Classic::after(Leftovers::new(&Pins::new(&config.bpffs), &store));
    let mut applier = Applier::new(open_kernel()?, steering, store, config.marks)?;
    applier.remove_all().await.map_err(StartError::Clean)
}
