//! The next hops of offloaded flows: where they are, as far as that is known.
//!
//! One whose addresses change is closed first, and opened with the new ones when all programs have ended
//! that may have read the old ones: no frame is ever sent half to one host and half to another.

use std::collections::BTreeMap;
use std::net::IpAddr;

use failover_common::{NextHop, maps};

use super::facts::{Neighbour, Port, Way};
use super::plane::{Plane, Wait};
use super::slots::Slots;
use crate::family::Family;
use crate::flows::layout_family;
use crate::interface::InterfaceIndex;
use crate::network::MacAddress;

/// A next hop.
#[derive(Debug)]
struct Hop {
    way: Way,
    /// How many directions of flows go there.
    flows: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its packets are the stack's, and no program looks at it.
    Closed,
    /// Its packets are the stack's, once this wait is over no program looks at it any more.
    Closing(Wait),
    /// It is told so.
    Open(NextHop),
}

/// All next hops.
#[derive(Debug)]
pub struct Hops {
    by_way: BTreeMap<Way, u32>,
    hops: BTreeMap<u32, Hop>,
    free: Slots,
}

impl Default for Hops {
    fn default() -> Self {
        Self {
            by_way: BTreeMap::new(),
            hops: BTreeMap::new(),
            free: Slots::new(maps::NEXT_HOP_CAPACITY),
        }
    }
}

/// What the kernel knows of who is where.
#[derive(Debug, Default)]
pub struct Around {
    /// The interfaces.
    pub ports: BTreeMap<InterfaceIndex, Port>,
    /// The neighbours.
    pub neighbours: BTreeMap<(InterfaceIndex, IpAddr), Neighbour>,
}

impl Around {
    /// What a frame to a next hop begins with, and how long it may be; `None` if that is not known, or
    /// the interface is down.
    #[must_use]
    pub fn frame(&self, way: &Way) -> Option<NextHop> {
        let port = self.ports.get(&way.interface).filter(|port| port.is_up)?;
        let MacAddress(source) = port.mac?;
        let neighbour = self.neighbours.get(&(way.interface, way.address))?;
        let MacAddress(destination) = neighbour.mac?;
        let mtus = [
            Some(port.mtu),
            port.ipv6_mtu.filter(|_| way.family == Family::Ipv6),
            way.mtu,
        ];
        Some(NextHop::ethernet(
            way.interface.0,
            mtus.into_iter().flatten().min()?,
            layout_family(way.family),
            destination,
            source,
        ))
    }
}

impl Hops {
    /// One more direction of a flow goes that way: the index of its next hop, or `None` if there is no
    /// room for now.
    pub fn take<P: Plane>(&mut self, way: Way, around: &Around, plane: &mut P) -> Option<u32> {
        if let Some(index) = self.by_way.get(&way) {
            if let Some(hop) = self.hops.get_mut(index) {
                hop.flows += 1;
                // Nobody opened it while nobody used it.
                bring(*index, hop, around, plane);
            }
            return Some(*index);
        }
        let Some(index) = self.free.take() else {
            for (index, hop) in self.hops.iter_mut().filter(|(_, hop)| hop.flows == 0) {
                close(*index, hop, plane);
            }
            return None;
        };
        let mut hop = Hop {
            way,
            flows: 1,
            state: State::Closed,
        };
        bring(index, &mut hop, around, plane);
        self.hops.insert(index, hop);
        self.by_way.insert(way, index);
        Some(index)
    }

    /// Whether packets are sent to a next hop; otherwise they are the stack's.
    #[must_use]
    pub fn is_open(&self, index: u32) -> bool {
        let hop = self.hops.get(&index);
        hop.is_some_and(|hop| matches!(hop.state, State::Open(_)))
    }

    /// One fewer does. A next hop that nobody uses stays as long as there is room: the next flow may
    /// use it.
    pub fn give_up(&mut self, index: u32) {
        if let Some(hop) = self.hops.get_mut(&index) {
            hop.flows = hop.flows.saturating_sub(1);
        }
    }

    /// The way to a next hop.
    #[must_use]
    pub fn way(&self, index: u32) -> Option<Way> {
        self.hops.get(&index).map(|hop| hop.way)
    }

    /// Brings all next hops, or those behind one interface, to what is known; forgets those that nobody
    /// uses any more.
    pub fn follow<P: Plane>(
        &mut self,
        around: &Around,
        behind: Option<InterfaceIndex>,
        plane: &mut P,
    ) {
        let waited = plane.waited();
        self.free.waited(waited);
        let (by_way, free) = (&mut self.by_way, &mut self.free);
        self.hops.retain(|index, hop| {
            let closed = matches!(hop.state, State::Closing(wait) if wait <= waited);
            if closed {
                hop.state = State::Closed;
            }
            // What has just been closed is opened at once where it can be: nobody else looks at it.
            if closed || behind.is_none_or(|interface| interface == hop.way.interface) {
                bring(*index, hop, around, plane);
            }
            let keep = hop.flows > 0 || hop.state != State::Closed;
            if !keep {
                by_way.remove(&hop.way);
                // A program may have read it from a flow that has only just been given up.
                free.give_up(*index, plane.wait_for_programs());
            }
            keep
        });
    }

    /// Brings the next hops at one place to what is known.
    pub fn follow_to<P: Plane>(
        &mut self,
        (interface, address): (InterfaceIndex, IpAddr),
        around: &Around,
        plane: &mut P,
    ) {
        let there = |mtu, family| Way {
            interface,
            address,
            mtu,
            family,
        };
        let all = there(None, Family::Ipv4)..=there(Some(u32::MAX), Family::Ipv6);
        for (_, index) in self.by_way.range(all) {
            if let Some(hop) = self.hops.get_mut(index) {
                bring(*index, hop, around, plane);
            }
        }
    }

    /// The ways that flows take.
    pub fn used(&self) -> impl Iterator<Item = &Way> {
        let used = self.hops.values().filter(|hop| hop.flows > 0);
        used.map(|hop| &hop.way)
    }

    /// Whether some wait to be opened or forgotten.
    #[must_use]
    pub fn are_waiting(&self) -> bool {
        self.hops
            .values()
            .any(|hop| matches!(hop.state, State::Closing(_)))
    }
}

/// Brings a next hop to what is known.
fn bring<P: Plane>(index: u32, hop: &mut Hop, around: &Around, plane: &mut P) {
    match (hop.state, around.frame(&hop.way)) {
        (State::Open(known), Some(wanted)) if known == wanted => {}
        (State::Open(_), _) => close(index, hop, plane),
        (State::Closed, Some(wanted)) if hop.flows > 0 => {
            plane.open_hop(index, &wanted);
            hop.state = State::Open(wanted);
        }
        (State::Closed, _) | (State::Closing(_), _) => {}
    }
}

fn close<P: Plane>(index: u32, hop: &mut Hop, plane: &mut P) {
    if matches!(hop.state, State::Open(_)) {
        plane.close_hop(index);
        hop.state = State::Closing(plane.wait_for_programs());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::fastpath::recorded::Recorded;

    const LAN: InterfaceIndex = InterfaceIndex(2);
    const WAN: InterfaceIndex = InterfaceIndex(3);
    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 10));
    const WAY: Way = Way {
        interface: LAN,
        address: CLIENT,
        mtu: None,
        family: Family::Ipv4,
    };

    fn around(mac: u8) -> Around {
        let port = |interface| {
            let port = Port {
                mac: Some(MacAddress([2, 0, 0, 0, 0, 1])),
                mtu: 1500,
                ipv6_mtu: Some(1480),
                is_up: true,
            };
            (interface, port)
        };
        let client = Neighbour {
            mac: Some(MacAddress([2, 0, 0, 0, 0, mac])),
            is_stale: false,
        };
        Around {
            ports: [LAN, WAN].map(port).into(),
            neighbours: [((LAN, CLIENT), client)].into(),
        }
    }

    /// What is told of a next hop, if it is open.
    fn told(plane: &Recorded, index: u32) -> Option<&NextHop> {
        plane.hops.get(&index).filter(|hop| hop.interface != 0)
    }

    #[test]
    fn another_address_is_told_when_no_program_reads_the_old_one_whatever_the_next_news_are_about()
    {
        let mut plane = Recorded::new(1);
        let mut hops = Hops::default();
        let before = around(7);
        let index = hops.take(WAY, &before, &mut plane).unwrap();
        assert_eq!(told(&plane, index), before.frame(&WAY).as_ref());
        assert!(hops.is_open(index));

        let after = around(8);
        hops.follow_to((WAN, CLIENT), &after, &mut plane);
        assert!(hops.is_open(index), "news of another one");
        hops.follow_to((LAN, CLIENT), &after, &mut plane);
        assert_eq!(told(&plane, index), None);
        hops.follow(&after, Some(LAN), &mut plane);
        assert_eq!(told(&plane, index), None);
        assert!(hops.are_waiting() && !hops.is_open(index));

        plane.over = 1;
        hops.follow(&after, Some(WAN), &mut plane);
        assert_eq!(told(&plane, index), after.frame(&WAY).as_ref());
        assert!(!hops.are_waiting());
    }

    #[test]
    fn who_came_back_while_nobody_used_its_next_hop_is_sent_to_by_the_next_flow() {
        let mut plane = Recorded::new(1);
        let mut hops = Hops::default();
        let (there, mut gone) = (around(7), around(7));
        gone.neighbours.clear();
        let index = hops.take(WAY, &there, &mut plane).unwrap();
        hops.follow_to((LAN, CLIENT), &gone, &mut plane);
        plane.over = 1;
        hops.follow(&gone, Some(LAN), &mut plane);
        hops.give_up(index);
        hops.follow_to((LAN, CLIENT), &there, &mut plane);
        assert!(!hops.is_open(index));

        assert_eq!(hops.take(WAY, &there, &mut plane), Some(index));
        assert_eq!(told(&plane, index), there.frame(&WAY).as_ref());
        assert!(hops.is_open(index));
    }

    #[test]
    fn a_next_hop_is_anothers_only_when_no_program_reads_what_was_given_up_last() {
        let mut plane = Recorded::new(1);
        let mut hops = Hops::default();
        let (there, mut gone) = (around(7), around(7));
        gone.neighbours.clear();
        let index = hops.take(WAY, &there, &mut plane).unwrap();
        hops.follow(&gone, None, &mut plane);
        plane.over = 1;
        hops.follow(&gone, None, &mut plane);
        // A program may have read the index from the last flow just now.
        hops.give_up(index);
        hops.follow(&gone, None, &mut plane);
        let mtu = |mtu| Way {
            mtu: Some(mtu),
            ..WAY
        };
        assert_ne!(hops.take(mtu(1400), &there, &mut plane), Some(index));
        plane.over = 2;
        hops.follow(&there, None, &mut plane);
        assert_eq!(hops.take(mtu(1300), &there, &mut plane), Some(index));
    }

    #[test]
    fn news_of_a_place_are_for_all_next_hops_there() {
        let mut plane = Recorded::new(1);
        let mut hops = Hops::default();
        let ways = [
            (None, Family::Ipv4),
            (Some(1400), Family::Ipv4),
            (None, Family::Ipv6),
        ]
        .map(|(mtu, family)| Way { mtu, family, ..WAY });
        let before = around(7);
        let taken = ways.map(|way| hops.take(way, &before, &mut plane).unwrap());
        hops.follow_to((LAN, CLIENT), &around(8), &mut plane);
        assert_eq!(taken.map(|index| hops.is_open(index)), [false; 3]);
    }

    #[test]
    fn a_frame_is_of_its_packets_family_whatever_the_next_hops() {
        let gateway: IpAddr = "fe80::1".parse().unwrap();
        let mut around = around(7);
        let neighbour = around.neighbours[&(LAN, CLIENT)];
        around.neighbours.insert((WAN, gateway), neighbour);
        let frame = |family, mtu| {
            let way = Way {
                interface: WAN,
                address: gateway,
                mtu,
                family,
            };
            let hop = around.frame(&way).unwrap();
            (u16::from_be(hop.kind), hop.mtu)
        };
        assert_eq!(frame(Family::Ipv4, None), (0x0800, 1500));
        assert_eq!(frame(Family::Ipv6, None), (0x86dd, 1480));
        assert_eq!(frame(Family::Ipv6, Some(1400)), (0x86dd, 1400));
        assert_eq!(frame(Family::Ipv6, Some(9000)), (0x86dd, 1480));
    }
}
