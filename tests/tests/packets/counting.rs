//! Counters: per uplink and place, packets as they are on the wire.

use failover_common::lifetime::protocol::UDP;
use failover_common::{Affinity, Counters, Role, UplinkCounters};
use failover_tests::programs::Context;

use crate::frames::Message;
use crate::gateway::{Gateway, Outcome, both, counted, length};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("each_place_and_uplink_has_its_own_counters", places),
        both("segments_of_an_offloaded_packet_count_each", segments),
        both("only_an_uplinks_own_interface_counts_what_comes_in", roles),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn places(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let (out, back) = (
        ends.out(Message::udp(1, 53)),
        ends.back(Message::udp(53, 1)),
    );
    let frame = out.frame([0; 6]).len();
    for uplink in 1..=crate::gateway::UPLINKS {
        gateway
            .programs
            .select(gateway.family, Affinity::Flow, &[uplink])?;
        let key = ends.key(UDP, 1, 53);
        for _ in 0..uplink {
            gateway.lan_in(&out)?;
        }
        for _ in 0..10 + uplink {
            gateway.wan_in(&back, uplink)?;
        }
        for _ in 0..20 + uplink {
            gateway.lan_out(&back, uplink)?;
        }
        gateway.programs.remove_flow(&key)?;
    }
    for uplink in 1..=crate::gateway::UPLINKS {
        let expected = UplinkCounters {
            lan_in: counted(uplink.into(), frame),
            wan_in: counted(u64::from(uplink) + 10, frame),
            lan_out: counted(u64::from(uplink) + 20, frame),
            ..UplinkCounters::default()
        };
        gateway.assert_counters(uplink, expected)?;
    }
    Ok(())
}

fn segments(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let (out, back) = (
        ends.out(Message::udp(1, 53)),
        ends.back(Message::udp(53, 1)),
    );
    let key = ends.key(UDP, 1, 53);
    let uplink = gateway.chosen(&key)?;
    let (lan, wan) = (gateway.wiring.lan, gateway.wan(uplink)?);
    let (out, back) = (out.frame(gateway.wiring.lan_mac), back.frame([0; 6]));
    let offloaded = |ifindex, ingress_ifindex| Context {
        ifindex,
        ingress_ifindex,
        gso_segs: 7,
        ..Context::default()
    };
    // The first packet enters the flow, the second one finds it.
    for _ in 0..2 {
        gateway.through("fo_lan_in", &out, offloaded(lan, 0))?;
    }
    gateway.through("fo_lan_out", &back, offloaded(lan, wan))?;
    gateway.through("fo_wan_in", &back, offloaded(wan, 0))?;
    let counted = |packets, frames: u64| Counters {
        packets,
        bytes: frames * length(out.len()),
    };
    let expected = UplinkCounters {
        lan_in: counted(14, 2),
        wan_in: counted(7, 1),
        lan_out: counted(7, 1),
        ..UplinkCounters::default()
    };
    gateway.assert_counters(uplink, expected)?;
    let flow = gateway.flow(&key)?;
    assert_eq!(
        (flow.out_packets, flow.out_bytes),
        (14, 2 * length(out.len()))
    );
    assert_eq!((flow.in_packets, flow.in_bytes), (7, length(back.len())));
    // A flow that begins outside.
    gateway.programs.remove_flow(&key)?;
    gateway.through("fo_lan_out", &back, offloaded(lan, wan))?;
    assert_eq!(gateway.flow(&key)?.in_packets, 7);
    Ok(())
}

fn roles(gateway: &mut Gateway<'_>) -> Outcome {
    let back = gateway.ends().back(Message::udp(53, 1));
    let wan = gateway.wan(1)?;
    for role in [Role::SharedUplink, Role::Downlink] {
        gateway.set_role(wan, role, 0)?;
        gateway.wan_in(&back, 1)?;
    }
    for uplink in 0..=crate::gateway::UPLINKS {
        gateway.assert_counters(uplink, UplinkCounters::default())?;
    }
    Ok(())
}
