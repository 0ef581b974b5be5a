//! The internet: addresses that answer pings, servers that say by which address they are asked,
//! and a record of the pings themselves.

mod echoes;
mod servers;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::error::LabError;
use crate::lab::internet_addresses;
use crate::node::Node;

pub(crate) use echoes::{EchoLog, MAGIC};

/// The node that stands for the internet.
#[derive(Debug)]
pub struct Internet {
    node: Node,
    echoes: Arc<EchoLog>,
}

impl Internet {
    /// Gives the node the internet's addresses and starts its servers.
    pub(crate) async fn open(node: Node) -> Result<Self, LabError> {
        for address in internet_addresses() {
            node.add_address("lo", address).await?;
        }
        servers::start(&node).await?;
        let echoes = Arc::new(EchoLog::default());
        echoes::record(&node, &echoes).await?;
        Ok(Self { node, echoes })
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// How many echo requests came from each address so far, probes included.
    #[must_use]
    pub fn echo_requests(&self) -> HashMap<IpAddr, u64> {
        self.echoes.requests()
    }

    pub(crate) const fn echoes(&self) -> &Arc<EchoLog> {
        &self.echoes
    }
}
