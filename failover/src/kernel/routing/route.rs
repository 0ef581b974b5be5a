//! Routes of ours as messages of rtnetlink, and back.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};

use crate::family::Family;
use crate::interface::InterfaceIndex;
use crate::wanted::routing::{NextHop, PROTOCOL, Route, TableId, To};

/// The metric of our IPv6 routes; the kernel takes it where none is given. Those of IPv4 have none.
const IPV6_METRIC: u32 = 1024;

/// Stands for "no gateway" in IPv6 routes with several next hops. The kernel refuses next hops with
/// an interface alone there ("Device only routes can not be added for IPv6 using the multipath
/// API", `net/ipv6/route.c`), and on an interface without neighbours any gateway will do.
const NO_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xffff, 0xffff, 0xffff, 0xfffe);

/// The family as rtnetlink says it.
pub(in crate::kernel) const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}

/// The address in a route's attribute, if it is one of IP.
pub(in crate::kernel) const fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// The table of a route: the header has room for eight bits only.
pub(in crate::kernel) fn table_of(message: &RouteMessage) -> TableId {
    TableId(
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::Table(table) => Some(*table),
                _ => None,
            })
            .unwrap_or_else(|| message.header.table.into()),
    )
}

/// Asks for all routes of ours of one family, in all tables.
pub(super) fn ours(family: Family) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(family);
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message
}

/// A table's place for a default route of a kind, without its next hops.
fn slot(table: TableId, family: Family, kind: RouteType) -> RouteMessage {
    let mut message = ours(family);
    message.header.kind = kind;
    // "Any" for the deletion; `message` says what it is for the rest.
    message.header.scope = RouteScope::NoWhere;
    message.attributes.push(RouteAttribute::Table(table.0));
    if family == Family::Ipv6 {
        message
            .attributes
            .push(RouteAttribute::Priority(IPV6_METRIC));
    }
    message
}

/// As much of a route as its deletion needs.
pub(super) fn place(route: &Route) -> RouteMessage {
    let kind = match route.to {
        To::Hops { .. } => RouteType::Unicast,
        To::Nowhere => RouteType::Prohibit,
    };
    slot(route.table, route.family, kind)
}

/// A destination about which a table has nothing to say.
pub(super) fn exception(table: TableId, family: Family, prefix: IpNet) -> RouteMessage {
    let mut message = slot(table, family, RouteType::Throw);
    message.header.scope = RouteScope::Universe;
    message.header.destination_prefix_length = prefix.prefix_len();
    message
        .attributes
        .push(RouteAttribute::Destination(prefix.addr().into()));
    message
}

/// The whole route.
pub(super) fn message(route: &Route) -> RouteMessage {
    let mut message = place(route);
    message.header.scope = RouteScope::Universe;
    match (&route.to, route.hops()) {
        (To::Nowhere, _) => {}
        (To::Hops { source, .. }, [hop]) => {
            message
                .attributes
                .push(RouteAttribute::Oif(hop.interface.0));
            match hop.gateway {
                Some(gateway) => {
                    message
                        .attributes
                        .push(gateway_attribute(gateway, route.family));
                    if hop.onlink {
                        message.header.flags |= RouteFlags::Onlink;
                    }
                }
                None => message.header.scope = RouteScope::Link,
            }
            if let Some(source) = *source {
                message
                    .attributes
                    .push(RouteAttribute::PrefSource(source.into()));
            }
        }
        (To::Hops { hops, .. }, _) => {
            message.attributes.push(RouteAttribute::MultiPath(
                hops.iter().map(|hop| next_hop(hop, route.family)).collect(),
            ));
        }
    }
    message
}

fn next_hop(hop: &NextHop, family: Family) -> RouteNextHop {
    let mut next_hop = RouteNextHop::default();
    next_hop.interface_index = hop.interface.0;
    // The kernel's value is one less than the weight.
    next_hop.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    let (gateway, onlink) = match (hop.gateway, family) {
        (Some(gateway), _) => (Some(gateway), hop.onlink),
        (None, Family::Ipv4) => (None, false),
        (None, Family::Ipv6) => (Some(IpAddr::V6(NO_GATEWAY)), true),
    };
    if let Some(gateway) = gateway {
        next_hop.attributes.push(gateway_attribute(gateway, family));
    }
    if onlink {
        next_hop.flags |= RouteNextHopFlags::Onlink;
    }
    next_hop
}

/// An IPv4 route may have an IPv6 neighbour for gateway (RFC 9229); that is another attribute.
fn gateway_attribute(gateway: IpAddr, family: Family) -> RouteAttribute {
    if Family::of(gateway) == family {
        RouteAttribute::Gateway(gateway.into())
    } else {
        RouteAttribute::Via(gateway.into())
    }
}

fn parse_gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(found) => ip(found),
        RouteAttribute::Via(RouteVia::Inet6(found)) => Some(IpAddr::V6(*found)),
        _ => None,
    }
}

/// The route, if it has the form that [`message`] gives.
pub(super) fn parse(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let family = match header.address_family {
        AddressFamily::Inet => Family::Ipv4,
        AddressFamily::Inet6 => Family::Ipv6,
        _ => return None,
    };
    if !matches!(header.kind, RouteType::Unicast | RouteType::Prohibit)
        || header.destination_prefix_length != 0
        || header.source_prefix_length != 0
        || header.tos != 0
    {
        return None;
    }
    let mut metric = 0;
    let mut source = None;
    let mut hops = Vec::new();
    let mut alone = RouteNextHop::default();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(_)
            | RouteAttribute::CacheInfo(_)
            | RouteAttribute::Preference(_) => {}
            RouteAttribute::Priority(found) => metric = *found,
            RouteAttribute::PrefSource(found) => source = Some(ip(found)?),
            RouteAttribute::Oif(found) => alone.interface_index = *found,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => {
                alone.attributes.push(attribute.clone());
            }
            RouteAttribute::MultiPath(found) => {
                hops = found
                    .iter()
                    .map(parse_next_hop)
                    .collect::<Option<Vec<_>>>()?;
            }
            _ => return None,
        }
    }
    let expected = match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => IPV6_METRIC,
    };
    if metric != expected {
        return None;
    }
    let (table, to) = (table_of(message), To::Nowhere);
    if header.kind == RouteType::Prohibit {
        // The kernel says `lo` of such a route of IPv6.
        return (source.is_none() && hops.is_empty()).then_some(Route { table, family, to });
    }
    if alone.interface_index != 0 {
        if header.flags.contains(RouteFlags::Onlink) {
            alone.flags |= RouteNextHopFlags::Onlink;
        }
        hops.push(parse_next_hop(&alone)?);
    }
    if hops.is_empty() {
        return None;
    }
    hops.sort();
    Some(Route {
        table,
        family,
        to: To::Hops { hops, source },
    })
}

/// The table and the destination, if it has the form that [`exception`] gives.
pub(super) fn parse_exception(message: &RouteMessage, family: Family) -> Option<(TableId, IpNet)> {
    let header = &message.header;
    if header.kind != RouteType::Throw || header.source_prefix_length != 0 || header.tos != 0 {
        return None;
    }
    let mut destination = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(_)
            | RouteAttribute::CacheInfo(_)
            | RouteAttribute::Preference(_)
            | RouteAttribute::Oif(_) => {}
            RouteAttribute::Priority(IPV6_METRIC) if family == Family::Ipv6 => {}
            RouteAttribute::Destination(found) => destination = ip(found),
            _ => return None,
        }
    }
    let prefix = IpNet::new(destination?, header.destination_prefix_length).ok()?;
    Some((table_of(message), prefix))
}

fn parse_next_hop(hop: &RouteNextHop) -> Option<NextHop> {
    let mut gateway = None;
    for attribute in &hop.attributes {
        gateway = Some(parse_gateway(attribute)?);
    }
    let gateway = gateway.filter(|found| *found != IpAddr::V6(NO_GATEWAY));
    Some(NextHop {
        interface: InterfaceIndex(hop.interface_index),
        gateway,
        onlink: gateway.is_some() && hop.flags.contains(RouteNextHopFlags::Onlink),
        weight: u16::from(hop.hops) + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(interface: u32, gateway: Option<&str>, onlink: bool, weight: u16) -> NextHop {
        NextHop {
            interface: InterfaceIndex(interface),
            gateway: gateway.map(|text| text.parse().unwrap()),
            onlink,
            weight,
        }
    }

    fn route(family: Family, hops: Vec<NextHop>) -> Route {
        Route {
            table: TableId(301),
            family,
            to: To::Hops { hops, source: None },
        }
    }

    fn sourced(family: Family, hop: NextHop, source: &str) -> Route {
        Route {
            to: To::Hops {
                hops: vec![hop],
                source: Some(source.parse().unwrap()),
            },
            ..route(family, Vec::new())
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for route in [
            route(Family::Ipv4, vec![hop(2, Some("198.51.100.1"), false, 1)]),
            sourced(
                Family::Ipv4,
                hop(2, Some("198.51.100.1"), true, 1),
                "198.51.100.9",
            ),
            Route {
                to: To::Nowhere,
                ..route(Family::Ipv6, Vec::new())
            },
            route(Family::Ipv4, vec![hop(3, None, false, 1)]),
            route(
                Family::Ipv4,
                vec![
                    hop(2, Some("198.51.100.1"), false, 1),
                    hop(3, Some("fe80::1"), false, 1),
                ],
            ),
            route(
                Family::Ipv4,
                vec![
                    hop(2, Some("198.51.100.1"), true, 256),
                    hop(3, None, false, 1),
                ],
            ),
            route(
                Family::Ipv6,
                vec![
                    hop(2, Some("fe80::1"), false, 3),
                    hop(3, None, false, 2),
                    hop(4, None, false, 1),
                ],
            ),
            route(Family::Ipv6, vec![hop(3, None, false, 1)]),
        ] {
            assert_eq!(parse(&message(&route)), Some(route));
        }
    }

    #[test]
    fn exceptions_are_read_as_they_are_written() {
        for prefix in ["198.51.100.0/25", "fd00:7::/33"] {
            let prefix: IpNet = prefix.parse().unwrap();
            let family = Family::of(prefix.addr());
            let message = exception(TableId(428), family, prefix);
            assert_eq!(
                parse_exception(&message, family),
                Some((TableId(428), prefix))
            );
            assert_eq!(parse(&message), None);
        }
    }

    #[test]
    fn what_we_would_not_write_is_not_taken_for_ours() {
        let whole = message(&route(
            Family::Ipv6,
            vec![hop(2, Some("fe80::1"), false, 1)],
        ));
        let mut specific = whole.clone();
        specific.header.destination_prefix_length = 64;
        let mut blackhole = whole.clone();
        blackhole.header.kind = RouteType::BlackHole;
        let mut other_metric = whole.clone();
        other_metric.attributes.push(RouteAttribute::Priority(7));
        let mut next_hop_object = whole;
        next_hop_object.attributes.push(RouteAttribute::NhId(1));
        for message in [specific, blackhole, other_metric, next_hop_object] {
            assert_eq!(parse(&message), None, "{message:?}");
        }
    }
}
