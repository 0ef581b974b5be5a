//! Which way of picking a daemon uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use failover_common::flow::Offering;
use tracing::{info, warn};

use crate::causes::in_one_line;
use crate::config::{Config, ModeSetting};
use crate::dataplane::ebpf::leftovers::Leftovers;
use crate::dataplane::ebpf::load::Settings;
use crate::dataplane::ebpf::pins::Pins;
use crate::dataplane::ebpf::{Ebpf, EbpfError, log};
use crate::dataplane::{Classic, Steering, TrafficSource};
use crate::family::Family;
use crate::fastpath::standing::FastPath;
use crate::flows::TrackedFlow;
use crate::interface::InterfaceIndex;
use crate::journal::{Event, Journal};
use crate::state::Store;
use crate::uplink::UplinkId;
use crate::wanted::PickedBy;
use crate::wanted::dataplane::{Attachment, DataPlane};

/// A variable of the environment: if it is there, flows are offered for the fast path with their first
/// packets. It is there for tests, whose flows are short.
const OFFER_EARLY: &str = "FAILOVER_OFFER_EARLY";

/// The one that was chosen when the daemon started.
#[derive(Debug)]
pub enum Chosen {
    /// TC programs.
    Ebpf(Box<Ebpf>),
    /// The own nftables table.
    Classic(Classic),
}

/// Chooses as configured; by itself eBPF where it works, and otherwise says and notes why not.
///
/// # Errors
/// When eBPF is asked for and does not work.
pub async fn choose(
    config: &Config,
    store: &Store,
    interfaces: &BTreeMap<InterfaceIndex, Attachment>,
    journal: &Journal,
) -> Result<Chosen, EbpfError> {
    let pins = Pins::new(&config.bpffs);
    let classic = || Chosen::Classic(Classic::after(Leftovers::new(&pins, store)));
    if config.mode == ModeSetting::Classic {
        info!("mode classic, as configured");
        return Ok(classic());
    }
    let settings = Settings {
        marks: config.marks,
        flow_capacity: config.flow_capacity,
        log_flows: log::is_wanted(),
        offering: offering(),
    };
    match Ebpf::start(settings, &pins, store, interfaces).await {
        Ok(started) => {
            info!("mode ebpf");
            Ok(Chosen::Ebpf(Box::new(started.noting(journal.clone()))))
        }
        Err(reason) if config.mode == ModeSetting::Ebpf => Err(reason),
        Err(reason) => {
            let reason = in_one_line(&reason);
            warn!("mode classic, since eBPF does not work here: {reason}");
            journal.note(Event::Fallback { reason });
            Ok(classic())
        }
    }
}

/// When flows are offered for the fast path.
fn offering() -> Offering {
    match std::env::var_os(OFFER_EARLY) {
        Some(_) => Offering::EARLY,
        None => Offering::USUAL,
    }
}

impl Chosen {
    /// Who tells of users' traffic; to be asked for once.
    pub fn traffic(&mut self) -> TrafficSource {
        match self {
            Self::Ebpf(ebpf) => ebpf.traffic(),
            Self::Classic(_) => TrafficSource::none(),
        }
    }

    /// The fast path, where there may be one.
    #[must_use]
    pub fn fast_path(&self) -> Option<Arc<dyn FastPath>> {
        match self {
            Self::Ebpf(ebpf) => Some(ebpf.fast_path()),
            Self::Classic(_) => None,
        }
    }
}

impl Steering for Chosen {
    type Error = EbpfError;

    fn picked_by(&self) -> PickedBy {
        match self {
            Self::Ebpf(ebpf) => ebpf.picked_by(),
            Self::Classic(classic) => classic.picked_by(),
        }
    }

    async fn publish(&mut self, wanted: &DataPlane) -> Result<(), EbpfError> {
        match self {
            Self::Ebpf(ebpf) => ebpf.publish(wanted).await,
            Self::Classic(classic) => classic.publish(wanted).await,
        }
    }

    async fn attach(&mut self, wanted: &DataPlane) -> Vec<EbpfError> {
        match self {
            Self::Ebpf(ebpf) => ebpf.attach(wanted).await,
            Self::Classic(classic) => classic.attach(wanted).await,
        }
    }

    async fn forget(&mut self, id: UplinkId, family: Family) -> Result<(), EbpfError> {
        match self {
            Self::Ebpf(ebpf) => ebpf.forget(id, family).await,
            Self::Classic(classic) => classic.forget(id, family).await,
        }
    }

    async fn release(
        &mut self,
        id: UplinkId,
        family: Family,
        flows: &[TrackedFlow],
    ) -> Result<(), EbpfError> {
        match self {
            Self::Ebpf(ebpf) => ebpf.release(id, family, flows).await,
            Self::Classic(classic) => classic.release(id, family, flows).await,
        }
    }

    async fn heed(&mut self, id: UplinkId, family: Family) -> Result<(), EbpfError> {
        match self {
            Self::Ebpf(ebpf) => ebpf.heed(id, family).await,
            Self::Classic(classic) => classic.heed(id, family).await,
        }
    }

    fn suspect(&mut self) {
        match self {
            Self::Ebpf(ebpf) => ebpf.suspect(),
            Self::Classic(classic) => classic.suspect(),
        }
    }

    async fn remove(&mut self) -> Vec<EbpfError> {
        match self {
            Self::Ebpf(ebpf) => ebpf.remove().await,
            Self::Classic(classic) => classic.remove().await,
        }
    }
}
