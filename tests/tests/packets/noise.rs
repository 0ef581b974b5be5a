//! Random bytes, and valid packets with random changes: every program passes them on untouched.

use failover_common::Family;
use failover_tests::chance::Chance;
use failover_tests::programs::Context;

use crate::frames::{ETHERNET, IPV4, IPV6, Message, Packet, frame, least};
use crate::gateway::{BOTH, Gateway, Outcome, ends, in_family};
use crate::kinds::kinds;
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    vec![in_family(
        "noise_is_passed_on_untouched",
        Family::Ipv4,
        noise,
    )]
}

const FRAMES: usize = 20_000;
/// Longer ones say nothing new: the headers end before.
const LONGEST: usize = 200;

fn noise(gateway: &mut Gateway<'_>) -> Outcome {
    let seed = Chance::any_seed();
    let mut chance = Chance::from_seed(seed);
    let valid = valid(gateway);
    for number in 0..FRAMES {
        let frame = match chance.one_of(&valid_or_not(&valid)).flatten() {
            Some(frame) => changed(frame, &mut chance),
            None => random(gateway.wiring.lan_mac, &mut chance),
        };
        let frame = long_enough(frame);
        let program = chance
            .one_of(&[
                "fo_lan_in",
                "fo_lan_in_l3",
                "fo_lan_out",
                "fo_lan_out_l3",
                "fo_wan_in",
                "fo_wan_in_l3",
            ])
            .ok_or("no program")?;
        let uplink = chance.one_of(&[1, 2, 3]).ok_or("no uplink")?;
        let (lan, wan) = (gateway.wiring.lan, gateway.wan(uplink)?);
        let context = Context {
            ifindex: chance.one_of(&[lan, wan]).ok_or("no interface")?,
            ingress_ifindex: chance.one_of(&[0, lan, wan]).ok_or("no interface")?,
            ..Context::default()
        };
        gateway
            .through(program, &frame, context)
            .map_err(|error| format!("seed {seed}, frame {number}, {frame:02x?}: {error}"))?;
    }
    Ok(())
}

/// Each valid frame, and as often none.
fn valid_or_not(valid: &[Vec<u8>]) -> Vec<Option<&[u8]>> {
    valid
        .iter()
        .flat_map(|frame| [Some(frame.as_slice()), None])
        .collect()
}

/// Packets of every kind, both ways, and errors about them.
fn valid(gateway: &Gateway<'_>) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for family in BOTH {
        let ends = ends(family);
        for kind in kinds(family, ends) {
            let (out, back) = (ends.out(kind.ask), ends.back(kind.answer));
            let error = Message::error(family, 3, 1, &back.bytes());
            let rich = Packet {
                options: 4,
                extensions: vec![
                    crate::frames::Extension::HopByHop(0),
                    crate::frames::Extension::Destination(1),
                ],
                ..out.clone()
            };
            packets.extend([out, back, rich, ends.out(error)]);
        }
    }
    packets
        .into_iter()
        .map(|packet| packet.frame(gateway.wiring.lan_mac))
        .collect()
}

/// A frame with up to eight bytes changed, and perhaps cut.
fn changed(valid: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut frame = valid.to_vec();
    for _ in 0..below(chance, 9) {
        // The hardware addresses stay: for whom the frame is does not matter here.
        let place = 12 + below(chance, frame.len() - 12);
        let value = chance.number().to_ne_bytes();
        if let (Some(byte), [value, ..]) = (frame.get_mut(place), value) {
            *byte = value;
        }
    }
    if below(chance, 4) == 0 {
        frame.truncate(ETHERNET + below(chance, frame.len() - ETHERNET));
    }
    frame
}

/// Random bytes that call themselves IP more often than not.
fn random(to: [u8; 6], chance: &mut Chance) -> Vec<u8> {
    let [low, high, ..] = chance.number().to_ne_bytes();
    let any = u16::from_ne_bytes([low, high]);
    let kind = chance.one_of(&[IPV4, IPV6, any]).unwrap_or(any);
    let mut payload = Vec::new();
    let length = below(chance, LONGEST);
    while payload.len() < length {
        payload.extend(chance.number().to_ne_bytes());
    }
    payload.truncate(length);
    let right = chance.one_of(&[Some(0x45), Some(0x60), None]).flatten();
    if let (Some(first), Some(right)) = (payload.first_mut(), right) {
        *first = right;
    }
    frame(to, kind, &payload)
}

/// What the kernel takes for a test run: shorter ones come over a real interface (`wire`).
fn long_enough(mut frame: Vec<u8>) -> Vec<u8> {
    let kind = frame
        .get(12..ETHERNET)
        .and_then(|kind| kind.try_into().ok());
    let family = match kind.map(u16::from_be_bytes) {
        Some(IPV4) => Family::Ipv4,
        Some(IPV6) => Family::Ipv6,
        _ => return frame,
    };
    let length = frame.len().max(least(family));
    frame.resize(length, 0);
    frame
}

fn below(chance: &mut Chance, limit: usize) -> usize {
    let number = usize::try_from(chance.number() >> 1).unwrap_or_default();
    number.checked_rem(limit).unwrap_or_default()
}
