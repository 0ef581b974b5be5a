//! The edge to the kernel: one small trait per thing that is changed, so that the controller can be
//! tested with fakes that record.

pub mod capabilities;
pub mod conntrack;
pub mod filters;
pub mod foreign;
pub mod former_address;
pub mod linux;
pub mod neighbours;
mod netlink;
pub mod network;
pub mod next_hop;
pub mod nftables;
mod questions;
pub mod recording;
mod remembered;
mod replacement;
pub mod routing;
mod rtnetlink;
pub mod surroundings;
pub mod sysctl;
pub mod watch;

pub use rtnetlink::RtnetlinkError;

use std::future::Future;
use std::net::IpAddr;

use crate::family::Family;
use crate::flows::{Leaving, TrackedFlow};
use crate::kernel::former_address::FormerAddress;
use crate::mark::{Mark, MarkMask};
use crate::wanted::routing::{Routing, RoutingChange};

/// Routes and rules of ours.
pub trait RoutingTables {
    /// Why an operation failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Everything with our protocol number, in all tables. What carries our number but has no form
    /// that we would write (or stands there twice) is removed on the way and logged.
    fn installed(&mut self) -> impl Future<Output = Result<Routing, Self::Error>> + Send;

    /// Makes one change. A rule or route that is to go and is not there, or is to come and is
    /// there, is no error.
    fn change(
        &mut self,
        change: &RoutingChange,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// The own nftables table.
pub trait Firewall {
    /// Why an operation failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Replaces the table in one transaction. Sets that packets fill keep what is in them.
    fn replace(&mut self, ruleset: &str) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Whether the table is as it was last replaced: nobody flushed it, nobody changed it.
    fn intact(&mut self) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Removes the table; that it is not there is no error.
    fn remove(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Entries of connection tracking that were deleted one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many.
    pub count: usize,
    /// The TCP connections among them.
    pub connections: Vec<TrackedFlow>,
}

/// Connection tracking entries.
pub trait Conntrack {
    /// Why an operation failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Deletes all entries of a family whose mark is `mark` under `mask`, by one message. Returns
    /// the TCP connections among them.
    fn forget_uplink(
        &mut self,
        family: Family,
        mark: Mark,
        mask: MarkMask,
    ) -> impl Future<Output = Result<Vec<TrackedFlow>, Self::Error>> + Send;

    /// Lists the flows of an uplink that can leave it.
    fn leaving(
        &mut self,
        leaving: &Leaving,
    ) -> impl Future<Output = Result<Vec<TrackedFlow>, Self::Error>> + Send;

    /// Deletes the entries of the flows of an uplink that can leave it, those that came since they
    /// were listed too.
    fn forget_leaving(
        &mut self,
        leaving: &Leaving,
    ) -> impl Future<Output = Result<Forgotten, Self::Error>> + Send;

    /// Deletes the entries of an address that an uplink had.
    fn forget_former(
        &mut self,
        former: FormerAddress,
    ) -> impl Future<Output = Result<Forgotten, Self::Error>> + Send;

    /// Deletes the entries without any bit of `mask` whose replies go to `address`.
    fn forget_unmarked(
        &mut self,
        address: IpAddr,
        mask: MarkMask,
    ) -> impl Future<Output = Result<Forgotten, Self::Error>> + Send;

    /// Clears our bits in all entries, leaving the others. Returns how many had any.
    fn clear_marks(
        &mut self,
        mask: MarkMask,
    ) -> impl Future<Output = Result<usize, Self::Error>> + Send;
}

/// Kernel settings under `/proc/sys`. A key is a path there, such as
/// `net/ipv4/conf/wan1/rp_filter`: names of interfaces may contain dots.
pub trait Sysctls {
    /// Why an operation failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The value without its line end; `None` where the key does not exist.
    fn read(&self, key: &str) -> Result<Option<String>, Self::Error>;

    /// Sets the value; a key that does not exist is an error.
    fn write(&mut self, key: &str, value: &str) -> Result<(), Self::Error>;
}
