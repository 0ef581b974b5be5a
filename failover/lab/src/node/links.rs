//! Interfaces, addresses and routes of a node, over its own netlink socket.

use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use netlink_packet_core::ErrorMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::RouteProtocol;
use nix::libc;
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::Node;
use crate::addressing::InterfaceAddress;
use crate::error::LabError;

/// One end of a link: a node and the name of the interface in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    pub(crate) node: &'a Node,
    pub(crate) interface: &'a str,
}

/// A route as the lab makes them, in the table `main`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) destination: InterfaceAddress,
    pub(crate) gateway: IpAddr,
    /// The smaller is preferred; IPv6 takes 0 for 1024.
    pub(crate) metric: u32,
    pub(crate) protocol: RouteProtocol,
}

impl Route {
    /// A default route in the family of `gateway`.
    pub(crate) fn default_via(gateway: IpAddr, metric: u32, protocol: RouteProtocol) -> Self {
        let address = match gateway {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        Self {
            destination: InterfaceAddress { address, prefix: 0 },
            gateway,
            metric,
            protocol,
        }
    }
}

/// Joins two nodes by a pair of virtual Ethernet interfaces, each made in its node at once, and
/// sets both up.
pub(crate) async fn join(near: End<'_>, far: End<'_>) -> Result<(), LabError> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(far.interface)
        .setns_by_fd(far.node.namespace_fd())
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(near.interface)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    near.node
        .netlink()
        .link()
        .add(pair)
        .execute()
        .await
        .map_err(LabError::netlink(
            near.node.name(),
            format!(
                "join {} to {} of {}",
                near.interface,
                far.interface,
                far.node.name()
            ),
        ))?;
    far.node.set_up(far.interface).await?;
    near.node.set_up(near.interface).await
}

/// The bridge of a switch.
pub(crate) const BRIDGE: &str = "bridge";

/// Makes a node a switch, to which others can be [plugged](plug).
pub(crate) async fn make_switch(node: &Node) -> Result<(), LabError> {
    node.add_bridge(BRIDGE).await
}

/// Joins an interface to a port of a switch.
pub(crate) async fn plug(switch: &Node, port: &str, end: End<'_>) -> Result<(), LabError> {
    let port = End {
        node: switch,
        interface: port,
    };
    join(end, port).await?;
    switch.put_into_bridge(port.interface, BRIDGE).await
}

impl Node {
    /// The kernel's index of an interface.
    ///
    /// # Errors
    /// When there is no such interface in the namespace.
    pub async fn interface_index(&self, interface: &str) -> Result<u32, LabError> {
        let name = interface.to_owned();
        self.run(move || async move { if_nametoindex(name.as_str()) })
            .await?
            .map_err(LabError::io(format!(
                "find interface {interface} on node {}",
                self.name()
            )))
    }

    /// The hardware address of an Ethernet interface.
    ///
    /// # Errors
    /// When there is no such interface in the namespace, or it has none.
    pub async fn hardware_address(&self, interface: &str) -> Result<[u8; 6], LabError> {
        let mut links = self
            .netlink()
            .link()
            .get()
            .match_name(interface.to_owned())
            .execute();
        let what = || format!("find the hardware address of {interface}");
        let link = links
            .try_next()
            .await
            .map_err(LabError::netlink(self.name(), what()))?;
        link.into_iter()
            .flat_map(|link| link.attributes)
            .find_map(|attribute| match attribute {
                LinkAttribute::Address(bytes) => bytes.try_into().ok(),
                _ => None,
            })
            .ok_or_else(|| LabError::io(what())(std::io::ErrorKind::NotFound))
    }

    /// Sets an interface up.
    ///
    /// # Errors
    /// When there is no such interface in the namespace.
    pub async fn set_up(&self, interface: &str) -> Result<(), LabError> {
        let message = LinkUnspec::new_with_name(interface).up().build();
        self.change_link(message, format!("set {interface} up"))
            .await
    }

    /// Sets an interface down; the other end of a virtual Ethernet loses its carrier.
    ///
    /// # Errors
    /// When there is no such interface in the namespace.
    pub async fn set_down(&self, interface: &str) -> Result<(), LabError> {
        let message = LinkUnspec::new_with_name(interface).down().build();
        self.change_link(message, format!("set {interface} down"))
            .await
    }

    /// Deletes an interface; of a virtual Ethernet both ends go.
    ///
    /// # Errors
    /// When there is no such interface in the namespace.
    pub async fn delete_interface(&self, interface: &str) -> Result<(), LabError> {
        let index = self.interface_index(interface).await?;
        self.netlink()
            .link()
            .del(index)
            .execute()
            .await
            .map_err(LabError::netlink(
                self.name(),
                format!("delete {interface}"),
            ))
    }

    /// Gives an interface an address; that it has it already is no error.
    ///
    /// # Errors
    /// When there is no such interface or the kernel refuses the address.
    pub async fn add_address(
        &self,
        interface: &str,
        address: InterfaceAddress,
    ) -> Result<(), LabError> {
        let index = self.interface_index(interface).await?;
        let InterfaceAddress { address, prefix } = address;
        let mut request = self
            .netlink()
            .address()
            .add(index, address, prefix)
            .replace();
        if address.is_ipv6() {
            // Without it the address cannot be used until a kernel worker has had its turn, even
            // where duplicate address detection is switched off.
            let nodad = AddressAttribute::Flags(AddressFlags::Nodad);
            request.message_mut().attributes.push(nodad);
        }
        request.execute().await.map_err(LabError::netlink(
            self.name(),
            format!("add {address}/{prefix} to {interface}"),
        ))
    }

    /// Takes an address from an interface.
    ///
    /// # Errors
    /// When the interface does not have it.
    pub async fn remove_address(
        &self,
        interface: &str,
        address: InterfaceAddress,
    ) -> Result<(), LabError> {
        let index = self.interface_index(interface).await?;
        let InterfaceAddress { address, prefix } = address;
        let addresses = self.netlink().address();
        // The request to add has the message that the request to delete wants.
        let mut message = addresses.add(index, address, prefix);
        let message = std::mem::take(message.message_mut());
        addresses
            .del(message)
            .execute()
            .await
            .map_err(LabError::netlink(
                self.name(),
                format!("remove {address}/{prefix} from {interface}"),
            ))
    }

    /// Adds a route over an interface; that it is there already is no error.
    pub(crate) async fn add_route(&self, interface: &str, route: Route) -> Result<(), LabError> {
        let index = self.interface_index(interface).await?;
        let Route {
            destination,
            gateway,
            metric,
            protocol,
        } = route;
        let InterfaceAddress { address, prefix } = destination;
        let mut message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(address, prefix)
            .and_then(|builder| builder.gateway(gateway))
            .map_err(|error| LabError::Layout {
                reason: error.to_string(),
            })?
            .output_interface(index)
            .protocol(protocol);
        if metric != 0 {
            message = message.priority(metric);
        }
        let added = self.netlink().route().add(message.build()).execute().await;
        match added {
            Err(rtnetlink::Error::NetlinkError(ErrorMessage {
                code: Some(code), ..
            })) if code.get() == -libc::EEXIST => Ok(()),
            other => other.map_err(LabError::netlink(
                self.name(),
                format!("add a route to {address}/{prefix} via {gateway} on {interface}"),
            )),
        }
    }

    /// Makes a bridge and sets it up.
    pub async fn add_bridge(&self, bridge: &str) -> Result<(), LabError> {
        self.netlink()
            .link()
            .add(LinkBridge::new(bridge).build())
            .execute()
            .await
            .map_err(LabError::netlink(
                self.name(),
                format!("make bridge {bridge}"),
            ))
    }

    /// Puts an interface into a bridge.
    pub async fn put_into_bridge(&self, interface: &str, bridge: &str) -> Result<(), LabError> {
        let index = self.interface_index(bridge).await?;
        let message = LinkUnspec::new_with_name(interface)
            .controller(index)
            .build();
        self.change_link(message, format!("put {interface} into {bridge}"))
            .await
    }

    /// Takes an interface out of its bridge.
    pub async fn take_out_of_bridge(&self, interface: &str) -> Result<(), LabError> {
        let message = LinkUnspec::new_with_name(interface).nocontroller().build();
        self.change_link(message, format!("take {interface} out of its bridge"))
            .await
    }

    async fn change_link(&self, message: LinkMessage, what: String) -> Result<(), LabError> {
        self.netlink()
            .link()
            .set(message)
            .execute()
            .await
            .map_err(LabError::netlink(self.name(), what))
    }
}
