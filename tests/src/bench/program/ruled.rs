//! What the user's rules cost: the same packets with and without them, in turns.

use std::os::fd::AsFd;
use std::time::Duration;

use aya::programs::SchedClassifier;
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

/// Where new flows go.
#[derive(Clone, Copy)]
enum Servers {
    /// All to one, each from another port.
    One,
    /// Each to another: nothing that the last one looked up is at hand.
    Many,
}

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
        measured.extend(self.misses(
            Servers::One,
            &[
                (Meeting::MissNoRules, &none),
                (Meeting::MissOneRule, &single),
                (Meeting::MissRules, &all),
            ],
        )?);
        measured.extend(self.misses(
            Servers::Many,
            &[
                (Meeting::ScatteredNoRules, &none),
                (Meeting::ScatteredRules, &all),
            ],
        )?);
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
        self.repeated(&*self.loaded.program(LAN_IN)?, first, 1, 1)?;
        for _ in 0..self.runs {
            for ((case, rules), took) in cases.iter().zip([none, all]).zip(&mut took) {
                self.decide(rules)?;
                took.extend(self.repeated(&*self.loaded.program(LAN_IN)?, case, PACKETS, 1)?);
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

    /// New flows, by turns under each of these rules; what the first costs is what the others are
    /// measured by.
    fn misses(
        &mut self,
        servers: Servers,
        turns: &[(Meeting, &(u8, Conditions))],
    ) -> Result<Vec<Series>, ProgramsError> {
        let ports = ETHERNET
            + match self.family {
                Family::Ipv4 => IPV4,
                Family::Ipv6 => IPV6,
            };
        let offset = match servers {
            Servers::One => ports,
            // The last two bytes of the destination and the first port are one word.
            Servers::Many => ports - 2,
        };
        let nothing = Assembled::nothing(&self.bpffs)?;
        let counting = |next: &SchedClassifier| {
            let next = next.fd().map_err(failed(LAN_IN))?;
            Assembled::counting_up(&self.bpffs, offset, next.as_fd())
        };
        let alone = counting(nothing.program())?;
        let counting = counting(&*self.loaded.program(LAN_IN)?)?;
        // A run counts up what comes first in its word, and never gets as far as the other half.
        let case = |bench: &Self, meeting, number| {
            let ports = match servers {
                Servers::One => (0, number),
                Servers::Many => (number, KNOWN.1),
            };
            bench.case(meeting, ports)
        };
        // All runs together leave room in the table.
        let runs = u32::try_from(self.runs * turns.len()).unwrap_or(u32::MAX);
        let packets = (CAPACITY / 3 / runs.max(1)).clamp(1, NEW_FLOWS);
        let mut numbers = 1000_u16..;
        let mut took = vec![Vec::new(); turns.len()];
        for _ in 0..self.runs {
            for ((meeting, rules), took) in turns.iter().zip(&mut took) {
                self.decide(rules)?;
                let case = case(self, *meeting, numbers.next().unwrap_or_default())?;
                took.extend(self.repeated(counting.program(), &case, packets, 1)?);
            }
        }
        let mut overhead = Vec::new();
        let mut measured: Vec<Series> = Vec::new();
        for ((meeting, _), took) in turns.iter().zip(took) {
            let case = case(self, *meeting, 1)?;
            if overhead.is_empty() {
                overhead = self.repeated(alone.program(), &case, PACKETS, self.runs)?;
            }
            let mut series = self.entry(&case, took, &overhead);
            let without = measured.first().map(Series::median);
            series.beside = without.map(|without| without + MISS_MORE);
            measured.push(series);
        }
        Ok(measured)
    }
}
