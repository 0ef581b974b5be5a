//! An uplink: the link between the gateway and a provider, with its addresses and routes.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use failover_common::family::{Family, PerFamily};
use netlink_packet_route::route::RouteProtocol;
use tokio::sync::OnceCell;

use super::latency::Holding;
use crate::addressing::{
    InterfaceAddress, Network, SECOND_HOST, link_local_provider, public_address,
};
use crate::capture::Capture;
use crate::error::LabError;
use crate::node::Node;
use crate::node::links::{End, Route, join, plug};

/// The provider's interface towards the gateway.
pub const ACCESS: &str = "access";

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
    /// The network between the gateway and the provider.
    network: Network,
    /// The switch between them, where others are in that network too.
    switch: Option<Node>,
    /// The last number of the gateway's addresses.
    host: AtomicU16,
    pub(super) internet: Node,
    /// What holds packets on their way to the internet, once there is something that does.
    pub(super) holding: OnceCell<Arc<Mutex<Holding>>>,
}

/// Where the gateway and several providers are together.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// The gateway's interface.
    pub(super) interface: String,
    /// The network behind it.
    pub(super) network: Network,
    /// What joins all that are in it.
    pub(super) switch: Node,
    /// The last number of the gateway's addresses.
    pub(super) host: u16,
}

/// What an uplink is made of.
pub(super) struct Parts {
    pub(super) number: u8,
    pub(super) gateway: Node,
    pub(super) provider: Node,
    pub(super) internet: Node,
    pub(super) families: PerFamily<bool>,
    pub(super) default_routes: bool,
    pub(super) capture: bool,
    /// Not on an interface of its own.
    pub(super) shared: Option<Shared>,
}

impl Uplink {
    /// Links the gateway with the provider.
    pub(super) async fn connect(parts: Parts) -> Result<Self, LabError> {
        let capture = if parts.capture {
            Some(Capture::start(parts.provider.clone()).await?)
        } else {
            None
        };
        let (interface, network, host, switch) = match parts.shared {
            Some(shared) => {
                translate(&parts.provider, parts.number, shared.network, shared.host).await?;
                let switch = Some(shared.switch);
                (shared.interface, shared.network, shared.host, switch)
            }
            None => {
                let network = Network::access(parts.number);
                (format!("wan{}", parts.number), network, SECOND_HOST, None)
            }
        };
        let uplink = Self {
            interface,
            network,
            switch,
            number: parts.number,
            gateway: parts.gateway,
            provider: parts.provider,
            families: parts.families,
            default_routes: parts.default_routes,
            capture,
            host: AtomicU16::new(host),
            internet: parts.internet,
            holding: OnceCell::new(),
        };
        uplink.make_link().await?;
        Ok(uplink)
    }

    /// Its number, counted from 1.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// The gateway's interface: `wan1`, `wan2` …; `wan0` where all providers share it, `lan0` where
    /// clients are behind it too.
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
        self.has(family).then(|| self.provider_end(family).address)
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

    /// The switch between the gateway and the provider, where they share a network with others.
    pub(super) const fn switch(&self) -> Option<&Node> {
        self.switch.as_ref()
    }

    fn gateway_end(&self, family: Family) -> InterfaceAddress {
        let host = self.host.load(Ordering::Relaxed);
        self.network.host(family, host)
    }

    fn provider_end(&self, family: Family) -> InterfaceAddress {
        if self.switch.is_some() {
            self.network.provider(family, self.number)
        } else {
            self.network.first(family)
        }
    }

    fn families(&self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(|family| self.has(*family))
    }

    /// Makes the link with everything on it.
    pub(super) async fn make_link(&self) -> Result<(), LabError> {
        let provider = End {
            node: &self.provider,
            interface: ACCESS,
        };
        match &self.switch {
            Some(switch) => plug(switch, &format!("access{}", self.number), provider).await?,
            None => {
                let gateway = End {
                    node: &self.gateway,
                    interface: &self.interface,
                };
                join(gateway, provider).await?;
            }
        }
        if let Some(capture) = &self.capture {
            capture.listen_on(ACCESS).await?;
        }
        self.configure_provider().await?;
        self.configure_gateway().await
    }

    /// Gives the provider's end its addresses; what is there already stays. Link-local ones go with the
    /// carrier.
    pub(super) async fn configure_provider(&self) -> Result<(), LabError> {
        for family in self.families() {
            let theirs = self.provider_end(family);
            self.provider.add_address(ACCESS, theirs).await?;
        }
        if self.switch.is_some() && self.has(Family::Ipv6) {
            let theirs = link_local_provider(self.number);
            self.provider.add_address(ACCESS, theirs).await?;
        }
        Ok(())
    }

    /// Gives the gateway's end its addresses and routes, as a DHCP client does; what is there
    /// already stays.
    pub async fn configure_gateway(&self) -> Result<(), LabError> {
        for family in self.families() {
            self.gateway
                .add_address(&self.interface, self.gateway_end(family))
                .await?;
        }
        if !self.default_routes {
            return Ok(());
        }
        for family in self.families() {
            let next_hop = self.provider_end(family).address;
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

/// Has a provider translate what comes from a network that it shares with others, and lead what comes
/// for it from the internet to the gateway: a home router does both.
async fn translate(
    provider: &Node,
    number: u8,
    network: Network,
    gateway: u16,
) -> Result<(), LabError> {
    let mut rules = String::new();
    let mut forwards = String::new();
    for (family, ip) in [(Family::Ipv4, "ip"), (Family::Ipv6, "ip6")] {
        let public = public_address(family, number);
        let (inside, prefix) = (
            network.prefix(family).address,
            network.prefix(family).prefix,
        );
        let gateway = network.host(family, gateway).address;
        rules.push_str(&format!(
            "oifname core {ip} saddr {inside}/{prefix} snat {ip} to {public}\n"
        ));
        forwards.push_str(&format!(
            "iifname core {ip} daddr {public} dnat {ip} to {gateway}\n"
        ));
    }
    let table = format!(
        "table inet lab_provider {{
            chain public {{
                type nat hook postrouting priority srcnat; policy accept;
                {rules}
            }}
            chain forwards {{
                type nat hook prerouting priority dstnat; policy accept;
                {forwards}
            }}
        }}"
    );
    provider.nft(table).await
}
