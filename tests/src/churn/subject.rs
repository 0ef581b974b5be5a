//! The interfaces that change, and how.

use std::fmt;
use std::time::Instant;

use failover::family::Family;

use crate::error::LabError;
use crate::lab::{Downlink, Lab, Uplink};
use crate::node::{Node, ProgramSpec};

/// What becomes of an interface, and how it is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Deleted; made anew, with another index.
    Remade,
    /// Another name; the old one.
    Renamed,
    /// Set down; up.
    SetDown,
    /// Other addresses; the old ones. A downlink has none meanwhile.
    Readdressed,
    /// Put into a bridge; taken out.
    Bridged,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Remade,
        Self::Renamed,
        Self::SetDown,
        Self::Readdressed,
        Self::Bridged,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remade => "deleted and made anew",
            Self::Renamed => "renamed",
            Self::SetDown => "set down and up",
            Self::Readdressed => "given another address",
            Self::Bridged => "put into a bridge",
        })
    }
}

/// An interface of the gateway that changes.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'l> {
    gateway: &'l Node,
    pub(super) end: End<'l>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum End<'l> {
    Uplink(&'l Uplink),
    Downlink(&'l Downlink),
}

/// Where uplinks and downlinks are put; they must not meet there.
const BRIDGES: [&str; 2] = ["parkwan", "parklan"];

impl<'l> Subject<'l> {
    /// Makes what the changes need, once for each lab.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn prepare(lab: &Lab) -> Result<(), LabError> {
        for bridge in BRIDGES {
            lab.gateway().node().add_bridge(bridge).await?;
        }
        Ok(())
    }

    /// An uplink of the lab.
    ///
    /// # Errors
    /// When it has no such uplink.
    pub fn uplink(lab: &'l Lab, number: u8) -> Result<Self, LabError> {
        Ok(Self {
            gateway: lab.gateway().node(),
            end: End::Uplink(lab.uplink(number)?),
        })
    }

    /// A downlink of the lab.
    ///
    /// # Errors
    /// When it has no such downlink.
    pub fn downlink(lab: &'l Lab, number: u8) -> Result<Self, LabError> {
        Ok(Self {
            gateway: lab.gateway().node(),
            end: End::Downlink(lab.downlink(number)?),
        })
    }

    /// Its name.
    #[must_use]
    pub fn interface(&self) -> &str {
        match self.end {
            End::Uplink(uplink) => uplink.interface(),
            End::Downlink(downlink) => downlink.interface(),
        }
    }

    /// Its name at the moment, if it exists.
    pub(super) fn name_during(&self, kind: Kind, changed: bool) -> Option<String> {
        match (kind, changed) {
            (Kind::Remade, true) => None,
            (Kind::Renamed, true) => Some(self.other_name()),
            _ => Some(self.interface().to_owned()),
        }
    }

    fn other_name(&self) -> String {
        format!("was-{}", self.interface())
    }

    /// Changes it. Returns when that was done.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn begin(&self, kind: Kind) -> Result<Instant, LabError> {
        let interface = self.interface();
        match (kind, self.end) {
            (Kind::Remade, End::Uplink(uplink)) => return uplink.remove_interface().await,
            (Kind::Remade, End::Downlink(downlink)) => downlink.remove_interface().await?,
            (Kind::Renamed, _) => self.rename(interface, &self.other_name()).await?,
            (Kind::SetDown, _) => self.gateway.set_down(interface).await?,
            (Kind::Readdressed, End::Uplink(uplink)) => return uplink.change_address().await,
            (Kind::Readdressed, End::Downlink(downlink)) => downlink.remove_addresses().await?,
            (Kind::Bridged, _) => {
                let [uplinks, downlinks] = BRIDGES;
                let bridge = match self.end {
                    End::Uplink(_) => uplinks,
                    End::Downlink(_) => downlinks,
                };
                self.gateway.put_into_bridge(interface, bridge).await?;
            }
        }
        Ok(Instant::now())
    }

    /// Undoes it, and puts back what a DHCP client or a network manager would. Returns when that was
    /// done.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn end(&self, kind: Kind) -> Result<Instant, LabError> {
        let interface = self.interface();
        match (kind, self.end) {
            (Kind::Remade, End::Uplink(uplink)) => return uplink.remake_interface().await,
            (Kind::Remade, End::Downlink(downlink)) => downlink.remake_interface().await?,
            (Kind::Renamed, _) => self.rename(&self.other_name(), interface).await?,
            (Kind::SetDown, _) => self.gateway.set_up(interface).await?,
            (Kind::Readdressed, End::Uplink(uplink)) => return uplink.restore_address().await,
            (Kind::Readdressed, End::Downlink(_)) => {}
            (Kind::Bridged, _) => self.gateway.take_out_of_bridge(interface).await?,
        }
        match self.end {
            End::Uplink(uplink) => uplink.configure_gateway().await?,
            End::Downlink(downlink) => downlink.configure_gateway().await?,
        }
        Ok(Instant::now())
    }

    /// Before Linux 6.2 only an interface that is down gets another name.
    async fn rename(&self, from: &str, to: &str) -> Result<(), LabError> {
        let rename = ProgramSpec::line(&format!("ip link set dev {from} name {to}"));
        if self.gateway.output(rename.clone()).await?.status.success() {
            return Ok(());
        }
        self.gateway.set_down(from).await?;
        self.gateway.must(rename).await?;
        self.gateway.set_up(to).await
    }

    /// The address of an uplink now.
    pub(super) fn address(&self, family: Family) -> Option<String> {
        match self.end {
            End::Uplink(uplink) => uplink.gateway_address(family).map(|own| own.to_string()),
            End::Downlink(_) => None,
        }
    }
}
