//! Rules that cost as much as rules can: there are conditions of every kind, the last rule alone
//! matches, and all before it fail only by what is compared last.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use failover::config::FastPathSetting;
use failover::family::Family;
use failover::flows::Protocol;
use failover::policy::{
    AddressRange, AddressSet, Dscp, Group, MarkMatch, Matching, Otherwise, Policy, PortRange,
    PortSet, Rule, Via,
};
use failover::wanted::dataplane::DownlinkNumbers;

use crate::chance::Chance;
use crate::error::LabError;

/// How many rules.
const RULES: usize = 1000;
/// How many prefixes, of single addresses, in [`SETS`] sets.
const PREFIXES: usize = 50_000;
const SETS: usize = 25;
/// The downlink that rules name.
const DOWNLINK: &str = "lan0";
/// Its number.
pub(super) const NUMBER: u16 = 1;

/// The address to which the last bits of all packets' destinations are added.
pub(super) fn network(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(203, 0, 0, 0).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x203, 0, 0, 0, 0, 0, 0).into(),
    }
}

fn host(family: Family, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match family {
        Family::Ipv4 => Ipv4Addr::new(203, 0, high, low).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x203, 0, 0, 0, 0, 0, number).into(),
    }
}

/// The numbers of the downlinks.
pub(super) fn downlinks() -> Result<DownlinkNumbers, LabError> {
    let name = DOWNLINK.parse().map_err(|_| unreadable(DOWNLINK))?;
    Ok(DownlinkNumbers::from([(name, NUMBER)]))
}

/// One rule about a port.
pub(super) fn one() -> Result<Arc<Policy>, LabError> {
    let ports = PortSet::of([PortRange {
        first: 25,
        last: 25,
    }]);
    let matching = Matching {
        protocols: Some(BTreeSet::from([Protocol::TCP])),
        ports: Some(ports),
        ..Matching::default()
    };
    Ok(Policy::new(vec![rule(0, matching)?]))
}

/// As many rules and prefixes as the demand names, for packets from this client.
pub(super) fn many(family: Family, client: IpAddr) -> Result<Arc<Policy>, LabError> {
    let destinations = destinations(family)?;
    let walk = Arc::new(walk_to(client)?);
    let name = DOWNLINK.parse().map_err(|_| unreadable(DOWNLINK))?;
    let interfaces = BTreeSet::from([name]);
    let rules = (0..RULES).map(|number| {
        let last = number == RULES - 1;
        let port = u16::try_from(number).unwrap_or(u16::MAX) + 1;
        // A packet has the code point 0, and no mark.
        let point = Dscp::new(1).filter(|_| !last);
        let mark = MarkMatch {
            mask: 0xff << (number % 4 * 4),
            value: 1 << (number % 4 * 4),
        };
        let mac = failover::network::MacAddress([2, 0, 0, 1, 0, 1]);
        rule(
            number,
            Matching {
                interfaces: (number % 3 == 0).then(|| interfaces.clone()),
                source: (number % 50 == 1).then(|| Arc::clone(&walk)),
                destination: destinations
                    .get(number % (2 * SETS))
                    .filter(|_| !last)
                    .cloned(),
                protocols: (number % 4 == 1).then(|| BTreeSet::from([Protocol(17), Protocol::TCP])),
                source_ports: (number % 10 == 5).then(|| {
                    PortSet::of([PortRange {
                        first: port,
                        last: u16::MAX,
                    }])
                }),
                ports: (number % 4 == 1).then(|| {
                    PortSet::of([PortRange {
                        first: 1,
                        last: 1000 + port,
                    }])
                }),
                dscp: point.map(|point| BTreeSet::from([point])),
                marks: (number % 100 == 7).then(|| BTreeSet::from([mark])),
                macs: (number % 100 == 8).then(|| BTreeSet::from([mac])),
            },
        )
    });
    Ok(Policy::new(rules.collect::<Result<_, _>>()?))
}

/// Sets that have most addresses of the network between them, each one in one set.
fn destinations(family: Family) -> Result<Vec<Arc<AddressSet>>, LabError> {
    let mut chance = Chance::from_seed(50_000);
    let mut left: Vec<u16> = (0..=u16::MAX).collect();
    let mut sets = vec![Vec::new(); SETS];
    for number in 0..PREFIXES {
        let at = chance.below(u64::try_from(left.len()).unwrap_or(u64::MAX));
        let address = host(
            family,
            left.swap_remove(usize::try_from(at).unwrap_or_default()),
        );
        let alone = AddressRange::new(address, address).ok_or_else(|| unreadable("an address"))?;
        if let Some(set) = sets.get_mut(number % SETS) {
            set.push(alone);
        }
    }
    let sets = sets.into_iter();
    Ok(sets.map(|set| Arc::new(AddressSet::of(set))).collect())
}

/// All addresses of a client's family up to its own: so many prefixes that there is one at every bit
/// on the way to it.
fn walk_to(client: IpAddr) -> Result<AddressSet, LabError> {
    let first = match client {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let range = AddressRange::new(first, client).ok_or_else(|| unreadable("a range"))?;
    Ok(AddressSet::of([range]))
}

fn rule(number: usize, matching: Matching) -> Result<Rule, LabError> {
    let uplink = "one".parse().map_err(|_| unreadable("one"))?;
    Ok(Rule {
        name: format!("rule {number}"),
        matching,
        via: Via {
            groups: vec![Group(vec![(uplink, 1)])],
            affinity: None,
            strategy: failover::select::Strategy::Weight,
        },
        otherwise: Otherwise::Any,
        fast_path: FastPathSetting::Auto,
    })
}

fn unreadable(what: &str) -> LabError {
    LabError::Layout {
        reason: format!("no rule can have {what}"),
    }
}
