//! Rules of ours as messages of rtnetlink, and back.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use super::route::address_family;
use crate::family::Family;
use crate::wanted::routing::{Action, Origin, PROTOCOL, Rule, Selector, TableId};

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
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    attributes.push(RuleAttribute::Priority(rule.priority));
    if rule.origin == Origin::Local {
        attributes.push(RuleAttribute::Iifname(LOOPBACK.to_owned()));
    }
    match rule.selector {
        Selector::All => {}
        Selector::Mark { value, mask } => {
            attributes.push(RuleAttribute::FwMark(value));
            attributes.push(RuleAttribute::FwMask(mask));
        }
        Selector::From(address) => {
            attributes.push(RuleAttribute::Source(address));
            message.header.src_len = host_prefix(address);
        }
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
        Action::Unreachable => message.header.action = RuleAction::Unreachable,
    }
    message
}

/// The rule, if it has the form that [`message`] gives.
pub(super) fn parse(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let family = match header.family {
        AddressFamily::Inet => Family::Ipv4,
        AddressFamily::Inet6 => Family::Ipv6,
        _ => return None,
    };
    if header.flags != RuleFlags::empty() || header.dst_len != 0 || header.tos != 0 {
        return None;
    }
    let mut priority = 0;
    let mut table = u32::from(header.table);
    let mut suppress = None;
    let mut mark = None;
    let mut mask = None;
    let mut source = None;
    let mut origin = Origin::Any;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(_) => {}
            RuleAttribute::Priority(found) => priority = *found,
            RuleAttribute::Table(found) => table = *found,
            // All ones: nothing is suppressed. The kernel lists it so on every rule.
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            RuleAttribute::SuppressPrefixLen(found) => suppress = Some(*found),
            RuleAttribute::FwMark(found) => mark = Some(*found),
            RuleAttribute::FwMask(found) => mask = Some(*found),
            RuleAttribute::Source(found) => source = Some(*found),
            RuleAttribute::Iifname(found) if found == LOOPBACK => origin = Origin::Local,
            _ => return None,
        }
    }
    let selector = match (mark, mask, source) {
        (None, None, None) if header.src_len == 0 => Selector::All,
        (None, None, Some(address)) if header.src_len == host_prefix(address) => {
            Selector::From(address)
        }
        // The kernel leaves a mark of nothing out.
        (mark, Some(mask), None) => Selector::Mark {
            value: mark.unwrap_or(0),
            mask,
        },
        _ => return None,
    };
    let action = match (header.action, suppress) {
        (RuleAction::ToTable, None) => Action::Lookup(TableId(table)),
        (RuleAction::ToTable, Some(0)) => Action::LookupSpecific(TableId(table)),
        (RuleAction::Unreachable, None) => Action::Unreachable,
        _ => return None,
    };
    Some(Rule {
        priority,
        family,
        origin,
        selector,
        action,
    })
}

const fn host_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
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
        let mark = Selector::Mark {
            value: 0x8100_0000,
            mask: 0xff00_0000,
        };
        for rule in [
            rule(Selector::All, Action::LookupSpecific(table)),
            rule(mark, Action::Lookup(table)),
            rule(mark, Action::Unreachable),
            rule(
                Selector::From("fd00::7".parse().unwrap()),
                Action::Lookup(table),
            ),
        ] {
            let message = message(&rule);
            assert!(is_ours(&message));
            assert_eq!(parse(&message), Some(rule));
        }
    }

    #[test]
    fn what_we_would_not_write_is_not_taken_for_ours() {
        let whole = message(&rule(Selector::All, Action::Lookup(TableId(301))));
        let mut inverted = whole.clone();
        inverted.header.flags = RuleFlags::Invert;
        let mut by_interface = whole.clone();
        by_interface
            .attributes
            .push(RuleAttribute::Iifname("lan0".to_owned()));
        let mut by_prefix = whole;
        by_prefix.header.src_len = 64;
        by_prefix
            .attributes
            .push(RuleAttribute::Source("fd00::".parse().unwrap()));
        for message in [inverted, by_interface, by_prefix] {
            assert_eq!(parse(&message), None, "{message:?}");
        }
    }
}
