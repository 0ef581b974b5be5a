//! Rules and routes of others, read to be judged. Nothing here changes anything.

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteNextHop, RouteProtocol, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use nix::errno::Errno;

use super::routing::route::{address_family, ip, table_of};
use super::rtnetlink::{Rtnetlink, RtnetlinkError};
use crate::doctor::facts::{ForeignRoute, ForeignRule};
use crate::family::Family;
use crate::interface::InterfaceIndex;
use crate::wanted::routing::PROTOCOL;

/// The tables that every host has.
const LOCAL: u32 = 255;
const MAIN: u32 = 254;

/// What others have put into the kernel's routing policy.
#[derive(Debug, Default)]
pub struct Foreign {
    /// Their rules; the kernel's own three are none.
    pub rules: Vec<ForeignRule>,
    /// Their routes outside of `main` and `local`.
    pub routes: Vec<ForeignRoute>,
    /// Whether rules of ours are there.
    pub has_ours: bool,
}

/// Reads all of them.
///
/// # Errors
/// When the kernel refuses.
pub async fn read() -> Result<Foreign, RtnetlinkError> {
    let mut netlink = Rtnetlink::open()?;
    let mut foreign = Foreign::default();
    for family in Family::ALL {
        let mut request = RuleMessage::default();
        request.header.family = address_family(family);
        let request = RouteNetlinkMessage::GetRule(request);
        for message in dump(&mut netlink, request).await? {
            if let RouteNetlinkMessage::NewRule(message) = message {
                match rule(&message, family) {
                    Found::Ours => foreign.has_ours = true,
                    Found::Theirs(rule) => foreign.rules.push(rule),
                    Found::Kernels => {}
                }
            }
        }
        let mut request = RouteMessage::default();
        request.header.address_family = address_family(family);
        let request = RouteNetlinkMessage::GetRoute(request);
        for message in dump(&mut netlink, request).await? {
            if let RouteNetlinkMessage::NewRoute(message) = message {
                foreign.routes.extend(route(&message, family));
            }
        }
    }
    Ok(foreign)
}

async fn dump(
    netlink: &mut Rtnetlink,
    request: RouteNetlinkMessage,
) -> Result<Vec<RouteNetlinkMessage>, RtnetlinkError> {
    match netlink.dump(request).await {
        // The family is switched off.
        Err(error) if error.errno() == Some(Errno::EAFNOSUPPORT as i32) => Ok(Vec::new()),
        answer => answer,
    }
}

enum Found {
    Ours,
    Theirs(ForeignRule),
    Kernels,
}

fn rule(message: &RuleMessage, family: Family) -> Found {
    let header = &message.header;
    if header.family != address_family(family) {
        return Found::Kernels;
    }
    let mut rule = ForeignRule {
        family,
        priority: 0,
        table: Some(header.table.into()),
        mark: None,
        inverted: header.flags.contains(RuleFlags::Invert),
        narrow: header.src_len != 0 || header.dst_len != 0 || header.tos != 0,
        specific_only: false,
    };
    let mut mask = None;
    let mut mark = None;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(found) if *found == RouteProtocol::from(PROTOCOL) => {
                return Found::Ours;
            }
            RuleAttribute::Protocol(RouteProtocol::Kernel) => return Found::Kernels,
            RuleAttribute::Priority(found) => rule.priority = *found,
            RuleAttribute::Table(found) => rule.table = Some(*found),
            RuleAttribute::FwMark(found) => mark = Some(*found),
            RuleAttribute::FwMask(found) => mask = Some(*found),
            RuleAttribute::SuppressPrefixLen(found) => rule.specific_only = *found != u32::MAX,
            RuleAttribute::Iifname(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::IpProtocol(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_)
            | RuleAttribute::UidRange(_) => rule.narrow = true,
            _ => {}
        }
    }
    // Older kernels do not say who made their own.
    let kernels = [(0, LOCAL), (32766, MAIN), (32767, 253)];
    if kernels.contains(&(rule.priority, rule.table.unwrap_or(0))) {
        return Found::Kernels;
    }
    rule.mark = mask.map(|mask| (mark.unwrap_or(0), mask));
    if header.action != RuleAction::ToTable {
        rule.table = None;
    }
    Found::Theirs(rule)
}

fn route(message: &RouteMessage, family: Family) -> Option<ForeignRoute> {
    let header = &message.header;
    let table = table_of(message).0;
    let is_other = header.address_family == address_family(family)
        && header.protocol != RouteProtocol::from(PROTOCOL)
        && !matches!(table, LOCAL | MAIN)
        && !matches!(
            header.kind,
            RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast
        );
    if !is_other {
        return None;
    }
    let mut interfaces = Vec::new();
    let mut destination = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(found) => interfaces.push(InterfaceIndex(*found)),
            RouteAttribute::MultiPath(hops) => {
                let index = |hop: &RouteNextHop| InterfaceIndex(hop.interface_index);
                interfaces.extend(hops.iter().map(index));
            }
            RouteAttribute::Destination(found) => {
                destination = ip(found)
                    .and_then(|found| IpNet::new(found, header.destination_prefix_length).ok());
            }
            _ => {}
        }
    }
    let is_default = header.destination_prefix_length == 0 && header.kind == RouteType::Unicast;
    Some(ForeignRoute {
        family,
        table,
        is_default,
        destination,
        interfaces,
    })
}
