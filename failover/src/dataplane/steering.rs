//! The trait behind which the ways of picking hide.

use std::convert::Infallible;
use std::future::Future;

use crate::family::PerFamily;
use crate::select::Pool;
use crate::wanted::PickedBy;

/// Who picks the uplink of a new flow. The controller does not know which one it drives.
pub trait Steering: Send {
    /// Why publishing failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// What the own nftables table must leave to it.
    fn picked_by(&self) -> PickedBy;

    /// Makes new flows follow these pools.
    fn publish(
        &mut self,
        pools: &PerFamily<Pool>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Classic mode: the own nftables table picks, so that replacing it publishes the pools.
#[derive(Clone, Copy, Debug, Default)]
pub struct Classic;

impl Steering for Classic {
    type Error = Infallible;

    fn picked_by(&self) -> PickedBy {
        PickedBy::Nftables
    }

    async fn publish(&mut self, _pools: &PerFamily<Pool>) -> Result<(), Self::Error> {
        Ok(())
    }
}
