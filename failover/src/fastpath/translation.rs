//! From an entry of connection tracking to what the programs do with its packets.

use failover_common::{Direction, FlowKey, OffloadKey, Pair, Side};

use crate::flows::{TrackedFlow, Tuple, address, bytes};

/// Both directions of a flow as their packets come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// As users' packets look.
    pub users: Tuple,
    /// As the provider's packets look.
    pub provider: Tuple,
}

impl Sides {
    /// Those of a flow of the flow table, if the entry is that flow's: begun inside or outside.
    #[must_use]
    pub fn of(key: &FlowKey, entry: &TrackedFlow) -> Option<Self> {
        let is_users = |tuple: &Tuple| {
            address(key.inside, key.family) == tuple.source
                && address(key.outside, key.family) == tuple.destination
                && (key.inside_port, key.outside_port)
                    == (tuple.source_port, tuple.destination_port)
        };
        let (users, provider) = match (is_users(&entry.original), is_users(&entry.reply)) {
            (true, _) => (entry.original, entry.reply),
            (false, true) => (entry.reply, entry.original),
            (false, false) => return None,
        };
        Some(Self { users, provider })
    }

    /// The key of users' packets.
    #[must_use]
    pub fn from_users(&self, flow: &FlowKey) -> OffloadKey {
        OffloadKey::from_users(flow)
    }

    /// The key of the provider's packets.
    #[must_use]
    pub fn from_provider(&self, flow: &FlowKey) -> OffloadKey {
        OffloadKey {
            source: bytes(self.provider.source),
            destination: bytes(self.provider.destination),
            source_port: self.provider.source_port,
            destination_port: self.provider.destination_port,
            protocol: flow.protocol,
            family: flow.family,
            side: Side::Provider,
            reserved: 0,
        }
    }

    /// What the programs do with both directions; what is not about addresses and ports is left to be
    /// filled in.
    #[must_use]
    pub fn pair(&self) -> Pair {
        Pair {
            out: direction(&self.users, &answered(&self.provider)),
            back: direction(&self.provider, &answered(&self.users)),
        }
    }
}

/// A tuple the other way round.
const fn answered(tuple: &Tuple) -> Tuple {
    Tuple {
        source: tuple.destination,
        destination: tuple.source,
        source_port: tuple.destination_port,
        destination_port: tuple.source_port,
        identifier: tuple.identifier,
    }
}

fn direction(from: &Tuple, to: &Tuple) -> Direction {
    let (source, destination) = (bytes(to.source), bytes(to.destination));
    let old = [bytes(from.source), bytes(from.destination)];
    let ports = |tuple: &Tuple| sum([tuple.source_port, tuple.destination_port].map(u16::to_be));
    let addresses = |addresses: [[u8; 16]; 2]| sum(addresses.iter().flat_map(words));
    Direction {
        source: bytemuck::cast(source),
        destination: bytemuck::cast(destination),
        source_port: to.source_port,
        destination_port: to.destination_port,
        address_sum: minus(addresses([source, destination]), addresses(old)),
        port_sum: minus(ports(to), ports(from)),
        ..Direction::default()
    }
}

fn words(bytes: &[u8; 16]) -> impl Iterator<Item = u16> {
    let pairs = bytes.as_chunks::<2>().0;
    pairs.iter().map(|pair| u16::from_ne_bytes(*pair))
}

/// A sum in one's complement (RFC 1071) of words as they stand in memory.
fn sum(words: impl IntoIterator<Item = u16>) -> u16 {
    words.into_iter().fold(0, plus)
}

const fn plus(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    // Where there is a carry there is room for it.
    sum.wrapping_add(carry as u16)
}

/// A difference in one's complement; 0 where there is none.
const fn minus(a: u16, b: u16) -> u16 {
    match plus(a, !b) {
        u16::MAX => 0,
        difference => difference,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum over some words, as a packet carries it (RFC 1071).
    fn checksum(tuple: &Tuple, payload: &[u16]) -> u16 {
        let addresses = [bytes(tuple.source), bytes(tuple.destination)];
        let ports = [tuple.source_port, tuple.destination_port].map(u16::to_be);
        let words = addresses.iter().flat_map(words).chain(ports);
        !sum(words.chain(payload.iter().copied()))
    }

    fn tuple(source: &str, source_port: u16, destination: &str, destination_port: u16) -> Tuple {
        Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port,
            destination_port,
            identifier: 0,
        }
    }

    #[test]
    fn the_differences_turn_one_checksum_into_the_other() {
        let tuples = [
            (
                tuple("198.18.0.10", 40_000, "203.0.113.1", 443),
                tuple("198.18.11.2", 1024, "203.0.113.1", 443),
            ),
            (
                tuple("203.0.113.9", 1, "198.18.11.2", 80),
                tuple("203.0.113.9", 1, "198.18.0.10", 8080),
            ),
            (
                tuple("fd00:18::10", 7, "fd00:203::1", 9),
                tuple("fd00:11::2", 7, "fd00:203::1", 9),
            ),
            (
                tuple("255.255.255.255", 65_535, "0.0.0.0", 0),
                tuple("0.0.0.0", 0, "255.255.255.255", 65_535),
            ),
        ];
        for (from, to) in tuples {
            let way = direction(&from, &to);
            for payload in [&[][..], &[1, 2, 3], &[0xffff, 0xfffe]] {
                let old = checksum(&from, payload);
                let new = !plus(plus(!old, way.address_sum), way.port_sum);
                let wanted = checksum(&to, payload);
                // Both are nought.
                let same =
                    |a: u16, b: u16| a == b || (a == 0 && b == 0xffff) || (a == 0xffff && b == 0);
                assert!(
                    same(new, wanted),
                    "{from:?} {to:?}: {new:#06x} {wanted:#06x}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_translated_changes_nothing() {
        let same = tuple("198.18.0.10", 40_000, "203.0.113.1", 443);
        let way = direction(&same, &same);
        assert_eq!((way.address_sum, way.port_sum), (0, 0));
    }
}
