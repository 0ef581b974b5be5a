//! Every kind of flow: what makes it, and what the maps hold after one packet each way.

use failover_common::lifetime::protocol::{DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
use failover_common::{Family, Flow, FlowKey, Phase, Totals, UplinkCounters};

use crate::frames::{ACK, ESP, Ends, GRE, Message, SYN};
use crate::gateway::{Gateway, Mark, Outcome, both, counted, length};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("each_protocol_makes_its_own_kind_of_flow", outward),
        both("an_answer_belongs_to_the_flow_that_asked", answered),
        both("other_ports_are_another_flow", apart),
        both("without_ports_the_addresses_are_the_flow", together),
        both("an_echo_is_told_by_its_identifier_alone", echoes),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A kind of flow: its first packet, the answer, and its key.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) ask: Message,
    pub(crate) answer: Message,
    pub(crate) key: FlowKey,
}

const CLIENT: u16 = 40_001;
const SERVER: u16 = 443;
const IDENTIFIER: u16 = 0xbeef;

/// All kinds in a family.
pub(crate) fn kinds(family: Family, ends: Ends) -> Vec<Kind> {
    let ported = |name, protocol| Kind {
        name,
        ask: Message::ported(protocol, CLIENT, SERVER),
        answer: Message::ported(protocol, SERVER, CLIENT),
        key: ends.key(protocol, CLIENT, SERVER),
    };
    let portless = |name, protocol| Kind {
        name,
        ask: Message::portless(protocol),
        answer: Message::portless(protocol),
        key: ends.key(protocol, 0, 0),
    };
    let (icmp, other_icmp) = match family {
        Family::Ipv4 => (ICMP, ICMPV6),
        Family::Ipv6 => (ICMPV6, ICMP),
    };
    vec![
        Kind {
            name: "TCP",
            ask: Message::tcp(CLIENT, SERVER, SYN),
            answer: Message::tcp(SERVER, CLIENT, SYN | ACK),
            key: ends.key(TCP, CLIENT, SERVER),
        },
        Kind {
            name: "UDP",
            ask: Message::udp(CLIENT, SERVER),
            answer: Message::udp(SERVER, CLIENT),
            key: ends.key(UDP, CLIENT, SERVER),
        },
        ported("UDP-Lite", UDPLITE),
        ported("SCTP", SCTP),
        ported("DCCP", DCCP),
        Kind {
            name: "ICMP echo",
            ask: Message::echo_request(family, IDENTIFIER),
            answer: Message::echo_reply(family, IDENTIFIER),
            key: ends.key(icmp, IDENTIFIER, 0),
        },
        portless("GRE", GRE),
        portless("ESP", ESP),
        portless("IP in IP", 4),
        portless("no next header", 59),
        portless("a protocol for experiments", 253),
        portless("the other family's ICMP", other_icmp),
    ]
}

fn outward(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let (mut keys, mut entered) = (Vec::new(), 0);
    for kind in kinds(gateway.family, ends) {
        let packet = ends.out(kind.ask);
        let frame = packet.frame(gateway.wiring.lan_mac);
        let uplink = gateway.chosen(&kind.key)?;
        let before = gateway.programs.counters(uplink)?;
        assert_eq!(
            gateway.lan_in(&packet)?,
            Mark::Ask(uplink),
            "{}: the uplink of its slot, to be asked for",
            kind.name
        );
        keys.push(kind.key);
        entered += 1;
        gateway.assert_flows(&keys)?;
        let flow = gateway.flow(&kind.key)?;
        assert_ne!(flow.created_ns, 0, "{}: a time", kind.name);
        assert_eq!(
            flow,
            gateway.opened(uplink, frame.len(), &flow),
            "{}",
            kind.name
        );
        let lan_in = failover_common::Counters {
            packets: before.lan_in.packets + 1,
            bytes: before.lan_in.bytes + length(frame.len()),
        };
        gateway.assert_counters(uplink, UplinkCounters { lan_in, ..before })?;
        gateway.assert_totals(Totals {
            entered,
            ..Totals::default()
        })?;
    }
    Ok(())
}

fn answered(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    for kind in kinds(gateway.family, ends) {
        let (ask, answer) = (ends.out(kind.ask), ends.back(kind.answer));
        gateway.lan_in(&ask)?;
        let opened = gateway.flow(&kind.key)?;
        let uplink = opened.uplink;
        gateway.lan_out(&answer, uplink)?;
        let expected = Flow {
            in_packets: 1,
            in_bytes: length(answer.frame([0; 6]).len()),
            phase: Phase::Established,
            confirmed: true,
            waits: false,
            ..opened
        };
        assert_eq!(gateway.flow(&kind.key)?, expected, "{}", kind.name);
        assert_eq!(
            gateway.lan_in(&ask)?,
            Mark::Sure(uplink),
            "{}: an answer came by it",
            kind.name
        );
    }
    assert_eq!(
        gateway.programs.flows()?.len(),
        kinds(gateway.family, ends).len(),
        "no answer made an entry of its own"
    );
    Ok(())
}

fn apart(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let mut keys = Vec::new();
    for (from, to) in [(1, 2), (2, 1), (1, 3), (3, 2)] {
        for protocol in [TCP, UDP] {
            gateway.lan_in(&ends.out(Message::ported(protocol, from, to)))?;
            keys.push(ends.key(protocol, from, to));
        }
    }
    gateway.assert_flows(&keys)
}

fn together(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let mut last = 0;
    for (from, to) in [(1, 2), (2, 1), (500, 4500)] {
        let packet = ends.out(Message::ported(ESP, from, to));
        gateway.lan_in(&packet)?;
        last = packet.frame([0; 6]).len();
    }
    let key = ends.key(ESP, 0, 0);
    gateway.assert_flows(&[key])?;
    let flow = gateway.flow(&key)?;
    assert_eq!((flow.out_packets, flow.out_bytes), (3, 3 * length(last)));
    let uplink = flow.uplink;
    gateway.assert_counters(
        uplink,
        UplinkCounters {
            lan_in: counted(3, last),
            ..UplinkCounters::default()
        },
    )
}

fn echoes(gateway: &mut Gateway<'_>) -> Outcome {
    let (ends, family) = (gateway.ends(), gateway.family);
    let protocol = match family {
        Family::Ipv4 => ICMP,
        Family::Ipv6 => ICMPV6,
    };
    for identifier in [1, 2] {
        gateway.lan_in(&ends.out(Message::echo_request(family, identifier)))?;
    }
    let keys = [1, 2].map(|identifier| ends.key(protocol, identifier, 0));
    gateway.assert_flows(&keys)?;
    // A host inside that is pinged from outside: its replies have the asker's identifier.
    let pinged = Message::echo_request(family, 3);
    gateway.lan_out_first(&ends.back(pinged), 2)?;
    let reply = gateway.lan_in(&ends.out(Message::echo_reply(family, 3)))?;
    assert_eq!(
        reply,
        Mark::Sure(2),
        "a reply goes where the request came from"
    );
    Ok(())
}
