//! An offloaded flow that was pushed out of the flow table goes on.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Affinity, Flow, Phase, Reason, Totals};

use super::{GENERATION, LEASE, Line, PROTOCOLS, UPLINK, WAYS, Way};
use crate::frames::{ACK, FIN, Message, RST, SYN};
use crate::gateway::{Gateway, Mark, Outcome, both, length};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("an_offloaded_flow_that_was_pushed_out_goes_on", goes_on),
        both("what_ends_a_flow_that_was_pushed_out_is_seen", ended),
        both(
            "a_flow_that_left_the_fast_path_is_picked_when_pushed_out",
            left,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn goes_on(gateway: &mut Gateway<'_>) -> Outcome {
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        // New flows go elsewhere by now.
        gateway
            .programs
            .select(gateway.family, Affinity::Flow, &[2])?;
        for way in WAYS {
            // It is told what moved, since nothing was told so far.
            gateway.programs.remove_flow(&line.key())?;
            let pair = gateway.pair_of(&line)?;
            gateway.programs.set_pair(&pair)?;
            let before = gateway.programs.totals()?;
            gateway.assert_sent("pushed out", &line, way, &line.packet(way, 50))?;
            gateway.assert_totals(Totals {
                entered: before.entered + 1,
                ..before
            })?;
            let flow = gateway.flow(&line.key())?;
            let moved = length(line.packet(way, 50).frame([0; 6]).len());
            let mut expected = Flow {
                generation: GENERATION,
                uplink: UPLINK,
                reason: Reason::Restored,
                phase: Phase::Established,
                confirmed: true,
                out_next: flow.out_next,
                sequenced: flow.sequenced,
                ..Flow::begun(flow.created_ns)
            };
            match way {
                Way::Out => (expected.out_packets, expected.out_bytes) = (1, moved),
                Way::Back => (expected.in_packets, expected.in_bytes) = (1, moved),
            }
            assert_eq!(flow, expected, "{way:?}");
        }
        for way in WAYS {
            gateway.assert_sent("later", &line, way, &line.packet(way, 50))?;
        }
    }
    Ok(())
}

fn ended(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, TCP);
    for flags in [FIN | ACK, RST, SYN] {
        gateway.offload(&line)?;
        gateway.programs.remove_flow(&line.key())?;
        let mut packet = line.packet(Way::Out, 0);
        let (from, to) = line.before(Way::Out);
        packet.message = Message::tcp(from.port(), to.port(), flags);
        let frame = gateway.arriving(Way::Out, &packet.sealed())?;
        let context = gateway.context(Way::Out)?;
        let run = gateway.meet(Way::Out, &frame, context)?;
        assert_eq!((run.returned, &run.frame), (super::PASSED_ON, &frame));
        for way in WAYS {
            let what = format!("after flags {flags:#x}");
            gateway.assert_packet_returned(&what, &line, way)?;
        }
    }
    Ok(())
}

/// It is a flow like any other then, as the connection mark says.
fn left(gateway: &mut Gateway<'_>) -> Outcome {
    type Change = fn(&mut Gateway<'_>, &Line) -> Outcome;
    let changes: [(&str, Change); 4] = [
        ("the lease is over", |gateway, _| {
            Ok(gateway
                .programs
                .set_lease(&failover_common::Lease::default())?)
        }),
        ("it is nobody's", |gateway, line| {
            let mut pair = gateway.pair_of(line)?;
            pair.out.id = 0;
            Ok(gateway.programs.set_pair(&pair)?)
        }),
        ("it has ended", |gateway, line| {
            let mut pair = gateway.pair_of(line)?;
            pair.out.left = 1;
            Ok(gateway.programs.set_pair(&pair)?)
        }),
        ("its uplink forgot its flows", |gateway, line| {
            let mut pair = gateway.pair_of(line)?;
            pair.out.generation += 1;
            Ok(gateway.programs.set_pair(&pair)?)
        }),
    ];
    let line = Line::new(gateway, UDP);
    for (what, change) in changes {
        gateway.programs.set_lease(&LEASE)?;
        gateway.offload(&line)?;
        gateway.programs.remove_flow(&line.key())?;
        change(gateway, &line)?;
        let family = gateway.family;
        gateway.programs.select(family, Affinity::Flow, &[3])?;
        gateway.assert_packet_passed(what, &line, Way::Out, Mark::Ask(3))?;
        let flow = gateway.flow(&line.key())?;
        assert_eq!(flow.uplink, 3, "{what}");
    }
    Ok(())
}
