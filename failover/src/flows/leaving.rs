//! Which flows of an uplink that works can go elsewhere.
//!
//! Not those that began outside, since only this uplink's addresses are known there, and not those of
//! the router itself from an address of its own: these two stay whatever is forgotten, and would only
//! be hurt. What cannot be told is taken for one that began outside.

use std::net::IpAddr;

use super::{Surroundings, TrackedFlow};
use crate::family::Family;
use crate::mark::{Mark, MarkMask};
use crate::policy::Keeping;

/// The flows of an uplink in one family that can go elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The family.
    pub family: Family,
    /// The mark of the uplink's connections.
    pub mark: Mark,
    /// Our bits of marks.
    pub mask: MarkMask,
    /// The address to which the uplink translates: what others took our bits from is known by it.
    pub source: Option<IpAddr>,
    /// What tells the inside from the outside.
    pub surroundings: Surroundings,
    /// What stays on the uplink.
    pub keeping: Keeping,
}

impl Leaving {
    /// Whether it is one of them.
    #[must_use]
    pub fn has(&self, flow: &TrackedFlow) -> bool {
        let ours = flow.mark.0 & self.mask.bits();
        let of_the_uplink = if ours == 0 {
            self.source == Some(flow.reply.destination)
        } else {
            ours == self.mark.0
        };
        // No rule is for what the router itself sends.
        let stays = || {
            if self.surroundings.is_own(flow.original.source) {
                self.keeping.keeps_others()
            } else {
                self.keeping.keeps(flow)
            }
        };
        of_the_uplink
            && Family::of(flow.original.source) == self.family
            && self.surroundings.can_leave(flow)
            && !stays()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::flows::Protocol;
    use crate::flows::outbound_key;
    use crate::interface::InterfaceIndex;
    use crate::network::{InterfaceAddress, Link, NetworkView};
    use crate::policy::Open;

    const CONFIG: &str = "
uplinks:
  lte: {interface: wan1, prefixes6: ['fd00:77::/48']}
  fiber: {interface: wan2}
downlinks: [lan0]
";

    fn surroundings() -> Surroundings {
        let link = |index| Link::ethernet(InterfaceIndex(index));
        let address = |interface, text: &str, prefix_len| InterfaceAddress {
            interface: InterfaceIndex(interface),
            address: text.parse().unwrap(),
            prefix_len,
        };
        let view = NetworkView {
            links: [
                ("wan1".parse().unwrap(), link(2)),
                ("wan2".parse().unwrap(), link(4)),
                ("lan0".parse().unwrap(), link(3)),
            ]
            .into(),
            addresses: vec![
                address(2, "198.18.11.2", 24),
                address(4, "198.18.12.2", 24),
                address(2, "fd00:18:11::2", 64),
                address(3, "198.18.0.1", 24),
                address(3, "fd00:18::1", 64),
            ],
            ..NetworkView::default()
        };
        Surroundings::new(&config::parse(CONFIG).unwrap(), &view)
    }

    const ROUTER_LTE: &str = "198.18.11.2";
    const ROUTER_FIBER: &str = "198.18.12.2";
    const ROUTER_LAN: &str = "198.18.0.1";
    const CLIENT: &str = "198.18.0.10";
    const SERVER: &str = "203.0.113.1";
    const VISITOR: &str = "203.0.113.5";
    /// A host behind a router of the downlink's network, which no address of ours tells of.
    const FURTHER_INSIDE: &str = "198.19.7.7";

    /// A flow of the uplink whose first packet went from `from` to `to`, and whose answers come from
    /// `answers_from` and go to `answers_to`.
    fn flow(from: &str, to: &str, answers_from: &str, answers_to: &str) -> TrackedFlow {
        let mark = Mark(0x0100_ca6c);
        TrackedFlow::between(mark, Protocol(17), (from, to), (answers_from, answers_to))
    }

    fn leaving() -> Leaving {
        Leaving {
            family: Family::Ipv4,
            mark: Mark(0x0100_0000),
            mask: MarkMask::DEFAULT,
            source: Some(ROUTER_LTE.parse().unwrap()),
            surroundings: surroundings(),
            keeping: Keeping::default(),
        }
    }

    fn goes(flow: &TrackedFlow) -> bool {
        let family = Family::of(flow.original.source);
        Leaving {
            family,
            ..leaving()
        }
        .has(flow)
    }

    #[test]
    fn what_its_rule_keeps_on_the_uplink_cannot_leave() {
        let flow = flow(CLIENT, SERVER, SERVER, ROUTER_LTE);
        let keeps = |matching: &str| {
            let rules = format!("rules: [{{match: {{{matching}}}, via: [lte]}}]\n");
            let config = config::parse(&format!("{CONFIG}{rules}")).unwrap();
            let policy = crate::policy::Policy::of(&config, &crate::policy::Sets::new());
            let leaves = |open, others_stay| {
                let keeping = Keeping::new(&policy, vec![open], others_stay);
                Leaving {
                    keeping,
                    ..leaving()
                }
                .has(&flow)
            };
            assert!(leaves(Open::AsOthers, false), "{matching}");
            assert!(!leaves(Open::AsOthers, true), "{matching}");
            // Where its rule lets it go, that counts if it is surely its rule.
            let surely = !matching.contains("dscp") && !leaves(Open::Stay, false);
            assert_eq!(leaves(Open::Go, true), surely, "{matching}");
            !leaves(Open::Stay, false)
        };
        assert!(keeps("protocol: udp, ports: [443]"));
        // It may have had this code point.
        assert!(keeps("dscp: ef"));
        assert!(!keeps("protocol: tcp"));
        assert!(!keeps("protocol: udp, ports: [53], dscp: ef"));
    }

    #[test]
    fn what_began_inside_can_leave() {
        for (what, from, to, answers_from, answers_to) in [
            ("translated, one arm", CLIENT, SERVER, SERVER, ROUTER_LAN),
            ("translated", CLIENT, SERVER, SERVER, ROUTER_LTE),
            (
                "translated by the user",
                CLIENT,
                SERVER,
                SERVER,
                "192.0.2.7",
            ),
            ("not translated", CLIENT, SERVER, SERVER, CLIENT),
            (
                "from further inside",
                FURTHER_INSIDE,
                SERVER,
                SERVER,
                ROUTER_LTE,
            ),
            (
                "to another server",
                CLIENT,
                SERVER,
                "203.0.113.9",
                ROUTER_LTE,
            ),
            (
                "led outside by the router",
                CLIENT,
                ROUTER_LAN,
                SERVER,
                ROUTER_LTE,
            ),
            // A socket that is bound to an address of the uplink that returned.
            (
                "the router's own, from afar",
                ROUTER_FIBER,
                SERVER,
                SERVER,
                ROUTER_LTE,
            ),
            (
                "the router's own, from inside",
                ROUTER_LAN,
                SERVER,
                SERVER,
                ROUTER_LTE,
            ),
            (
                "routed prefix",
                "fd00:77::9",
                "fd00:203::1",
                "fd00:203::1",
                "fd00:77::9",
            ),
        ] {
            let flow = flow(from, to, answers_from, answers_to);
            assert!(goes(&flow), "{what}");
        }
    }

    #[test]
    fn what_began_outside_and_what_is_bound_stays() {
        for (what, from, to, answers_from, answers_to) in [
            ("to the router", VISITOR, ROUTER_LTE, ROUTER_LTE, VISITOR),
            ("forwarded inside", VISITOR, ROUTER_LTE, CLIENT, VISITOR),
            (
                "forwarded further",
                VISITOR,
                ROUTER_LTE,
                FURTHER_INSIDE,
                VISITOR,
            ),
            ("and translated", VISITOR, ROUTER_LTE, CLIENT, ROUTER_LAN),
            (
                "further, and translated",
                VISITOR,
                ROUTER_LTE,
                FURTHER_INSIDE,
                ROUTER_LAN,
            ),
            (
                "to another address",
                VISITOR,
                "192.0.2.7",
                FURTHER_INSIDE,
                VISITOR,
            ),
            ("not translated", VISITOR, CLIENT, CLIENT, VISITOR),
            ("who knows", FURTHER_INSIDE, SERVER, SERVER, FURTHER_INSIDE),
            ("bound", ROUTER_LTE, SERVER, SERVER, ROUTER_LTE),
            (
                "routed prefix",
                "fd00:203::5",
                "fd00:77::9",
                "fd00:77::9",
                "fd00:203::5",
            ),
        ] {
            let flow = flow(from, to, answers_from, answers_to);
            assert!(!goes(&flow), "{what}");
        }
    }

    #[test]
    fn flows_of_others_are_not_meant() {
        let own = flow(CLIENT, SERVER, SERVER, ROUTER_LTE);
        let marked = |mark| TrackedFlow {
            mark: Mark(mark),
            ..own.clone()
        };
        let leaving = leaving();
        assert!(leaving.has(&own));
        assert!(!leaving.has(&marked(0x0200_0000)), "another uplink's");
        assert!(!leaving.has(&marked(0x8100_0000)), "a probe");
        let other_family = Leaving {
            family: Family::Ipv6,
            ..leaving.clone()
        };
        assert!(!other_family.has(&own));

        // Others took our bits: the translation tells.
        assert!(leaving.has(&marked(0xca6c)));
        let by_fiber = flow(CLIENT, SERVER, SERVER, ROUTER_FIBER);
        assert!(!leaving.has(&TrackedFlow {
            mark: Mark(0xca6c),
            ..by_fiber
        }));
        let bound = flow(ROUTER_LTE, SERVER, SERVER, ROUTER_LTE);
        assert!(!leaving.has(&TrackedFlow {
            mark: Mark(0xca6c),
            ..bound
        }));
    }

    #[test]
    fn the_programs_know_a_flow_by_what_its_client_asks_for() {
        let mut flow = flow(CLIENT, SERVER, "203.0.113.9", ROUTER_LTE);
        let key = outbound_key(&flow);
        assert_eq!(
            key.inside,
            [198, 18, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            key.outside,
            [203, 0, 113, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(key.family, failover_common::Family::Ipv4);
        let mut ports = |protocol| {
            flow.protocol = Protocol(protocol);
            let key = outbound_key(&flow);
            (key.inside_port, key.outside_port, key.protocol)
        };
        assert_eq!(ports(17), (4000, 443, 17));
        assert_eq!(ports(1), (77, 0, 1));
        assert_eq!(ports(58), (77, 0, 58));
        assert_eq!(ports(47), (0, 0, 47));
    }
}
