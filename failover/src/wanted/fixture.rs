//! Situations for the tests of the wanted state.

use std::net::IpAddr;

use proptest::prelude::*;

use crate::config::{Affinity, Nat};
use crate::discover::Path;
use crate::family::{Family, PerFamily};
use crate::health::Health;
use crate::interface::InterfaceIndex;
use crate::mark::MarkMask;
use crate::network::LinkLayer;
use crate::select::{Candidate, Standing, select};
use crate::status::State;
use crate::uplink::UplinkId;
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
        pools,
        picked_by: PickedBy::Nftables,
    }
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
        source: address(family),
    };
    let speaks = |family| family == Family::Ipv4 || has_ipv6;
    UplinkSituation {
        id: UplinkId::try_from(n).unwrap(),
        interface: format!("wan{n}").parse().unwrap(),
        nat: Nat::Masquerade,
        paths: PerFamily::from_fn(|family| speaks(family).then(|| path(family))),
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
