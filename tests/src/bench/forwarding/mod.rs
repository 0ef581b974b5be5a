//! What one forwarded packet costs, by variant of gateway.
//!
//! # How it is measured
//!
//! Each variant has a lab of its own: a client, the gateway and its uplinks, joined by veth interfaces.
//! A `generator` sends prepared frames by the client's interface, from one processor, on
//! which all else that happens to a frame happens too; the daemons and everything else of the benchmark
//! are kept on another one, where there is one. Frames end at the `far_end`, which counts them: a
//! figure counts only if 99.9 % of the frames of its run arrived.
//!
//! What is taken off is the same generator with the same frames, dropped by the same program where they
//! enter the gateway. That has in it what making a frame costs, one veth interface, and the drop. So what
//! remains is what the gateway adds: from the hook behind its downlink's driver, through its network
//! stack, to its uplink's veth, and to the hook behind that. A drop in the client itself would leave a
//! veth interface too much in the rest, and one by nftables would be another drop than that of all
//! others.
//!
//! Before flows are measured they are answered: the far end sends packets back to the translated
//! address, and the client sends again, after two seconds where it is UDP, so that connection tracking
//! holds the flows as assured. (It believes a UDP flow to be one only then:
//! `net/netfilter/nf_conntrack_proto_udp.c`.) That is checked. It is told not to verify checksums, as it
//! need not where the network card has: frames of a packet socket look unverified.
//!
//! Variants take turns in every round, since a machine is not the same from minute to minute, and what
//! is demanded is asked of the ratios within one run. Very many flows are there only while their variant
//! has its turn: all namespaces share one hash table of connection tracking.

mod bulk;
mod chart;
mod demands;
mod far_end;
mod frames;
mod gateway;
mod generator;
mod look_up;
mod marking;
mod memory;
mod minimal;
mod offsets;
mod plan;
mod report;
mod setup;
mod statistics;
mod trial;
mod variant;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::MapData;
use failover::family::Family;
use serde::Serialize;

use super::Machine;
use crate::node::Node;
use crate::programs::{Assembled, Direction, ProgramsError, attach, failed};
use crate::sys::bpf::{self, MapKind};

pub use chart::svg;
pub use demands::{Demand, demands};
pub use plan::{Options, Part};
pub use report::{json, show};
pub use statistics::{Spread, median};
pub use trial::run;
pub use variant::{USUAL_UPLINKS, Variant};

/// What flows are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Case {
    /// Packets of flows that are known, or each the first of another flow.
    pub new: bool,
    /// How many flows.
    pub flows: u32,
    /// How long a frame is; where headers take more, that.
    pub size: usize,
    /// The family.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
}

/// The rounds of one variant with one case.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// What forwarded.
    pub variant: Variant,
    /// What was sent.
    pub case: Case,
    /// Nanoseconds per frame in each round, the generator's included.
    pub gross: Vec<f64>,
    /// The same without the generator's of that round.
    pub net: Vec<f64>,
    /// Why the figures count for nothing, if so.
    pub void: Option<String>,
}

impl Series {
    /// The rounds without the generator's cost, if they count.
    #[must_use]
    pub fn cost(&self) -> Option<Spread> {
        match self.void {
            Some(_) => None,
            None => Spread::of(&self.net),
        }
    }
}

/// The rounds of one variant that carries one long transfer by TCP.
#[derive(Clone, Debug, Serialize)]
pub struct Bulk {
    /// What forwarded; `None` without a gateway.
    pub variant: Option<Variant>,
    /// Whether large packets stay whole on the way (TSO, GSO and GRO).
    pub offload: bool,
    /// Gigabits per second, in each round.
    pub gigabits: Vec<f64>,
    /// Seconds of processor time per gigabyte, end hosts included.
    pub seconds: Vec<f64>,
}

/// What a flow takes of the kernel's memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// What forwarded.
    pub variant: Variant,
    /// How many flows there were.
    pub flows: u32,
    /// Bytes per flow in the kernel's slabs: connection tracking, mostly.
    pub slabs: f64,
    /// Bytes per entry of the daemon's tables for flows, which are there whether used or not.
    pub tables: Option<f64>,
}

/// A whole benchmark.
#[derive(Clone, Debug)]
pub struct Measured {
    /// On what it was measured.
    pub machine: Machine,
    /// What could not be measured, and why.
    pub skipped: Vec<String>,
    /// Costs of packets.
    pub series: Vec<Series>,
    /// Transfers.
    pub bulk: Vec<Bulk>,
    /// Memory.
    pub memory: Vec<Memory>,
}

impl Measured {
    /// Whether all that was measured counts and keeps what is demanded.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.series.iter().all(|series| series.void.is_none())
            && demands(self)
                .iter()
                .all(|demand| demand.holds() != Some(false))
    }

    /// The series of a variant with a case.
    fn series_of(&self, variant: Variant, case: Case) -> Option<&Series> {
        self.series
            .iter()
            .find(|series| series.variant == variant && series.case == case)
    }
}

/// Makes a map, as a descriptor for a program and as aya knows it.
fn pinned_map(
    bpffs: &Path,
    kind: MapKind,
    key: u32,
    value: u32,
    entries: u32,
) -> Result<(OwnedFd, MapData), ProgramsError> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let made = bpf::map(kind, key, value, entries).map_err(failed("make a map"))?;
    // aya takes maps by their names on a file system only.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = bpffs.join(format!("map{number}"));
    bpf::pin(made.as_fd(), &path).map_err(failed("pin a map"))?;
    let known = MapData::from_pin(&path);
    fs::remove_file(&path).map_err(failed("unpin a map"))?;
    let known = known.map_err(|source| ProgramsError::Map {
        name: "that was made".to_owned(),
        source,
    })?;
    Ok((made, known))
}

/// Has a program see the packets that come in by an interface of a node. It is named where that fails.
async fn attached(
    node: &Node,
    interface: &str,
    mut program: Assembled,
    name: &str,
) -> Result<Assembled, ProgramsError> {
    let interface = interface.to_owned();
    let attached = node.run(move || async move {
        attach(program.program_mut(), &interface, Direction::Ingress).map(|()| program)
    });
    attached.await?.map_err(|source| ProgramsError::Program {
        name: name.to_owned(),
        source,
    })
}
