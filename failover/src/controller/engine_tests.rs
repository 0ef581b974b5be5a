//! What the engine decides when uplinks come and go.

use std::time::{Duration, Instant};

use super::*;
use crate::config;
use crate::health::Health;
use crate::health::{Failure, Outcome, PlanNumber};
use crate::interface::InterfaceIndex;
use crate::network::{DefaultRoute, InterfaceAddress};
use crate::select::Standing;
use crate::status::State;

/// An engine with its own clock and two or three uplinks that speak both families.
pub(in crate::controller) struct Bench {
    pub(in crate::controller) engine: Engine,
    pub(in crate::controller) view: NetworkView,
    start: Instant,
    pub(in crate::controller) sequence: u64,
}

pub(in crate::controller) const YAML: &str = "
uplinks:
  fiber: {interface: wan1, id: 1}
  cable: {interface: wan2, id: 2}
  lte: {interface: wan3, id: 3, priority: 2}
downlinks: [lan0]
probe: {targets: [icmp://203.0.113.1, 'icmp://fd00:203::1']}
";

pub(in crate::controller) fn id(n: u8) -> UplinkId {
    UplinkId::try_from(n).unwrap()
}

pub(in crate::controller) fn view() -> NetworkView {
    let mut view = NetworkView::default();
    for n in 1..=3_u32 {
        let interface = InterfaceIndex(n);
        view.links.insert(
            format!("wan{n}").parse().unwrap(),
            Link::ethernet(interface),
        );
        for (address, prefix_len, gateway) in [
            (format!("198.18.1{n}.2"), 24, format!("198.18.1{n}.1")),
            (format!("fd00:18:1{n}::2"), 64, format!("fd00:18:1{n}::1")),
        ] {
            let gateway: IpAddr = gateway.parse().unwrap();
            view.addresses.push(InterfaceAddress {
                interface,
                address: address.parse().unwrap(),
                prefix_len,
            });
            view.default_routes.push(DefaultRoute {
                family: Family::of(gateway),
                interface,
                gateway: Some(gateway),
                source: None,
                metric: n,
            });
        }
    }
    view
}

impl Bench {
    pub(in crate::controller) fn new(yaml: &str) -> Self {
        Self::with(yaml, view(), &RememberedHealth::new())
    }

    pub(in crate::controller) fn with(
        yaml: &str,
        view: NetworkView,
        remembered: &RememberedHealth,
    ) -> Self {
        let config = config::parse(yaml).unwrap();
        let ids = config
            .uplinks
            .iter()
            .map(|(name, uplink)| (name.clone(), uplink.id.unwrap()))
            .collect();
        let start = Instant::now();
        let now = Moment {
            at: start,
            wall: Timestamp::UNIX_EPOCH,
        };
        let engine = Engine::new(
            config,
            PickedBy::Nftables,
            &ids,
            remembered,
            view.clone(),
            now,
        );
        Self {
            engine,
            view,
            start,
            sequence: 0,
        }
    }

    pub(in crate::controller) fn now(&self) -> Moment {
        let passed = Duration::from_millis(500 * self.sequence);
        Moment {
            at: self.start + passed,
            wall: Timestamp::UNIX_EPOCH,
        }
    }

    /// `count` rounds of every uplink and family; `dead` ones are silent.
    pub(in crate::controller) fn rounds(&mut self, count: u64, dead: &[(u8, Family)]) {
        for _ in 0..count {
            self.sequence += 1;
            for uplink in 1..=3 {
                for family in Family::ALL {
                    let outcome = if dead.contains(&(uplink, family)) {
                        Outcome::Failed(Failure::Timeout)
                    } else {
                        Outcome::Answered {
                            rtt: Duration::from_millis(5),
                        }
                    };
                    let round = Round::of_two(PlanNumber(1), self.sequence, self.now().at, outcome);
                    let now = self.now();
                    self.engine.round(id(uplink), family, &round, now);
                }
            }
        }
    }

    pub(in crate::controller) fn look(&mut self) {
        let now = self.now();
        self.engine.network(self.view.clone(), now);
    }

    /// Decides, and does at once what is decided.
    pub(in crate::controller) fn decide(&mut self) -> Decision {
        let now = self.now();
        let decision = self.engine.decide(now);
        self.engine.forgotten(&decision.forget);
        decision
    }

    /// Decides, and does nothing.
    fn redecide(&mut self) -> Decision {
        let now = self.now();
        self.engine.decide(now)
    }

    pub(in crate::controller) fn members(&self, family: Family) -> Vec<u8> {
        self.engine
            .pools()
            .get(family)
            .members
            .keys()
            .map(|id| id.get())
            .collect()
    }
}

pub(in crate::controller) fn both(n: u8) -> [(u8, Family); 2] {
    [(n, Family::Ipv4), (n, Family::Ipv6)]
}

fn all_dead() -> Vec<(u8, Family)> {
    (1..=3).flat_map(both).collect()
}

#[test]
fn an_uplink_that_dies_is_left_and_only_its_flows_are_forgotten() {
    let mut bench = Bench::new(YAML);
    bench.rounds(1, &[]);
    assert_eq!(bench.decide().forget, BTreeSet::new());
    assert_eq!(bench.members(Family::Ipv4), [1, 2]);

    bench.rounds(3, &both(1));
    let decision = bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [2]);
    assert_eq!(
        decision.forget,
        [
            Forget::Uplink(id(1), Family::Ipv4),
            Forget::Uplink(id(1), Family::Ipv6),
            Forget::Unmarked("198.18.11.2".parse().unwrap()),
            Forget::Unmarked("fd00:18:11::2".parse().unwrap()),
        ]
        .into()
    );
    assert_eq!(bench.decide().forget, BTreeSet::new(), "said once");
}

#[test]
fn a_family_that_dies_leaves_the_other_alone() {
    let mut bench = Bench::new(YAML);
    bench.rounds(1, &[]);
    bench.decide();
    bench.rounds(3, &[(1, Family::Ipv6)]);
    let decision = bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [1, 2]);
    assert_eq!(bench.members(Family::Ipv6), [2]);
    assert_eq!(
        decision.forget,
        [
            Forget::Uplink(id(1), Family::Ipv6),
            Forget::Unmarked("fd00:18:11::2".parse().unwrap()),
        ]
        .into()
    );
}

#[test]
fn while_nothing_is_usable_nothing_is_forgotten_and_the_debt_is_paid_at_the_first_return() {
    let mut bench = Bench::new(YAML);
    bench.rounds(1, &[]);
    bench.decide();
    bench.rounds(4, &all_dead());
    assert_eq!(bench.decide().forget, BTreeSet::new());
    assert_eq!(
        bench.members(Family::Ipv4),
        [1, 2, 3],
        "every uplink is tried"
    );

    let dead: Vec<_> = both(1).into_iter().chain(both(2)).collect();
    bench.rounds(5, &dead);
    let forget = bench.decide().forget;
    assert_eq!(bench.members(Family::Ipv4), [3]);
    let owed = |n| Family::ALL.map(|family| Forget::Uplink(id(n), family));
    let uplinks = forget
        .into_iter()
        .filter(|flows| matches!(flows, Forget::Uplink(..)));
    assert_eq!(
        uplinks.collect::<Vec<_>>(),
        owed(1).into_iter().chain(owed(2)).collect::<Vec<_>>()
    );
}

#[test]
fn the_first_of_all_to_be_found_dead_keeps_its_flows_while_the_others_are_silent_too() {
    let mut bench = Bench::new(&YAML.replace("id: 1}", "id: 1, probe: {down_after: 2}}"));
    bench.rounds(1, &[]);
    bench.decide();
    bench.rounds(2, &all_dead());
    assert_eq!(bench.redecide().forget, BTreeSet::new());
    assert_eq!(
        bench.members(Family::Ipv4),
        [2],
        "new flows have left it all the same"
    );

    bench.rounds(1, &both(1));
    assert!(bench.engine.is_stale(), "an answer ends the doubt");
    let forget = bench.redecide().forget;
    for family in Family::ALL {
        assert!(
            forget.contains(&Forget::Uplink(id(1), family)),
            "{forget:?}"
        );
    }
}

#[test]
fn what_could_not_be_forgotten_is_owed_until_the_uplink_is_alive_again() {
    let mut bench = Bench::new(YAML);
    bench.rounds(1, &[]);
    bench.decide();
    bench.rounds(3, &both(1));
    let owed = bench.redecide().forget;
    assert_eq!(owed.len(), 4);
    assert_eq!(bench.redecide().forget, owed);
    bench.rounds(5, &[]);
    assert_eq!(bench.redecide().forget, BTreeSet::new());
}

#[test]
fn what_was_tried_in_the_last_resort_is_forgotten_when_it_ends() {
    let mut bench = Bench::new(YAML);
    bench.rounds(1, &[]);
    bench.decide();
    bench.rounds(3, &both(1));
    assert_eq!(
        bench.decide().forget.len(),
        4,
        "the first death, with others alive"
    );
    bench.rounds(3, &all_dead());
    assert_eq!(bench.decide().forget, BTreeSet::new());
    // New flows were spread over all three meanwhile, the first one again too.
    let dead: Vec<_> = both(1).into_iter().chain(both(3)).collect();
    bench.rounds(5, &dead);
    let forget = bench.decide().forget;
    assert!(
        forget.contains(&Forget::Uplink(id(1), Family::Ipv4)),
        "{forget:?}"
    );
    assert!(
        !forget.contains(&Forget::Uplink(id(2), Family::Ipv4)),
        "{forget:?}"
    );
}

#[test]
fn what_is_on_its_way_back_keeps_its_flows_until_it_falls_silent_again() {
    let mut bench = Bench::new(&YAML.replace("id: 1}", "id: 1, probe: {up_after: 2}}"));
    bench.rounds(1, &[]);
    bench.decide();
    bench.rounds(3, &all_dead());
    assert_eq!(bench.decide().forget, BTreeSet::new());

    let dead: Vec<_> = both(3).into();
    bench.rounds(2, &dead);
    let forgotten = |decision: Decision| -> BTreeSet<(UplinkId, Family)> {
        let uplinks = decision.forget.into_iter();
        uplinks
            .filter_map(|flows| match flows {
                Forget::Uplink(id, family) => Some((id, family)),
                _ => None,
            })
            .collect()
    };
    let lost = forgotten(bench.decide());
    assert_eq!(bench.members(Family::Ipv4), [1]);
    assert_eq!(lost, both(3).map(|(n, family)| (id(n), family)).into());

    bench.rounds(1, &both(2));
    assert!(bench.engine.is_stale());
    let lost = forgotten(bench.decide());
    assert_eq!(lost, both(2).map(|(n, family)| (id(n), family)).into());
}

#[test]
fn keep_forgets_nothing() {
    let yaml = YAML.replace("id: 1}", "id: 1, flows: {on_down: keep}}");
    let mut bench = Bench::new(&yaml);
    bench.rounds(1, &[]);
    bench.decide();
    bench.rounds(3, &both(1));
    assert_eq!(bench.decide().forget, BTreeSet::new());
    assert_eq!(bench.members(Family::Ipv4), [2]);
}

#[test]
fn loss_of_carrier_counts_at_once() {
    let mut bench = Bench::new(YAML);
    bench.rounds(1, &[]);
    bench.decide();
    let name: InterfaceName = "wan1".parse().unwrap();
    let link = Link {
        carrier: false,
        port: false,
        ..bench.view.links[&name].clone()
    };
    let now = bench.now();
    bench.engine.link(&name, Some(link), now);
    assert_eq!(bench.decide().forget.len(), 4);
    assert_eq!(bench.members(Family::Ipv4), [2]);
    let notice = &bench.engine.take_notices().pop().unwrap();
    assert_eq!(
        (notice.to, notice.reason.as_str()),
        (State::Down, "no carrier")
    );
}

#[test]
fn flows_of_an_uplink_that_lost_its_link_while_no_daemon_ran_are_forgotten() {
    let mut cut = view();
    let name: InterfaceName = "wan1".parse().unwrap();
    cut.links.get_mut(&name).unwrap().carrier = false;
    let up = PerFamily {
        ipv4: Health::Up,
        ipv6: Health::Up,
    };
    let remembered = ["fiber", "cable", "lte"].map(|name| (name.parse().unwrap(), up));
    let mut bench = Bench::with(YAML, cut, &remembered.into());
    assert_eq!(
        bench.decide().forget,
        Family::ALL
            .map(|family| Forget::Uplink(id(1), family))
            .into()
    );
}

#[test]
fn a_default_route_that_a_dhcp_client_takes_out_for_a_moment_moves_nobody() {
    let mut bench = Bench::new(YAML);
    bench.rounds(1, &[]);
    let before = bench.decide().wanted;
    let whole = bench.view.clone();
    let is_fibers = |route: &DefaultRoute| route.interface == InterfaceIndex(1);
    bench.view.default_routes.retain(|route| !is_fibers(route));
    bench.look();
    let due = bench.engine.look_again().unwrap();
    let decision = bench.decide();
    assert_eq!(
        (decision.forget, decision.wanted),
        (BTreeSet::new(), before)
    );
    bench.view = whole;
    bench.look();
    assert_eq!(bench.engine.look_again(), None);

    // For good.
    bench.view.default_routes.retain(|route| !is_fibers(route));
    bench.look();
    while bench.now().at < due + Duration::from_secs(1) {
        bench.rounds(1, &[]);
    }
    bench.look();
    assert_eq!(bench.decide().forget.len(), 4);
    assert_eq!(bench.members(Family::Ipv4), [2]);
    assert_eq!(bench.engine.look_again(), None);
}

#[test]
fn a_route_that_goes_with_its_link_is_not_waited_for() {
    let mut bench = Bench::new(YAML);
    bench.rounds(1, &[]);
    bench.decide();
    let name: InterfaceName = "wan1".parse().unwrap();
    bench.view.links.get_mut(&name).unwrap().carrier = false;
    bench
        .view
        .default_routes
        .retain(|route| route.interface != InterfaceIndex(1));
    bench.look();
    assert_eq!(bench.decide().forget.len(), 4);
    assert_eq!(bench.members(Family::Ipv4), [2]);
}

#[test]
fn a_new_address_has_the_flows_of_the_old_one_forgotten() {
    let mut bench = Bench::new(YAML);
    bench.rounds(1, &[]);
    bench.decide();
    let old: IpAddr = "198.18.11.2".parse().unwrap();
    let own = bench
        .view
        .addresses
        .iter_mut()
        .find(|own| own.address == old)
        .unwrap();
    own.address = "198.18.11.3".parse().unwrap();
    bench.look();
    let decision = bench.decide();
    let former = Forget::Former {
        uplink: id(1),
        address: old,
        elsewhere: false,
    };
    assert_eq!(decision.forget, [former].into());
    assert!(decision.wanted.ruleset.contains("snat ip to 198.18.11.3"));
}

#[test]
fn a_second_address_that_becomes_the_first_forgets_nothing() {
    let mut bench = Bench::new(YAML);
    bench.decide();
    let old: IpAddr = "198.18.11.2".parse().unwrap();
    let place = bench
        .view
        .addresses
        .iter()
        .position(|own| own.address == old)
        .unwrap();
    let mut second = bench.view.addresses[place].clone();
    second.address = "198.18.11.3".parse().unwrap();
    bench.view.addresses.insert(place, second);
    bench.look();
    assert_eq!(bench.decide().forget, BTreeSet::new());
}

#[test]
fn an_interface_that_does_not_exist_yet_is_down_until_it_appears() {
    let mut early = view();
    let name: InterfaceName = "wan1".parse().unwrap();
    let link = early.links.remove(&name).unwrap();
    let mut bench = Bench::with(YAML, early, &RememberedHealth::new());
    let status = bench.engine.status(bench.start);
    assert_eq!(status.uplinks[0].state, State::Down);
    assert_eq!(status.uplinks[0].reason, "interface wan1 does not exist");
    bench.view.links.insert(name, link);
    bench.look();
    bench.rounds(5, &[]);
    bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [1, 2]);
}

#[test]
fn an_uplink_with_ipv4_only_is_absent_in_ipv6_and_not_down() {
    let mut ipv4_only = view();
    ipv4_only
        .addresses
        .retain(|own| own.interface != InterfaceIndex(1) || own.address.is_ipv4());
    let mut bench = Bench::with(YAML, ipv4_only, &RememberedHealth::new());
    bench.rounds(1, &[]);
    bench.decide();
    assert_eq!(bench.members(Family::Ipv6), [2]);
    let status = bench.engine.status(bench.now().at);
    assert_eq!(status.uplinks[0].state, State::Up);
    assert_eq!(status.uplinks[0].ipv6.state, State::Absent);
    assert_eq!(status.uplinks[0].ipv6.reason, "no address");
}

#[test]
fn a_remembered_state_counts_until_the_first_verdict() {
    let down = PerFamily {
        ipv4: Health::Down,
        ipv6: Health::Down,
    };
    let remembered = RememberedHealth::from([("fiber".parse().unwrap(), down)]);
    let mut bench = Bench::with(YAML, view(), &remembered);
    bench.decide();
    assert_eq!(
        bench.engine.candidates(Family::Ipv4, None)[0].standing,
        Standing::Routed(Health::Down)
    );
    assert_eq!(
        bench.members(Family::Ipv4),
        [2],
        "the others have no verdict yet"
    );
    bench.rounds(5, &[]);
    assert_eq!(bench.decide().forget, BTreeSet::new());
    assert_eq!(bench.members(Family::Ipv4), [1, 2]);
}

#[test]
fn a_family_without_targets_follows_the_link() {
    let yaml = YAML.replace(", 'icmp://fd00:203::1'", "");
    let mut bench = Bench::new(&yaml);
    bench.decide();
    assert!(
        !bench
            .engine
            .probe_plans()
            .contains_key(&(id(1), Family::Ipv6))
    );
    assert_eq!(bench.members(Family::Ipv6), [1, 2]);
    let status = bench.engine.status(bench.start);
    assert_eq!(status.uplinks[0].ipv6.reason, "not probed: no IPv6 target");
}
