use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use failover_common::fastpath::SEEN_SHIFT;
use failover_common::{Flow, Offer, Phase};

use super::*;
use crate::fastpath::facts::{Connection, Neighbour, News, Port, Way};
use crate::fastpath::recorded::Recorded;
use crate::fastpath::standing::{Standing, Uncounted};
use crate::flows::{TrackedFlow, Tuple, bytes};
use crate::mark::{Mark, MarkMask};
use crate::network::MacAddress;

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_000 * SECOND;
const LAN: InterfaceIndex = InterfaceIndex(2);
const WAN: InterfaceIndex = InterfaceIndex(3);
const CLIENT: &str = "198.18.0.10";
const SERVER: &str = "203.0.113.1";
const OWN: &str = "198.18.11.2";
const GATEWAY: &str = "198.18.11.1";
/// `ASSURED`, `CONFIRMED`, `SEEN_REPLY`.
const LASTS: u32 = 0b1110;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn uplink() -> UplinkId {
    UplinkId::try_from(1).unwrap()
}

fn key(port: u16) -> FlowKey {
    FlowKey {
        inside: bytes(ip(CLIENT)),
        outside: bytes(ip(SERVER)),
        inside_port: port,
        outside_port: 443,
        protocol: 6,
        family: failover_common::Family::Ipv4,
        reserved: [0; 2],
    }
}

fn offer(port: u16) -> Offer {
    Offer {
        flow: key(port),
        created_ns: NOW - SECOND,
        ingress: LAN.0,
        generation: 5,
        uplink: 1,
        reserved: [0; 7],
    }
}

fn tuple(source: &str, source_port: u16, destination: &str, destination_port: u16) -> Tuple {
    Tuple {
        source: ip(source),
        destination: ip(destination),
        source_port,
        destination_port,
        identifier: 0,
    }
}

fn connection(port: u16) -> Connection {
    Connection {
        flow: TrackedFlow {
            mark: MarkMask::DEFAULT.flow(uplink()),
            protocol: Protocol::TCP,
            original: tuple(CLIENT, port, SERVER, 443),
            reply: tuple(SERVER, 443, OWN, port),
            status: LASTS,
            tcp_state: Some(3),
            remaining: Some(Duration::from_secs(299)),
            started: None,
            original_packets: None,
            reply_packets: None,
        },
        is_helped: false,
        is_shifted: false,
    }
}

fn way(interface: InterfaceIndex, address: &str) -> Way {
    Way {
        interface,
        address: ip(address),
        mtu: None,
        family: Family::Ipv4,
    }
}

fn ways() -> [Option<Way>; 2] {
    [Some(way(WAN, GATEWAY)), Some(way(LAN, CLIENT))]
}

fn neighbour(last: u8) -> Neighbour {
    Neighbour {
        mac: Some(MacAddress([2, 0, 0, 0, 0, last])),
        is_stale: false,
    }
}

fn settings() -> Settings {
    Settings {
        is_on: true,
        uplinks: [(uplink(), WAN)].into(),
        ..Settings::default()
    }
}

fn offloads(capacity: u32) -> Offloads<Recorded> {
    let mut offloads = Offloads::new(Recorded::new(capacity)).unwrap();
    offloads.set(Arc::new(settings()));
    offloads.set_lifetimes(Lifetimes {
        tcp: Duration::from_secs(432_000),
        tcp_unacknowledged: Duration::from_secs(300),
        udp: Duration::from_secs(120),
    });
    let port = |last| Port {
        mac: Some(MacAddress([2, 0, 0, 0, 1, last])),
        mtu: 1500,
        ipv6_mtu: None,
        is_up: true,
    };
    offloads.look_around(Around {
        ports: [(LAN, port(2)), (WAN, port(3))].into(),
        neighbours: [
            ((WAN, ip(GATEWAY)), neighbour(1)),
            ((LAN, ip(CLIENT)), neighbour(10)),
        ]
        .into(),
    });
    offloads
}

/// Takes an offer to its end, if it gets there.
fn take(offloads: &mut Offloads<Recorded>, offer: Offer, connection: Option<&Connection>) -> bool {
    let (epoch, asked) = (offloads.epoch(), offloads.sift(vec![offer], NOW));
    let Some((offer, _)) = asked.first() else {
        return false;
    };
    let Some((candidate, _)) = offloads.consider(*offer, connection, epoch, NOW) else {
        return false;
    };
    let Ok(ways) = offloads.route(&candidate, ways(), NOW) else {
        return false;
    };
    offloads.put(&candidate, ways, NOW);
    offloads.renew_lease(NOW);
    offloads.by_key.contains_key(&offer.flow)
}

fn why(offloads: &Offloads<Recorded>, port: u16) -> Standing {
    let flow = Flow {
        confirmed: true,
        phase: Phase::Established,
        offered_ns: NOW,
        ..Flow::begun(NOW)
    };
    offloads.standing(&key(port), &flow, NOW)
}

/// The key of what comes back to a port.
fn back(port: u16) -> OffloadKey {
    OffloadKey {
        source: bytes(ip(SERVER)),
        destination: bytes(ip(OWN)),
        source_port: 443,
        destination_port: port,
        side: failover_common::Side::Provider,
        ..OffloadKey::from_users(&key(port))
    }
}

#[test]
fn a_flow_that_lasts_is_put_on_the_fast_path_in_both_directions() {
    let mut offloads = offloads(4);
    assert!(take(&mut offloads, offer(1000), Some(&connection(1000))));
    let plane = &offloads.plane;
    let out = plane.led(&OffloadKey::from_users(&key(1000))).unwrap();
    let back = plane.led(&back(1000)).unwrap();
    assert_eq!((out.id, plane.ways[&out.other]), (back.id, *back));
    assert_eq!(plane.ways[&back.other], *out);
    assert_eq!(out.source, bytemuck::cast::<_, [u64; 2]>(bytes(ip(OWN))));
    assert_eq!(
        back.destination,
        bytemuck::cast::<_, [u64; 2]>(bytes(ip(CLIENT)))
    );
    assert_eq!((out.ingress, back.ingress), (LAN.0, WAN.0));
    let hop = plane.hops[&out.next_hop];
    assert_eq!((hop.interface, hop.mtu), (WAN.0, 1500));
    assert_eq!(hop.start.to_ne_bytes(), [2, 0, 0, 0, 0, 1, 2, 0]);
    assert_eq!(hop.middle.to_ne_bytes(), [0, 0, 1, 3]);
    assert_eq!(hop.kind.to_ne_bytes(), [8, 0]);
    assert!(plane.lease.packets_until_ns > NOW && plane.lease.offers_until_ns > NOW);
    assert_eq!(
        why(&offloads, 1000),
        Standing::Offloaded(Uncounted::default())
    );
}

#[test]
fn what_forbids_it_is_told() {
    let mut offloads = offloads(4);
    let mut cases: Vec<(Connection, Why)> = Vec::new();
    let mut case = |change: fn(&mut Connection), why| {
        let mut changed = connection(1000);
        change(&mut changed);
        cases.push((changed, why));
    };
    case(|found| found.flow.mark = Mark(0x0200_0000), Why::Untracked);
    case(|found| found.flow.status = 0b1010, Why::Young);
    case(|found| found.flow.tcp_state = Some(2), Why::Young);
    case(|found| found.flow.tcp_state = Some(4), Why::Ending);
    case(|found| found.flow.status |= 1 << 10, Why::ShortLived);
    case(|found| found.is_helped = true, Why::Helper);
    case(|found| found.is_shifted = true, Why::Shifted);
    for (number, (connection, expected)) in cases.into_iter().enumerate() {
        let port = 2000 + u16::try_from(number).unwrap();
        let mut connection = connection;
        connection.flow.original.source_port = port;
        connection.flow.reply.destination_port = port;
        assert!(!take(&mut offloads, offer(port), Some(&connection)));
        assert_eq!(why(&offloads, port), Standing::Stack(expected));
    }
    assert!(!take(&mut offloads, offer(1000), None));
    assert_eq!(why(&offloads, 1000), Standing::Stack(Why::Untracked));
    offloads.set_told_since(NOW);
    assert!(!take(&mut offloads, offer(1001), Some(&connection(1001))));
    assert_eq!(why(&offloads, 1001), Standing::Stack(Why::Old));
    offloads.set_told_since(0);
    offloads.set_obstacles(BTreeMap::from([(WAN, "a filter".to_owned())]));
    assert!(!take(&mut offloads, offer(1002), Some(&connection(1002))));
    let filtered = Why::Filtered("a filter".to_owned());
    assert_eq!(why(&offloads, 1002), Standing::Stack(filtered));
}

#[test]
fn a_flow_that_is_refused_for_good_is_not_offered_for_a_while() {
    let mut offloads = offloads(4);
    let mut helped = connection(1000);
    helped.is_helped = true;
    assert!(!take(&mut offloads, offer(1000), Some(&helped)));
    assert!(offloads.plane.refused.contains(&key(1000)));
    offloads.forget_refusals(NOW + 9 * SECOND);
    assert!(offloads.plane.refused.contains(&key(1000)));
    offloads.forget_refusals(NOW + 10 * SECOND);
    assert!(offloads.plane.refused.is_empty());
}

#[test]
fn an_entry_that_ends_leaves_at_once_and_its_place_is_free_later() {
    let mut offloads = offloads(1);
    assert!(take(&mut offloads, offer(1000), Some(&connection(1000))));
    let ended = connection(1000).flow.original;
    let lost = offloads.hear(vec![News::Ended {
        protocol: Protocol::TCP,
        source: ended.source,
        destination: ended.destination,
        source_port: ended.source_port,
        destination_port: ended.destination_port,
    }]);
    assert!(!lost);
    assert_eq!(offloads.count(), 0);
    assert!(offloads.plane.is_empty());
    assert!(!take(&mut offloads, offer(1001), Some(&connection(1001))));
    assert_eq!(why(&offloads, 1001), Standing::Stack(Why::Full));
    offloads.plane.over = 1;
    offloads.wait_is_over();
    offloads.forget_refusals(u64::MAX);
    assert!(take(&mut offloads, offer(1001), Some(&connection(1001))));
}

#[test]
fn a_next_hop_that_moves_is_closed_until_nobody_looks_at_it() {
    let mut offloads = offloads(4);
    assert!(take(&mut offloads, offer(1000), Some(&connection(1000))));
    let users = OffloadKey::from_users(&key(1000));
    let index = offloads.plane.led(&users).unwrap().next_hop;
    let moved = News::Neighbour {
        interface: WAN,
        address: ip(GATEWAY),
        neighbour: neighbour(99),
    };
    offloads.hear(vec![moved]);
    assert_eq!(offloads.plane.hops[&index].interface, 0);
    offloads.wait_is_over();
    assert_eq!(offloads.plane.hops[&index].interface, 0);
    offloads.plane.over = 1;
    offloads.wait_is_over();
    let hop = offloads.plane.hops[&index];
    assert_eq!((hop.interface, hop.destination()[5]), (WAN.0, 99));
    let down = Port {
        mac: Some(MacAddress([2, 0, 0, 0, 1, 3])),
        mtu: 1500,
        ipv6_mtu: None,
        is_up: false,
    };
    offloads.hear(vec![News::Port {
        interface: WAN,
        port: Some(down),
    }]);
    assert_eq!(offloads.plane.hops[&index].interface, 0);
}

#[test]
fn silent_flows_ended_ones_and_those_of_a_forgotten_uplink_are_the_stacks() {
    let mut offloads = offloads(8);
    for port in 1000..1004 {
        assert!(take(&mut offloads, offer(port), Some(&connection(port))));
    }
    let slot = |offloads: &Offloads<Recorded>, port| offloads.by_key[&key(port)];
    let moving = slot(&offloads, 1000);
    let later = NOW + 31 * SECOND;
    let last_seen = u32::try_from((later - SECOND) >> SEEN_SHIFT).unwrap();
    for port in [1000, 1001] {
        offloads.plane.led_mut(&back(port)).unwrap().seen = last_seen;
    }
    offloads.plane.led_mut(&back(1001)).unwrap().left = 1;
    let due = offloads.look(8, later);
    let told: Vec<Option<u64>> = due
        .iter()
        .map(|(_, upkeep)| upkeep.remaining.map(|remaining| remaining.as_secs()))
        .collect();
    let since = later - (u64::from(last_seen) << SEEN_SHIFT);
    let moving_on = (432_000 * SECOND - since) / SECOND;
    // Of the silent ones no packet took the fast path: connection tracking knows best.
    assert_eq!(told, [Some(moving_on)]);
    assert_eq!(offloads.count(), 1);
    assert_eq!(slot(&offloads, 1000), moving);
    offloads.plane.generation = 6;
    offloads.look(8, later);
    assert_eq!(offloads.count(), 0);
}

#[test]
fn what_was_asked_before_a_flush_or_other_settings_counts_no_more() {
    type Change = fn(&mut Offloads<Recorded>, Arc<Settings>);
    let others = || {
        Arc::new(Settings {
            programs: vec![7],
            ..settings()
        })
    };
    let changes: [Change; 2] = [
        |offloads, _| assert_eq!(offloads.flush(), 0),
        |offloads, others| offloads.set(others),
    ];
    for change in changes {
        for early in [true, false] {
            let mut offloads = offloads(4);
            let (epoch, asked) = (offloads.epoch(), offloads.sift(vec![offer(1000)], NOW));
            if early {
                change(&mut offloads, others());
            }
            let connection = connection(1000);
            let found = offloads.consider(asked[0].0, Some(&connection), epoch, NOW);
            let (candidate, _) = found.unwrap();
            if !early {
                change(&mut offloads, others());
            }
            let ways = offloads.route(&candidate, ways(), NOW).unwrap();
            offloads.put(&candidate, ways, NOW);
            assert_eq!(offloads.count(), 0, "early: {early}");
        }
    }
}

#[test]
fn a_connection_is_told_a_time_only_where_it_would_not_be_there_long_enough() {
    let mut offloads = offloads(4);
    let prepared = |offloads: &mut Offloads<Recorded>, port, remaining| {
        let mut found = connection(port);
        found.flow.remaining = Some(Duration::from_secs(remaining));
        let epoch = offloads.epoch();
        let considered = offloads.consider(offer(port), Some(&found), epoch, NOW);
        let upkeep = Offloads::<Recorded>::prepared(&considered.unwrap().0);
        (upkeep.relax, upkeep.remaining)
    };
    assert_eq!(prepared(&mut offloads, 1000, 299), (true, None));
    let timeout = Some(Duration::from_secs(432_000));
    assert_eq!(prepared(&mut offloads, 1001, 59), (true, timeout));
}

#[test]
fn what_moved_last_is_counted_with_a_flow_when_no_program_writes_it_any_more() {
    let mut offloads = offloads(4);
    for port in [1000, 1001] {
        assert!(take(&mut offloads, offer(port), Some(&connection(port))));
    }
    let way = offloads.plane.led_mut(&back(1000)).unwrap();
    (way.packets, way.bytes) = (3, 4000);
    assert_eq!(offloads.flush(), 2);
    offloads.wait_is_over();
    assert!(offloads.plane.credited.is_empty());
    offloads.plane.over = 1;
    offloads.wait_is_over();
    let moved = failover_common::Counters {
        packets: 3,
        bytes: 4000,
    };
    let credited = [(key(1000), [failover_common::Counters::default(), moved])];
    assert_eq!(offloads.plane.credited, credited);
}

#[test]
fn a_flow_that_was_refused_and_is_taken_may_be_offered_again() {
    let mut offloads = offloads(4);
    let (epoch, asked) = (offloads.epoch(), offloads.sift(vec![offer(1000)], NOW));
    let connection = connection(1000);
    let found = offloads.consider(asked[0].0, Some(&connection), epoch, NOW);
    let (candidate, _) = found.unwrap();
    // It was offered twice, and there was no way for the first of both.
    assert!(offloads.route(&candidate, [None; 2], NOW).is_err());
    assert!(offloads.plane.refused.contains(&key(1000)));
    let ways = offloads.route(&candidate, ways(), NOW).unwrap();
    offloads.put(&candidate, ways, NOW);
    assert_eq!(offloads.count(), 1);
    assert!(offloads.plane.refused.is_empty());
}

#[test]
fn a_flow_says_why_it_does_not_take_the_fast_path_just_now() {
    let mut offloads = offloads(4);
    assert_eq!(why(&offloads, 1000), Standing::Stack(Why::Waiting));
    let stands = |offered_ns, now_ns| {
        let flow = Flow {
            confirmed: true,
            phase: Phase::Established,
            offered_ns,
            ..Flow::begun(NOW)
        };
        offloads.standing(&key(1000), &flow, now_ns)
    };
    let late = NOW + 30 * SECOND;
    assert_eq!(stands(NOW, late), Standing::Stack(Why::Idle));
    assert_eq!(stands(0, late), Standing::Stack(Why::Young));
    let bare = Flow::WITHOUT_ETHERNET;
    assert_eq!(stands(bare, NOW), Standing::Stack(Why::NoEthernet));

    assert!(take(&mut offloads, offer(1000), Some(&connection(1000))));
    offloads.hear(vec![News::Neighbour {
        interface: WAN,
        address: ip(GATEWAY),
        neighbour: Neighbour {
            mac: None,
            is_stale: false,
        },
    }]);
    assert_eq!(why(&offloads, 1000), Standing::Stack(Why::NoNeighbour));
}

#[test]
fn flows_whose_way_changed_leave_and_others_stay() {
    let mut offloads = offloads(4);
    for port in [1000, 1001] {
        assert!(take(&mut offloads, offer(port), Some(&connection(port))));
    }
    offloads.hear(vec![News::Routes]);
    let doubted = offloads.doubted(8);
    assert_eq!(doubted.len(), 2);
    let (slot, _, known) = doubted[0];
    offloads.rerouted(
        slot,
        known,
        [Some(way(WAN, "198.18.11.9")), known.map(Some)[1]],
    );
    let (slot, _, known) = doubted[1];
    offloads.rerouted(slot, known, known.map(Some));
    assert_eq!(offloads.count(), 1);
    assert!(offloads.doubted(8).is_empty());
}

#[test]
fn where_routes_change_all_the_time_all_flows_have_their_turn() {
    let mut offloads = offloads(8);
    for port in 1000..1006 {
        assert!(take(&mut offloads, offer(port), Some(&connection(port))));
    }
    let mut asked = std::collections::BTreeSet::new();
    for _ in 0..3 {
        offloads.hear(vec![News::Routes]);
        asked.extend(offloads.doubted(2).into_iter().map(|(slot, ..)| slot));
    }
    assert_eq!(asked.len(), 6);
    // Of the last change all are still to be asked but for two.
    assert_eq!(offloads.doubted(8).len(), 4);
    assert!(offloads.doubted(8).is_empty());
}

#[test]
fn where_ends_may_have_been_missed_connection_tracking_is_asked_for_all() {
    let mut offloads = offloads(4);
    for port in [1000, 1001] {
        assert!(take(&mut offloads, offer(port), Some(&connection(port))));
    }
    assert!(offloads.look(8, NOW + SECOND).is_empty());
    assert!(!offloads.hear(vec![News::LostEnds]));
    assert_eq!(offloads.count(), 2);
    let due = offloads.look(8, NOW + SECOND);
    assert!(due.iter().all(|(_, upkeep)| upkeep.remaining.is_none()));
    assert_eq!(due.len(), 2);
}

#[test]
fn lost_news_send_all_back_and_a_fast_path_that_is_off_wants_no_offers() {
    let mut offloads = offloads(4);
    assert!(take(&mut offloads, offer(1000), Some(&connection(1000))));
    assert!(offloads.hear(vec![News::Lost]));
    assert_eq!(offloads.count(), 0);
    offloads.set(Arc::new(Settings {
        is_on: false,
        ..settings()
    }));
    offloads.renew_lease(NOW);
    let lease = offloads.plane.lease;
    assert_eq!((lease.packets_until_ns, lease.offers_until_ns), (0, 0));
    assert_ne!(lease, Lease::default(), "ids are never given twice");
    assert_eq!(why(&offloads, 1000), Standing::Stack(Why::Off));
}
