//! Who new flows go to by latency and by load.

use super::*;
use crate::controller::engine::tests::{Bench, YAML, both, id};
use crate::health::{Outcome, PlanNumber, Round};
use crate::interface::InterfaceIndex;
use crate::network::Traffic;
use crate::policy::Destination;

/// Rounds of which uplinks 1 to 3 are answered after these milliseconds, in both families.
fn answered(bench: &mut Bench, count: u64, millis: [u64; 3]) {
    for _ in 0..count {
        bench.sequence += 1;
        let now = bench.now();
        for (uplink, millis) in (1..).zip(millis) {
            for family in Family::ALL {
                let outcome = Outcome::Answered {
                    rtt: Duration::from_millis(millis),
                };
                let round = Round::of_two(PlanNumber(1), bench.sequence, now.at, outcome);
                bench.engine.round(id(uplink), family, &round, now);
            }
        }
        if bench.engine.is_stale() {
            bench.decide();
        }
    }
}

/// A second in which the interfaces of the uplinks received so many kbit.
fn second(bench: &mut Bench, counted: &mut [u64; 3], kbit: [u64; 3]) {
    bench.sequence += 2;
    for (counted, kbit) in counted.iter_mut().zip(kbit) {
        *counted += kbit * 125;
    }
    let links: BTreeMap<InterfaceName, Link> = (1_u32..)
        .zip(*counted)
        .map(|(n, rx_bytes)| {
            let mut link = Link::ethernet(InterfaceIndex(n));
            link.traffic = Traffic {
                rx_bytes,
                ..Traffic::default()
            };
            (format!("wan{n}").parse().unwrap(), link)
        })
        .collect();
    let now = bench.now();
    bench.engine.loads(&links, now);
    if bench.engine.is_stale() {
        bench.decide();
    }
}

fn started(more: &str) -> Bench {
    let mut bench = Bench::new(&format!("{YAML}{more}"));
    answered(&mut bench, 10, [10; 3]);
    bench
}

fn members(bench: &Bench) -> Vec<u8> {
    let [four, six] = Family::ALL.map(|family| bench.members(family));
    assert_eq!(four, six);
    four
}

fn shares(bench: &Bench) -> Vec<f64> {
    let status = bench.engine.status(bench.now().at);
    status.uplinks.iter().map(|u| u.ipv4.share).collect()
}

/// Who the flows of the first rule go to.
fn of_rule(bench: &Bench) -> Vec<u8> {
    let pools = &bench.engine.rule_pools;
    let rules = &bench.engine.policy().rules;
    let (Some(pool), Some(rule)) = (pools.first(), rules.first()) else {
        panic!("no rule");
    };
    match pool.destination(Family::Ipv4, rule.otherwise) {
        Destination::Pool(pool, _) => pool.members.keys().map(|id| id.get()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn new_flows_follow_the_lowest_latency_within_the_window() {
    let mut bench = started("strategy: least_latency\n");
    assert_eq!(members(&bench), [1]);
    assert_eq!(shares(&bench), [1.0, 0.0, 0.0]);
    answered(&mut bench, 60, [30, 10, 1]);
    assert_eq!(members(&bench), [2], "3 has another priority");
    assert_eq!(shares(&bench), [0.0, 1.0, 0.0]);
    // The window is 30 s, and a round comes twice a second.
    answered(&mut bench, 60, [10, 30, 1]);
    assert_eq!(members(&bench), [1]);
}

#[test]
fn near_equals_do_not_take_turns() {
    let mut bench = started("strategy: least_latency\n");
    for round in 0..200 {
        let (one, two) = if round % 40 < 20 { (10, 11) } else { (11, 10) };
        answered(&mut bench, 1, [one, two, 1]);
        assert_eq!(members(&bench), [1]);
    }
}

#[test]
fn a_leader_that_dies_is_replaced_at_once_and_stays_replaced_by_an_equal() {
    let mut bench = started("strategy: least_latency\n");
    bench.rounds(3, &both(1));
    let forget = bench.decide().forget;
    assert_eq!(members(&bench), [2]);
    assert!(!forget.is_empty());
    answered(&mut bench, 200, [10; 3]);
    assert_eq!(members(&bench), [2], "1 is up again, and no better");
}

#[test]
fn nothing_is_forgotten_when_the_leader_changes() {
    let mut bench = started("strategy: least_latency\nflows: {on_up: move}\n");
    let now = bench.now();
    answered(&mut bench, 60, [40, 10, 1]);
    assert_eq!(members(&bench), [2]);
    assert!(bench.now().at > now.at);
    assert_eq!(bench.decide().forget, BTreeSet::new());
}

#[test]
fn rounds_are_never_left_out_where_latency_counts() {
    for (more, rests) in [("", true), ("strategy: {1: least_latency}\n", false)] {
        let bench = started(more);
        let plans = bench.engine.probe_plans();
        let rest = |uplink| plans[&(id(uplink), Family::Ipv4)].rest;
        assert_eq!(rest(1).is_some(), rests, "{more}");
        assert!(rest(3).is_some(), "{more}");
    }
}

#[test]
fn a_rule_has_its_own_leader() {
    let rules = "rules: [{via: [{cable: 1, lte: 1}, fiber], strategy: least_latency}]\n";
    let mut bench = started(rules);
    assert_eq!(of_rule(&bench), [2]);
    assert_eq!(members(&bench), [1, 2], "others go by weight");
    answered(&mut bench, 60, [1, 30, 10]);
    assert_eq!(of_rule(&bench), [3]);
    answered(&mut bench, 60, [1, 11, 10]);
    assert_eq!(of_rule(&bench), [3]);
    bench.rounds(3, &[both(2), both(3)].concat());
    bench.decide();
    assert_eq!(of_rule(&bench), [1]);
}

/// Two uplinks of the first priority of 20 Mbit each, full at 80 %.
const LIMITED: &str = "
uplinks:
  fiber: {interface: wan1, id: 1, capacity: 20Mbit}
  cable: {interface: wan2, id: 2, capacity: {down: 20Mbit, up: 2Mbit}}
  lte: {interface: wan3, id: 3, priority: 2, metered: true}
downlinks: [lan0]
probe: {targets: [icmp://203.0.113.1, 'icmp://fd00:203::1']}
";

fn limited(more: &str) -> Bench {
    let mut bench = Bench::new(&format!("{LIMITED}{more}"));
    answered(&mut bench, 10, [10; 3]);
    bench
}

#[test]
fn what_the_first_cannot_carry_goes_to_the_next_and_stays_there() {
    let mut bench = limited("strategy: {overflow: 80%}\n");
    assert!(bench.engine.wants_loads());
    let counted = &mut [0; 3];
    second(&mut bench, counted, [0, 0, 0]);
    assert_eq!(members(&bench), [1]);
    second(&mut bench, counted, [10_000, 0, 0]);
    assert_eq!(members(&bench), [1]);
    second(&mut bench, counted, [18_000, 0, 0]);
    second(&mut bench, counted, [18_000, 0, 0]);
    assert_eq!(members(&bench), [2]);
    assert_eq!(shares(&bench), [0.0, 1.0, 0.0]);
    for _ in 0..3 {
        second(&mut bench, counted, [18_000, 17_000, 0]);
    }
    assert_eq!(members(&bench), [3], "the next priority");
    for _ in 0..3 {
        second(&mut bench, counted, [12_000, 17_000, 5_000]);
    }
    assert_eq!(members(&bench), [1], "full no more");
    let decision = bench.decide();
    assert_eq!(decision.forget, BTreeSet::new());
    assert_eq!(bench.engine.take_drain_notices(), [], "nothing drains");
}

#[test]
fn when_all_are_full_new_flows_go_by_weight() {
    let mut bench = limited(
        "strategy: {1: overflow, 2: overflow}\n"
            .replace(", 2: overflow", "")
            .as_str(),
    );
    let counted = &mut [0; 3];
    for _ in 0..4 {
        second(&mut bench, counted, [20_000, 20_000, 0]);
    }
    assert_eq!(members(&bench), [3], "lte has no capacity");
    bench.rounds(3, &both(3));
    bench.decide();
    assert_eq!(members(&bench), [1, 2]);
}

#[test]
fn a_full_uplink_that_dies_is_left_and_its_reserve_drains_as_ever() {
    let mut bench = limited("strategy: {1: overflow}\n");
    let counted = &mut [0; 3];
    bench.rounds(3, &[both(1), both(2)].concat());
    bench.decide();
    assert_eq!(members(&bench), [3]);
    answered(&mut bench, 40, [10; 3]);
    assert_eq!(members(&bench), [1]);
    assert!(
        !bench.engine.take_drain_notices().is_empty(),
        "what went to lte for want of another may finish"
    );
    for _ in 0..4 {
        second(&mut bench, counted, [20_000, 20_000, 0]);
    }
    assert_eq!(members(&bench), [3]);
}

#[test]
fn status_tells_what_is_measured_where_a_strategy_wants_it() {
    let mut bench = limited("strategy: {1: overflow}\n");
    let counted = &mut [0; 3];
    for _ in 0..4 {
        second(&mut bench, counted, [20_000, 1_000, 1_000]);
    }
    let status = bench.engine.status(bench.now().at);
    let told: Vec<_> = status
        .uplinks
        .iter()
        .map(|u| {
            (
                u.rx_bits_per_s,
                u.tx_bits_per_s,
                u.full,
                u.capacity.map(|c| c.up.0),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some(20_000_000), Some(0), Some(true), Some(20_000_000)),
            (Some(1_000_000), Some(0), Some(false), Some(2_000_000)),
            (None, None, None, None),
        ]
    );
    assert!(!limited("").engine.wants_loads());
}

#[test]
fn a_rule_overflows_by_its_own_share() {
    let rules = "rules: [{via: [fiber, {cable: 1, lte: 3}], strategy: {overflow: 50%}}]\n";
    let mut bench = limited(rules);
    let counted = &mut [0; 3];
    second(&mut bench, counted, [0; 3]);
    assert_eq!(of_rule(&bench), [1]);
    for _ in 0..3 {
        second(&mut bench, counted, [11_000, 0, 0]);
    }
    assert_eq!(of_rule(&bench), [3], "of the greater weight");
    assert_eq!(members(&bench), [1, 2], "others go by weight");
}
