//! Marks: our bits exactly, with every mask, whatever others have put into theirs.

use failover_common::{Affinity, Family};
use failover_tests::programs::{Context, Settings};

use crate::frames::Message;
use crate::gateway::{Gateway, Outcome, with_settings};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    let mut trials = Vec::new();
    for family in crate::gateway::BOTH {
        for (mask, test) in MASKS {
            let settings = Settings {
                mark_mask: mask,
                ..Settings::default()
            };
            let name = format!("only_our_bits_of_a_mark_change_mask_{mask:08x}");
            trials.push(with_settings(&name, family, settings, test));
        }
    }
    trials
}

type Test = fn(&mut Gateway<'_>) -> Outcome;

/// Masks of every width and place.
const MASKS: [(u32, Test); 8] = [
    (0xff00_0000, |gateway| marks(gateway, 0xff00_0000)),
    (0x00ff_0000, |gateway| marks(gateway, 0x00ff_0000)),
    (0x0000_ff00, |gateway| marks(gateway, 0x0000_ff00)),
    (0x0000_00ff, |gateway| marks(gateway, 0x0000_00ff)),
    (0x0ff0_0000, |gateway| marks(gateway, 0x0ff0_0000)),
    (0xe000_0000, |gateway| marks(gateway, 0xe000_0000)),
    (0x0000_7800, |gateway| marks(gateway, 0x0000_7800)),
    (0x0000_0003, |gateway| marks(gateway, 0x0000_0003)),
];

/// Marks that packets may have already: none, all, others' and stale ones of ours.
const BEFORE: [u32; 6] = [
    0,
    u32::MAX,
    0x5555_5555,
    0xaaaa_aaaa,
    0x0000_ca6c,
    0x00ff_0000,
];

fn marks(gateway: &mut Gateway<'_>, mask: u32) -> Outcome {
    let ask = 1 << (31 - mask.leading_zeros());
    let shift = mask.trailing_zeros();
    // The largest id that the mask has room for, of those that the gateway has.
    let id = u8::try_from((mask & !ask) >> shift)?.min(crate::gateway::UPLINKS);
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[id])?;
    let (lan, wan) = (gateway.wiring.lan, gateway.wan(id)?);
    let ends = gateway.ends();
    let ours = u32::from(id) << shift;
    for (port, before) in (1..).zip(BEFORE) {
        let context = Context {
            mark: before,
            ifindex: lan,
            ..Context::default()
        };
        let given = |gateway: &Gateway<'_>, program, packet: &crate::frames::Packet, context| {
            let frame = packet.frame(gateway.wiring.lan_mac);
            let run = gateway.programs.run(program, &frame, context, 1)?;
            assert_eq!((run.returned, &run.frame), (-1, &frame));
            Ok::<u32, crate::gateway::Failure>(run.mark)
        };
        let out = ends.out(Message::udp(port, 53));
        let found = given(gateway, "fo_lan_in", &out, context)?;
        assert_eq!(
            found,
            before & !mask | ours | ask,
            "first, from {before:#x}"
        );
        let found = given(gateway, "fo_lan_in", &out, context)?;
        assert_eq!(
            found,
            before & !mask | ours | ask,
            "second, from {before:#x}"
        );
        let back = ends.back(Message::udp(53, port));
        let came = Context {
            ingress_ifindex: wan,
            ..context
        };
        let found = given(gateway, "fo_lan_out", &back, came)?;
        assert_eq!(found, before, "an answer, from {before:#x}");
        let found = given(gateway, "fo_lan_in", &out, context)?;
        assert_eq!(found, before & !mask | ours, "confirmed, from {before:#x}");
        let came = Context {
            ifindex: wan,
            ..context
        };
        let found = given(gateway, "fo_wan_in", &back, came)?;
        assert_eq!(found, before, "from a provider, from {before:#x}");
        let local = crate::frames::Packet {
            destination: match gateway.family {
                Family::Ipv4 => [198, 18, 0, 1].into(),
                Family::Ipv6 => [0xfd00, 0x18, 0, 0, 0, 0, 0, 1].into(),
            },
            ..out
        };
        let found = given(gateway, "fo_lan_in", &local, context)?;
        assert_eq!(found, before, "for the gateway itself, from {before:#x}");
    }
    Ok(())
}
