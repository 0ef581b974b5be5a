//! The measurements.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use aya::programs::{ProgramError, SchedClassifier};
use failover::dataplane::ebpf::object::EMBEDDED;
use failover::family::Family;

use super::frames::{ETHERNET, IPV4, IPV6, arp, datagram};
use super::{Measured, Meeting, Series};
use crate::addressing::servers;
use crate::bench::Machine;
use crate::daemon::{Failover, State};
use crate::error::LabError;
use crate::lab::Lab;
use crate::programs::{
    Assembled, Context, Loaded, ProgramsError, Settings, Stand, Wiring, run as test_run,
};
use crate::terminal::Terminal;

pub(super) const LAN_IN: &str = "fo_lan_in";
const LAN_OUT: &str = "fo_lan_out";
pub(super) const WAN_IN: &str = "fo_wan_in";

const UPLINKS: u8 = 3;
const CONFIG: &str = r#"mode: classic
uplinks:
  one:   {interface: wan1}
  two:   {interface: wan2}
  three: {interface: wan3}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:203::2"]
"#;
const UP_WITHIN: Duration = Duration::from_secs(20);

/// The flow table's default size.
pub(super) const CAPACITY: u32 = 262_144;
/// New flows of a run: as many as there are ports, at most. Five runs together leave room in the
/// table.
pub(super) const NEW_FLOWS: u32 = 40_000;
/// Packets of a run where it does not matter.
pub(super) const PACKETS: u32 = 500_000;

/// The ports of the flow that is known.
pub(super) const PORTS: (u16, u16) = (5000, 53);

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many runs of each kind.
    pub runs: usize,
    /// The object; by default the embedded one.
    pub object: Option<PathBuf>,
    /// The binary whose rules and tables are measured with; by default the one that was built
    /// together with this program.
    pub binary: Option<PathBuf>,
}

/// Runs all measurements.
///
/// # Errors
/// When one could not be carried out.
pub async fn run(terminal: &Terminal, options: &Options) -> Result<Measured, ProgramsError> {
    let object = match &options.object {
        None => EMBEDDED.to_vec(),
        Some(path) => {
            std::fs::read(path).map_err(LabError::io(format!("read {}", path.display())))?
        }
    };
    let stand = Stand::new(UPLINKS).await?;
    let mut measured = Measured {
        machine: Machine::this(),
        packets: PACKETS,
        series: Vec::new(),
    };
    for rules in [false, true] {
        if rules {
            terminal.line("the daemon puts its rules and tables there");
            leave_rules(stand.lab(), options).await?;
        }
        terminal.line(if rules {
            "measuring with them"
        } else {
            "measuring with the gateway's own routes alone"
        });
        for family in Family::ALL {
            let series = measure(&stand, &object, family, rules, options.runs);
            let waiting = |passed: Duration| format!("  {family}: {:.0} s", passed.as_secs_f64());
            measured
                .series
                .extend(terminal.while_waiting(series, waiting).await?);
        }
    }
    Ok(measured)
}

/// Has a daemon set up the gateway, and kills it: what it has put there stays.
async fn leave_rules(lab: &Lab, options: &Options) -> Result<(), LabError> {
    let failover = Failover::chosen(lab, options.binary.as_deref(), CONFIG)?;
    let daemon = failover.run().await?;
    let up = |status: &crate::daemon::Status| status.all(State::Up);
    daemon
        .wait_until("all uplinks are up", UP_WITHIN, up)
        .await?;
    daemon.kill().await.map(drop)
}

/// What is measured with programs that were just loaded.
#[derive(Clone, Copy)]
enum Part {
    /// The same packet again and again.
    Same,
    /// New flows through this program.
    New(&'static str),
    /// Packets that take the fast path.
    Offloaded,
    /// Known and new flows, with and without the user's rules.
    Ruled,
}

/// Measures everything in one family.
async fn measure(
    stand: &Stand,
    object: &[u8],
    family: Family,
    rules: bool,
    runs: usize,
) -> Result<Vec<Series>, ProgramsError> {
    let missing = |what: &str| LabError::Layout {
        reason: format!("the lab has no {what} in {family}"),
    };
    let lab = stand.lab();
    let inside = lab.client(1)?.address(family);
    let outside = servers(family).first().copied();
    let gateway = lab.gateway().address(family);
    let hosts = Hosts {
        inside: inside.ok_or_else(|| missing("client"))?,
        outside: outside.ok_or_else(|| missing("server"))?,
        gateway: gateway.ok_or_else(|| missing("gateway"))?,
    };
    let settings = Settings {
        capacity: CAPACITY,
        ..Settings::default()
    };
    let mut measured = Vec::new();
    for part in [
        Part::Same,
        Part::New(LAN_IN),
        Part::New(LAN_OUT),
        Part::Offloaded,
        Part::Ruled,
    ] {
        let bpffs = lab.bpffs();
        let work = move |loaded: &mut Loaded, wiring: &Wiring| {
            loaded.answer_users()?;
            let mut bench = Bench {
                loaded,
                wiring,
                hosts,
                family,
                rules,
                runs,
                bpffs,
            };
            match part {
                Part::Same => bench.same(),
                Part::New(program) => bench.new_flows(program),
                Part::Offloaded => bench.offloaded(),
                Part::Ruled => bench.ruled(),
            }
        };
        measured.extend(stand.with(object.to_vec(), settings, work).await?);
    }
    Ok(measured)
}

#[derive(Clone, Copy)]
pub(super) struct Hosts {
    pub(super) inside: IpAddr,
    pub(super) outside: IpAddr,
    gateway: IpAddr,
}

pub(super) struct Bench<'b> {
    pub(super) loaded: &'b mut Loaded,
    pub(super) wiring: &'b Wiring,
    pub(super) hosts: Hosts,
    pub(super) family: Family,
    rules: bool,
    pub(super) runs: usize,
    pub(super) bpffs: PathBuf,
}

/// A packet, where it is, and what it is to a program.
pub(super) struct Case {
    pub(super) program: &'static str,
    pub(super) meeting: Meeting,
    pub(super) frame: Vec<u8>,
    pub(super) context: Context,
}

impl Bench<'_> {
    /// The same packet again and again.
    fn same(&self) -> Result<Vec<Series>, ProgramsError> {
        let nothing = Assembled::nothing(&self.bpffs)?;
        let cases = self.cases()?;
        // The first packet of a flow enters it, and its answer confirms it.
        for case in cases.iter().filter(|case| case.meeting == Meeting::Hit) {
            self.repeated(&*self.loaded.program(case.program)?, case, 1, 1)?;
        }
        cases
            .iter()
            // A frame without a family is measured once.
            .filter(|case| case.meeting != Meeting::Arp || self.family == Family::Ipv4)
            .map(|case| {
                let program = self.loaded.program(case.program)?;
                let overhead = self.repeated(nothing.program(), case, PACKETS, self.runs)?;
                let runs = self.repeated(&program, case, PACKETS, self.runs)?;
                Ok(self.entry(case, runs, &overhead))
            })
            .collect()
    }

    fn cases(&self) -> Result<Vec<Case>, ProgramsError> {
        let Hosts {
            inside,
            outside,
            gateway,
        } = self.hosts;
        let (lan, mac) = (self.wiring.lan, self.wiring.lan_mac);
        let wan = self.wan()?;
        let at = |ifindex, ingress_ifindex| Context {
            ifindex,
            ingress_ifindex,
            ..Context::default()
        };
        let packet = |from, to| datagram(mac, from, to, PORTS);
        let back = datagram(mac, outside, inside, (PORTS.1, PORTS.0))?;
        let case = |program, meeting, frame, context| Case {
            program,
            meeting,
            frame,
            context,
        };
        Ok(vec![
            case(LAN_IN, Meeting::Hit, packet(inside, outside)?, at(lan, 0)),
            case(LAN_IN, Meeting::Lan, packet(outside, inside)?, at(lan, 0)),
            case(
                LAN_IN,
                Meeting::Gateway,
                packet(inside, gateway)?,
                at(lan, 0),
            ),
            case(LAN_IN, Meeting::Arp, arp(mac), at(lan, 0)),
            case(LAN_OUT, Meeting::Hit, back.clone(), at(lan, wan)),
            case(LAN_OUT, Meeting::Other, back.clone(), at(lan, 0)),
            case(LAN_OUT, Meeting::Arp, arp(mac), at(lan, wan)),
            case(WAN_IN, Meeting::Counted, back, at(wan, 0)),
            case(WAN_IN, Meeting::Arp, arp(mac), at(wan, 0)),
        ])
    }

    /// New flows: first while the table has room, then when it is full.
    fn new_flows(&self, name: &'static str) -> Result<Vec<Series>, ProgramsError> {
        let Hosts {
            inside, outside, ..
        } = self.hosts;
        let (from, to, ingress_ifindex) = if name == LAN_IN {
            (inside, outside, 0)
        } else {
            (outside, inside, self.wan()?)
        };
        let context = Context {
            ifindex: self.wiring.lan,
            ingress_ifindex,
            ..Context::default()
        };
        let offset = ETHERNET
            + match self.family {
                Family::Ipv4 => IPV4,
                Family::Ipv6 => IPV6,
            };
        let nothing = Assembled::nothing(&self.bpffs)?;
        let counting = |next: &SchedClassifier| {
            let next = next.fd().map_err(failed(name))?;
            Assembled::counting_up(&self.bpffs, offset, next.as_fd())
        };
        let (alone, counting) = (
            counting(nothing.program())?,
            counting(&*self.loaded.program(name)?)?,
        );
        let case = |meeting, to_port| -> Result<Case, ProgramsError> {
            Ok(Case {
                program: name,
                meeting,
                frame: datagram(self.wiring.lan_mac, from, to, (0, to_port))?,
                context,
            })
        };
        // A run changes the first port of its packets and never gets as far as the second one, which
        // makes the flows of each run other ones.
        let mut to_ports = 1000_u16..;
        let mut series = |meeting, runs: usize| -> Result<Vec<Duration>, ProgramsError> {
            let mut took = Vec::new();
            for to_port in to_ports.by_ref().take(runs) {
                let case = case(meeting, to_port)?;
                took.extend(self.repeated(counting.program(), &case, NEW_FLOWS, 1)?);
            }
            Ok(took)
        };
        let overhead = self.repeated(
            alone.program(),
            &case(Meeting::Miss, 1)?,
            PACKETS,
            self.runs,
        )?;
        let roomy = series(Meeting::Miss, self.runs)?;
        let filling = CAPACITY.div_ceil(NEW_FLOWS) + 1;
        series(Meeting::Miss, usize::try_from(filling).unwrap_or_default())?;
        let full = series(Meeting::MissFull, self.runs)?;
        Ok(vec![
            self.entry(&case(Meeting::Miss, 1)?, roomy, &overhead),
            self.entry(&case(Meeting::MissFull, 1)?, full, &overhead),
        ])
    }

    pub(super) fn entry(&self, case: &Case, runs: Vec<Duration>, overhead: &[Duration]) -> Series {
        let mut series = Series {
            program: case.program,
            meeting: case.meeting,
            family: (case.meeting != Meeting::Arp).then_some(self.family),
            rules: self.rules,
            runs: overhead.to_vec(),
            overhead: Duration::ZERO,
            beside: None,
        };
        series.overhead = series.median();
        series.runs = runs;
        series
    }

    pub(super) fn wan(&self) -> Result<u32, ProgramsError> {
        let first = self.wiring.wans.first().copied();
        first.ok_or_else(|| ProgramsError::Missing("uplink".to_owned()))
    }

    pub(super) fn repeated(
        &self,
        program: &SchedClassifier,
        case: &Case,
        packets: u32,
        runs: usize,
    ) -> Result<Vec<Duration>, ProgramsError> {
        (0..runs)
            .map(|_| {
                let run = test_run(program, &case.frame, case.context, packets);
                Ok(run.map_err(failed(case.program))?.took)
            })
            .collect()
    }
}

pub(super) fn failed(name: &str) -> impl FnOnce(ProgramError) -> ProgramsError {
    let name = name.to_owned();
    |source| ProgramsError::Program { name, source }
}
