//! Rules of ours as messages of rtnetlink, and back.

use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, Nla as _};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{
    RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange,
};
use netlink_packet_route::{AddressFamily, IpProtocol};

use super::route::address_family;
use crate::family::Family;
use crate::flows::Protocol;
use crate::policy::{MarkMatch, PortRange};
use crate::wanted::routing::{Action, Origin, PROTOCOL, Rule, Selector, TableId};

/// Attributes that Linux 6.15 and later list with a single port (`include/uapi/linux/fib_rules.h`).
const FRA_SPORT_MASK: u16 = 28;
const FRA_DPORT_MASK: u16 = 29;

/// The interface by which the router's own packets come, as rules see it.
const LOOPBACK: &str = "lo";

/// Asks for all rules of one family.
pub(super) fn all(family: Family) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(family);
    message
}

/// Whether a rule carries our protocol number.
pub(super) fn is_ours(message: &RuleMessage) -> bool {
    message
        .attributes
        .contains(&RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)))
}

/// The whole rule.
pub(super) fn message(rule: &Rule) -> RuleMessage {
    let mut message = all(rule.family);
    select(&rule.selector, &mut message);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    attributes.push(RuleAttribute::Priority(rule.priority));
    if rule.origin != Origin::Any {
        attributes.push(RuleAttribute::Iifname(LOOPBACK.to_owned()));
    }
    if rule.origin == Origin::Others {
        message.header.flags |= RuleFlags::Invert;
    }
    match rule.action {
        Action::Lookup(table) => {
            message.header.action = RuleAction::ToTable;
            attributes.push(RuleAttribute::Table(table.0));
        }
        Action::LookupSpecific(table) => {
            message.header.action = RuleAction::ToTable;
            attributes.push(RuleAttribute::Table(table.0));
            attributes.push(RuleAttribute::SuppressPrefixLen(0));
        }
        Action::Goto(priority) => {
            message.header.action = RuleAction::Goto;
            attributes.push(RuleAttribute::Goto(priority));
        }
        Action::Nothing => message.header.action = RuleAction::Nop,
        Action::Unreachable => message.header.action = RuleAction::Unreachable,
    }
    message
}

fn select(selector: &Selector, message: &mut RuleMessage) {
    if let Some(prefix) = selector.source {
        message.header.src_len = prefix.prefix_len();
    }
    if let Some(prefix) = selector.destination {
        message.header.dst_len = prefix.prefix_len();
    }
    let attributes = &mut message.attributes;
    if let Some(mark) = selector.mark {
        attributes.push(RuleAttribute::FwMark(mark.value));
        attributes.push(RuleAttribute::FwMask(mark.mask));
    }
    if let Some(prefix) = selector.source {
        attributes.push(RuleAttribute::Source(prefix.addr()));
    }
    if let Some(prefix) = selector.destination {
        attributes.push(RuleAttribute::Destination(prefix.addr()));
    }
    if let Some(Protocol(number)) = selector.protocol {
        let protocol = IpProtocol::from(number);
        attributes.push(RuleAttribute::IpProtocol(protocol));
    }
    let range = |PortRange { first, last }| RulePortRange {
        start: first,
        end: last,
    };
    if let Some(ports) = selector.source_ports {
        attributes.push(RuleAttribute::SourcePortRange(range(ports)));
    }
    if let Some(ports) = selector.ports {
        attributes.push(RuleAttribute::DestinationPortRange(range(ports)));
    }
    if let Some(interface) = &selector.bound_to {
        attributes.push(RuleAttribute::Oifname(interface.as_str().to_owned()));
    }
}

/// The rule, if it has the form that [`message`] gives.
pub(super) fn parse(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let family = match header.family {
        AddressFamily::Inet => Family::Ipv4,
        AddressFamily::Inet6 => Family::Ipv6,
        _ => return None,
    };
    // The interface may be away, and so may the rule to go on with.
    let harmless = RuleFlags::OifDetached | RuleFlags::Unresolved;
    let inverted = header.flags.contains(RuleFlags::Invert);
    if !(header.flags - harmless - RuleFlags::Invert).is_empty() || header.tos != 0 {
        return None;
    }
    let mut priority = 0;
    let mut table = u32::from(header.table);
    let mut suppress = None;
    let mut mark = None;
    let mut mask = None;
    let mut goto = None;
    let mut origin = Origin::Any;
    let mut selector = Selector::ALL;
    let range = |found: &RulePortRange| PortRange {
        first: found.start,
        last: found.end,
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(_) => {}
            RuleAttribute::Priority(found) => priority = *found,
            RuleAttribute::Table(found) => table = *found,
            // All ones: nothing is suppressed. The kernel lists it so on every rule.
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            RuleAttribute::SuppressPrefixLen(found) => suppress = Some(*found),
            RuleAttribute::Goto(found) => goto = Some(*found),
            RuleAttribute::FwMark(found) => mark = Some(*found),
            RuleAttribute::FwMask(found) => mask = Some(*found),
            RuleAttribute::Source(found) => {
                selector.source = Some(IpNet::new(*found, header.src_len).ok()?);
            }
            RuleAttribute::Destination(found) => {
                selector.destination = Some(IpNet::new(*found, header.dst_len).ok()?);
            }
            RuleAttribute::IpProtocol(found) => {
                selector.protocol = Some(Protocol(u8::from(*found)));
            }
            RuleAttribute::SourcePortRange(found) => selector.source_ports = Some(range(found)),
            RuleAttribute::DestinationPortRange(found) => selector.ports = Some(range(found)),
            RuleAttribute::Oifname(found) => selector.bound_to = Some(found.parse().ok()?),
            RuleAttribute::Iifname(found) if found == LOOPBACK => origin = Origin::Local,
            RuleAttribute::Other(found) if is_whole_port(found) => {}
            _ => return None,
        }
    }
    selector.mark = match (mark, mask) {
        (None, None) => None,
        // The kernel leaves a mark of nothing out.
        (mark, Some(mask)) => Some(MarkMatch {
            mask,
            value: mark.unwrap_or(0),
        }),
        (Some(_), None) => return None,
    };
    let ends = [
        (header.src_len, selector.source),
        (header.dst_len, selector.destination),
    ];
    if ends
        .iter()
        .any(|(len, prefix)| *len != 0 && prefix.is_none())
    {
        return None;
    }
    let action = match (header.action, suppress, goto) {
        (RuleAction::ToTable, None, None) => Action::Lookup(TableId(table)),
        (RuleAction::ToTable, Some(0), None) => Action::LookupSpecific(TableId(table)),
        (RuleAction::Goto, None, Some(priority)) => Action::Goto(priority),
        (RuleAction::Nop, None, None) => Action::Nothing,
        (RuleAction::Unreachable, None, None) => Action::Unreachable,
        _ => return None,
    };
    let origin = match (inverted, origin) {
        (false, origin) => origin,
        // What is inverted is all that a rule asks for.
        (true, Origin::Local) if selector == Selector::ALL => Origin::Others,
        (true, _) => return None,
    };
    Some(Rule {
        priority,
        family,
        origin,
        selector,
        action,
    })
}

/// Whether an attribute says that all bits of a port count.
fn is_whole_port(attribute: &DefaultNla) -> bool {
    let mut value = [0; 2];
    attribute.value_len() == value.len() && {
        attribute.emit_value(&mut value);
        matches!(attribute.kind(), FRA_SPORT_MASK | FRA_DPORT_MASK) && value == [0xff; 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(selector: Selector, action: Action) -> Rule {
        Rule {
            priority: 1000,
            family: Family::Ipv6,
            origin: Origin::Local,
            selector,
            action,
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let table = TableId(70_000);
        let mark = Selector::mark(0x8100_0000, 0xff00_0000);
        let whole = Selector {
            mark: Some(MarkMatch {
                mask: 0xff,
                value: 0,
            }),
            source: Some("fd00:1::/33".parse().unwrap()),
            destination: Some("fd00:2::/64".parse().unwrap()),
            protocol: Some(Protocol::TCP),
            source_ports: Some(PortRange {
                first: 1,
                last: 1023,
            }),
            ports: Some(PortRange {
                first: 25,
                last: 25,
            }),
            bound_to: Some("wan1".parse().unwrap()),
        };
        for rule in [
            rule(Selector::ALL, Action::LookupSpecific(table)),
            rule(mark.clone(), Action::Lookup(table)),
            rule(mark, Action::Unreachable),
            rule(
                Selector::from("fd00::7".parse().unwrap()),
                Action::Lookup(table),
            ),
            rule(whole, Action::Goto(40_010)),
            rule(Selector::ALL, Action::Nothing),
            Rule {
                origin: Origin::Others,
                ..rule(Selector::ALL, Action::Goto(1005))
            },
        ] {
            let message = message(&rule);
            assert!(is_ours(&message));
            assert_eq!(parse(&message), Some(rule));
        }
    }

    #[test]
    fn what_we_would_not_write_is_not_taken_for_ours() {
        let whole = message(&rule(Selector::ALL, Action::Lookup(TableId(301))));
        let mut inverted = message(&rule(
            Selector::mark(0x8100_0000, 0xff00_0000),
            Action::Lookup(TableId(301)),
        ));
        inverted.header.flags = RuleFlags::Invert;
        let mut by_interface = whole.clone();
        by_interface
            .attributes
            .push(RuleAttribute::Iifname("lan0".to_owned()));
        let mut by_class = whole;
        by_class.header.tos = 0x10;
        for message in [inverted, by_interface, by_class] {
            assert_eq!(parse(&message), None, "{message:?}");
        }
    }
}
