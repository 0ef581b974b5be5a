//! A lab: a gateway with its uplinks, the clients behind it and the internet, ready for traffic.

mod builder;
mod downlink;
mod fault;
mod latency;
mod peer;
mod uplink;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::addressing;
use crate::error::LabError;
use crate::internet::Internet;
use crate::isolation::Directory;
use crate::node::Node;
use crate::traffic::Host;

pub(crate) use builder::internet_addresses;
pub use builder::{LabBuilder, RpFilter};
pub use downlink::Downlink;
pub use fault::Percent;
pub use uplink::{ACCESS, Uplink};

/// How many labs are played in at once where nobody says how many. Each has a dozen threads, which
/// wait most of the time: these keep most of two processors busy.
pub const LABS_AT_ONCE: usize = 5;

/// A lab. With it everything in it vanishes.
#[derive(Debug)]
pub struct Lab {
    gateway: Host,
    uplinks: Vec<Uplink>,
    clients: Vec<Host>,
    internet: Internet,
    downlinks: Vec<Downlink>,
    downlink_names: Vec<String>,
    // Last, so that it goes when nothing uses it any more.
    directory: Directory,
}

impl Lab {
    /// Says what the lab is to be made of.
    #[must_use]
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }

    /// The gateway, which is also a host that can make traffic of its own.
    #[must_use]
    pub const fn gateway(&self) -> &Host {
        &self.gateway
    }

    /// All uplinks, in the order of their numbers.
    #[must_use]
    pub fn uplinks(&self) -> &[Uplink] {
        &self.uplinks
    }

    /// Uplink `number`, counted from 1: the one with interface `wan`*number*.
    ///
    /// # Errors
    /// When the lab has no such uplink.
    pub fn uplink(&self, number: u8) -> Result<&Uplink, LabError> {
        nth(&self.uplinks, "uplink", number.into())
    }

    /// Client `number`, counted from 1 through all downlinks.
    ///
    /// # Errors
    /// When the lab has no such client.
    pub fn client(&self, number: usize) -> Result<&Host, LabError> {
        nth(&self.clients, "client", number)
    }

    /// All clients.
    #[must_use]
    pub fn clients(&self) -> &[Host] {
        &self.clients
    }

    /// The internet with its servers and probe targets.
    #[must_use]
    pub const fn internet(&self) -> &Internet {
        &self.internet
    }

    /// The names of the gateway's interfaces towards the clients: `lan0`, `lan1` …
    #[must_use]
    pub fn downlinks(&self) -> &[String] {
        &self.downlink_names
    }

    /// Downlink `number`, counted from 0: the one with interface `lan`*number*.
    ///
    /// # Errors
    /// When the lab has no such downlink.
    pub fn downlink(&self, number: u8) -> Result<&Downlink, LabError> {
        nth(&self.downlinks, "downlink", usize::from(number) + 1)
    }

    /// Every node of the lab.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(self.gateway.node())
            .chain(self.uplinks.iter().map(Uplink::provider))
            .chain(self.clients.iter().map(Host::node))
            .chain(self.downlinks.iter().filter_map(Downlink::switch))
            .chain(self.switch_of_uplinks())
            .chain(std::iter::once(self.internet.node()))
    }

    /// The switch behind an interface that all uplinks share and behind which no client is.
    fn switch_of_uplinks(&self) -> Option<&Node> {
        let first = self.uplinks.first()?;
        let is_downlink = self
            .downlink_names
            .iter()
            .any(|name| name == first.interface());
        first.switch().filter(|_| !is_downlink)
    }

    /// The number of the uplink from whose network an address is.
    #[must_use]
    pub fn uplink_of(&self, address: IpAddr) -> Option<u8> {
        addressing::uplink_of(address).filter(|number| usize::from(*number) <= self.uplinks.len())
    }

    /// A folder in memory for the files of this lab.
    #[must_use]
    pub fn files(&self) -> &Path {
        &self.directory.files
    }

    /// A folder of this lab on a BPF file system.
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        self.directory.bpffs.clone()
    }

    /// The folder below which daemons of this lab pin maps and links, unless a test has their
    /// configuration name another one.
    #[must_use]
    pub fn pin_folder(&self) -> PathBuf {
        self.directory.bpffs.join("failover")
    }
}

/// An element by its number, counted from 1.
fn nth<'a, T>(all: &'a [T], what: &'static str, number: usize) -> Result<&'a T, LabError> {
    number
        .checked_sub(1)
        .and_then(|index| all.get(index))
        .ok_or(LabError::NoSuch {
            what,
            number,
            count: all.len(),
        })
}
