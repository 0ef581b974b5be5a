//! Where the kernel would send packets.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteMetric};

use crate::family::Family;
use crate::fastpath::facts::{PassingPacket, Way};
use crate::kernel::netlink::{append, rtnetlink};
use crate::kernel::next_hop::{self, hop, question_through};
use crate::kernel::questions::{Answer, Questions};

/// Asks for the ways of packets.
pub(super) fn ask(
    questions: &mut Questions,
    packets: &[PassingPacket],
) -> io::Result<Vec<Option<Way>>> {
    questions.ask(
        packets,
        |batch, packet, flags, sequence| {
            let mut question = question_through(&next_hop::PassingPacket {
                interface: packet.ingress,
                source: packet.source,
                destination: packet.destination,
                protocol: packet.protocol,
                ports: Some((packet.source_port, packet.destination_port)),
            });
            question
                .attributes
                .push(RouteAttribute::Mark(packet.mark.0));
            let question = RouteNetlinkMessage::GetRoute(question);
            append(batch, question, flags, sequence);
        },
        |packet, answer| {
            // To refuse is to say that the packet would not be sent on: no route, one that forbids it,
            // a source that may not come from there.
            let Answer::Found(message) = answer else {
                return Ok(None);
            };
            Ok(match rtnetlink(message)? {
                Some(RouteNetlinkMessage::NewRoute(route)) => way(&route, packet),
                _ => None,
            })
        },
    )
}

fn way(route: &RouteMessage, packet: &PassingPacket) -> Option<Way> {
    let is_wrapped = |attribute: &RouteAttribute| {
        matches!(
            attribute,
            RouteAttribute::Encap(_) | RouteAttribute::EncapType(_)
        )
    };
    // The stack puts it into what a tunnel needs.
    if route.attributes.iter().any(is_wrapped) {
        return None;
    }
    let hop = hop(route, packet.destination)?;
    let mtu = route.attributes.iter().find_map(|attribute| {
        let RouteAttribute::Metrics(metrics) = attribute else {
            return None;
        };
        metrics.iter().find_map(|metric| match metric {
            RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
            _ => None,
        })
    });
    Some(Way {
        interface: hop.interface,
        address: hop.address,
        mtu,
        family: Family::of(packet.destination),
    })
}
