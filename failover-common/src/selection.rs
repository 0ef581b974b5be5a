//! Which uplink a new flow gets.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit};

use crate::{Family, FlowKey};

/// The number of slots of a selection: prime, as Maglev's permutations need it, and small enough for
/// nftables to replace a whole table in about 15 ms.
pub const SLOTS: u16 = 1021;

/// What makes flows go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum Affinity {
    /// Nothing: each flow on its own.
    Flow = 1,
    /// The same source and destination.
    Pair = 2,
    /// The same source.
    Source = 3,
}

/// Which selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct SelectionKey {
    /// The pool; 0 is that of all flows that no rule names.
    pub pool: u16,
    /// The family.
    pub family: Family,
    /// The generation of the rules that the pool is of; 0 for pool 0.
    pub generation: u8,
}

impl SelectionKey {
    /// The selection of all flows of a family that no rule names.
    #[must_use]
    pub const fn common(family: Family) -> Self {
        Self {
            pool: 0,
            family,
            generation: 0,
        }
    }
}

/// The uplinks of a pool, by the hash of a flow. Replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Selection {
    /// For how long an uplink is remembered after the last new flow, in nanoseconds; 0: not at all.
    pub memory_ns: u64,
    /// A bit for the id of each uplink that a slot has; that of id 0 is the lowest of the first word.
    pub members: [u64; 2],
    /// What the pool's memory is known by, whatever number its rules have.
    pub identity: u32,
    /// What is hashed.
    pub affinity: Affinity,
    /// Zero.
    pub reserved: [u8; 6],
    /// The id of the uplink of each slot.
    pub slots: [u8; SLOTS as usize],
}

impl Selection {
    /// One that remembers nothing.
    #[must_use]
    pub fn new(affinity: Affinity, slots: [u8; SLOTS as usize]) -> Self {
        let mut members = [0_u64; 2];
        for id in slots {
            if let Some(word) = members.get_mut(usize::from(id / 64)) {
                *word |= 1 << (id % 64);
            }
        }
        Self {
            memory_ns: 0,
            members,
            identity: 0,
            affinity,
            reserved: [0; 6],
            slots,
        }
    }

    /// Whether an uplink gets new flows.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, uplink: u8) -> bool {
        let [low, high] = self.members;
        let word = if uplink & 64 == 0 { low } else { high };
        uplink < 128 && word & 1 << (uplink & 63) != 0
    }

    /// Whether what was remembered still counts.
    #[must_use]
    #[inline(always)]
    pub const fn goes_by(&self, remembered: &Remembered, now_ns: u64) -> bool {
        // The clock of another processor may be a tick ahead.
        now_ns.saturating_sub(remembered.seen_ns) < self.memory_ns && self.has(remembered.uplink)
    }
}

/// Whose uplink is remembered. Aligned, so that the programs write addresses by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C, align(8))]
pub struct RememberedKey {
    /// Where flows come from, as in [`FlowKey`].
    pub inside: [u8; 16],
    /// Where they go; zero where the source alone counts.
    pub outside: [u8; 16],
    /// [`Selection::identity`].
    pub pool: u32,
    /// The family of both addresses.
    pub family: Family,
    /// What goes together.
    pub affinity: Affinity,
    /// Zero.
    pub reserved: [u8; 2],
}

impl RememberedKey {
    /// That of a flow in a pool.
    #[must_use]
    #[inline(always)]
    pub const fn new(flow: &FlowKey, pool: u32, affinity: Affinity) -> Self {
        Self {
            inside: flow.inside,
            outside: match affinity {
                Affinity::Source => [0; 16],
                Affinity::Flow | Affinity::Pair => flow.outside,
            },
            pool,
            family: flow.family,
            affinity,
            reserved: [0; 2],
        }
    }
}

/// The uplink that somebody was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Remembered {
    /// When the last new flow began, in nanoseconds of `CLOCK_MONOTONIC`, as coarse as a timer tick.
    pub seen_ns: u64,
    /// Its id.
    pub uplink: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// The slot of a flow, less than [`SLOTS`].
#[must_use]
#[inline(always)]
pub fn slot(key: &FlowKey, affinity: Affinity) -> usize {
    let mut hash = mix(SEED, key.inside);
    if !matches!(affinity, Affinity::Source) {
        hash = mix(hash, key.outside);
    }
    if matches!(affinity, Affinity::Flow) {
        let rest =
            (key.inside_port as u64) << 32 | (key.outside_port as u64) << 16 | key.protocol as u64;
        hash = (hash ^ rest).wrapping_mul(FACTOR);
    }
    // The high bits depend on all bits below them. A multiplication spreads them over the slots like
    // a division would, and the kernel's verifier sees that the result is less than their number.
    let high = hash >> 32;
    ((high * SLOTS as u64) >> 32) as usize
}

/// Odd, with its bits spread evenly (the golden ratio in 64 bits).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const SEED: u64 = 0x2545_f491_4f6c_dd1d;

#[inline(always)]
fn mix(hash: u64, address: [u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, rest @ ..] = address;
    let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let second = u64::from_ne_bytes(rest);
    let hash = (hash ^ first).wrapping_mul(FACTOR);
    // What the multiplication put into the high bits gets into the low ones, for the next.
    let hash = (hash ^ (hash >> 32) ^ second).wrapping_mul(FACTOR);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::lifetime::protocol::{TCP, UDP};

    /// `SplitMix64`, as its authors published it into the public domain.
    struct Random(u64);

    impl Iterator for Random {
        type Item = u64;

        fn next(&mut self) -> Option<u64> {
            self.0 = self.0.wrapping_add(FACTOR);
            let mut value = self.0;
            value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            Some(value ^ (value >> 31))
        }
    }

    fn ipv4(number: u32) -> [u8; 16] {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&number.to_be_bytes());
        address
    }

    fn ipv6(network: u64, number: u64) -> [u8; 16] {
        let mut address = [0; 16];
        address[..8].copy_from_slice(&network.to_be_bytes());
        address[8..].copy_from_slice(&number.to_be_bytes());
        address
    }

    fn key(inside: [u8; 16], outside: [u8; 16], ports: (u16, u16)) -> FlowKey {
        FlowKey {
            inside,
            outside,
            inside_port: ports.0,
            outside_port: ports.1,
            protocol: TCP,
            family: Family::Ipv4,
            reserved: [0; 2],
        }
    }

    fn counts(keys: impl Iterator<Item = FlowKey>, affinity: Affinity) -> Vec<u32> {
        let mut counts = vec![0; usize::from(SLOTS)];
        for key in keys {
            counts[slot(&key, affinity)] += 1;
        }
        counts
    }

    /// No slot has less than half of its share or more than 1.6 times that. With about a hundred
    /// flows to a slot, that is five times what chance makes of it (the square root).
    fn assert_even(what: &str, counts: &[u32]) {
        let flows: u32 = counts.iter().sum();
        let share = f64::from(flows) / f64::from(SLOTS);
        assert!(share > 60.0, "{what}: too few flows to tell");
        for (slot, count) in counts.iter().enumerate() {
            let ratio = f64::from(*count) / share;
            assert!(
                (0.5..=1.6).contains(&ratio),
                "{what}: slot {slot} has {count} flows, its share is {share:.0}"
            );
        }
    }

    #[test]
    fn random_flows_are_spread_evenly() {
        let mut random = Random(1);
        let mut number = || random.next().expect("it never ends");
        let keys: Vec<FlowKey> = (0..100_000)
            .map(|_| {
                let [a, b, c, d, ..] = number().to_ne_bytes();
                key(
                    ipv6(number(), number()),
                    ipv6(number(), number()),
                    (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])),
                )
            })
            .collect();
        for affinity in [Affinity::Flow, Affinity::Pair, Affinity::Source] {
            assert_even("random", &counts(keys.iter().copied(), affinity));
        }
    }

    #[test]
    fn flows_that_differ_little_are_spread_evenly() {
        let (client, server) = (ipv4(0xc612_000a), ipv4(0xcb00_710b));
        let ports = (1024..=u16::MAX).flat_map(|port| [(port, 80), (port, 443)]);
        let one_pair = ports.map(|ports| key(client, server, ports));
        assert_even("ports of a pair", &counts(one_pair, Affinity::Flow));
        let server6 = ipv6(0xfd00_0203_0000_0000, 0x11);
        let ports = (1024..=u16::MAX).map(|port| (port, 443));
        let one_pair = ports.map(|ports| key(ipv6(0xfd00_0018_0000_0000, 0x10), server6, ports));
        assert_even("IPv6 ports of a pair", &counts(one_pair, Affinity::Flow));
        let clients =
            || (0..100_000).map(|host| key(ipv4(0x0a00_0000 + host), server, (5000, 443)));
        for affinity in [Affinity::Flow, Affinity::Pair, Affinity::Source] {
            assert_even("IPv4 neighbours", &counts(clients(), affinity));
        }
        let clients = || {
            (0..100_000).map(|host| key(ipv6(0xfd00_0018_0000_0000, host), server6, (5000, 443)))
        };
        for affinity in [Affinity::Flow, Affinity::Pair, Affinity::Source] {
            assert_even("IPv6 neighbours", &counts(clients(), affinity));
        }
        let networks =
            (0..100_000).map(|net| key(ipv6(0xfd00_0000_0000_0000 + net, 1), server6, (1, 1)));
        assert_even("IPv6 networks", &counts(networks, Affinity::Source));
        let servers = (0..100_000).map(|host| key(client, ipv4(0x0100_0000 + host), (0, 0)));
        assert_even("servers of a client", &counts(servers, Affinity::Pair));
    }

    #[test]
    fn affinity_says_what_counts() {
        let one = key(ipv4(1), ipv4(2), (3, 4));
        let other_port = key(ipv4(1), ipv4(2), (5, 4));
        let other_server = key(ipv4(1), ipv4(9), (3, 4));
        let other_protocol = FlowKey {
            protocol: UDP,
            ..one
        };
        for affinity in [Affinity::Pair, Affinity::Source] {
            assert_eq!(slot(&one, affinity), slot(&other_port, affinity));
            assert_eq!(slot(&one, affinity), slot(&other_protocol, affinity));
        }
        assert_eq!(
            slot(&one, Affinity::Source),
            slot(&other_server, Affinity::Source)
        );
        assert_ne!(
            slot(&one, Affinity::Pair),
            slot(&other_server, Affinity::Pair)
        );
        assert_ne!(
            slot(&one, Affinity::Flow),
            slot(&other_port, Affinity::Flow)
        );
        assert_ne!(
            slot(&one, Affinity::Flow),
            slot(&other_protocol, Affinity::Flow)
        );
    }

    #[test]
    fn what_is_remembered_counts_for_a_time_and_while_the_uplink_gets_new_flows() {
        let mut slots = [1; SLOTS as usize];
        slots[7] = 127;
        slots[8] = 64;
        let selection = Selection {
            memory_ns: 100,
            ..Selection::new(Affinity::Source, slots)
        };
        let members: Vec<u8> = (0..=u8::MAX).filter(|id| selection.has(*id)).collect();
        assert_eq!(members, [1, 64, 127]);
        let counts = |uplink, seen_ns, now_ns| {
            let remembered = Remembered {
                seen_ns,
                uplink,
                reserved: [0; 7],
            };
            selection.goes_by(&remembered, now_ns)
        };
        assert!(counts(127, 1000, 1099));
        assert!(!counts(127, 1000, 1100), "it is too long ago");
        assert!(counts(127, 1001, 1000), "another processor's clock");
        assert!(!counts(2, 1000, 1001), "it gets no new flows");
    }

    #[test]
    fn a_source_is_remembered_wherever_its_flows_go() {
        let one = key(ipv4(1), ipv4(2), (3, 4));
        let other = key(ipv4(1), ipv4(9), (5, 4));
        let of = |flow, affinity| RememberedKey::new(flow, 7, affinity);
        assert_eq!(of(&one, Affinity::Source), of(&other, Affinity::Source));
        assert_ne!(of(&one, Affinity::Pair), of(&other, Affinity::Pair));
    }
}
