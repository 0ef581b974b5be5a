//! Uplinks of one network with the same address: it tells nothing of whose a flow is.

use super::*;
use crate::config;
use crate::controller::engine::tests::{Bench, both, id};

const SHARED: &str = "
uplinks:
  north: {interface: wan1, id: 1, gateway: 198.18.11.1, gateway6: 'fd00:18:11::1'}
  south: {interface: wan1, id: 2, gateway: 198.18.11.9, gateway6: 'fd00:18:11::9'}
  lte: {interface: wan3, id: 3}
downlinks: [lan0]
probe: {targets: [icmp://203.0.113.1, 'icmp://fd00:203::1']}
";

fn uplinks(ids: impl IntoIterator<Item = u8>) -> BTreeSet<Forget> {
    ids.into_iter()
        .flat_map(both)
        .map(|(n, family)| Forget::Uplink(id(n), family))
        .collect()
}

fn unmarked() -> BTreeSet<Forget> {
    ["198.18.11.2", "fd00:18:11::2"]
        .map(|address| Forget::Unmarked(address.parse().unwrap()))
        .into()
}

#[test]
fn flows_without_a_mark_are_nobodys_while_another_uplink_has_their_address() {
    let mut bench = Bench::new(SHARED);
    bench.rounds(1, &[]);
    bench.decide();
    bench.rounds(3, &both(2));
    assert_eq!(bench.decide().forget, uplinks([2]));
    let dead: Vec<_> = both(1).into_iter().chain(both(2)).collect();
    bench.rounds(3, &dead);
    let of_the_last = uplinks([1]).union(&unmarked()).copied().collect();
    assert_eq!(bench.decide().forget, of_the_last);
}

#[test]
fn nor_are_they_of_one_that_is_taken_out() {
    let mut bench = Bench::new(SHARED);
    bench.rounds(1, &[]);
    bench.decide();
    let (south, rest): (Vec<&str>, Vec<&str>) =
        SHARED.lines().partition(|line| line.contains("south"));
    assert_eq!(south.len(), 1);
    let config = config::parse(&rest.join("\n")).unwrap();
    let mut ids = bench.engine.current().ids;
    ids.remove(&"south".parse().unwrap());
    assert!(bench.engine.retire(&config, &ids));
    assert_eq!(bench.decide().forget, uplinks([2]));
}

#[test]
fn nor_do_they_leave_with_one_that_is_outranked() {
    let reserve = |yaml: &str| yaml.replace("fd00:18:11::9'}", "fd00:18:11::9', priority: 2}");
    let mut bench = Bench::new(&format!("{}flows: {{on_up: move}}", reserve(SHARED)));
    let better: Vec<_> = both(1).into_iter().chain(both(3)).collect();
    bench.rounds(3, &better);
    bench.decide();
    bench.rounds(5, &[]);
    let leaving = |family| Forget::Leaving {
        uplink: id(2),
        family,
        source: None,
    };
    assert_eq!(bench.decide().forget, Family::ALL.map(leaving).into());
}

#[test]
fn what_comes_from_their_network_is_translated() {
    let net = "fd00:18:11::/64";
    let mut bench = Bench::new(SHARED);
    assert!(!bench.decide().wanted.ruleset.contains(net));
    let mut alone =
        Bench::new(&SHARED.replace("south: {interface: wan1", "south: {interface: wan2"));
    assert!(alone.decide().wanted.ruleset.contains(net));
}

#[test]
fn when_one_is_found_out_first_another_must_have_answered_since() {
    use crate::controller::engine::tests::YAML;
    use crate::health::{Failure, Outcome, PlanNumber, Round};

    let mut bench = Bench::new(YAML);
    bench.rounds(3, &[]);
    bench.decide();
    let round = |bench: &mut Bench, uplink: u8, outcome: &Outcome| {
        bench.sequence += 1;
        let now = bench.now();
        for (_, family) in both(uplink) {
            let sequence = bench.sequence;
            let round = Round::of_two(PlanNumber(1), sequence, now.at, outcome.clone());
            bench.engine.round(id(uplink), family, &round, now);
        }
    };
    // Users of the first one brought more probes: the others were not asked meanwhile.
    let silent = Outcome::Failed(Failure::Timeout);
    for _ in 0..3 {
        round(&mut bench, 1, &silent);
    }
    assert_eq!(bench.decide().forget, BTreeSet::new());
    let awaited: BTreeSet<_> = both(2).map(|(n, family)| (id(n), family)).into();
    assert_eq!(bench.engine.awaited(), awaited);

    let answered = Outcome::Answered {
        rtt: std::time::Duration::from_millis(5),
    };
    round(&mut bench, 2, &answered);
    assert!(bench.engine.is_stale());
    let forget = bench.decide().forget;
    assert!(forget.is_superset(&uplinks([1])), "{forget:?}");
    assert_eq!(bench.engine.awaited(), BTreeSet::new());
}

#[test]
fn nothing_is_forgotten_while_the_other_router_has_the_users() {
    use crate::controller::engine::tests::YAML;
    use crate::interface::InterfaceIndex;
    use crate::network::InterfaceAddress;

    let shared = "{interface: wan1, id: 1, virtual: 198.18.11.10, virtual6: 'fd00:18:11::10'}";
    let mut bench = Bench::new(&YAML.replace("{interface: wan1, id: 1}", shared));
    bench.rounds(1, &[]);
    bench.decide();
    bench.rounds(3, &both(1));
    assert_eq!(bench.decide().forget, BTreeSet::new());

    for (address, prefix_len) in [("198.18.11.10", 24), ("fd00:18:11::10", 64)] {
        bench.view.addresses.push(InterfaceAddress {
            interface: InterfaceIndex(1),
            address: address.parse().unwrap(),
            prefix_len,
        });
    }
    bench.look();
    let forget = bench.decide().forget;
    assert!(forget.is_superset(&uplinks([1])), "{forget:?}");
}
