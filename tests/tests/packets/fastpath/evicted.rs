//! An offloaded flow that was pushed out of the flow table goes on.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Affinity, Flow, Offloaded, Phase, Reason, Totals};

use super::{GENERATION, LEASE, Line, PLACE, PROTOCOLS, SLOT, UPLINK, WAYS, Way};
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
        gateway.programs.remove_flow(&line.key())?;
        // New flows go elsewhere by now.
        gateway
            .programs
            .select(gateway.family, Affinity::Flow, &[2])?;
        gateway.assert_sent("back", &line, Way::Back, &line.packet(Way::Back, 50))?;
        let before = gateway.programs.totals()?;
        let packet = line.packet(Way::Out, 50);
        gateway.assert_sent("out", &line, Way::Out, &packet)?;
        gateway.assert_totals(Totals {
            entered: before.entered + 1,
            fast: before.fast + 1,
            ..before
        })?;
        let flow = gateway.flow(&line.key())?;
        let expected = Flow {
            generation: GENERATION,
            uplink: UPLINK,
            reason: Reason::Restored,
            phase: Phase::Established,
            confirmed: true,
            offloaded: PLACE,
            out_packets: 1,
            out_bytes: length(packet.frame([0; 6]).len()),
            out_next: flow.out_next,
            sequenced: flow.sequenced,
            ..Flow::begun(flow.created_ns)
        };
        assert_eq!(flow, expected);
        for way in WAYS {
            gateway.assert_sent("later", &line, way, &line.packet(way, 50))?;
        }
    }
    Ok(())
}

/// Also when the packet that ends it is the one that enters it again.
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
    let changes: [(&str, Change); 6] = [
        ("the lease is over", |gateway, _| {
            Ok(gateway
                .programs
                .set_lease(&failover_common::Lease::default())?)
        }),
        ("it is not for the fast path", |gateway, line| {
            let (users, _, _) = line.offloaded();
            Ok(gateway.programs.lead(&users, Offloaded::default())?)
        }),
        ("no key leads there", |gateway, line| {
            let (users, _, _) = line.offloaded();
            Ok(gateway.programs.leave(&users)?)
        }),
        ("the pair is another's", |gateway, line| {
            let mut pair = gateway.pair_of(line)?;
            pair.out.id += 1;
            Ok(gateway.programs.set_pair(SLOT, &pair)?)
        }),
        ("it has ended", |gateway, line| {
            let mut pair = gateway.pair_of(line)?;
            pair.out.left = 1;
            Ok(gateway.programs.set_pair(SLOT, &pair)?)
        }),
        ("its uplink forgot its flows", |gateway, line| {
            let mut pair = gateway.pair_of(line)?;
            pair.out.generation += 1;
            Ok(gateway.programs.set_pair(SLOT, &pair)?)
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
        assert_eq!((flow.uplink, flow.offloaded.id), (3, 0), "{what}");
    }
    Ok(())
}
