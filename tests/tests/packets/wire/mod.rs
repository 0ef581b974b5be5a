//! What `BPF_PROG_TEST_RUN` cannot set: real frames over real interfaces, with the programs
//! attached.

mod bridge;
mod fastpath;
mod offload;
mod scattered;
mod short;
mod tags;
mod tunnel;

use std::error::Error;
use std::time::Duration;

use failover_common::{Family, Flow, FlowKey, Interface, Role};
use failover_tests::programs::{Direction, Loaded, Stand};
use failover_tests::{LabError, Node, ProgramSpec, eventually};

use crate::gateway::{PACKETS_ONLY, UPLINKS, object};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        tags::trials(),
        scattered::trials(),
        short::trials(),
        tunnel::trials(),
        bridge::trials(),
        offload::trials(),
        fastpath::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How long something may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// A gateway whose programs are attached.
struct Attached {
    stand: Stand,
    programs: Loaded,
}

/// Where programs hang: the program, the interface and the direction.
type Hooks = Vec<(&'static str, String, Direction)>;

/// The three programs for Ethernet, on a downlink and the first uplink.
fn usual_hooks(downlink: &str) -> Hooks {
    vec![
        ("fo_lan_in", downlink.to_owned(), Direction::Ingress),
        ("fo_lan_out", downlink.to_owned(), Direction::Egress),
        ("fo_wan_in", "wan1".to_owned(), Direction::Ingress),
    ]
}

impl Attached {
    /// The usual gateway with one client behind `lan0`.
    async fn new() -> Result<Self, Box<dyn Error>> {
        Self::on(Stand::new(UPLINKS).await?, usual_hooks("lan0")).await
    }

    async fn on(stand: Stand, hooks: Hooks) -> Result<Self, Box<dyn Error>> {
        stand.lab().gateway().node().nft(SEEN).await?;
        let mut programs = stand.attached(object()?, hooks).await?;
        programs.set_lease(&PACKETS_ONLY)?;
        Ok(Self { stand, programs })
    }

    fn gateway(&self) -> &Node {
        self.stand.lab().gateway().node()
    }

    /// Waits until there is an entry for a flow of which a packet is on its way.
    async fn flow(&self, key: &FlowKey) -> Result<Flow, Box<dyn Error>> {
        self.flow_that("is entered", key, |_| true).await
    }

    /// Waits until there is such an entry.
    async fn flow_that(
        &self,
        what: &str,
        key: &FlowKey,
        wanted: impl Fn(&Flow) -> bool,
    ) -> Result<Flow, Box<dyn Error>> {
        let what = format!("a flow {what}: {key:?}");
        let look = || async {
            let flow = self.programs.flow(key).map_err(|error| LabError::Layout {
                reason: error.to_string(),
            })?;
            Ok(flow.filter(&wanted))
        };
        Ok(eventually(&what, PATIENCE, look).await?)
    }

    /// Makes an interface of the gateway known.
    async fn know(
        &mut self,
        interface: &str,
        role: Role,
        uplink: u8,
    ) -> Result<(), Box<dyn Error>> {
        let index = self.gateway().interface_index(interface).await?;
        let known = Interface {
            role,
            uplink,
            downlink: 0,
        };
        Ok(self.programs.set_interface(index, &known)?)
    }

    /// How many packets netfilter has counted by a name of [`SEEN`].
    async fn seen(&self, counter: &str) -> Result<u64, Box<dyn Error>> {
        let line = format!("nft list counter inet seen {counter}");
        let text = self.gateway().must(ProgramSpec::line(&line)).await?;
        let mut words = text.split_whitespace();
        words.find(|word| *word == "packets");
        let count = words.next().ok_or("nft shows no counter")?;
        Ok(count.parse()?)
    }
}

/// Counts, where the kernel takes packets in behind the programs, those that are marked as
/// "ask", those that are marked as sure, and those of which the small program says that only the
/// Ethernet header was linear.
const SEEN: &str = "table inet seen {
    counter ask {}
    counter sure {}
    counter scattered {}
    chain prerouting {
        type filter hook prerouting priority raw; policy accept;
        meta mark & 0x80000000 != 0 counter name ask
        meta mark & 0x80000000 == 0 meta mark & 0x7f000000 != 0 counter name sure
        meta mark & 0x00ffffff == 14 counter name scattered
    }
}";

/// Translates what leaves by an uplink, so that the internet answers.
const MASQUERADE: &str = "table inet translate {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"wan*\" masquerade
    }
}";

/// The family as the lab's traffic knows it.
const fn lab_family(family: Family) -> failover::family::Family {
    match family {
        Family::Ipv4 => failover::family::Family::Ipv4,
        Family::Ipv6 => failover::family::Family::Ipv6,
    }
}
