//! The trait behind which the ways of picking hide.

use std::future::Future;

use crate::family::Family;
use crate::flows::TrackedFlow;
use crate::uplink::UplinkId;
use crate::wanted::PickedBy;
use crate::wanted::dataplane::DataPlane;

/// Who picks the uplink of a new flow. The controller does not know which one it drives.
pub trait Steering: Send {
    /// Why an operation failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// What the own nftables table must leave to it.
    fn picked_by(&self) -> PickedBy;

    /// Makes new flows follow the wanted state. Called with the same state again, it repairs what
    /// somebody changed, if that may have happened since ([`Self::suspect`]).
    fn publish(
        &mut self,
        wanted: &DataPlane,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Hangs programs on the interfaces that are to have them, and on no other. What fails keeps
    /// the rest from nothing: flows of an interface without program are steered by the base layer.
    fn attach(&mut self, wanted: &DataPlane) -> impl Future<Output = Vec<Self::Error>> + Send;

    /// Makes known flows of an uplink be picked anew with their next packet. To be called after the
    /// new state is published and before connection tracking forgets them.
    fn forget(
        &mut self,
        id: UplinkId,
        family: Family,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes some known flows of an uplink that works be picked anew with their next packet. From now
    /// on packets that still come back by the uplink do not say any more that their flows are on it,
    /// until [`Self::heed`]: connection tracking, which knows no better yet, sends each there.
    fn release(
        &mut self,
        id: UplinkId,
        family: Family,
        flows: &[TrackedFlow],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Connection tracking has forgotten the flows that were released: what comes back by the uplink
    /// counts again.
    fn heed(
        &mut self,
        id: UplinkId,
        family: Family,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Somebody may have changed what is ours.
    fn suspect(&mut self);

    /// Takes everything out of the kernel, whichever version put it there. Goes on when something
    /// fails.
    fn remove(&mut self) -> impl Future<Output = Vec<Self::Error>> + Send;
}
