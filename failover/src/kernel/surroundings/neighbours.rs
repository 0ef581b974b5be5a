//! Neighbours, as the fast path sends to them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::NetlinkBuffer;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use nix::errno::Errno;

use crate::family::Family;
use crate::fastpath::facts::Neighbour;
use crate::interface::InterfaceIndex;
use crate::kernel::neighbours::who;
use crate::kernel::netlink::{append, rtnetlink};
use crate::kernel::questions::{Answer, Questions};
use crate::kernel::routing::route::address_family;

/// A neighbour: behind which interface, and its address.
pub(super) type Who = (InterfaceIndex, IpAddr);

/// Reads all neighbours that have a hardware address.
pub(super) fn read(questions: &mut Questions) -> io::Result<BTreeMap<Who, Neighbour>> {
    let mut all = BTreeMap::new();
    for family in Family::ALL {
        let mut question = NeighbourMessage::default();
        question.header.family = address_family(family);
        let question = RouteNetlinkMessage::GetNeighbour(question);
        all.extend(questions.list(&question, |message| {
            Ok(parse(message)?.filter(|(_, neighbour)| neighbour.mac.is_some()))
        })?);
    }
    Ok(all)
}

/// What a message says of a neighbour; `None` for a message about anything else.
pub(super) fn parse(message: NetlinkBuffer<&[u8]>) -> io::Result<Option<(Who, Neighbour)>> {
    Ok(match rtnetlink(message)? {
        Some(RouteNetlinkMessage::NewNeighbour(message)) => neighbour(&message),
        Some(RouteNetlinkMessage::DelNeighbour(message)) => {
            let gone = Neighbour {
                mac: None,
                is_stale: false,
            };
            who(&message).map(|(who, _)| (who, gone))
        }
        _ => None,
    })
}

fn neighbour(message: &NeighbourMessage) -> Option<(Who, Neighbour)> {
    let (who, mac) = who(message)?;
    let state = message.header.state;
    let is_valid = matches!(
        state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let neighbour = Neighbour {
        mac: mac.filter(|_| is_valid),
        is_stale: state == NeighbourState::Stale,
    };
    Some((who, neighbour))
}

/// Has neighbours asked that are stale.
///
/// The kernel is asked how each stands before: told to use a neighbour, it takes `NUD_PERMANENT` and
/// `NTF_EXT_LEARNED` away from it (`__neigh_update` and `neigh_update_flags` in net/core/neighbour.c,
/// since Linux 5.16), and an address that somebody wrote by hand would be lost.
pub(super) fn have_asked(questions: &mut Questions, neighbours: &[Who]) -> io::Result<()> {
    let stand = questions.ask(
        neighbours,
        |batch, who, flags, sequence| {
            let question = RouteNetlinkMessage::GetNeighbour(about(who));
            append(batch, question, flags, sequence);
        },
        |_, answer| match answer {
            Answer::Found(message) => {
                Ok(rtnetlink(message)?.is_some_and(|message| is_to_be_asked(&message)))
            }
            Answer::Refused(error) => if_gone(error).map(|()| false),
        },
    )?;
    let stale: Vec<Who> = neighbours
        .iter()
        .zip(stand)
        .filter_map(|(who, stale)| stale.then_some(*who))
        .collect();
    questions.order(
        &stale,
        (),
        |batch, who, flags, sequence| {
            let mut message = about(who);
            message.header.flags = NeighbourFlags::Use;
            // Without `NLM_F_CREATE` and `NLM_F_REPLACE`: nothing is made, no address is changed.
            append(
                batch,
                RouteNetlinkMessage::NewNeighbour(message),
                flags,
                sequence,
            );
        },
        |_, error| if_gone(error),
    )?;
    Ok(())
}

/// Whether it is stale, and the kernel's alone: one that somebody else learns or has managed is theirs
/// to look after.
fn is_to_be_asked(message: &RouteNetlinkMessage) -> bool {
    let RouteNetlinkMessage::NewNeighbour(message) = message else {
        return false;
    };
    let header = &message.header;
    header.state == NeighbourState::Stale
        && !header.flags.contains(NeighbourFlags::ExtLearned)
        && !message.attributes.iter().any(|attribute| {
            matches!(attribute, NeighbourAttribute::ExtFlags(flags) if !flags.is_empty())
        })
}

fn about((interface, address): &Who) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = address_family(Family::of(*address));
    message.header.ifindex = interface.0;
    let address = match *address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message
        .attributes
        .push(NeighbourAttribute::Destination(address));
    message
}

/// A neighbour or an interface that is gone is not asked.
fn if_gone(error: io::Error) -> io::Result<()> {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        _ => Err(error),
    }
}
