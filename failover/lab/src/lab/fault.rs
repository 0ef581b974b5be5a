//! The faults that can befall an uplink, and their end.

use std::fmt;
use std::time::Instant;

use super::uplink::{ACCESS, Uplink};
use crate::error::LabError;
use crate::node::Node;

/// The lab's own nftables table in a provider's namespace.
const TABLE: &str = "inet lab_fault";

/// A part of a hundred, 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

impl Percent {
    /// `None` unless `value` is from 1 to 100.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        match value {
            1..=100 => Some(Self(value)),
            _ => None,
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

/// Every fault returns the instant at which it was in place.
impl Uplink {
    /// The provider swallows every packet, in both directions. Nothing tells the gateway: the
    /// carrier stays and neighbours answer.
    ///
    /// # Errors
    /// When `nft` is missing or refuses the rules.
    pub async fn black_hole(&self) -> Result<Instant, LabError> {
        self.drop_at_provider("drop").await
    }

    /// The provider swallows a part of the packets of each direction, at random.
    ///
    /// # Errors
    /// When `nft` is missing or refuses the rules.
    pub async fn loss(&self, part: Percent) -> Result<Instant, LabError> {
        self.drop_at_provider(&format!("numgen random mod 100 < {} drop", part.0))
            .await
    }

    /// The gateway's interface loses its carrier and keeps everything else. Behind an interface that
    /// several uplinks share it keeps its carrier, too: there the provider just answers no more, not
    /// even as a neighbour.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn carrier_loss(&self) -> Result<Instant, LabError> {
        self.provider().set_down(ACCESS).await?;
        Ok(Instant::now())
    }

    /// The gateway's interface vanishes, as when a modem is pulled out.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn remove_interface(&self) -> Result<Instant, LabError> {
        self.gateway.delete_interface(self.interface()).await?;
        Ok(Instant::now())
    }

    /// The interface comes back under its name, with another index, and with the addresses and
    /// routes that a DHCP client would give it.
    ///
    /// # Errors
    /// When it is there.
    pub async fn remake_interface(&self) -> Result<Instant, LabError> {
        self.make_link().await?;
        Ok(Instant::now())
    }

    /// The gateway gets other addresses on this uplink, in the same networks, as by a new DHCP
    /// lease; the default routes are made anew.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn change_address(&self) -> Result<Instant, LabError> {
        self.renumber_gateway().await?;
        Ok(Instant::now())
    }

    /// The gateway gets its first addresses on this uplink again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn restore_address(&self) -> Result<Instant, LabError> {
        self.renumber_back().await?;
        Ok(Instant::now())
    }

    /// Ends black hole, loss and loss of carrier. An address that was changed stays changed, and
    /// an interface that was removed stays away.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn heal(&self) -> Result<Instant, LabError> {
        // Adding it first makes the deletion succeed in any case.
        self.provider()
            .nft(format!("add table {TABLE}\ndelete table {TABLE}\n"))
            .await?;
        if self.is_connected(self.provider()).await? {
            self.provider().set_up(ACCESS).await?;
            self.configure_provider().await?;
            self.configure_gateway().await?;
        }
        Ok(Instant::now())
    }

    async fn is_connected(&self, provider: &Node) -> Result<bool, LabError> {
        let path = format!("/proc/sys/net/ipv4/conf/{ACCESS}");
        provider
            .run(move || async move { std::path::Path::new(&path).exists() })
            .await
    }

    /// Drops packets before routing, whatever they are addressed to. Neighbour discovery is let
    /// through, as ARP is, which such rules never see.
    async fn drop_at_provider(&self, rule: &str) -> Result<Instant, LabError> {
        let ruleset = format!(
            "add table {TABLE}
            delete table {TABLE}
            table {TABLE} {{
                chain everything {{
                    type filter hook prerouting priority raw; policy accept;
                    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
                    {rule}
                }}
            }}"
        );
        self.provider().nft(ruleset).await?;
        Ok(Instant::now())
    }
}
