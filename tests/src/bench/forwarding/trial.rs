//! The rounds.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use nix::unistd::Pid;

use super::frames::{Flows, Frames, Kind};
use super::gateway::{Built, Gateway, Passed};
use super::generator::{processors, stay_on};
use super::plan::{Options, Part};
use super::{Case, Measured, Memory, Series, Variant, bulk, median, memory, report};
use crate::bench::Machine;
use crate::error::LabError;
use crate::programs::ProgramsError;

/// Above this, flows are there only while their variant has its turn.
const AT_ONCE: u32 = 10_000;
/// What of the frames must arrive.
const FORWARDED: f64 = 0.999;
/// Where new flows are counted from, beyond all known ones.
const FIRST_NEW: u32 = 2_000_000;
/// Rounds with many flows, and with transfers, take long; those with very many flows longer.
const LONG_ROUNDS: usize = 5;
const LONGEST_ROUNDS: usize = 3;
const VERY_MANY: u32 = 500_000;

/// Measures.
///
/// # Errors
/// When a gateway could not be built, or something could not be done.
pub async fn run(options: &Options) -> Result<Measured, ProgramsError> {
    let machine = Machine::this();
    let (first, last) = processors().map_err(LabError::io("find the usable processors"))?;
    // All that is started from here on stays there, too.
    stay_on(Pid::from_raw(0), first).map_err(LabError::io("stay on the first processor"))?;
    let mut measured = Measured {
        machine,
        skipped: Vec::new(),
        series: Vec::new(),
        bulk: Vec::new(),
        memory: Vec::new(),
    };
    let cases = possible(options.cases(), &mut measured.skipped)?;
    let most = cases.iter().map(|case| case.flows).max();
    let most = most.unwrap_or_default().max(memory::FLOWS);
    let mut gateways = Vec::new();
    for variant in options.variants() {
        progress(&format!("building the gateway: {variant}"));
        match Gateway::build(variant, options, most, last).await? {
            Built::Ready(gateway) => gateways.push(*gateway),
            Built::Skipped(reason) => {
                progress(&format!("skipped: {reason}"));
                measured.skipped.push(reason);
            }
        }
    }
    for case in cases {
        let series = Trial::new(options, case).rounds(&mut gateways).await?;
        measured.series.extend(series);
    }
    if options.wants(Part::Memory) && !options.quick {
        for gateway in &mut gateways {
            measured.memory.extend(footprint(gateway).await?);
        }
    }
    if options.wants(Part::Bulk) {
        let rounds = options.rounds.min(LONG_ROUNDS);
        measured.bulk = bulk::run(&gateways, rounds, last, options.quick).await?;
    }
    Ok(measured)
}

/// Tells whoever waits; the result goes elsewhere.
pub(super) fn progress(text: &str) {
    // Whether anybody reads is none of our business.
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Without the cases for which connection tracking has no room on this machine.
fn possible(cases: Vec<Case>, skipped: &mut Vec<String>) -> Result<Vec<Case>, LabError> {
    const PATH: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
    let text = std::fs::read_to_string(PATH).map_err(LabError::io(format!("read {PATH}")))?;
    let room: u32 = text.trim().parse().unwrap_or(0);
    let (possible, too_many): (Vec<_>, Vec<_>) =
        cases.into_iter().partition(|case| case.flows < room);
    for case in too_many {
        skipped.push(format!(
            "{} flows: this machine tracks {room} at most (net.netfilter.nf_conntrack_max, \
             which only the machine itself can raise)",
            case.flows
        ));
    }
    Ok(possible)
}

/// The rounds of one case.
struct Trial<'a> {
    options: &'a Options,
    case: Case,
    flows: Flows,
    found: BTreeMap<Variant, Found>,
}

/// What the rounds of one variant found.
#[derive(Default)]
struct Found {
    gross: Vec<f64>,
    void: Option<String>,
}

impl<'a> Trial<'a> {
    fn new(options: &'a Options, case: Case) -> Self {
        Self {
            options,
            case,
            flows: Flows {
                family: case.family,
                protocol: case.protocol,
                first: 0,
                count: case.flows,
            },
            found: BTreeMap::new(),
        }
    }

    async fn rounds(mut self, gateways: &mut [Gateway]) -> Result<Vec<Series>, ProgramsError> {
        let Case {
            flows, family, new, ..
        } = self.case;
        progress(&report::title(self.case));
        let mut gateways: Vec<&mut Gateway> = gateways
            .iter_mut()
            .filter(|gateway| gateway.variant.speaks(family))
            .filter(|gateway| !new || gateway.variant != Variant::Minimal)
            .collect();
        if new {
            self.new_flows(&mut gateways).await?;
        } else if flows <= AT_ONCE {
            self.few(&mut gateways).await?;
        } else {
            self.many(&mut gateways).await?;
        }
        Ok(self.series())
    }

    /// What known flows send.
    fn frames(&self, gateway: &Gateway) -> Result<Arc<Frames>, LabError> {
        let frames = gateway.frames(self.flows, Kind::Data, self.case.size)?;
        Ok(Arc::new(frames.mixed()))
    }

    /// Flows that are there in all gateways at once.
    async fn few(&mut self, gateways: &mut [&mut Gateway]) -> Result<(), ProgramsError> {
        for gateway in gateways.iter_mut() {
            gateway.open(self.flows).await?;
        }
        tokio::time::sleep(Gateway::rest(self.case.protocol)).await;
        let mut ready = Vec::new();
        for gateway in gateways.iter_mut() {
            gateway.confirm(self.flows).await?;
            self.check(gateway).await?;
            ready.push(self.frames(gateway)?);
        }
        for _ in 0..self.options.rounds {
            for (gateway, frames) in gateways.iter().zip(&ready) {
                self.known(gateway, frames).await?;
            }
        }
        for gateway in gateways.iter().filter(|gateway| gateway.variant.tracks()) {
            gateway.forget().await?;
        }
        Ok(())
    }

    /// Flows that are there only while it is their gateway's turn.
    async fn many(&mut self, gateways: &mut [&mut Gateway]) -> Result<(), ProgramsError> {
        let most = if self.case.flows > VERY_MANY {
            LONGEST_ROUNDS
        } else {
            LONG_ROUNDS
        };
        for round in 0..self.options.rounds.min(most) {
            for gateway in gateways.iter_mut() {
                gateway.open(self.flows).await?;
                if gateway.variant.tracks() {
                    tokio::time::sleep(Gateway::rest(self.case.protocol)).await;
                }
                gateway.confirm(self.flows).await?;
                if round == 0 {
                    self.check(gateway).await?;
                }
                let frames = self.frames(gateway)?;
                self.known(gateway, &frames).await?;
                if gateway.variant.tracks() {
                    gateway.forget().await?;
                }
            }
        }
        Ok(())
    }

    /// Each frame the first of a flow.
    async fn new_flows(&mut self, gateways: &mut [&mut Gateway]) -> Result<(), ProgramsError> {
        let mut flows = self.flows;
        flows.first = FIRST_NEW;
        for _ in 0..self.options.rounds {
            for gateway in gateways.iter() {
                let frames = gateway.frames(flows, Kind::Syn, self.case.size)?;
                let passed = gateway.pass(&frames, 1).await?;
                self.note(gateway.variant, passed);
                if gateway.variant.tracks() {
                    gateway.forget().await?;
                }
            }
            flows.first += flows.count;
        }
        Ok(())
    }

    /// One turn, after all flows were seen once more.
    async fn known(
        &mut self,
        gateway: &Gateway,
        frames: &Arc<Frames>,
    ) -> Result<(), ProgramsError> {
        gateway.warm(frames, self.case.flows).await?;
        let passed = gateway.pass(frames, self.options.packets()).await?;
        self.note(gateway.variant, passed);
        Ok(())
    }

    async fn check(&mut self, gateway: &Gateway) -> Result<(), LabError> {
        if !gateway.variant.tracks() {
            return Ok(());
        }
        let (assured, wanted) = (gateway.assured(self.flows).await?, self.case.flows);
        if u32::try_from(assured) != Ok(wanted) {
            let found = self.found.entry(gateway.variant).or_default();
            found.void = Some(format!("{assured} of {wanted} flows were established"));
        }
        Ok(())
    }

    fn note(&mut self, variant: Variant, passed: Passed) {
        let found = self.found.entry(variant).or_default();
        found.gross.push(passed.sent.cost);
        let (arrived, sent) = (passed.arrived, passed.sent.frames);
        if (arrived as f64) < sent as f64 * FORWARDED || arrived > sent {
            found.void = Some(format!("{arrived} of {sent} frames arrived"));
        }
    }

    fn series(self) -> Vec<Series> {
        let alone = self
            .found
            .get(&Variant::Generator)
            .map(|found| found.gross.clone())
            .unwrap_or_default();
        let case = self.case;
        let series = self.found.into_iter().map(|(variant, found)| {
            let net = found.gross.iter().zip(&alone);
            Series {
                variant,
                case,
                net: net.map(|(gross, alone)| gross - alone).collect(),
                gross: found.gross,
                void: found.void,
            }
        });
        series.collect()
    }
}

/// What flows take of memory in a gateway that tracks them.
async fn footprint(gateway: &mut Gateway) -> Result<Option<Memory>, ProgramsError> {
    if !gateway.variant.tracks() {
        return Ok(None);
    }
    let flows = Flows {
        family: failover::family::Family::Ipv4,
        protocol: super::Protocol::Tcp,
        first: FIRST_NEW / 2,
        count: memory::FLOWS,
    };
    progress(&format!("memory: {}", gateway.variant));
    let mut slabs = Vec::new();
    for _ in 0..LONGEST_ROUNDS {
        let before = memory::settled().await?;
        gateway.open(flows).await?;
        gateway.confirm(flows).await?;
        let taken = memory::settled().await?.saturating_sub(before);
        slabs.push(taken as f64 / f64::from(flows.count));
        gateway.forget().await?;
    }
    Ok(Some(Memory {
        variant: gateway.variant,
        flows: flows.count,
        // Others use the same slabs meanwhile.
        slabs: median(&slabs).unwrap_or_default(),
        tables: memory::tables(gateway)?,
    }))
}
