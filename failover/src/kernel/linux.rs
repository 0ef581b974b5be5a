//! The whole edge, on the real kernel.

use std::net::IpAddr;

use crate::family::Family;
use crate::flows::{Leaving, TrackedFlow};
use crate::kernel::conntrack::{ConntrackError, Ctnetlink};
use crate::kernel::former_address::FormerAddress;
use crate::kernel::nftables::{Nft, NftError};
use crate::kernel::routing::{NetlinkRouting, RoutingError};
use crate::kernel::sysctl::{ProcSys, SysctlError};
use crate::kernel::{Conntrack, Firewall, Forgotten, RoutingTables, Sysctls};
use crate::mark::{Mark, MarkMask};
use crate::wanted::routing::{Routing, RoutingChange};

/// The kernel of this network namespace.
#[derive(Debug)]
pub struct LinuxKernel {
    /// Routes and rules.
    pub routing: NetlinkRouting,
    /// The own nftables table.
    pub nft: Nft,
    /// Connection tracking.
    pub conntrack: Ctnetlink,
    /// Settings.
    pub settings: ProcSys,
}

impl RoutingTables for LinuxKernel {
    type Error = RoutingError;

    async fn installed(&mut self) -> Result<Routing, RoutingError> {
        self.routing.installed().await
    }

    async fn change(&mut self, change: &RoutingChange) -> Result<(), RoutingError> {
        self.routing.change(change).await
    }
}

impl Firewall for LinuxKernel {
    type Error = NftError;

    async fn replace(&mut self, ruleset: &str) -> Result<(), NftError> {
        self.nft.replace(ruleset).await
    }

    async fn intact(&mut self) -> Result<bool, NftError> {
        self.nft.intact().await
    }

    async fn remove(&mut self) -> Result<(), NftError> {
        self.nft.remove().await
    }
}

impl Conntrack for LinuxKernel {
    type Error = ConntrackError;

    async fn forget_uplink(
        &mut self,
        family: Family,
        mark: Mark,
        mask: MarkMask,
    ) -> Result<Vec<TrackedFlow>, ConntrackError> {
        self.conntrack.forget_uplink(family, mark, mask).await
    }

    async fn leaving(&mut self, leaving: &Leaving) -> Result<Vec<TrackedFlow>, ConntrackError> {
        self.conntrack.leaving(leaving).await
    }

    async fn forget_leaving(&mut self, leaving: &Leaving) -> Result<Forgotten, ConntrackError> {
        self.conntrack.forget_leaving(leaving).await
    }

    async fn forget_former(&mut self, former: FormerAddress) -> Result<Forgotten, ConntrackError> {
        self.conntrack.forget_former(former).await
    }

    async fn forget_unmarked(
        &mut self,
        address: IpAddr,
        mask: MarkMask,
    ) -> Result<Forgotten, ConntrackError> {
        self.conntrack.forget_unmarked(address, mask).await
    }

    async fn clear_marks(&mut self, mask: MarkMask) -> Result<usize, ConntrackError> {
        self.conntrack.clear_marks(mask).await
    }
}

impl Sysctls for LinuxKernel {
    type Error = SysctlError;

    fn read(&self, key: &str) -> Result<Option<String>, SysctlError> {
        self.settings.read(key)
    }

    fn write(&mut self, key: &str, value: &str) -> Result<(), SysctlError> {
        self.settings.write(key, value)
    }
}
