//! The addresses of the lab.
//!
//! The digits of an IPv6 group are the decimal digits of its IPv4 counterpart, so that `fd00:18:11`
//! goes with `198.18.11`.
//!
//! | network | IPv4 | IPv6 | who |
//! | --- | --- | --- | --- |
//! | downlink k (lan0, lan1 …) | `198.18.k.0/24` | `fd00:18:k::/64` (`fd00:18::/64` for lan0) | gateway `.1`, clients from `.10` |
//! | gateway to provider i (wan*i*) | `198.18.(10+i).0/24` | `fd00:18:(10+i)::/64` | provider `.1`, gateway `.2` (then `.3` …) |
//! | gateway to all providers, where they share an interface (wan0) | `198.18.10.0/24` | `fd00:18:10::/64` | gateway `.2`, provider i `.(100+i)` and `fe80::(100+i)` |
//! | one arm (lan0): downlink 0, and the providers in it | `198.18.0.0/24` | `fd00:18::/64` | as behind a downlink, and provider i likewise |
//! | provider i to the internet | `198.19.(10+i).0/24` | `fd00:19:(10+i)::/64` | internet `.1`, provider `.2` |
//! | probe targets | `203.0.113.1` to `.4` | `fd00:203::1` to `::4` | internet |
//! | servers | `203.0.113.11` to `.14` | `fd00:203::11` to `::14` | internet |
//!
//! A provider in a network that it shares with others translates what comes from there to its own
//! address in `198.18.(10+i).0/24` or `fd00:18:(10+i)::/64`, so that servers see by whom it came.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use failover_common::family::Family;

/// The most uplinks that a lab can have: as many as failover can use.
pub const MAX_UPLINKS: usize = 127;
/// The most downlinks that a lab can have.
pub const MAX_DOWNLINKS: usize = 9;
/// The most clients behind one downlink.
pub const MAX_CLIENTS: usize = 90;

/// The port of the lab's servers, over UDP and TCP.
pub const SERVER_PORT: u16 = 7007;

/// Probe targets of each family in the internet.
const TARGETS: u8 = 4;
/// Servers of each family in the internet.
const SERVERS: u8 = 5;

/// What the gateway's and the internet's ends of links have as last number.
pub(crate) const FIRST_HOST: u16 = 1;
/// What the gateway has on an uplink at first, and the providers towards the internet.
pub(crate) const SECOND_HOST: u16 = 2;
/// The first server's last number.
const FIRST_SERVER: u16 = 11;
/// The first client's last number.
const FIRST_CLIENT: u16 = 10;

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// The length of the prefix in bits.
    pub prefix: u8,
}

/// A network of the lab that exists in both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    second: u8,
    third: u8,
}

impl Network {
    /// Behind downlink `number`, counted from 0.
    pub(crate) fn downlink(number: u8) -> Self {
        Self {
            second: 18,
            third: number,
        }
    }

    /// Between the gateway and provider `number`, counted from 1.
    pub(crate) fn access(number: u8) -> Self {
        Self {
            second: 18,
            third: number.saturating_add(10),
        }
    }

    /// Between the gateway and all providers.
    pub(crate) fn shared_access() -> Self {
        Self {
            second: 18,
            third: 10,
        }
    }

    /// The address of provider `number`, counted from 1, in a network that it shares with others.
    pub(crate) fn provider(self, family: Family, number: u8) -> InterfaceAddress {
        self.host(family, 100 + u16::from(number))
    }

    /// Between provider `number`, counted from 1, and the internet.
    pub(crate) fn transit(number: u8) -> Self {
        Self {
            second: 19,
            third: number.saturating_add(10),
        }
    }

    /// The address of a host, 1 to 254.
    pub(crate) fn host(self, family: Family, host: u16) -> InterfaceAddress {
        match family {
            Family::Ipv4 => InterfaceAddress {
                address: Ipv4Addr::new(
                    198,
                    self.second,
                    self.third,
                    u8::try_from(host).unwrap_or(u8::MAX),
                )
                .into(),
                prefix: 24,
            },
            Family::Ipv6 => InterfaceAddress {
                address: Ipv6Addr::new(
                    0xfd00,
                    same_digits(self.second.into()),
                    same_digits(self.third.into()),
                    0,
                    0,
                    0,
                    0,
                    same_digits(host),
                )
                .into(),
                prefix: 64,
            },
        }
    }

    /// The network's own address, as routes name it.
    pub(crate) fn prefix(self, family: Family) -> InterfaceAddress {
        self.host(family, 0)
    }

    /// The address that ends in 1: the router's on access and downlink networks.
    pub(crate) fn first(self, family: Family) -> InterfaceAddress {
        self.host(family, FIRST_HOST)
    }

    /// The address of client `number`, counted from 1.
    pub(crate) fn client(self, family: Family, number: u16) -> InterfaceAddress {
        self.host(
            family,
            FIRST_CLIENT.saturating_add(number).saturating_sub(1),
        )
    }
}

/// The link-local address of provider `number`, counted from 1, in a network that it shares with
/// others, as routers give theirs.
pub(crate) fn link_local_provider(number: u8) -> InterfaceAddress {
    let host = same_digits(100 + u16::from(number));
    InterfaceAddress {
        address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host).into(),
        prefix: 64,
    }
}

/// The number whose hexadecimal digits are the decimal digits of `number`.
fn same_digits(number: u16) -> u16 {
    (number / 1000 % 10 * 0x1000)
        + (number / 100 % 10 * 0x100)
        + (number / 10 % 10 * 0x10)
        + number % 10
}

/// The addresses in the internet that answer pings and that nobody but probes should ask.
#[must_use]
pub fn probe_targets(family: Family) -> Vec<IpAddr> {
    (1..=u16::from(TARGETS))
        .map(|n| in_internet(family, n))
        .collect()
}

/// Two probe targets of each family, as a configuration names them.
pub fn targets_in_yaml() -> String {
    let targets = Family::ALL
        .into_iter()
        .flat_map(|family| probe_targets(family).into_iter().take(2));
    let targets: Vec<String> = targets
        .map(|target| format!("\"icmp://{target}\""))
        .collect();
    format!("[{}]", targets.join(", "))
}

/// The address of a socket that is bound to none.
#[must_use]
pub const fn any(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// The addresses of the lab's servers, for the users' traffic.
#[must_use]
pub fn servers(family: Family) -> Vec<IpAddr> {
    (FIRST_SERVER..FIRST_SERVER + u16::from(SERVERS))
        .map(|n| in_internet(family, n))
        .collect()
}

/// The address of the first of them.
pub(crate) fn first_server(family: Family) -> IpAddr {
    in_internet(family, FIRST_SERVER)
}

/// Whether an address is one of the probe targets.
#[must_use]
pub fn is_probe_target(address: IpAddr) -> bool {
    probe_targets(Family::of(address)).contains(&address)
}

/// The network that the internet's own addresses are of.
pub(crate) fn internet(family: Family) -> InterfaceAddress {
    let prefix = match family {
        Family::Ipv4 => 24,
        Family::Ipv6 => 64,
    };
    let address = in_internet(family, 0);
    InterfaceAddress { address, prefix }
}

fn in_internet(family: Family, host: u16) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(203, 0, 113, u8::try_from(host).unwrap_or(u8::MAX)).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x203, 0, 0, 0, 0, 0, same_digits(host)).into(),
    }
}

/// The address by which servers see what comes by a provider that shares a network with others, and
/// by which they reach the gateway behind it.
#[must_use]
pub fn public_address(family: Family, provider: u8) -> IpAddr {
    Network::access(provider).first(family).address
}

/// The number of the uplink, counted from 1, from whose network an address is; `None` for all
/// others.
#[must_use]
pub fn uplink_of(address: IpAddr) -> Option<u8> {
    let max = u8::try_from(MAX_UPLINKS).unwrap_or(u8::MAX);
    (1..=max).find(|number| {
        let network = Network::access(*number).prefix(Family::of(address));
        match (network.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                network.octets().first_chunk::<3>() == address.octets().first_chunk::<3>()
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                network.segments().first_chunk::<4>() == address.segments().first_chunk::<4>()
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_show_the_same_digits() {
        let access = Network::access(1);
        assert_eq!(
            access.host(Family::Ipv4, SECOND_HOST).address.to_string(),
            "198.18.11.2"
        );
        assert_eq!(
            access.host(Family::Ipv6, SECOND_HOST).address.to_string(),
            "fd00:18:11::2"
        );
        let lan = Network::downlink(0);
        assert_eq!(
            lan.client(Family::Ipv4, 1).address.to_string(),
            "198.18.0.10"
        );
        assert_eq!(
            lan.client(Family::Ipv6, 1).address.to_string(),
            "fd00:18::10"
        );
        assert_eq!(
            Network::access(127).first(Family::Ipv6).address.to_string(),
            "fd00:18:137::1"
        );
    }

    #[test]
    fn every_uplinks_address_leads_back_to_it() {
        for number in 1..=127 {
            for family in Family::ALL {
                let address = Network::access(number).host(family, 3).address;
                assert_eq!(uplink_of(address), Some(number), "{address}");
                let transit = Network::transit(number).host(family, 1).address;
                assert_eq!(uplink_of(transit), None, "{transit}");
            }
        }
        for family in Family::ALL {
            for address in servers(family).into_iter().chain(probe_targets(family)) {
                assert_eq!(uplink_of(address), None, "{address}");
            }
        }
    }

    #[test]
    fn probe_targets_and_servers_are_apart() {
        for family in Family::ALL {
            assert!(probe_targets(family).into_iter().all(is_probe_target));
            assert!(!servers(family).into_iter().any(is_probe_target));
        }
    }
}
