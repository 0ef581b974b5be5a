//! Fragments: the first one says whose it is; connection tracking joins the later ones with it.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Family, Totals, UplinkCounters};

use crate::frames::Extension::{Destination, Fragment, HopByHop};
use crate::frames::{Message, Packet, SYN};
use crate::gateway::{Gateway, Mark, Outcome, both, counted, in_family};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    let mut trials = both("a_first_fragment_is_steered", first);
    trials.extend(both("a_later_fragment_is_left_alone", later));
    trials.extend(both(
        "a_later_fragment_to_users_is_counted_only",
        counted_only,
    ));
    trials.push(in_family(
        "an_atomic_fragment_is_a_whole_packet",
        Family::Ipv6,
        atomic,
    ));
    trials
}

/// A packet as a fragment, with headers before and behind the one that says so where the family has
/// such.
pub(crate) fn fragment(packet: Packet, offset: u16, more: bool) -> Packet {
    Packet {
        fragment: (offset, more),
        extensions: vec![HopByHop(0), Fragment(offset, more), Destination(0)],
        ..packet
    }
}

fn first(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    for (message, key) in [
        (Message::udp(1, 2), ends.key(UDP, 1, 2)),
        (Message::tcp(1, 2, SYN), ends.key(TCP, 1, 2)),
    ] {
        let mark = gateway.lan_in(&fragment(ends.out(message), 0, true))?;
        assert_eq!(mark, Mark::Ask(gateway.chosen(&key)?));
        gateway.assert_flows(&[key])?;
        gateway.programs.remove_flow(&key)?;
    }
    Ok(())
}

/// Offsets in units of 8 bytes: the least, those with one bit in either byte, the largest.
const OFFSETS: [u16; 6] = [1, 2, 31, 32, 256, 8191];

fn later(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    for offset in OFFSETS {
        for more in [true, false] {
            let packet = fragment(ends.out(Message::udp(1, 2)), offset, more);
            assert_eq!(gateway.lan_in(&packet)?, Mark::None, "offset {offset}");
        }
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals::default())
}

fn counted_only(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let packet = fragment(ends.back(Message::udp(1, 2)), 100, true);
    gateway.lan_out_first(&packet, 2)?;
    gateway.assert_flows(&[])?;
    let lan_out = counted(1, packet.frame([0; 6]).len());
    gateway.assert_counters(
        2,
        UplinkCounters {
            lan_out,
            ..UplinkCounters::default()
        },
    )
}

fn atomic(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let packet = fragment(ends.out(Message::udp(1, 2)), 0, false);
    let key = ends.key(UDP, 1, 2);
    assert_eq!(gateway.lan_in(&packet)?, Mark::Ask(gateway.chosen(&key)?));
    let plain = ends.out(Message::udp(1, 2));
    gateway.lan_in(&plain)?;
    gateway.assert_flows(&[key])?;
    assert_eq!(gateway.flow(&key)?.out_packets, 2, "both are the same flow");
    Ok(())
}
