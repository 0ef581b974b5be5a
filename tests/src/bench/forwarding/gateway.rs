//! A lab for a variant: its gateway set up as the variant is, what sends to it and what counts behind
//! it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use failover::family::{Family, PerFamily};
use failover_common::flow::Offering;
use serde_json::Value;

use super::far_end::FarEnd;
use super::frames::{Flows, Frames, Hop, Kind};
use super::generator::{Generator, Sent};
use super::marking::Marking;
use super::minimal::{Minimal, Way};
use super::plan::Options;
use super::{Protocol, Variant, setup};
use crate::daemon::{Daemon, State, Status};
use crate::error::LabError;
use crate::lab::{ACCESS, Lab};
use crate::node::ProgramSpec;
use crate::programs::ProgramsError;

/// The interfaces at both ends of the downlink.
const CLIENT: &str = "eth0";
const DOWNLINK: &str = "lan0";

/// How long a UDP flow must live until connection tracking takes it for one.
const UDP_STREAM: Duration = Duration::from_millis(2100);
/// How long a daemon has until its uplinks are up, and until known flows are on the fast path.
const UP_WITHIN: Duration = Duration::from_secs(60);
const OFFLOADED_WITHIN: Duration = Duration::from_secs(30);
/// How much longer for each flow: each has to send some packets, and is then looked at.
const OFFLOADED_EACH: Duration = Duration::from_micros(200);
const POLL: Duration = Duration::from_millis(50);
/// How many of a hundred flows have to be there, since a few may be on their way.
const OFFLOADED_PERCENT: u64 = 99;

/// A gateway of a variant.
pub(super) struct Gateway {
    pub(super) variant: Variant,
    pub(super) lab: Lab,
    pub(super) daemon: Option<Daemon>,
    generator: Generator,
    ends: Vec<FarEnd>,
    _marking: Option<Marking>,
    minimal: Option<(Minimal, PerFamily<Vec<Way>>)>,
    hop: PerFamily<Hop>,
}

/// A gateway, or why there is none.
pub(super) enum Built {
    Ready(Box<Gateway>),
    Skipped(String),
}

/// What arrived of what was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    pub(super) sent: Sent,
    pub(super) arrived: u64,
}

impl Gateway {
    /// Builds the gateway of a variant that has to hold so many flows; the generator works on this
    /// processor.
    pub(super) async fn build(
        variant: Variant,
        options: &Options,
        flows: u32,
        processor: usize,
    ) -> Result<Built, ProgramsError> {
        let uplinks = variant.uplinks(options.uplinks);
        let lab = Lab::builder().uplinks(uplinks).capture(false);
        let lab = lab.build().await?;
        let binary = options.binary.as_deref();
        let hop = hop(&lab).await?;
        setup::prepare(&lab).await?;
        let ends = far_ends(variant, &lab).await?;
        let daemon = if variant.is_ours() {
            match setup::daemon(variant, &lab, binary, flows).await? {
                Ok(daemon) => Some(daemon),
                Err(reason) => return Ok(Built::Skipped(format!("{variant}: {reason}"))),
            }
        } else {
            setup::rules(variant, &lab).await?;
            None
        };
        if let Some(daemon) = &daemon {
            let up = |status: &Status| status.all(State::Up);
            let what = "all uplinks are up";
            daemon.wait_until(what, UP_WITHIN, up).await?;
        }
        let marking = if variant == Variant::Marking {
            let node = lab.gateway().node();
            Some(Marking::on(node, DOWNLINK, &lab.bpffs(), flows).await?)
        } else {
            None
        };
        let minimal = if variant == Variant::Minimal {
            let node = lab.gateway().node();
            let program = Minimal::on(node, DOWNLINK, &lab.bpffs(), flows).await?;
            Some((program, ways(&lab).await?))
        } else {
            None
        };
        let client = lab.client(1)?.node();
        let generator = Generator::by(client, CLIENT, processor).await?;
        Ok(Built::Ready(Box::new(Self {
            variant,
            lab,
            daemon,
            generator,
            ends,
            minimal,
            _marking: marking,
            hop,
        })))
    }

    /// One frame of each flow.
    pub(super) fn frames(
        &self,
        flows: Flows,
        kind: Kind,
        size: usize,
    ) -> Result<Arc<Frames>, LabError> {
        let hop = *self.hop.get(flows.family);
        Ok(Arc::new(flows.frames(kind, hop, size)?))
    }

    /// Sends frames, so many in all, and counts what arrives.
    pub(super) async fn pass(
        &self,
        frames: &Arc<Frames>,
        count: usize,
    ) -> Result<Passed, ProgramsError> {
        let before = self.arrived()?;
        let sent = self.generator.send(frames, count).await?;
        let arrived = self.arrived()? - before;
        Ok(Passed { sent, arrived })
    }

    /// The first packets of flows, which the far end answers.
    pub(super) async fn open(&mut self, flows: Flows) -> Result<(), ProgramsError> {
        if let Some((minimal, ways)) = &mut self.minimal {
            let client = self.hop.get(flows.family).client;
            minimal.know(flows, client, ways.get(flows.family))?;
        }
        if !self.variant.tracks() {
            return Ok(());
        }
        if flows.protocol == Protocol::Tcp {
            self.exchange(self.frames(flows, Kind::Syn, 0)?).await?;
        }
        self.exchange(self.frames(flows, Kind::Data, 0)?).await
    }

    /// How long after [`Self::open`] the flows are to be [confirmed](Self::confirm).
    pub(super) fn rest(protocol: Protocol) -> Duration {
        match protocol {
            Protocol::Udp => UDP_STREAM,
            Protocol::Tcp => Duration::ZERO,
        }
    }

    /// Packets in both directions once more.
    pub(super) async fn confirm(&mut self, flows: Flows) -> Result<(), ProgramsError> {
        if !self.variant.tracks() {
            return Ok(());
        }
        self.exchange(self.frames(flows, Kind::Data, 0)?).await
    }

    /// Sends frames until nearly all of their flows are on the fast path, where the variant is about it:
    /// flows that are silent for a while leave it. Elsewhere each flow is seen once more.
    pub(super) async fn warm(&self, frames: &Arc<Frames>, flows: u32) -> Result<(), ProgramsError> {
        let wanted = u64::from(flows) * OFFLOADED_PERCENT / 100;
        let limit = OFFLOADED_WITHIN + OFFLOADED_EACH * flows;
        let began = Instant::now();
        loop {
            self.pass(frames, 1).await?;
            let Some(found) = self.on_fast_path().await? else {
                return Ok(());
            };
            // Flows that are not there yet are looked at again after so many packets.
            self.pass(frames, usize::from(Offering::USUAL.next)).await?;
            if found >= wanted {
                return Ok(());
            }
            if began.elapsed() > limit {
                return Err(LabError::NotInTime {
                    what: format!("{wanted} flows are on the fast path"),
                    limit,
                    detail: format!("\nthere are {found}"),
                }
                .into());
            }
        }
    }

    async fn exchange(&mut self, frames: Arc<Frames>) -> Result<(), ProgramsError> {
        self.answer(true)?;
        let sent = self.generator.send(&frames, 1).await;
        self.answer(false)?;
        Ok(sent.map(drop)?)
    }

    /// How many flows are on the fast path; `None` where the variant is not about it.
    pub(super) async fn on_fast_path(&self) -> Result<Option<u64>, LabError> {
        match (&self.daemon, self.variant) {
            (Some(daemon), Variant::FastPath) => {
                let told = fast_path(daemon, "flows").await?;
                Ok(Some(told.as_u64().unwrap_or_default()))
            }
            _ => Ok(None),
        }
    }

    /// Waits until so many flows are, where the variant is about it.
    pub(super) async fn until_on_fast_path(&self, wanted: u64) -> Result<(), LabError> {
        let began = Instant::now();
        while let Some(found) = self.on_fast_path().await? {
            if found >= wanted {
                break;
            }
            if began.elapsed() > OFFLOADED_WITHIN {
                return Err(LabError::NotInTime {
                    what: format!("{wanted} flows are on the fast path"),
                    limit: OFFLOADED_WITHIN,
                    detail: format!("\nthere are {found}"),
                });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// How many flows connection tracking holds as assured.
    pub(super) async fn assured(&self, flows: Flows) -> Result<usize, LabError> {
        let (family, protocol) = names(flows);
        let line = format!("conntrack -L -f {family} -p {protocol} -u ASSURED --dport 9");
        let node = self.lab.gateway().node();
        let text = node.must(ProgramSpec::line(&line)).await?;
        Ok(text.lines().count())
    }

    /// Has connection tracking forget everything.
    pub(super) async fn forget(&self) -> Result<(), LabError> {
        let node = self.lab.gateway().node();
        node.must(ProgramSpec::line("conntrack -F")).await.map(drop)
    }

    fn answer(&mut self, answers: bool) -> Result<(), ProgramsError> {
        self.ends.iter_mut().try_for_each(|end| end.answer(answers))
    }

    fn arrived(&self) -> Result<u64, ProgramsError> {
        self.ends.iter().map(FarEnd::count).sum()
    }
}

/// Something that the daemon tells of its fast path; null where it tells nothing.
pub(super) async fn fast_path(daemon: &Daemon, key: &str) -> Result<Value, LabError> {
    let output = daemon.failover().command("status --json").await?;
    let status: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
    let told = status.get("fastpath").and_then(|told| told.get(key));
    Ok(told.cloned().unwrap_or_default())
}

const fn names(flows: Flows) -> (&'static str, &'static str) {
    let family = match flows.family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    };
    let protocol = match flows.protocol {
        Protocol::Udp => "udp",
        Protocol::Tcp => "tcp",
    };
    (family, protocol)
}

async fn hop(lab: &Lab) -> Result<PerFamily<Hop>, LabError> {
    let client = lab.client(1)?;
    let from = client.node().hardware_address(CLIENT).await?;
    let to = lab.gateway().node().hardware_address(DOWNLINK).await?;
    let addresses = PerFamily::from_fn(|family| client.address(family));
    let hop = |family| {
        let client = (*addresses.get(family)).ok_or_else(|| LabError::Layout {
            reason: format!("a client without an {family} address"),
        })?;
        Ok::<_, LabError>(Hop { from, to, client })
    };
    let (ipv4, ipv6) = (hop(Family::Ipv4)?, hop(Family::Ipv6)?);
    Ok(PerFamily::from_fn(|family| match family {
        Family::Ipv4 => ipv4,
        Family::Ipv6 => ipv6,
    }))
}

async fn far_ends(variant: Variant, lab: &Lab) -> Result<Vec<FarEnd>, ProgramsError> {
    let bpffs = lab.bpffs();
    if variant == Variant::Generator {
        let gateway = lab.gateway().node();
        return Ok(vec![FarEnd::on(gateway, DOWNLINK, &bpffs).await?]);
    }
    let mut ends = Vec::new();
    for uplink in lab.uplinks() {
        ends.push(FarEnd::on(uplink.provider(), ACCESS, &bpffs).await?);
    }
    Ok(ends)
}

/// By which ways the minimal program sends, flow by flow in turn.
async fn ways(lab: &Lab) -> Result<PerFamily<Vec<Way>>, LabError> {
    let node = lab.gateway().node();
    let mut ways = PerFamily::from_fn(|_| Vec::new());
    for uplink in lab.uplinks() {
        let interface = node.interface_index(uplink.interface()).await?;
        let from = node.hardware_address(uplink.interface()).await?;
        let to = uplink.provider().hardware_address(ACCESS).await?;
        for family in Family::ALL {
            if let Some(source) = uplink.gateway_address(family) {
                ways.get_mut(family).push(Way {
                    interface,
                    from,
                    to,
                    source,
                });
            }
        }
    }
    Ok(ways)
}

/// Neighbours that need not be asked for: the first packets of very many flows would wait for the
/// answer, and too many do not.
pub(super) async fn neighbours(lab: &Lab) -> Result<(), LabError> {
    let gateway = lab.gateway().node();
    let client = lab.client(1)?;
    let mut batch = String::new();
    let mut known = |address: Option<std::net::IpAddr>, interface: &str, hardware: [u8; 6]| {
        let hardware = hardware.map(|byte| format!("{byte:02x}")).join(":");
        if let Some(address) = address {
            // Writing to a string does not fail.
            writeln!(
                batch,
                "neigh replace {address} lladdr {hardware} dev {interface} nud permanent"
            )
            .ok();
        }
    };
    let hardware = client.node().hardware_address(CLIENT).await?;
    for family in Family::ALL {
        known(client.address(family), DOWNLINK, hardware);
    }
    for uplink in lab.uplinks() {
        let hardware = uplink.provider().hardware_address(ACCESS).await?;
        for family in Family::ALL {
            known(uplink.next_hop(family), uplink.interface(), hardware);
        }
    }
    let spec = ProgramSpec::line("ip -batch -").input(batch);
    gateway.must(spec).await.map(drop)
}
