//! A flow that was silent for too long is another one.
//!
//! How long that is for each protocol and phase is tested where it is written,
//! `failover_common::lifetime`; here it is seen that the programs go by it.

use std::fs;
use std::time::Duration;

use failover_common::lifetime::lifetime_ns;
use failover_common::lifetime::protocol::{SCTP, UDP, UDPLITE};
use failover_common::{Affinity, Family, Flow, FlowKey, Phase, Reason};
use failover_tests::programs::Settings;
use failover_tests::{LabError, eventually};

use crate::frames::{ACK, GRE, Message};
use crate::gateway::{BOTH, Gateway, Mark, Outcome, both, common, named, play};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    let begin_anew = BOTH.map(|family| {
        let name = named("a_flow_that_was_silent_too_long_begins_anew", family);
        SystemTest::new(name, move || async move {
            eventually("the clock is old enough", START, || async {
                Ok::<_, LabError>((uptime() >= START).then_some(()))
            })
            .await?;
            play(common().await?, Settings::default(), family, begins_anew).await
        })
    });
    both("a_flow_lives_as_long_as_its_protocol_lets_it", lives)
        .into_iter()
        .chain(begin_anew)
        .collect()
}

/// More than a test takes, less than any lifetime.
const MARGIN_NS: u64 = 5_000_000_000;
/// The programs' clock begins when the machine does, and nothing can be older than that: the
/// shortest lifetime and the margin.
const START: Duration = Duration::from_secs(36);

/// How long the machine has been running.
fn uptime() -> Duration {
    fs::read_to_string("/proc/uptime")
        .ok()
        .and_then(|text| text.split('.').next()?.parse().ok())
        .map_or(Duration::ZERO, Duration::from_secs)
}

/// A message of each protocol that has a lifetime of its own, and its ports in the key.
fn messages(family: Family) -> Vec<(Message, (u16, u16))> {
    vec![
        (Message::tcp(9, 9, ACK), (9, 9)),
        (Message::udp(9, 9), (9, 9)),
        (Message::ported(UDPLITE, 9, 9), (9, 9)),
        (Message::ported(SCTP, 9, 9), (9, 9)),
        (Message::portless(GRE), (0, 0)),
        (Message::echo_request(family, 9), (9, 0)),
    ]
}

/// A confirmed flow on uplink 1 that was last seen so long ago.
fn silent(now_ns: u64, silence_ns: u64, phase: Phase) -> Flow {
    let seen_ns = now_ns.saturating_sub(silence_ns);
    Flow {
        created_ns: seen_ns,
        seen_ns,
        out_packets: 70,
        out_bytes: 7000,
        in_packets: 30,
        in_bytes: 3000,
        generation: 1,
        uplink: 1,
        reason: Reason::Inbound,
        phase,
        confirmed: true,
        out_next: 0,
        sequenced: false,
        ..Flow::begun(seen_ns)
    }
}

fn lives(gateway: &mut Gateway<'_>) -> Outcome {
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[2])?;
    let now_ns = gateway.now_ns()?;
    for (message, (from, to)) in messages(gateway.family) {
        let protocol = message.protocol;
        let packet = gateway.ends().out(message);
        let key = gateway.ends().key(protocol, from, to);
        for phase in [Phase::Opening, Phase::Established, Phase::Closing] {
            let silence_ns = lifetime_ns(protocol, phase) - MARGIN_NS;
            let flow = silent(now_ns, silence_ns, phase);
            gateway.programs.set_flow(&key, &flow)?;
            let what = format!("protocol {protocol}, {phase:?}");
            assert_eq!(gateway.lan_in(&packet)?, Mark::Sure(1), "{what}");
            let after = gateway.flow(&key)?;
            assert!(after.seen_ns >= now_ns, "{what}: seen now");
            assert_eq!(after.out_packets, 71, "{what}: counted on");
        }
    }
    Ok(())
}

fn begins_anew(gateway: &mut Gateway<'_>) -> Outcome {
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[2])?;
    let now_ns = gateway.now_ns()?;
    let ends = gateway.ends();
    let udp: (Message, FlowKey) = (Message::udp(9, 9), ends.key(UDP, 9, 9));
    let echo = Message::echo_request(gateway.family, 9);
    let echo_key = ends.key(echo.protocol, 9, 0);
    for (message, key) in [udp, (echo, echo_key)] {
        let protocol = message.protocol;
        let packet = ends.out(message);
        let silence_ns = lifetime_ns(protocol, Phase::Opening) + MARGIN_NS;
        gateway
            .programs
            .set_flow(&key, &silent(now_ns, silence_ns, Phase::Opening))?;
        assert_eq!(
            gateway.lan_in(&packet)?,
            Mark::Ask(2),
            "protocol {protocol}"
        );
        let after = gateway.flow(&key)?;
        assert!(after.created_ns >= now_ns, "protocol {protocol} begins now");
        let frame = packet.frame(gateway.wiring.lan_mac).len();
        let expected = gateway.begun_anew(2, frame, &after);
        assert_eq!(after, expected, "protocol {protocol}");
    }
    Ok(())
}
