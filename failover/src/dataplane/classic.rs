//! Classic mode: the own nftables table picks.

use crate::dataplane::Steering;
use crate::dataplane::ebpf::EbpfError;
use crate::dataplane::ebpf::leftovers::Leftovers;
use crate::family::Family;
use crate::flows::TrackedFlow;
use crate::uplink::UplinkId;
use crate::wanted::PickedBy;
use crate::wanted::dataplane::DataPlane;

/// The own nftables table picks, so that replacing it publishes the pools; a flow is known by its
/// connection tracking entry alone.
#[derive(Clone, Debug, Default)]
pub struct Classic {
    /// What eBPF mode may have left.
    leftovers: Option<Leftovers>,
    cleared: bool,
}

impl Classic {
    /// After a daemon that may have been in eBPF mode.
    #[must_use]
    pub const fn after(leftovers: Leftovers) -> Self {
        Self {
            leftovers: Some(leftovers),
            cleared: false,
        }
    }
}

impl Steering for Classic {
    type Error = EbpfError;

    fn picked_by(&self) -> PickedBy {
        PickedBy::Nftables
    }

    async fn publish(&mut self, _wanted: &DataPlane) -> Result<(), EbpfError> {
        Ok(())
    }

    /// Takes programs off that an earlier daemon left: they would go on picking.
    async fn attach(&mut self, _wanted: &DataPlane) -> Vec<EbpfError> {
        if self.cleared {
            return Vec::new();
        }
        let errors = match &self.leftovers {
            Some(leftovers) => leftovers.take_off().await,
            None => Vec::new(),
        };
        self.cleared = errors.is_empty();
        errors
    }

    async fn forget(&mut self, _id: UplinkId, _family: Family) -> Result<(), EbpfError> {
        Ok(())
    }

    async fn release(
        &mut self,
        _id: UplinkId,
        _family: Family,
        _flows: &[TrackedFlow],
    ) -> Result<(), EbpfError> {
        Ok(())
    }

    async fn heed(&mut self, _id: UplinkId, _family: Family) -> Result<(), EbpfError> {
        Ok(())
    }

    fn suspect(&mut self) {}

    async fn remove(&mut self) -> Vec<EbpfError> {
        match &self.leftovers {
            Some(leftovers) => leftovers.remove().await,
            None => Vec::new(),
        }
    }
}
