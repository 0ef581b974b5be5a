//! Builds a lab: nodes, links, addresses, routes and settings.

use std::sync::Arc;
use std::time::Duration;

use failover_common::family::{Family, PerFamily};
use netlink_packet_route::route::RouteProtocol;

use super::downlink::{Downlink, TRUNK, downlink_name, new_switch};
use super::uplink::{self, Shared};
use super::{Lab, Uplink};
use crate::addressing::{
    self, FIRST_HOST, InterfaceAddress, MAX_CLIENTS, MAX_DOWNLINKS, MAX_UPLINKS, Network,
    SECOND_HOST,
};
use crate::error::LabError;
use crate::eventually::{is_slow, patient};
use crate::internet::Internet;
use crate::isolation::Directory;
use crate::node::Node;
use crate::node::links::{End, Route, join, plug};
use crate::traffic::Host;

/// Reverse path filtering on the gateway (`rp_filter` in the kernel's `ip-sysctl.rst`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpFilter {
    /// 0: off, as Debian leaves it.
    Off,
    /// 1: a packet must come in by the interface by which its source would be reached.
    Strict,
    /// 2: the source must be reachable by some interface.
    Loose,
}

impl RpFilter {
    const fn value(self) -> &'static str {
        match self {
            Self::Off => "0",
            Self::Strict => "1",
            Self::Loose => "2",
        }
    }
}

/// What a lab is to be made of. By default: two uplinks with both families, one client behind
/// `lan0`, default routes via every provider in the table `main`, `rp_filter` off, captures on.
#[derive(Clone, Debug)]
pub struct LabBuilder {
    uplinks: u8,
    without: Vec<(u8, Family)>,
    clients: Vec<usize>,
    default_routes: bool,
    rp_filter: RpFilter,
    capture: bool,
    layout: Layout,
}

/// What is behind which interface of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Every provider and every downlink behind one of its own.
    Apart,
    /// All providers behind `wan0`, in one network.
    SharedUplinks,
    /// All providers and the clients behind `lan0`, in one network.
    OneArm,
}

impl Default for LabBuilder {
    fn default() -> Self {
        Self {
            uplinks: 2,
            without: Vec::new(),
            clients: vec![1],
            default_routes: true,
            rp_filter: RpFilter::Off,
            capture: true,
            layout: Layout::Apart,
        }
    }
}

impl LabBuilder {
    /// The number of uplinks, 1 to 127.
    #[must_use]
    pub const fn uplinks(mut self, count: u8) -> Self {
        self.uplinks = count;
        self
    }

    /// Uplink `number`, counted from 1, has no addresses and routes of `family`.
    #[must_use]
    pub fn uplink_without(mut self, number: u8, family: Family) -> Self {
        self.without.push((number, family));
        self
    }

    /// The number of clients behind `lan0`, 1 to 90.
    #[must_use]
    pub fn clients(self, count: usize) -> Self {
        self.downlinks([count])
    }

    /// One downlink (`lan0`, `lan1` …) for each number, with so many clients behind it.
    #[must_use]
    pub fn downlinks(mut self, clients: impl IntoIterator<Item = usize>) -> Self {
        self.clients = clients.into_iter().collect();
        self
    }

    /// No downlink and no client: the gateway is a host with several uplinks.
    #[must_use]
    pub fn host_only(self) -> Self {
        self.downlinks([])
    }

    /// Whether the gateway's table `main` has default routes via all providers, as a DHCP client
    /// leaves them, with metrics that rise with the uplink's number.
    #[must_use]
    pub const fn default_routes(mut self, wanted: bool) -> Self {
        self.default_routes = wanted;
        self
    }

    /// Reverse path filtering on the gateway.
    #[must_use]
    pub const fn rp_filter(mut self, mode: RpFilter) -> Self {
        self.rp_filter = mode;
        self
    }

    /// Whether providers record the packets that come from the gateway. It costs a copy of each
    /// packet's head; turn it off to measure throughput.
    #[must_use]
    pub const fn capture(mut self, wanted: bool) -> Self {
        self.capture = wanted;
        self
    }

    /// All providers are in one network behind one interface of the gateway, `wan0`.
    #[must_use]
    pub const fn shared_uplinks(mut self) -> Self {
        self.layout = Layout::SharedUplinks;
        self
    }

    /// The clients and all providers are in one network behind one interface of the gateway, `lan0`.
    #[must_use]
    pub const fn one_arm(mut self) -> Self {
        self.layout = Layout::OneArm;
        self
    }

    /// Builds the lab.
    ///
    /// # Errors
    /// When the process was not [isolated](crate::isolate), the layout makes no sense, or the
    /// kernel refuses a part.
    pub async fn build(self) -> Result<Lab, LabError> {
        self.check()?;
        let directory = Directory::make()?;
        let internet_node = new_node("internet", Role::Router).await?;
        let gateway = new_node("gateway", Role::Router).await?;
        for scope in ["all", "default"] {
            let key = format!("net/ipv4/conf/{scope}/rp_filter");
            gateway.set_sysctl(&key, self.rp_filter.value()).await?;
        }
        let internet = Internet::open(internet_node).await?;
        let shared = self.build_shared(&gateway).await?;
        let mut uplinks = Vec::new();
        for number in 1..=self.uplinks {
            let shared = shared.clone();
            uplinks.push(
                self.build_uplink(number, &gateway, &internet, shared)
                    .await?,
            );
        }
        let mut clients = Vec::new();
        let mut downlinks = Vec::new();
        for (number, count) in (0_u8..).zip(&self.clients) {
            let switch = shared
                .as_ref()
                .filter(|shared| shared.interface == downlink_name(number))
                .map(|shared| &shared.switch);
            let (downlink, behind) =
                Downlink::build(number, *count, &gateway, &internet, switch).await?;
            downlinks.push(downlink);
            clients.extend(behind);
        }
        let downlink_names = downlinks.iter().map(Downlink::interface);
        let downlink_names = downlink_names.map(str::to_owned).collect();
        let lan = (!downlinks.is_empty()).then(|| Network::downlink(0));
        let addresses = PerFamily::from_fn(|family| lan.map(|lan| lan.first(family).address));
        let lab = Lab {
            gateway: Host::new(gateway, addresses, Arc::clone(internet.echoes())),
            uplinks,
            clients,
            internet,
            downlink_names,
            downlinks,
            directory,
        };
        for node in lab.nodes() {
            node.settled().await?;
        }
        Ok(lab)
    }

    fn check(&self) -> Result<(), LabError> {
        let wrong = |reason: String| Err(LabError::Layout { reason });
        if self.uplinks == 0 || usize::from(self.uplinks) > MAX_UPLINKS {
            return wrong(format!(
                "{} uplinks, 1 to {MAX_UPLINKS} are possible",
                self.uplinks
            ));
        }
        if self.clients.len() > MAX_DOWNLINKS {
            return wrong(format!(
                "{} downlinks, up to {MAX_DOWNLINKS} are possible",
                self.clients.len()
            ));
        }
        if let Some(count) = self
            .clients
            .iter()
            .find(|count| !(1..=MAX_CLIENTS).contains(*count))
        {
            return wrong(format!(
                "{count} clients behind one downlink, 1 to {MAX_CLIENTS} are possible"
            ));
        }
        if self.layout == Layout::OneArm && self.clients.is_empty() {
            return wrong("one arm without clients: that is shared uplinks".to_owned());
        }
        if let Some((number, _)) = self
            .without
            .iter()
            .find(|(number, _)| !(1..=self.uplinks).contains(number))
        {
            return wrong(format!(
                "a family left out of uplink {number}, which is none"
            ));
        }
        Ok(())
    }

    async fn build_uplink(
        &self,
        number: u8,
        gateway: &Node,
        internet: &Internet,
        shared: Option<Shared>,
    ) -> Result<Uplink, LabError> {
        let families = PerFamily::from_fn(|family| !self.without.contains(&(number, family)));
        let provider = new_node(format!("provider{number}"), Role::Router).await?;
        // Their end of the link loses its carrier and gets it back with its addresses on it.
        for scope in ["all", "default"] {
            let key = format!("net/ipv6/conf/{scope}/keep_addr_on_down");
            provider.set_sysctl(&key, "1").await?;
        }
        connect_to_internet(number, &provider, internet.node()).await?;
        Uplink::connect(uplink::Parts {
            number,
            gateway: gateway.clone(),
            provider,
            internet: internet.node().clone(),
            families,
            default_routes: self.default_routes,
            capture: self.capture,
            shared,
        })
        .await
    }

    /// Links the gateway with the switch behind which all providers are.
    async fn build_shared(&self, gateway: &Node) -> Result<Option<Shared>, LabError> {
        let (interface, network, host) = match self.layout {
            Layout::Apart => return Ok(None),
            Layout::SharedUplinks => ("wan0".to_owned(), Network::shared_access(), SECOND_HOST),
            Layout::OneArm => (downlink_name(0), Network::downlink(0), FIRST_HOST),
        };
        let switch = new_switch("switch-shared").await?;
        let end = End {
            node: gateway,
            interface: &interface,
        };
        plug(&switch, TRUNK, end).await?;
        Ok(Some(Shared {
            interface,
            network,
            switch,
            host,
        }))
    }
}

/// After which times connection tracking forgets flows of one question, which have to be asked again
/// before: a slow machine does not get round to that in the time that there usually is.
const FORGETTING: [&str; 3] = ["icmp_timeout", "icmpv6_timeout", "udp_timeout"];
/// That time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Whether a node forwards packets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Router,
    EndHost,
}

/// A node with the settings that all nodes have.
pub(super) async fn new_node(name: impl Into<String>, role: Role) -> Result<Node, LabError> {
    let node = Node::new(name).await?;
    let forwarding = if role == Role::Router { "1" } else { "0" };
    for scope in ["all", "default"] {
        for (key, value) in [
            (format!("net/ipv4/conf/{scope}/rp_filter"), "0"),
            (format!("net/ipv4/conf/{scope}/forwarding"), forwarding),
            (format!("net/ipv6/conf/{scope}/forwarding"), forwarding),
            // Addresses are unique by construction: they work at once.
            (format!("net/ipv6/conf/{scope}/accept_dad"), "0"),
            (format!("net/ipv6/conf/{scope}/dad_transmits"), "0"),
            // Nobody advertises routers here; nobody needs to ask for them.
            (format!("net/ipv6/conf/{scope}/accept_ra"), "0"),
            (format!("net/ipv6/conf/{scope}/router_solicitations"), "0"),
        ] {
            node.set_sysctl(&key, value).await?;
        }
    }
    if is_slow() && role == Role::Router {
        for setting in FORGETTING {
            let key = format!("net/netfilter/nf_conntrack_{setting}");
            let seconds = patient(FORGOTTEN_AFTER).as_secs();
            node.set_sysctl(&key, &seconds.to_string()).await?;
        }
    }
    // Ping sockets for everyone: ICMP flows are made with them.
    node.set_sysctl("net/ipv4/ping_group_range", "0 2147483647")
        .await?;
    Ok(node)
}

/// Links provider `number` with the internet, and routes the access network there.
async fn connect_to_internet(number: u8, provider: &Node, internet: &Node) -> Result<(), LabError> {
    let (core, port) = ("core", format!("prov{number}"));
    join(
        End {
            node: internet,
            interface: &port,
        },
        End {
            node: provider,
            interface: core,
        },
    )
    .await?;
    let transit = Network::transit(number);
    for family in Family::ALL {
        let theirs = transit.host(family, SECOND_HOST);
        internet.add_address(&port, transit.first(family)).await?;
        provider.add_address(core, theirs).await?;
        let upstream = transit.first(family).address;
        provider
            .add_route(core, Route::default_via(upstream, 0, RouteProtocol::Static))
            .await?;
        let back = Route {
            destination: Network::access(number).prefix(family),
            gateway: theirs.address,
            metric: 0,
            protocol: RouteProtocol::Static,
        };
        internet.add_route(&port, back).await?;
    }
    Ok(())
}

/// The addresses of the internet: probe targets and servers, each a host route's worth.
pub(crate) fn internet_addresses() -> impl Iterator<Item = InterfaceAddress> {
    Family::ALL.into_iter().flat_map(|family| {
        let prefix = match family {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        };
        addressing::probe_targets(family)
            .into_iter()
            .chain(addressing::servers(family))
            .map(move |address| InterfaceAddress { address, prefix })
    })
}
