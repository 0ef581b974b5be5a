//! What the user's rules cost: the same packets with and without them, in turns.

use std::os::fd::AsFd;
use std::time::Duration;

use failover::dataplane::ebpf::conditions::Conditions;
use failover::family::Family;
use failover_common::{Affinity, Family as LayoutFamily, Interface, Role};

use super::frames::{ETHERNET, IPV4, IPV6, datagram};
use super::trial::{Bench, CAPACITY, Case, LAN_IN, NEW_FLOWS, PACKETS, failed};
use super::{Meeting, Series, worst};
use crate::programs::{Assembled, Context, ProgramsError};

/// A hit with rules may cost a fiftieth more than one without. The kernel tells whole nanoseconds.
const HIT_PART: u64 = 50;
/// A miss with rules may cost so much more than one without.
const MISS_MORE: Duration = Duration::from_micros(1);

/// A known flow's ports; new ones have other ports.
const KNOWN: (u16, u16) = (5000, 53);

impl Bench<'_> {
    /// Known and new flows.
    pub(super) fn ruled(&mut self) -> Result<Vec<Series>, ProgramsError> {
        let downlinks = worst::downlinks()?;
        let many = worst::many(self.family, self.hosts.inside)?;
        let one = worst::one()?;
        let rule_sets = [
            (0, Conditions::new(&Default::default(), &downlinks)),
            (1, Conditions::new(&one, &downlinks)),
            (0, Conditions::new(&many, &downlinks)),
        ];
        let [none, single, all] = rule_sets;
        self.loaded.write_rules(&single.1, &one, 1)?;
        self.loaded.write_rules(&all.1, &many, 0)?;
        let lan = Interface {
            role: Role::Downlink,
            uplink: 0,
            downlink: worst::NUMBER,
        };
        self.loaded.set_interface(self.wiring.lan, &lan)?;
        for generation in [0, 1] {
            for family in [LayoutFamily::Ipv4, LayoutFamily::Ipv6] {
                let pool = (1, generation);
                self.loaded
                    .select_for_rules(pool, family, Affinity::Flow, &[1, 2, 3])?;
            }
        }
        let mut measured = self.hits(&none, &all)?;
        measured.extend(self.misses([&none, &single, &all])?);
        Ok(measured)
    }

    fn decide(&mut self, (generation, rules): &(u8, Conditions)) -> Result<(), ProgramsError> {
        self.loaded.switch_rules(rules, *generation)
    }

    fn case(&self, meeting: Meeting, ports: (u16, u16)) -> Result<Case, ProgramsError> {
        let to = match meeting {
            Meeting::HitNoRules | Meeting::HitRules => self.hosts.outside,
            _ => worst::network(self.family),
        };
        Ok(Case {
            program: LAN_IN,
            meeting,
            frame: datagram(self.wiring.lan_mac, self.hosts.inside, to, ports)?,
            context: Context {
                ifindex: self.wiring.lan,
                ..Context::default()
            },
        })
    }

    fn hits(
        &mut self,
        none: &(u8, Conditions),
        all: &(u8, Conditions),
    ) -> Result<Vec<Series>, ProgramsError> {
        let case = |meeting| self.case(meeting, KNOWN);
        let cases = [case(Meeting::HitNoRules)?, case(Meeting::HitRules)?];
        let mut took = [Vec::new(), Vec::new()];
        // The first is no hit.
        let [first, _] = &cases;
        self.repeated(self.loaded.program(LAN_IN)?, first, 1, 1)?;
        for _ in 0..self.runs {
            for ((case, rules), took) in cases.iter().zip([none, all]).zip(&mut took) {
                self.decide(rules)?;
                took.extend(self.repeated(self.loaded.program(LAN_IN)?, case, PACKETS, 1)?);
            }
        }
        let nothing = Assembled::nothing(&self.bpffs)?;
        let [without, with] = &cases;
        let overhead = self.repeated(nothing.program(), without, PACKETS, self.runs)?;
        let [took_without, took_with] = took;
        let without = self.entry(without, took_without, &overhead);
        let mut with = self.entry(with, took_with, &overhead);
        let median = u64::try_from(without.median().as_nanos()).unwrap_or(u64::MAX);
        let most = median.saturating_add(median.div_ceil(HIT_PART));
        with.beside = Some(Duration::from_nanos(most));
        Ok(vec![without, with])
    }

    fn misses(&mut self, rules: [&(u8, Conditions); 3]) -> Result<Vec<Series>, ProgramsError> {
        // The last two bytes of the destination and the first port are one word, so that packets go to
        // other addresses and the port stays.
        let offset = ETHERNET - 2
            + match self.family {
                Family::Ipv4 => IPV4,
                Family::Ipv6 => IPV6,
            };
        let nothing = Assembled::nothing(&self.bpffs)?;
        let counting = |next: &aya::programs::SchedClassifier| {
            let next = next.fd().map_err(failed(LAN_IN))?;
            Assembled::counting_up(&self.bpffs, offset, next.as_fd())
        };
        let alone = counting(nothing.program())?;
        let counting = counting(self.loaded.program(LAN_IN)?)?;
        let meetings = [
            Meeting::MissNoRules,
            Meeting::MissOneRule,
            Meeting::MissRules,
        ];
        // All runs together leave room in the table.
        let runs = u32::try_from(self.runs * meetings.len()).unwrap_or(u32::MAX);
        let packets = (CAPACITY / 2 / runs.max(1)).clamp(1, NEW_FLOWS);
        let mut ports = 1_u16..;
        let mut took = meetings.map(|_| Vec::new());
        for _ in 0..self.runs {
            for ((meeting, rules), took) in meetings.into_iter().zip(rules).zip(&mut took) {
                self.decide(rules)?;
                let case = self.case(meeting, (ports.next().unwrap_or_default(), KNOWN.1))?;
                took.extend(self.repeated(counting.program(), &case, packets, 1)?);
            }
        }
        let case = |meeting| self.case(meeting, (0, KNOWN.1));
        let overhead = self.repeated(
            alone.program(),
            &case(Meeting::MissNoRules)?,
            PACKETS,
            self.runs,
        )?;
        let mut measured: Vec<Series> = meetings
            .into_iter()
            .zip(took)
            .map(|(meeting, took)| Ok(self.entry(&case(meeting)?, took, &overhead)))
            .collect::<Result<_, ProgramsError>>()?;
        let without = measured.first().map(Series::median).unwrap_or_default();
        for series in measured.iter_mut().skip(1) {
            series.beside = Some(without + MISS_MORE);
        }
        Ok(measured)
    }
}
