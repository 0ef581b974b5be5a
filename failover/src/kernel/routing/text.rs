//! Routes and rules as `ip` writes them, for messages that a person can try out by hand.

use std::fmt;

use ipnet::IpNet;

use crate::family::Family;
use crate::policy::PortRange;
use crate::wanted::routing::{Action, Origin, Route, RoutingChange, Rule, Selector, To};

/// A change as the command of `ip` that would make it.
pub(super) struct Command<'a>(pub(super) &'a RoutingChange);

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            RoutingChange::ReplaceRoute(route) => {
                let family = option(route.family);
                write!(f, "ip {family} route replace {}", Shown(route))
            }
            RoutingChange::DeleteRoute(route) => {
                let family = option(route.family);
                write!(f, "ip {family} route del default table {}", route.table.0)
            }
            RoutingChange::AddExceptions(table, family, prefixes) => {
                let family = option(*family);
                let all = Few(prefixes);
                write!(f, "ip {family} route add throw {all} table {}", table.0)
            }
            RoutingChange::DeleteExceptions(table, family, prefixes) => {
                let family = option(*family);
                let all = Few(prefixes);
                write!(f, "ip {family} route del throw {all} table {}", table.0)
            }
            RoutingChange::AddRule(rule) => {
                write!(f, "ip {} rule add {}", option(rule.family), Shown(rule))
            }
            RoutingChange::DeleteRule(rule) => {
                write!(f, "ip {} rule del {}", option(rule.family), Shown(rule))
            }
        }
    }
}

const fn option(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "-4",
        Family::Ipv6 => "-6",
    }
}

/// The first of many, and how many more there are.
struct Few<'a>(&'a [IpNet]);

impl fmt::Display for Few<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [only] => only.fmt(f),
            [first, others @ ..] => write!(f, "{first} (and {} more)", others.len()),
        }
    }
}

struct Shown<'a, T>(&'a T);

impl fmt::Display for Shown<'_, Route> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.to == To::Nowhere {
            f.write_str("prohibit ")?;
        }
        write!(f, "default table {}", self.0.table.0)?;
        if let Some(source) = self.0.source() {
            write!(f, " src {source}")?;
        }
        for hop in self.0.hops() {
            if self.0.hops().len() > 1 {
                write!(f, " nexthop weight {}", hop.weight)?;
            }
            if let Some(gateway) = hop.gateway {
                write!(f, " via {gateway}")?;
            }
            write!(f, " dev if{}", hop.interface)?;
            if hop.onlink {
                f.write_str(" onlink")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Shown<'_, Rule> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pref {}", self.0.priority)?;
        f.write_str(match self.0.origin {
            Origin::Any => "",
            Origin::Local => " iif lo",
            Origin::Others => " not iif lo",
        })?;
        Shown(&self.0.selector).fmt(f)?;
        match self.0.action {
            Action::Lookup(table) => write!(f, " lookup {}", table.0),
            Action::LookupSpecific(table) => {
                write!(f, " lookup {} suppress_prefixlength 0", table.0)
            }
            Action::Goto(priority) => write!(f, " goto {priority}"),
            Action::Nothing => f.write_str(" nop"),
            Action::Unreachable => f.write_str(" unreachable"),
        }
    }
}

impl fmt::Display for Shown<'_, Selector> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Selector {
            mark,
            source,
            destination,
            protocol,
            source_ports,
            ports,
            bound_to,
        } = self.0;
        if let Some(source) = source {
            write!(f, " from {}", Prefix(*source))?;
        }
        if let Some(destination) = destination {
            write!(f, " to {}", Prefix(*destination))?;
        }
        if let Some(mark) = mark {
            write!(f, " fwmark {mark}")?;
        }
        if let Some(interface) = bound_to {
            write!(f, " oif {interface}")?;
        }
        if let Some(protocol) = protocol {
            write!(f, " ipproto {protocol}")?;
        }
        let named = |range: &Option<PortRange>| range.map(|range| range.to_string());
        for (word, ports) in [("sport", named(source_ports)), ("dport", named(ports))] {
            if let Some(ports) = ports {
                write!(f, " {word} {ports}")?;
            }
        }
        Ok(())
    }
}

/// A prefix; one of a single address as that address.
struct Prefix(IpNet);

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::InterfaceIndex;
    use crate::wanted::routing::{NextHop, TableId};

    #[test]
    fn a_person_can_read_what_was_tried() {
        let change = RoutingChange::ReplaceRoute(Route {
            table: TableId(300),
            family: Family::Ipv4,
            to: To::Hops {
                hops: vec![
                    NextHop {
                        interface: InterfaceIndex(4),
                        gateway: Some("198.51.100.1".parse().unwrap()),
                        onlink: true,
                        weight: 3,
                    },
                    NextHop {
                        interface: InterfaceIndex(5),
                        gateway: None,
                        onlink: false,
                        weight: 1,
                    },
                ],
                source: None,
            },
        });
        assert_eq!(
            Command(&change).to_string(),
            "ip -4 route replace default table 300 nexthop weight 3 via 198.51.100.1 dev if4 \
             onlink nexthop weight 1 dev if5"
        );
        let change = RoutingChange::AddRule(Rule {
            priority: 1001,
            family: Family::Ipv6,
            origin: Origin::Local,
            selector: Selector::mark(0x0100_0000, 0xff00_0000),
            action: Action::Unreachable,
        });
        assert_eq!(
            Command(&change).to_string(),
            "ip -6 rule add pref 1001 iif lo fwmark 0x1000000/0xff000000 unreachable"
        );
    }
}
