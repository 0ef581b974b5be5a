//! What is to be measured.

use std::path::PathBuf;

use clap::ValueEnum;
use failover::family::Family;

use super::{Case, Protocol, Variant};

/// How many new flows there are in a round.
const NEW_FLOWS: u32 = 50_000;
/// With how many flows is measured: few, many, very many.
const FEW: u32 = 1000;
const MANY: u32 = 100_000;
const VERY_MANY: u32 = 1_000_000;
/// How long frames are.
const SHORT: usize = 60;
const LONG: usize = 1400;

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Packets of known flows.
    Known,
    /// Packets of new flows.
    New,
    /// Transfers by TCP.
    Bulk,
    /// Memory per flow.
    Memory,
}

/// What is to be measured. Where a list is empty, the usual.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which gateways; the generator alone is always among them.
    pub variants: Vec<Variant>,
    /// Which parts.
    pub parts: Vec<Part>,
    /// Numbers of known flows.
    pub flows: Vec<u32>,
    /// Lengths of frames.
    pub sizes: Vec<usize>,
    /// Families.
    pub families: Vec<Family>,
    /// Protocols.
    pub protocols: Vec<Protocol>,
    /// How many uplinks failover's gateways have.
    pub uplinks: u8,
    /// How many rounds; some of the longer parts have fewer.
    pub rounds: usize,
    /// Only what matters most, for a first look.
    pub quick: bool,
    /// The binary; by default the one that was built together with this program.
    pub binary: Option<PathBuf>,
}

impl Options {
    /// Whether a part is wanted.
    pub(super) fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// The variants, in their order.
    pub(super) fn variants(&self) -> Vec<Variant> {
        let wanted = |variant: &Variant| {
            *variant == Variant::Generator
                || self.variants.is_empty()
                || self.variants.contains(variant)
        };
        Variant::ALL.into_iter().filter(wanted).collect()
    }

    /// How many packets a variant gets in its turn.
    pub(super) const fn packets(&self) -> usize {
        if self.quick { 50_000 } else { 100_000 }
    }

    /// The families that are measured with.
    pub(super) fn families(&self) -> Vec<Family> {
        or(&self.families, &Family::ALL)
    }

    /// What is sent.
    pub(super) fn cases(&self) -> Vec<Case> {
        let known = if self.wants(Part::Known) {
            self.known()
        } else {
            Vec::new()
        };
        let new = if self.wants(Part::New) {
            self.new_flows()
        } else {
            Vec::new()
        };
        known.into_iter().chain(new).collect()
    }

    fn known(&self) -> Vec<Case> {
        use Family::{Ipv4, Ipv6};
        use Protocol::{Tcp, Udp};
        let case = |(flows, size, family, protocol)| Case {
            new: false,
            flows,
            size,
            family,
            protocol,
        };
        let first = [
            (FEW, SHORT, Ipv4, Udp),
            (FEW, SHORT, Ipv6, Udp),
            (FEW, SHORT, Ipv4, Tcp),
        ];
        let more = [
            (FEW, SHORT, Ipv6, Tcp),
            (FEW, LONG, Ipv4, Udp),
            (FEW, LONG, Ipv6, Udp),
            (MANY, SHORT, Ipv4, Udp),
            (MANY, SHORT, Ipv6, Udp),
            (VERY_MANY, SHORT, Ipv4, Udp),
        ];
        if self.flows.is_empty() && self.sizes.is_empty() {
            let more = more.into_iter().filter(|_| !self.quick);
            let all = first.into_iter().chain(more).map(case);
            return all.filter(|case| self.admits(*case)).collect();
        }
        let mut cases = Vec::new();
        for flows in or(&self.flows, &[FEW]) {
            for size in or(&self.sizes, &[SHORT]) {
                for family in self.families() {
                    for protocol in or(&self.protocols, &[Udp]) {
                        cases.push(case((flows, size, family, protocol)));
                    }
                }
            }
        }
        cases
    }

    fn new_flows(&self) -> Vec<Case> {
        let all = [
            (Family::Ipv4, Protocol::Udp),
            (Family::Ipv6, Protocol::Udp),
            (Family::Ipv4, Protocol::Tcp),
        ];
        let count = if self.quick { 1 } else { all.len() };
        let cases = all.into_iter().take(count).map(|(family, protocol)| Case {
            new: true,
            flows: NEW_FLOWS,
            size: SHORT,
            family,
            protocol,
        });
        cases.filter(|case| self.admits(*case)).collect()
    }

    fn admits(&self, case: Case) -> bool {
        (self.families.is_empty() || self.families.contains(&case.family))
            && (self.protocols.is_empty() || self.protocols.contains(&case.protocol))
    }
}

fn or<T: Clone>(given: &[T], usual: &[T]) -> Vec<T> {
    if given.is_empty() { usual } else { given }.to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::USUAL_UPLINKS;
    use super::*;

    fn usual(quick: bool) -> Options {
        Options {
            uplinks: USUAL_UPLINKS,
            variants: Vec::new(),
            parts: Vec::new(),
            flows: Vec::new(),
            sizes: Vec::new(),
            families: Vec::new(),
            protocols: Vec::new(),
            rounds: 5,
            quick,
            binary: None,
        }
    }

    #[test]
    fn the_generator_is_always_measured() {
        let options = Options {
            variants: vec![Variant::Ebpf],
            ..usual(false)
        };
        assert_eq!(options.variants(), [Variant::Generator, Variant::Ebpf]);
        assert_eq!(usual(false).variants(), Variant::ALL);
    }

    #[test]
    fn what_is_given_takes_the_place_of_the_usual() {
        let options = Options {
            flows: vec![7],
            families: vec![Family::Ipv6],
            parts: vec![Part::Known],
            ..usual(false)
        };
        let cases = options.cases();
        assert_eq!(cases.len(), 1);
        assert_eq!((cases[0].flows, cases[0].family), (7, Family::Ipv6));
        assert!(usual(true).cases().len() < usual(false).cases().len());
    }
}
