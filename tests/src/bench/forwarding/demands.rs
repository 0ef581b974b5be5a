//! What is demanded of the figures: ratios within one run.

use failover::family::Family;
use serde::Serialize;

use super::{Bulk, Case, Measured, Protocol, Spread, Variant};

/// A demand, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Demand {
    /// What is compared.
    pub text: String,
    /// The ratio; `None` where one of the two was not measured.
    pub ratio: Option<f64>,
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
    let ratio = cost(compared.one).zip(cost(compared.other));
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
        limit: compared.limit,
        at_most: !case.new,
    })
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
    let of = |variant, offload: bool, figure: fn(&Bulk) -> &Vec<f64>| {
        let found = bulk
            .iter()
            .find(|bulk| bulk.variant == variant && bulk.offload == offload)?;
        Some(Spread::of(figure(found))?.median)
    };
    let seconds: fn(&Bulk) -> &Vec<f64> = |bulk| &bulk.seconds;
    let gigabits: fn(&Bulk) -> &Vec<f64> = |bulk| &bulk.gigabits;
    if of(Some(variant), true, seconds).is_none() {
        return Vec::new();
    }
    let ratio = |offload, figure| {
        let one = of(Some(variant), offload, figure)?;
        Some(one / of(Some(to), offload, figure)?)
    };
    // What the end hosts take is taken off.
    let share = |variant| Some(of(Some(variant), false, seconds)? - of(None, false, seconds)?);
    let shares = share(variant).zip(share(to));
    vec![
        Demand {
            text: format!("TCP throughput, offloads on, {variant} to {to}"),
            ratio: ratio(true, gigabits),
            limit: 0.98,
            at_most: false,
        },
        Demand {
            text: format!("CPU per gigabyte, offloads on, {variant} to {to}"),
            ratio: ratio(true, seconds),
            limit: 1.0,
            at_most: true,
        },
        Demand {
            text: format!("the gateway's CPU per gigabyte, offloads off, {variant} to {to}"),
            ratio: shares.map(|(one, other)| one / other),
            limit: 0.6,
            at_most: true,
        },
    ]
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
    fn what_is_void_is_no_success() {
        let mut measured = measured(&[(Variant::Masquerade, 2000.0)], false);
        assert!(measured.holds());
        measured.series[0].void = Some("half of them arrived".to_owned());
        assert!(!measured.holds());
    }
}
