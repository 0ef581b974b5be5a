//! A second router beside the gateway: in the clients' network, in that of each provider, and joined
//! to the gateway by a link of their own.
//!
//! ```text
//!  clients ─┬─ lan0 ── gateway ── wan1 ─┬─ provider 1
//!           │             │sync0        │
//!           └─ lan0 ──  peer  ─── wan1 ─┘
//! ```
//!
//! The clients' next hop `.1` is then nobody's: the gateway has `.2` everywhere and the peer `.3`, and
//! whichever of them serves the clients is to take it.

use failover_common::family::Family;
use netlink_packet_route::route::RouteProtocol;

use super::builder::{Role, new_node};
use super::{ACCESS, Lab};
use crate::addressing::{InterfaceAddress, Network, SECOND_HOST};
use crate::error::LabError;
use crate::node::Node;
use crate::node::links::{BRIDGE, End, Route, join, make_switch, plug};

/// The last number of the peer's addresses.
const THIRD_HOST: u16 = 3;
/// The interfaces of the link between the routers.
const SYNC: &str = "sync0";
/// What a provider's port towards the peer is called, and a switch's.
const PORT: &str = "peer";
/// The table that cuts the gateway off.
const TABLE: &str = "netdev cut_off";

impl Lab {
    /// Adds the second router. For labs with an interface for each uplink and a switch behind `lan0`,
    /// that is, two clients or more; failures that the lab's uplinks can be told to have are not for
    /// such a lab.
    ///
    /// # Errors
    /// When there is no switch, or the kernel refuses a part.
    pub async fn add_peer(&self) -> Result<Node, LabError> {
        let peer = new_node("peer", Role::Router).await?;
        for uplink in self.uplinks() {
            share_access(uplink.provider(), uplink.number(), &peer).await?;
        }
        let switch = self.downlink(0)?.switch().ok_or_else(|| LabError::Layout {
            reason: "a second router behind a link that has no switch".to_owned(),
        })?;
        let interface = "lan0";
        let end = End {
            node: &peer,
            interface,
        };
        plug(switch, PORT, end).await?;
        let lan = Network::downlink(0);
        let gateway = self.gateway().node();
        for family in Family::ALL {
            gateway.remove_address(interface, lan.first(family)).await?;
            let (second, third) = (lan.host(family, SECOND_HOST), lan.host(family, THIRD_HOST));
            gateway.add_address(interface, second).await?;
            peer.add_address(interface, third).await?;
        }
        self.link_routers(&peer).await?;
        peer.settled().await?;
        Ok(peer)
    }

    async fn link_routers(&self, peer: &Node) -> Result<(), LabError> {
        let gateway = self.gateway().node();
        let interface = SYNC;
        join(
            End {
                node: gateway,
                interface,
            },
            End {
                node: peer,
                interface,
            },
        )
        .await?;
        for (node, host) in [(gateway, 1), (peer, 2)] {
            let address = InterfaceAddress {
                address: std::net::Ipv4Addr::new(192, 0, 2, host).into(),
                prefix: 30,
            };
            node.add_address(interface, address).await?;
        }
        Ok(())
    }

    /// All providers swallow what comes from the gateway, and nothing tells it; the peer's way is as
    /// it was. Only in a lab with a [peer](Self::add_peer).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn cut_gateway_off(&self) -> Result<(), LabError> {
        for uplink in self.uplinks() {
            let ruleset = format!(
                "table {TABLE} {{
                    chain swallow {{
                        type filter hook ingress device {ACCESS} priority 0; policy drop;
                    }}
                }}"
            );
            uplink.provider().nft(ruleset).await?;
        }
        Ok(())
    }

    /// Ends that.
    ///
    /// # Errors
    /// When it was not.
    pub async fn let_gateway_in(&self) -> Result<(), LabError> {
        for uplink in self.uplinks() {
            uplink
                .provider()
                .nft(format!("delete table {TABLE}\n"))
                .await?;
        }
        Ok(())
    }
}

/// Makes the provider's end of the link to the gateway a port of a switch, and joins the peer to
/// another port.
async fn share_access(provider: &Node, number: u8, peer: &Node) -> Result<(), LabError> {
    let access = Network::access(number);
    for family in Family::ALL {
        provider
            .remove_address(ACCESS, access.first(family))
            .await?;
    }
    make_switch(provider).await?;
    provider.put_into_bridge(ACCESS, BRIDGE).await?;
    let interface = &format!("wan{number}");
    let end = End {
        node: peer,
        interface,
    };
    plug(provider, PORT, end).await?;
    for family in Family::ALL {
        let provider_end = access.first(family);
        provider.add_address(BRIDGE, provider_end).await?;
        peer.add_address(interface, access.host(family, THIRD_HOST))
            .await?;
        let metric = u32::from(number) * 100;
        let route = Route::default_via(provider_end.address, metric, RouteProtocol::Static);
        peer.add_route(interface, route).await?;
    }
    Ok(())
}
