//! A downlink: the link between the gateway and its clients, with a switch where there are several.

use std::sync::Arc;

use failover::family::{Family, PerFamily};
use netlink_packet_route::route::RouteProtocol;

use super::builder::{Role, new_node};
use crate::addressing::Network;
use crate::error::LabError;
use crate::internet::Internet;
use crate::node::Node;
use crate::node::links::{End, Route, join};
use crate::traffic::Host;

/// The interface of a client.
const CLIENT: &str = "eth0";
/// The interface of a switch towards the gateway.
const TRUNK: &str = "uplink";
const BRIDGE: &str = "bridge";

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
    /// Links clients to downlink `number`, counted from 0: a single one directly, several by a
    /// switch.
    pub(super) async fn build(
        number: u8,
        count: usize,
        gateway: &Node,
        internet: &Internet,
    ) -> Result<(Self, Vec<Host>), LabError> {
        let interface = format!("lan{number}");
        let lan = Network::downlink(number);
        let mut nodes = Vec::new();
        for client in (1_u16..).take(count) {
            nodes.push(new_node(format!("client{client}-{interface}"), Role::EndHost).await?);
        }
        let behind = match nodes.as_slice() {
            [only] => Behind::Client(only.clone()),
            _ => Behind::Switch(new_switch(number, &nodes).await?),
        };
        let downlink = Self {
            interface,
            lan,
            gateway: gateway.clone(),
            behind,
        };
        downlink.make_link().await?;
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
        let (node, interface) = match &self.behind {
            Behind::Client(node) => (node, CLIENT),
            Behind::Switch(node) => (node, TRUNK),
        };
        let far = End {
            node: &self.gateway,
            interface: &self.interface,
        };
        join(End { node, interface }, far).await?;
        if let Behind::Switch(switch) = &self.behind {
            switch.put_into_bridge(TRUNK, BRIDGE).await?;
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

/// A switch with a port for each client.
async fn new_switch(number: u8, clients: &[Node]) -> Result<Node, LabError> {
    let switch = new_node(format!("switch{number}"), Role::EndHost).await?;
    switch.add_bridge(BRIDGE).await?;
    for (client, node) in (1..).zip(clients) {
        let port = format!("port{client}");
        let near = End {
            node,
            interface: CLIENT,
        };
        let far = End {
            node: &switch,
            interface: &port,
        };
        join(near, far).await?;
        switch.put_into_bridge(&port, BRIDGE).await?;
    }
    Ok(switch)
}
