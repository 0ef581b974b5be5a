//! The slot that nftables finds for a flow in classic mode.
//!
//! `jhash FIELDS mod SLOTS seed 1` is Bob Jenkins' hash `lookup3` of the fields as they stand in the
//! packet, each filled up to a multiple of four bytes (`include/linux/jhash.h`), scaled to the number
//! of slots (`net/netfilter/nft_hash.c`).

use std::net::IpAddr;

use failover_common::SLOTS;

use crate::config::Affinity;
use crate::flows::Protocol;

/// The seed that the own table uses.
const SEED: u32 = 1;

/// What is hashed of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The port that it comes from, or the identifier of an echo.
    pub source_port: u16,
    /// The port that it goes to.
    pub port: u16,
}

impl Hashed {
    /// The slot, less than [`SLOTS`].
    #[must_use]
    pub fn slot(&self, affinity: Affinity) -> u16 {
        let mut bytes = bytes(self.source);
        if !matches!(affinity, Affinity::Source(_)) {
            bytes.extend(self::bytes(self.destination));
        }
        if affinity == Affinity::Flow {
            let field = |port: u16| {
                let [high, low] = port.to_be_bytes();
                [high, low, 0, 0]
            };
            if self.protocol.has_ports() {
                bytes.extend(field(self.source_port));
                bytes.extend(field(self.port));
            } else if self.protocol.has_identifier() {
                bytes.extend(field(self.source_port));
            }
        }
        let scaled = (u64::from(jhash(&bytes, SEED)) * u64::from(SLOTS)) >> 32;
        u16::try_from(scaled).unwrap_or(0)
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `lookup3` of a number of words.
fn jhash(bytes: &[u8], seed: u32) -> u32 {
    const BEGINNING: u32 = 0xdead_beef;
    let words: Vec<u32> = bytes
        .chunks(4)
        .map(|chunk| {
            let mut word = [0; 4];
            for (place, byte) in word.iter_mut().zip(chunk) {
                *place = *byte;
            }
            u32::from_ne_bytes(word)
        })
        .collect();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let start = BEGINNING.wrapping_add(length).wrapping_add(seed);
    let mut state = [start; 3];
    let mut left = words.as_slice();
    while left.len() > 3 {
        let (block, rest) = left.split_at(3);
        add(&mut state, block);
        mix(&mut state);
        left = rest;
    }
    if left.is_empty() {
        return state[2];
    }
    add(&mut state, left);
    finish(&mut state);
    state[2]
}

fn add(state: &mut [u32; 3], words: &[u32]) {
    for (place, word) in state.iter_mut().zip(words) {
        *place = place.wrapping_add(*word);
    }
}

fn mix([a, b, c]: &mut [u32; 3]) {
    let step = |one: &mut u32, two: &mut u32, three: &mut u32, turn: u32| {
        *one = one.wrapping_sub(*three) ^ three.rotate_left(turn);
        *three = three.wrapping_add(*two);
    };
    step(a, b, c, 4);
    step(b, c, a, 6);
    step(c, a, b, 8);
    step(a, b, c, 16);
    step(b, c, a, 19);
    step(c, a, b, 4);
}

fn finish([a, b, c]: &mut [u32; 3]) {
    let step = |one: &mut u32, two: u32, turn: u32| {
        *one = (*one ^ two).wrapping_sub(two.rotate_left(turn));
    };
    step(c, *b, 14);
    step(a, *c, 11);
    step(b, *a, 25);
    step(c, *b, 16);
    step(a, *c, 4);
    step(b, *a, 14);
    step(c, *b, 24);
}
