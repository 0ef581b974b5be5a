//! What is demanded of the figures: ratios within one run.

use failover::family::Family;
use serde::Serialize;

use super::statistics::{median, middle_between, unrest};
use super::{Bulk, Case, Measured, Protocol, Variant};

/// How far apart the quartiles of what the generator alone takes may be.
const STEADY: f64 = 1.3;

/// A demand, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Demand {
    /// What is compared.
    pub text: String,
    /// The ratio; `None` where it is not known.
    pub ratio: Option<f64>,
    /// Why it is not known, where both were measured.
    pub unknown: Option<String>,
    /// The most, or the least, that it may be.
    pub limit: f64,
    /// Whether it may not be more, or not be less.
    pub at_most: bool,
}

impl Demand {
    /// `None` where it was not measured.
    #[must_use]
    pub fn holds(&self) -> Option<bool> {
        let ratio = self.ratio?;
        Some(if self.at_most {
            ratio <= self.limit
        } else {
            ratio >= self.limit
        })
    }
}

/// A ratio of two variants with one case.
struct Compared {
    one: Variant,
    other: Variant,
    limit: f64,
    new: bool,
    flows: u32,
}

impl Compared {
    const fn known(one: Variant, other: Variant, flows: u32, limit: f64) -> Self {
        Self {
            one,
            other,
            limit,
            new: false,
            flows,
        }
    }

    const fn new(one: Variant, other: Variant, limit: f64) -> Self {
        Self {
            one,
            other,
            limit,
            new: true,
            flows: 0,
        }
    }

    fn matches(&self, case: &Case) -> bool {
        case.new == self.new && case.size < 100 && (self.new || case.flows == self.flows)
    }
}

/// All demands that are about something that was measured.
#[must_use]
pub fn demands(measured: &Measured) -> Vec<Demand> {
    use Variant::{Ebpf, FastPath, Masquerade, Minimal, NftablesConnmark};
    let compared = [
        Compared::known(FastPath, Masquerade, 1000, 0.40),
        Compared::known(FastPath, Minimal, 1000, 1.35),
        Compared::known(FastPath, Masquerade, 100_000, 0.50),
        Compared::known(Ebpf, Masquerade, 1000, 1.10),
        Compared::known(Ebpf, NftablesConnmark, 1000, 1.00),
        Compared::new(Ebpf, Masquerade, 0.90),
        Compared::new(Ebpf, NftablesConnmark, 1.00),
        Compared::new(FastPath, Masquerade, 0.90),
        Compared::new(FastPath, NftablesConnmark, 1.00),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for series in &measured.series {
        if !cases.contains(&series.case) {
            cases.push(series.case);
        }
    }
    let mut demands = Vec::new();
    for case in &cases {
        for compared in compared.iter().filter(|compared| compared.matches(case)) {
            demands.extend(of_packets(measured, *case, compared));
        }
    }
    demands.extend(of_bulk(&measured.bulk));
    demands
}

fn of_packets(measured: &Measured, case: Case, compared: &Compared) -> Option<Demand> {
    let cost = |variant| Some(measured.series_of(variant, case)?.cost()?.median);
    let _measured = measured.series_of(compared.one, case)?;
    let unknown = restless(measured, case);
    let costs = cost(compared.one).zip(cost(compared.other));
    let ratio = costs.filter(|(one, other)| unknown.is_none() && *one > 0.0 && *other > 0.0);
    let (one, other) = (compared.one, compared.other);
    let what = if case.new {
        format!("new flows per second, {one} to {other}")
    } else {
        format!("cost of a packet, {one} to {other}, {} flows", case.flows)
    };
    Some(Demand {
        text: format!("{what}, {}", kind(case.family, case.protocol)),
        // As many flows in a second as their cost goes into it.
        ratio: ratio.map(|(one, other)| if case.new { other / one } else { one / other }),
        unknown,
        limit: compared.limit,
        at_most: !case.new,
    })
}

/// How the machine's speed changed from turn to turn, where it did so much that no ratio tells anything:
/// the generator alone does the same each time.
fn restless(measured: &Measured, case: Case) -> Option<String> {
    let alone = measured.series_of(Variant::Generator, case)?;
    let unrest = unrest(&alone.gross).filter(|unrest| *unrest > STEADY)?;
    Some(format!(
        "the machine was restless, the quartiles of what the generator alone takes are {unrest:.2} to 1"
    ))
}

/// How reports name a kind of flow.
pub(super) fn kind(family: Family, protocol: Protocol) -> String {
    let protocol = match protocol {
        Protocol::Udp => "UDP",
        Protocol::Tcp => "TCP",
    };
    format!("{protocol} over {family}")
}

fn of_bulk(bulk: &[Bulk]) -> Vec<Demand> {
    let (variant, to) = (Variant::FastPath, Variant::Masquerade);
    let found = |variant, offload| {
        bulk.iter()
            .find(|bulk| bulk.variant == variant && bulk.offload == offload)
    };
    if found(Some(variant), true).is_none() {
        return Vec::new();
    }
    let pair = |offload| found(Some(variant), offload).zip(found(Some(to), offload));
    let compared = |offload, figure: fn(&Bulk) -> &Vec<f64>| {
        let (one, other) = pair(offload)?;
        let turns = figure(one).iter().zip(figure(other));
        Some(turns.map(|(one, other)| one / other).collect())
    };
    // What the end hosts take is taken off.
    let shares = || {
        let ((one, other), alone) = pair(false).zip(found(None, false))?;
        let turns = one.seconds.iter().zip(&other.seconds).zip(&alone.seconds);
        let shares = turns.map(|((one, other), alone)| (one - alone) / (other - alone));
        Some(shares.collect())
    };
    vec![
        by_turns(
            format!("TCP throughput, offloads on, {variant} to {to}"),
            compared(true, |bulk| &bulk.gigabits),
            (0.98, false),
        ),
        by_turns(
            format!("CPU per gigabyte, offloads on, {variant} to {to}"),
            compared(true, |bulk| &bulk.seconds),
            (1.0, true),
        ),
        by_turns(
            format!("the gateway's CPU per gigabyte, offloads off, {variant} to {to}"),
            shares(),
            (0.6, true),
        ),
    ]
}

/// A demand of what was compared turn by turn, since the machine's speed changes from one to the next.
/// Only what cannot be chance is not met.
fn by_turns(text: String, turns: Option<Vec<f64>>, (limit, at_most): (f64, bool)) -> Demand {
    let turns = turns.unwrap_or_default();
    let mut demand = Demand {
        text,
        ratio: median(&turns),
        unknown: None,
        limit,
        at_most,
    };
    if demand.holds() == Some(false)
        && let Some(ratio) = demand.ratio
        && let Some((low, high)) = middle_between(&turns)
        && (low..=high).contains(&limit)
    {
        demand.ratio = None;
        demand.unknown = Some(format!(
            "it is {ratio:.2}, but turns differ so much that it may be from {low:.2} to {high:.2}"
        ));
    }
    demand
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Machine;
    use crate::bench::forwarding::Series;

    fn measured(costs: &[(Variant, f64)], new: bool) -> Measured {
        let case = Case {
            new,
            flows: 1000,
            size: 60,
            family: Family::Ipv4,
            protocol: Protocol::Udp,
        };
        let series = costs.iter().map(|(variant, cost)| Series {
            variant: *variant,
            case,
            gross: vec![cost + 500.0],
            net: vec![*cost],
            void: None,
        });
        Measured {
            machine: Machine::this(),
            skipped: Vec::new(),
            series: series.collect(),
            bulk: Vec::new(),
            memory: Vec::new(),
        }
    }

    #[test]
    fn a_cost_must_not_be_too_high() {
        let with = |ours| {
            measured(
                &[(Variant::Masquerade, 2000.0), (Variant::Ebpf, ours)],
                false,
            )
        };
        assert!(with(2200.0).holds());
        assert!(!with(2201.0).holds());
    }

    #[test]
    fn new_flows_must_not_be_too_few() {
        let with = |ours| measured(&[(Variant::Masquerade, 900.0), (Variant::Ebpf, ours)], true);
        assert!(with(1000.0).holds());
        assert!(!with(1001.0).holds());
    }

    #[test]
    fn where_the_machine_was_restless_nothing_is_known() {
        let costs = [
            (Variant::Generator, 0.0),
            (Variant::Masquerade, 2000.0),
            (Variant::Ebpf, 9000.0),
        ];
        let mut measured = measured(&costs, false);
        assert!(!measured.holds());
        measured.series[0].gross = vec![650.0, 1100.0, 660.0, 1090.0];
        let demands = demands(&measured);
        assert_eq!(demands[0].holds(), None);
        let why = demands[0].unknown.as_deref();
        assert!(why.is_some_and(|why| why.contains("1.69 to 1")), "{why:?}");
    }

    fn transfer(variant: Option<Variant>, offload: bool, seconds: &[f64]) -> Bulk {
        Bulk {
            variant,
            offload,
            gigabits: seconds.iter().map(|seconds| 8.0 / seconds).collect(),
            seconds: seconds.to_vec(),
        }
    }

    #[test]
    fn transfers_are_compared_turn_by_turn_and_what_may_be_chance_is_not_known() {
        // The machine's speed at each turn.
        let speeds: [f64; 9] = [1.0, 2.0, 1.0, 1.0, 2.0, 1.0, 1.0, 2.0, 1.0];
        let (ours, theirs) = (Some(Variant::FastPath), Some(Variant::Masquerade));
        let holds = |ratios: [f64; 9]| {
            let turns: Vec<_> = speeds.iter().zip(ratios).map(|(a, b)| a * b).collect();
            let demands = of_bulk(&[
                transfer(ours, true, &turns),
                transfer(theirs, true, &speeds),
            ]);
            assert!(demands[2].ratio.is_none() && demands[2].unknown.is_none());
            [demands[0].holds(), demands[1].holds()]
        };
        assert_eq!(holds([0.9; 9]), [Some(true); 2]);
        assert_eq!(holds([1.1; 9]), [Some(false); 2]);
        let chance = [0.8, 1.1, 0.9, 1.2, 1.1, 0.7, 1.1, 1.2, 0.9];
        assert_eq!(holds(chance), [None; 2]);
    }

    #[test]
    fn of_transfers_by_small_packets_the_end_hosts_share_is_taken_off() {
        let by = |variant, seconds| transfer(variant, false, &[seconds; 5]);
        let holds = |ours| {
            let demands = of_bulk(&[
                by(None, 1.0),
                by(Some(Variant::Masquerade), 2.0),
                by(Some(Variant::FastPath), ours),
                transfer(Some(Variant::FastPath), true, &[1.0]),
            ]);
            demands[2].holds()
        };
        assert_eq!(holds(1.5), Some(true));
        assert_eq!(holds(1.7), Some(false));
    }

    #[test]
    fn what_costs_less_than_nothing_keeps_no_promise() {
        let costs = [(Variant::Masquerade, 2000.0), (Variant::Ebpf, -95.0)];
        assert_eq!(demands(&measured(&costs, false))[0].holds(), None);
    }

    #[test]
    fn what_is_void_is_no_success() {
        let mut measured = measured(&[(Variant::Masquerade, 2000.0)], false);
        assert!(measured.holds());
        measured.series[0].void = Some("half of them arrived".to_owned());
        assert!(!measured.holds());
    }
}
