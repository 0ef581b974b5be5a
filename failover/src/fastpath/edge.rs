//! What the fast path asks of the kernel, behind a trait.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use super::facts::{Connection, Kept, Neighbour, News, PassingPacket, Port, Upkeep, Way};
use super::judging::Lifetimes;
use crate::interface::InterfaceIndex;

/// The kernel, apart from the maps. Every call blocks for as long as the kernel takes, which is some
/// microseconds for each thing that is asked; none waits for anything else.
pub trait Surroundings: Send {
    /// Why an operation failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The entries of these flows, each asked for as its packets from users look; in the same order.
    /// `None` where there is none. In one batch.
    fn connections(
        &mut self,
        packets: &[PassingPacket],
    ) -> Result<Vec<Option<Connection>>, Self::Error>;

    /// Has entries live so long, and pass any window. In one batch, in the same order. No entry is made
    /// anew.
    fn keep(&mut self, upkeep: &[Upkeep]) -> Result<Vec<Kept>, Self::Error>;

    /// Where the kernel would send these packets, by all rules and tables; in the same order. `None`:
    /// nowhere, to this host itself, or to more than one host. In one batch.
    fn ways(&mut self, packets: &[PassingPacket]) -> Result<Vec<Option<Way>>, Self::Error>;

    /// All neighbours with a hardware address.
    fn neighbours(&mut self) -> Result<BTreeMap<(InterfaceIndex, IpAddr), Neighbour>, Self::Error>;

    /// Has the kernel treat neighbours as if it had sent packets to them (`NTF_USE`): a stale one is
    /// asked.
    fn use_neighbours(
        &mut self,
        neighbours: &[(InterfaceIndex, IpAddr)],
    ) -> Result<(), Self::Error>;

    /// All interfaces.
    fn ports(&mut self) -> Result<BTreeMap<InterfaceIndex, Port>, Self::Error>;

    /// Why packets that come in by an interface must pass the stack: programs or filters of others stand
    /// on the way that they would not see any more. `None`: nothing is in the way. `own` are the ids of
    /// our own programs.
    fn obstacle(
        &mut self,
        interface: InterfaceIndex,
        own: &[u32],
    ) -> Result<Option<String>, Self::Error>;

    /// Whether there are IPsec policies, by which packets may have to be encrypted.
    fn has_ipsec_policies(&mut self) -> Result<bool, Self::Error>;

    /// Since when the kernel makes entries whose end it tells, in nanoseconds of `CLOCK_MONOTONIC`; 0 if
    /// it always did, `None` if it does not.
    fn tells_since_ns(&mut self) -> Option<u64>;

    /// How long connection tracking remembers silent flows.
    fn lifetimes(&self) -> Lifetimes;

    /// Begins to be told of entries that end; to be called before the first flow is offloaded. While
    /// nobody listens the kernel need not tell.
    fn listen(&mut self) -> Result<(), Self::Error>;

    /// Ends that.
    fn stop_listening(&mut self);

    /// What has news when it is readable. The list changes with `listen` and `stop_listening`.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// What happened since, without waiting. At most some thousands at once; there may be more.
    fn news(&mut self) -> Vec<News>;
}
