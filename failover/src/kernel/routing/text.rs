//! Routes and rules as `ip` writes them, for messages that a person can try out by hand.

use std::fmt;

use crate::family::Family;
use crate::wanted::routing::{Action, Origin, Route, RoutingChange, Rule, Selector};

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

struct Shown<'a, T>(&'a T);

impl fmt::Display for Shown<'_, Route> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "default table {}", self.0.table.0)?;
        if let Some(source) = self.0.source {
            write!(f, " src {source}")?;
        }
        for hop in &self.0.hops {
            if self.0.hops.len() > 1 {
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
        if self.0.origin == Origin::Local {
            f.write_str(" iif lo")?;
        }
        match self.0.selector {
            Selector::All => {}
            Selector::Mark { value, mask } => write!(f, " fwmark {value:#x}/{mask:#x}")?,
            Selector::From(address) => write!(f, " from {address}")?,
        }
        match self.0.action {
            Action::Lookup(table) => write!(f, " lookup {}", table.0),
            Action::LookupSpecific(table) => {
                write!(f, " lookup {} suppress_prefixlength 0", table.0)
            }
            Action::Unreachable => f.write_str(" unreachable"),
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
            selector: Selector::Mark {
                value: 0x0100_0000,
                mask: 0xff00_0000,
            },
            action: Action::Unreachable,
        });
        assert_eq!(
            Command(&change).to_string(),
            "ip -6 rule add pref 1001 iif lo fwmark 0x1000000/0xff000000 unreachable"
        );
    }
}
