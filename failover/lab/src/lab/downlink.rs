//! A downlink: the link between the gateway and its clients, with a switch where there are several.

use std::sync::Arc;

use failover_common::family::{Family, PerFamily};
use netlink_packet_route::route::RouteProtocol;

use super::builder::{Role, new_node};
use crate::addressing::Network;
use crate::error::LabError;
use crate::internet::Internet;
use crate::node::Node;
use crate::node::links::{End, Route, join, make_switch, plug};
use crate::traffic::Host;

/// The interface of a client.
const CLIENT: &str = "eth0";
/// The interface of a switch towards the gateway.
pub(super) const TRUNK: &str = "uplink";

/// A downlink of the gateway.
#[derive(Debug)]
pub struct Downlink {
    interface: String,
    lan: Network,
    gateway: Node,
    behind: Behind,
}

/// What is at the other end of the gateway's interface.
#[derive(Debug)]
enum Behind {
    /// The only client.
    Client(Node),
    /// A switch with all clients.
    Switch(Node),
}

impl Downlink {
    /// Links clients to downlink `number`, counted from 0: by the switch that is behind its interface
    /// already, else a single one directly and several by a new switch.
    pub(super) async fn build(
        number: u8,
        count: usize,
        gateway: &Node,
        internet: &Internet,
        switch: Option<&Node>,
    ) -> Result<(Self, Vec<Host>), LabError> {
        let interface = downlink_name(number);
        let lan = Network::downlink(number);
        let mut nodes = Vec::new();
        for client in (1_u16..).take(count) {
            nodes.push(new_node(format!("client{client}-{interface}"), Role::EndHost).await?);
        }
        let behind = match (switch, nodes.as_slice()) {
            (Some(switch), _) => {
                plug_all(switch, &nodes).await?;
                Behind::Switch(switch.clone())
            }
            (None, [only]) => Behind::Client(only.clone()),
            (None, _) => {
                let switch = new_switch(format!("switch{number}")).await?;
                plug_all(&switch, &nodes).await?;
                Behind::Switch(switch)
            }
        };
        let downlink = Self {
            interface,
            lan,
            gateway: gateway.clone(),
            behind,
        };
        match switch {
            Some(_) => downlink.configure_gateway().await?,
            None => downlink.make_link().await?,
        }
        let mut clients = Vec::new();
        for (client, node) in (1_u16..).zip(nodes) {
            configure_client(&node, lan, client).await?;
            let addresses = PerFamily::from_fn(|family| Some(lan.client(family, client).address));
            clients.push(Host::new(node, addresses, Arc::clone(internet.echoes())));
        }
        Ok((downlink, clients))
    }

    /// The gateway's interface: `lan0`, `lan1` …
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    pub(super) const fn switch(&self) -> Option<&Node> {
        match &self.behind {
            Behind::Client(_) => None,
            Behind::Switch(node) => Some(node),
        }
    }

    async fn make_link(&self) -> Result<(), LabError> {
        let gateway = End {
            node: &self.gateway,
            interface: &self.interface,
        };
        match &self.behind {
            Behind::Client(node) => {
                let interface = CLIENT;
                join(End { node, interface }, gateway).await?;
            }
            Behind::Switch(switch) => plug(switch, TRUNK, gateway).await?,
        }
        self.configure_gateway().await
    }

    /// Gives the gateway's interface its addresses; what is there already stays.
    ///
    /// # Errors
    /// When the interface is not there.
    pub async fn configure_gateway(&self) -> Result<(), LabError> {
        for family in Family::ALL {
            let own = self.lan.first(family);
            self.gateway.add_address(&self.interface, own).await?;
        }
        Ok(())
    }

    /// Takes the addresses from the gateway's interface.
    ///
    /// # Errors
    /// When it does not have them.
    pub async fn remove_addresses(&self) -> Result<(), LabError> {
        for family in Family::ALL {
            let own = self.lan.first(family);
            self.gateway.remove_address(&self.interface, own).await?;
        }
        Ok(())
    }

    /// The gateway's interface vanishes, and what it was joined to.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn remove_interface(&self) -> Result<(), LabError> {
        self.gateway.delete_interface(&self.interface).await
    }

    /// The interface comes back under its name, with another index and all its addresses.
    ///
    /// # Errors
    /// When it is there.
    pub async fn remake_interface(&self) -> Result<(), LabError> {
        self.make_link().await?;
        match &self.behind {
            Behind::Client(node) => configure_client(node, self.lan, 1).await,
            Behind::Switch(_) => Ok(()),
        }
    }
}

async fn configure_client(node: &Node, lan: Network, client: u16) -> Result<(), LabError> {
    for family in Family::ALL {
        node.add_address(CLIENT, lan.client(family, client)).await?;
        let router = lan.first(family).address;
        node.add_route(CLIENT, Route::default_via(router, 0, RouteProtocol::Static))
            .await?;
    }
    Ok(())
}

/// Joins each client to a port of a switch.
async fn plug_all(switch: &Node, clients: &[Node]) -> Result<(), LabError> {
    for (client, node) in (1..).zip(clients) {
        let interface = CLIENT;
        plug(switch, &format!("port{client}"), End { node, interface }).await?;
    }
    Ok(())
}

/// The gateway's interface of downlink `number`, counted from 0.
pub(super) fn downlink_name(number: u8) -> String {
    format!("lan{number}")
}

/// A switch without anything plugged to it.
pub(super) async fn new_switch(name: impl Into<String>) -> Result<Node, LabError> {
    let switch = new_node(name, Role::EndHost).await?;
    make_switch(&switch).await?;
    Ok(switch)
}
