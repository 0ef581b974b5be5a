//! Classic mode: the own nftables table picks.

use std::convert::Infallible;

use crate::dataplane::Steering;
use crate::family::Family;
use crate::uplink::UplinkId;
use crate::wanted::PickedBy;
use crate::wanted::dataplane::DataPlane;

/// The own nftables table picks, so that replacing it publishes the pools; a flow is known by its
/// connection tracking entry alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Classic;

impl Steering for Classic {
    type Error = Infallible;

    fn picked_by(&self) -> PickedBy {
        PickedBy::Nftables
    }

    async fn publish(&mut self, _wanted: &DataPlane) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn attach(&mut self, _wanted: &DataPlane) -> Vec<Self::Error> {
        Vec::new()
    }

    async fn forget(&mut self, _id: UplinkId, _family: Family) -> Result<(), Self::Error> {
        Ok(())
    }

    fn suspect(&mut self) {}

    async fn remove(&mut self) -> Vec<Self::Error> {
        Vec::new()
    }
}
