//! A host that makes traffic: a client, or the gateway itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use failover_common::family::{Family, PerFamily};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use super::flow::Route;
use super::{AskError, Asked, Flow, Traffic};
use crate::addressing::{SERVER_PORT, servers};
use crate::error::LabError;
use crate::internet::EchoLog;
use crate::node::Node;

/// A host that can make traffic to the internet.
#[derive(Clone, Debug)]
pub struct Host {
    node: Node,
    addresses: PerFamily<Option<IpAddr>>,
    echoes: Arc<EchoLog>,
}

/// Flows that are kept open, in a fixed order.
#[derive(Debug)]
pub struct Flows {
    node: Node,
    flows: Vec<Arc<Mutex<Flow>>>,
}

impl Host {
    pub(crate) const fn new(
        node: Node,
        addresses: PerFamily<Option<IpAddr>>,
        echoes: Arc<EchoLog>,
    ) -> Self {
        Self {
            node,
            addresses,
            echoes,
        }
    }

    /// Its address in the local network: a client's own, the gateway's on `lan0`. `None` for a
    /// gateway without downlinks.
    #[must_use]
    pub const fn address(&self, family: Family) -> Option<IpAddr> {
        *self.addresses.get(family)
    }

    /// The host's node.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Opens flows and keeps them. UDP and ICMP flows have sent nothing yet; TCP flows are
    /// connected.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub async fn open(&self, traffic: Traffic) -> Result<Flows, LabError> {
        let opened = self
            .each_new_flow(traffic, |flow| async { Ok(flow) })
            .await?;
        let count = opened.len();
        let (mut flows, mut errors) = (Vec::new(), Vec::new());
        for result in opened {
            match result {
                Ok(flow) => flows.push(Arc::new(Mutex::new(flow))),
                Err(error) => errors.push(error),
            }
        }
        let failed = errors.len();
        match errors.into_iter().next() {
            None => Ok(Flows {
                node: self.node.clone(),
                flows,
            }),
            Some(first) => Err(LabError::Open {
                traffic: traffic.to_string(),
                count,
                failed,
                first,
            }),
        }
    }

    /// Opens flows, asks each once and closes them again. The results stand in the order of the
    /// flows.
    ///
    /// # Errors
    /// When the host is gone; a flow that gets no answer is a result.
    pub async fn burst(&self, traffic: Traffic) -> Result<Vec<Asked>, LabError> {
        let limit = traffic.limit;
        self.each_new_flow(
            traffic,
            move |mut flow| async move { flow.ask(limit).await },
        )
        .await
    }

    /// Opens flows on the node's thread, not too many at once, and does something with each.
    async fn each_new_flow<T, F, Fut>(
        &self,
        traffic: Traffic,
        then: F,
    ) -> Result<Vec<Result<T, AskError>>, LabError>
    where
        T: Send + 'static,
        F: Fn(Flow) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<T, AskError>> + 'static,
    {
        let echoes = Arc::clone(&self.echoes);
        self.node
            .run(move || async move {
                let gate = Arc::new(Semaphore::new(traffic.at_once.max(1)));
                let servers = servers(traffic.family);
                let mut work = JoinSet::new();
                for (index, server) in servers.iter().cycle().take(traffic.count).enumerate() {
                    let route = Route {
                        protocol: traffic.protocol,
                        server: SocketAddr::new(*server, SERVER_PORT),
                        source: traffic.source,
                    };
                    let (gate, echoes) = (Arc::clone(&gate), Arc::clone(&echoes));
                    let then = then.clone();
                    work.spawn_local(async move {
                        // The gate is never closed; it opens when the permit is dropped.
                        let _permit = gate.acquire_owned().await;
                        let result = match Flow::open(route, traffic.limit, echoes).await {
                            Ok(flow) => then(flow).await,
                            Err(error) => Err(error),
                        };
                        (index, result)
                    });
                }
                in_order(work).await
            })
            .await
    }
}

impl Flows {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Parts the flows into groups: `group` says for the place of each flow, counted from 0, which
    /// one it goes to. Each group keeps the order.
    pub fn part_by<K: Ord>(self, group: impl Fn(usize) -> K) -> BTreeMap<K, Self> {
        let mut parts = BTreeMap::new();
        for (index, flow) in self.flows.into_iter().enumerate() {
            parts
                .entry(group(index))
                .or_insert_with(|| Self {
                    node: self.node.clone(),
                    flows: Vec::new(),
                })
                .flows
                .push(flow);
        }
        parts
    }

    /// Asks every flow at the same time and waits up to `limit` for each. The results stand in the
    /// order of the flows.
    ///
    /// # Errors
    /// When the host is gone; a flow that gets no answer is a result.
    pub async fn ask(&self, limit: Duration) -> Result<Vec<Asked>, LabError> {
        self.each(move |flow| async move { flow.lock().await.ask(limit).await })
            .await
    }

    /// Waits, without sending anything, until each connection is ended from the other side, but not
    /// longer than `limit`; says of each how it ended, or [`AskError::Timeout`].
    ///
    /// # Errors
    /// When the host is gone.
    pub async fn wait_for_end(
        &self,
        limit: Duration,
    ) -> Result<Vec<Result<AskError, AskError>>, LabError> {
        self.each(move |flow| async move { flow.lock().await.wait_for_end(limit).await })
            .await
    }

    /// The flows as such, to be asked one by one.
    #[must_use]
    pub fn each_flow(&self) -> &[Arc<Mutex<Flow>>] {
        &self.flows
    }

    async fn each<T, F, Fut>(&self, ask: F) -> Result<Vec<T>, LabError>
    where
        T: Send + 'static,
        F: Fn(Arc<Mutex<Flow>>) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let flows = self.flows.clone();
        self.node
            .run(move || async move {
                let mut work = JoinSet::new();
                for (index, flow) in flows.into_iter().enumerate() {
                    let asked = ask(flow);
                    work.spawn_local(async move { (index, asked.await) });
                }
                in_order(work).await
            })
            .await
    }
}

/// Waits for all results and puts them into the order of their numbers. A task that panicked is
/// missing from them.
async fn in_order<T: 'static>(mut work: JoinSet<(usize, T)>) -> Vec<T> {
    let mut results = Vec::new();
    while let Some(done) = work.join_next().await {
        match done {
            Ok(result) => results.push(result),
            Err(error) => tracing::error!(%error, "a flow's task did not end as it should"),
        }
    }
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
