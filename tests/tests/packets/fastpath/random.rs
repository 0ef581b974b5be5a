//! Random flows and packets: each leaves as one that is built from scratch.

use std::net::{IpAddr, SocketAddr};

use failover_common::Family;
use failover_tests::chance::Chance;

use super::{Line, PROTOCOLS, WAYS};
use crate::frames::Packet;
use crate::gateway::{Failure, Gateway, Outcome, both};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    both("random_packets_leave_as_if_built_from_scratch", random)
}

const FLOWS: usize = 1000;
const PACKETS: usize = 3;
/// With the longest headers and this, no packet is longer than a next hop takes.
const LONGEST: u64 = 1400;

fn random(gateway: &mut Gateway<'_>) -> Outcome {
    let seed = Chance::any_seed();
    let mut chance = Chance::from_seed(seed);
    for number in 0..FLOWS {
        let line = line(gateway.family, &mut chance)?;
        gateway.offload(&line)?;
        for way in WAYS {
            for _ in 0..PACKETS {
                let length = if chance.percent(50) { 40 } else { LONGEST };
                let mut payload = vec![0; usize::try_from(chance.below(length))?];
                // Long rows of equal bytes make for sums that are all zeros or all ones.
                let (all, filled) = (byte(&mut chance)?, chance.percent(20));
                for place in &mut payload {
                    *place = if filled { all } else { byte(&mut chance)? };
                }
                let packet = Packet {
                    traffic_class: byte(&mut chance)?,
                    hops: byte(&mut chance)?.max(2),
                    label: u16::try_from(chance.below(0x1_0000))?,
                    whole: chance.percent(50),
                    ..line.carrying(way, &payload)
                };
                let what = format!("seed {seed}, flow {number}");
                gateway.assert_sent(&what, &line, way, &packet)?;
            }
        }
        gateway.programs.remove_flow(&line.key())?;
        let mut pair = gateway.pair_of(&line)?;
        (pair.out.id, pair.back.id) = (0, 0);
        gateway.programs.set_pair(&pair)?;
    }
    Ok(())
}

fn byte(chance: &mut Chance) -> Result<u8, Failure> {
    Ok(u8::try_from(chance.below(0x100))?)
}

/// A flow between any hosts, of which any are translated.
fn line(family: Family, chance: &mut Chance) -> Result<Line, Failure> {
    let protocol = chance.one_of(&PROTOCOLS).ok_or("no protocol")?;
    let (inside, outside) = (socket(family, chance)?, socket(family, chance)?);
    let mut translated = |socket_before: SocketAddr| -> Result<SocketAddr, Failure> {
        let other = socket(family, chance)?;
        Ok(SocketAddr::new(
            chance
                .one_of(&[socket_before.ip(), other.ip()])
                .ok_or("no address")?,
            chance
                .one_of(&[socket_before.port(), other.port()])
                .ok_or("no port")?,
        ))
    };
    Ok(Line {
        protocol,
        inside,
        outside,
        own: translated(inside)?,
        far: translated(outside)?,
    })
}

fn socket(family: Family, chance: &mut Chance) -> Result<SocketAddr, Failure> {
    let mut bytes = [0; 16];
    for place in &mut bytes {
        *place = chance.one_of(&[0, 0xff]).ok_or("no byte")?;
        if chance.percent(80) {
            *place = byte(chance)?;
        }
    }
    let [_, a, b, c, ..] = bytes;
    let address: IpAddr = match family {
        Family::Ipv4 => {
            let first = chance.one_of(&[10, 198, 203]).ok_or("no byte")?;
            [first, a, b, c].into()
        }
        Family::Ipv6 => {
            bytes[0] = 0xfd;
            bytes.into()
        }
    };
    let port = u16::try_from(1 + chance.below(0xffff))?;
    Ok(SocketAddr::new(address, port))
}
