//! Situations for the tests of the wanted state.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use crate::config::{Affinity, FastPathSetting, Nat};
use crate::discover::Path;
use crate::family::{Family, PerFamily};
use crate::health::Health;
use crate::interface::InterfaceIndex;
use crate::mark::MarkMask;
use crate::network::{LinkLayer, MacAddress};
use crate::policy::{
    AddressRange, AddressSet, Group, Matching, Offered, Otherwise, Policy, PortRange, PortSet,
    Rule, RulePool, Via, select_via,
};
use crate::select::{Candidate, Standing, select};
use crate::status::State;
use crate::uplink::{UplinkId, UplinkName};
use crate::wanted::narrow::Narrow;
use crate::wanted::routing::Routing;
use crate::wanted::{LinkSituation, Numbers, PickedBy, Situation, UplinkSituation};

/// Three uplinks of weights 3, 2 and 1; the last has IPv4 only.
pub(crate) fn three_uplinks() -> Situation {
    let uplinks: Vec<UplinkSituation> = (1..=3).map(|n| uplink(n, n != 3)).collect();
    let pools = PerFamily::from_fn(|family| {
        let candidates: Vec<Candidate> = uplinks
            .iter()
            .zip([3, 2, 1])
            .filter(|(uplink, _)| uplink.path(family).is_some())
            .map(|(uplink, weight)| Candidate {
                id: uplink.id,
                weight,
                priority: 1,
                new_flows: true,
                standing: Standing::Routed(Health::Up),
            })
            .collect();
        select(&candidates)
    });
    Situation {
        numbers: Numbers {
            marks: MarkMask::DEFAULT,
            base_table: 300,
            rule_priority: 1000,
        },
        uplinks,
        downlinks: vec!["lan0".parse().unwrap()],
        own_addresses: ["198.18.0.1".parse().unwrap()].into(),
        links: [("lan0", 1), ("wan1", 11), ("wan2", 12), ("wan3", 13)]
            .into_iter()
            .map(|(name, index)| {
                let link = LinkSituation {
                    index: InterfaceIndex(index),
                    layer: LinkLayer::Ethernet,
                };
                (name.parse().unwrap(), link)
            })
            .collect(),
        narrow: Narrow::new(),
        affinity: Affinity::Flow,
        fast_path: FastPathSetting::Auto,
        pools,
        policy: Policy::new(Vec::new()),
        rule_pools: Vec::new(),
        closed: PerFamily::from_fn(|_| false),
        picked_by: PickedBy::Nftables,
    }
}

/// The same, the first two on one interface and in one network, with hardware addresses that are
/// known.
pub(crate) fn shared() -> Situation {
    let mut situation = three_uplinks();
    let [first, second, _] = situation.uplinks.as_mut_slice() else {
        panic!("three uplinks");
    };
    for (n, uplink) in [&mut *first, &mut *second].into_iter().enumerate() {
        let n = u8::try_from(n).unwrap() + 1;
        uplink.macs = PerFamily::from_fn(|_| Some(MacAddress([2, 0, 0, 0, 0, n])));
        for (family, path) in [
            (Family::Ipv4, uplink.paths.ipv4.as_mut()),
            (Family::Ipv6, uplink.paths.ipv6.as_mut()),
        ] {
            let path = path.unwrap();
            path.gateway = Some(match family {
                Family::Ipv4 => format!("198.18.11.{}", 100 + n).parse().unwrap(),
                Family::Ipv6 => format!("fe80::{n}").parse().unwrap(),
            });
        }
    }
    second.interface = first.interface.clone();
    second.addresses.clone_from(&first.addresses);
    second.prefixes6.clone_from(&first.prefixes6);
    for family in Family::ALL {
        let source = first.path(family).unwrap().source;
        let path = second.paths.get_mut(family).as_mut().unwrap();
        path.source = source;
        path.interface = InterfaceIndex(11);
    }
    situation
}

/// The same with users behind that interface too, and behind no other.
pub(crate) fn one_arm() -> Situation {
    let mut situation = shared();
    situation.downlinks = vec!["wan1".parse().unwrap()];
    situation
}

fn uplink(n: u8, has_ipv6: bool) -> UplinkSituation {
    let address = |family| -> IpAddr {
        match family {
            Family::Ipv4 => format!("198.18.1{n}.2").parse().unwrap(),
            Family::Ipv6 => format!("fd00:18:1{n}::2").parse().unwrap(),
        }
    };
    let path = |family| Path {
        interface: InterfaceIndex(10 + u32::from(n)),
        gateway: Some(match family {
            Family::Ipv4 => format!("198.18.1{n}.1").parse().unwrap(),
            Family::Ipv6 => "fe80::1".parse().unwrap(),
        }),
        onlink: false,
        stranded: false,
        sourced: true,
        source: address(family),
    };
    let speaks = |family| family == Family::Ipv4 || has_ipv6;
    UplinkSituation {
        id: UplinkId::try_from(n).unwrap(),
        interface: format!("wan{n}").parse().unwrap(),
        nat: Nat::Masquerade,
        translated_to: PerFamily::default(),
        paths: PerFamily::from_fn(|family| speaks(family).then(|| path(family))),
        macs: PerFamily::default(),
        main_metric: PerFamily::default(),
        states: PerFamily::from_fn(|family| {
            if speaks(family) {
                State::Up
            } else {
                State::Absent
            }
        }),
        usable: PerFamily::from_fn(speaks),
        addresses: Family::ALL
            .into_iter()
            .filter(|f| speaks(*f))
            .map(address)
            .collect(),
        prefixes6: if has_ipv6 {
            vec![format!("fd00:18:1{n}::/64").parse().unwrap()]
        } else {
            Vec::new()
        },
    }
}

/// Addresses as the configuration writes them.
pub(crate) fn addresses(ranges: &[&str]) -> Option<Arc<AddressSet>> {
    let ranges = ranges
        .iter()
        .map(|range| range.parse::<AddressRange>().unwrap());
    Some(Arc::new(AddressSet::of(ranges)))
}

/// Ranges of ports.
pub(crate) fn ports(ranges: &[(u16, u16)]) -> Option<PortSet> {
    let ranges = ranges.iter();
    Some(PortSet::of(ranges.map(|(first, last)| PortRange {
        first: *first,
        last: *last,
    })))
}

/// A rule for uplinks, of which those of one group are joined by `+`.
pub(crate) fn rule(matching: Matching, uplinks: &[&str], otherwise: Otherwise) -> Rule {
    let groups = uplinks
        .iter()
        .map(|names| Group(names.split('+').map(|n| (n.parse().unwrap(), 1)).collect()));
    Rule {
        name: String::new(),
        matching,
        via: Via {
            groups: groups.collect(),
            affinity: None,
            strategy: crate::select::Strategy::Weight,
        },
        otherwise,
        fast_path: FastPathSetting::Auto,
    }
}

/// Three uplinks `a`, `b` and `c` with rules, of which some are down.
pub(crate) fn with_rules(rules: Vec<Rule>, down: &[&str]) -> Situation {
    let mut situation = three_uplinks();
    situation.policy = Policy::new(rules);
    let offered = |name: &UplinkName| {
        let number = name.as_str().bytes().next()? - b'a' + 1;
        let health = if down.contains(&name.as_str()) {
            Health::Down
        } else {
            Health::Up
        };
        Some(Offered {
            id: UplinkId::try_from(number).ok()?,
            standing: Standing::Routed(health),
        })
    };
    let vias = situation.policy.vias.iter();
    situation.rule_pools = vias
        .zip(&situation.policy.identities)
        .map(|(via, identity)| RulePool {
            identity: *identity,
            named: via
                .uplinks()
                .filter_map(|name| Some(offered(name)?.id))
                .collect(),
            affinity: via.affinity.unwrap_or(Affinity::Flow),
            pools: PerFamily::from_fn(|_| select_via(via, &offered)),
        })
        .collect();
    situation
}

/// Leaves one uplink in the pools.
pub(crate) fn keep_only(situation: &mut Situation, n: u8) {
    let id = UplinkId::try_from(n).unwrap();
    situation.pools = PerFamily::from_fn(|_| {
        select(&[Candidate {
            id,
            weight: 3,
            priority: 1,
            new_flows: true,
            standing: Standing::Routed(Health::Up),
        }])
    });
}

/// Parts of the routing states that uplinks in several conditions ask for.
pub(crate) fn routings() -> impl Strategy<Value = Routing> {
    (
        any::<[bool; 3]>(),
        any::<[bool; 3]>(),
        0_u8..=3,
        any::<u64>(),
    )
        .prop_map(|(present, usable, only, dropped)| {
            let mut situation = three_uplinks();
            for ((uplink, present), usable) in situation.uplinks.iter_mut().zip(present).zip(usable)
            {
                uplink.usable = PerFamily::from_fn(|_| usable);
                if !present {
                    uplink.paths = PerFamily::default();
                }
            }
            if only > 0 {
                keep_only(&mut situation, only);
            }
            let mut routing = situation.wanted().routing;
            let mut bit = 0_u32;
            let mut kept = || {
                bit = (bit + 1) % 64;
                dropped >> bit & 1 == 0
            };
            routing.routes.retain(|_| kept());
            routing.rules.retain(|_| kept());
            routing
        })
}
