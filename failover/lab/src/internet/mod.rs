//! The internet: addresses that answer pings, servers that say by which address they are asked,
//! and a record of the pings themselves.

mod echoes;
mod servers;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use failover_common::family::Family;
use tokio::net::UdpSocket;

use crate::addressing::first_server;
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

    /// Starts a server of a test's own over UDP, at a port of the first server's address. Returns where
    /// it is.
    ///
    /// # Errors
    /// When somebody is at the port already.
    pub async fn serve_udp<F, Fut>(
        &self,
        family: Family,
        port: u16,
        serve: F,
    ) -> Result<SocketAddr, LabError>
    where
        F: FnOnce(UdpSocket) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let at = SocketAddr::new(first_server(family), port);
        let bound = self.node.run(move || async move {
            let socket = UdpSocket::bind(at).await?;
            tokio::task::spawn_local(serve(socket));
            Ok::<_, io::Error>(())
        });
        bound
            .await?
            .map_err(LabError::io(format!("serve at {at}")))?;
        Ok(at)
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
