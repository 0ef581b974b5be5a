//! An uplink: the link between the gateway and a provider, with its addresses and routes.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use failover::family::{Family, PerFamily};
use netlink_packet_route::route::RouteProtocol;

use crate::addressing::{InterfaceAddress, Network, SECOND_HOST};
use crate::capture::Capture;
use crate::error::LabError;
use crate::node::Node;
use crate::node::links::{End, Route, join};

/// The provider's interface towards the gateway.
pub(super) const ACCESS: &str = "access";

/// How much the metric of a default route rises from one uplink to the next.
const METRIC_STEP: u32 = 100;

/// An uplink of the gateway with the provider at its other end.
#[derive(Debug)]
pub struct Uplink {
    number: u8,
    interface: String,
    pub(super) gateway: Node,
    provider: Node,
    families: PerFamily<bool>,
    default_routes: bool,
    capture: Option<Capture>,
    /// The last number of the gateway's addresses.
    host: AtomicU16,
}

/// What an uplink is made of.
pub(super) struct Parts {
    pub(super) number: u8,
    pub(super) gateway: Node,
    pub(super) provider: Node,
    pub(super) families: PerFamily<bool>,
    pub(super) default_routes: bool,
    pub(super) capture: bool,
}

impl Uplink {
    /// Links the gateway with the provider.
    pub(super) async fn connect(parts: Parts) -> Result<Self, LabError> {
        let capture = if parts.capture {
            Some(Capture::start(parts.provider.clone()).await?)
        } else {
            None
        };
        let uplink = Self {
            interface: format!("wan{}", parts.number),
            number: parts.number,
            gateway: parts.gateway,
            provider: parts.provider,
            families: parts.families,
            default_routes: parts.default_routes,
            capture,
            host: AtomicU16::new(SECOND_HOST),
        };
        uplink.make_link().await?;
        Ok(uplink)
    }

    /// Its number, counted from 1.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// The gateway's interface: `wan1`, `wan2` …
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The node at the other end.
    #[must_use]
    pub const fn provider(&self) -> &Node {
        &self.provider
    }

    /// The address of the gateway on this uplink at the moment; `None` if it has none of the
    /// family.
    #[must_use]
    pub fn gateway_address(&self, family: Family) -> Option<IpAddr> {
        self.has(family).then(|| self.gateway_end(family).address)
    }

    /// The provider's address, which is the gateway's next hop; `None` if there is none of the
    /// family.
    #[must_use]
    pub fn next_hop(&self, family: Family) -> Option<IpAddr> {
        self.has(family)
            .then(|| Network::access(self.number).first(family).address)
    }

    /// Whether the uplink has addresses of a family.
    #[must_use]
    pub const fn has(&self, family: Family) -> bool {
        *self.families.get(family)
    }

    /// What the provider saw of packets from the gateway.
    ///
    /// # Errors
    /// When the lab was built without captures.
    pub fn capture(&self) -> Result<&Capture, LabError> {
        self.capture.as_ref().ok_or_else(|| LabError::NoCapture {
            node: self.provider.name().to_owned(),
        })
    }

    fn gateway_end(&self, family: Family) -> InterfaceAddress {
        let host = self.host.load(Ordering::Relaxed);
        Network::access(self.number).host(family, host)
    }

    fn families(&self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(|family| self.has(*family))
    }

    /// Makes the link with everything on it.
    pub(super) async fn make_link(&self) -> Result<(), LabError> {
        join(
            End {
                node: &self.gateway,
                interface: &self.interface,
            },
            End {
                node: &self.provider,
                interface: ACCESS,
            },
        )
        .await?;
        if let Some(capture) = &self.capture {
            capture.listen_on(ACCESS).await?;
        }
        for family in self.families() {
            let theirs = Network::access(self.number).first(family);
            self.provider.add_address(ACCESS, theirs).await?;
        }
        self.configure_gateway().await
    }

    /// Gives the gateway's end its addresses and routes, as a DHCP client does; what is there
    /// already stays.
    pub(crate) async fn configure_gateway(&self) -> Result<(), LabError> {
        for family in self.families() {
            self.gateway
                .add_address(&self.interface, self.gateway_end(family))
                .await?;
        }
        if !self.default_routes {
            return Ok(());
        }
        for family in self.families() {
            let next_hop = Network::access(self.number).first(family).address;
            let metric = METRIC_STEP * u32::from(self.number);
            let route = Route::default_via(next_hop, metric, RouteProtocol::Dhcp);
            self.gateway.add_route(&self.interface, route).await?;
        }
        Ok(())
    }

    /// Replaces the gateway's addresses by the next ones of the same networks.
    pub(super) async fn renumber_gateway(&self) -> Result<(), LabError> {
        self.renumber_to(self.host.load(Ordering::Relaxed).saturating_add(1))
            .await
    }

    /// Gives the gateway the addresses that it had at first.
    pub(super) async fn renumber_back(&self) -> Result<(), LabError> {
        self.renumber_to(SECOND_HOST).await
    }

    async fn renumber_to(&self, host: u16) -> Result<(), LabError> {
        for family in self.families() {
            let old = self.gateway_end(family);
            self.gateway.remove_address(&self.interface, old).await?;
        }
        self.host.store(host, Ordering::Relaxed);
        self.configure_gateway().await
    }
}
