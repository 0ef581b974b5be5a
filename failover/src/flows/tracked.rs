//! Flows as connection tracking knows them, and what they say.

use std::net::IpAddr;
use std::time::Duration;

use crate::family::Family;
use crate::flows::entry::NO_FAST_PATH;
use crate::flows::idle::Silence;
use crate::flows::{Direction, FlowEntry, Phase, Protocol, Surroundings, Timeouts, Why};
use crate::mark::Mark;
use crate::uplink::{UplinkId, UplinkName};

/// Packets were seen in both directions (`include/uapi/linux/netfilter/nf_conntrack_common.h`).
const SEEN_REPLY: u32 = 1 << 1;
/// The flow has lasted: it is not removed early.
const ASSURED: u32 = 1 << 2;

/// TCP states from which a connection only ends (`nf_conntrack_tcp.h`): `FIN_WAIT`, `CLOSE_WAIT`,
/// `LAST_ACK`, `TIME_WAIT`, `CLOSE`.
const ENDING: std::ops::RangeInclusive<u8> = 4..=8;

/// Addresses and ports of packets in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Where they come from.
    pub source: IpAddr,
    /// Where they go.
    pub destination: IpAddr,
    /// The port that they come from; 0 where the protocol has none.
    pub source_port: u16,
    /// The port that they go to; likewise.
    pub destination_port: u16,
    /// The identifier of an ICMP echo; 0 for others.
    pub identifier: u16,
}

/// Packets of one direction, where the kernel counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// How many.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
}

/// An entry of connection tracking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedFlow {
    /// Its mark.
    pub mark: Mark,
    /// What it speaks.
    pub protocol: Protocol,
    /// The direction of the first packet, as it came.
    pub original: Tuple,
    /// The other direction, as answers come.
    pub reply: Tuple,
    /// Bits of `enum ip_conntrack_status`.
    pub status: u32,
    /// For TCP, `enum tcp_conntrack`.
    pub tcp_state: Option<u8>,
    /// How long it lives without another packet, in whole seconds, rounded down.
    pub remaining: Option<Duration>,
    /// Since 1970, where the kernel notes it (`nf_conntrack_timestamp`).
    pub started: Option<Duration>,
    /// What went in the direction of the first packet (`nf_conntrack_acct`).
    pub original_packets: Option<Packets>,
    /// What went in the other direction.
    pub reply_packets: Option<Packets>,
}

impl TrackedFlow {
    /// How far it has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.tcp_state.is_some_and(|state| ENDING.contains(&state)) {
            Phase::Closing
        } else if self.status & SEEN_REPLY != 0 {
            Phase::Established
        } else {
            Phase::Opening
        }
    }

    /// The flow as it is told, on this uplink. `now` is the time since 1970.
    #[must_use]
    pub fn entry(
        &self,
        uplink_id: UplinkId,
        uplink: &UplinkName,
        surroundings: &Surroundings,
        timeouts: &Timeouts,
        now: Duration,
    ) -> FlowEntry {
        // On the downlink's side packets are as the first one came, if it came from there, or as
        // answers to it are, if it came by the uplink.
        let (why, inside_out, out, back) = match surroundings.direction(self) {
            Direction::Outbound => (
                Why::Hash,
                &self.original,
                self.original_packets,
                self.reply_packets,
            ),
            Direction::Inbound => (
                Why::Inbound,
                &self.reply,
                self.reply_packets,
                self.original_packets,
            ),
        };
        let silence = Silence {
            protocol: self.protocol,
            tcp_state: self.tcp_state,
            assured: self.status & ASSURED != 0,
            remaining: self.remaining,
        };
        FlowEntry {
            protocol: self.protocol,
            family: Family::of(inside_out.source),
            inside: inside_out.source,
            inside_port: if self.protocol.has_identifier() {
                Some(inside_out.identifier)
            } else {
                self.protocol.has_ports().then_some(inside_out.source_port)
            },
            outside: inside_out.destination,
            outside_port: self
                .protocol
                .has_ports()
                .then_some(inside_out.destination_port),
            uplink: uplink.clone(),
            uplink_id,
            why,
            phase: self.phase(),
            confirmed: self.status & SEEN_REPLY != 0,
            age_ms: self.started.map(|start| millis(now.saturating_sub(start))),
            idle_ms: timeouts.idle(&silence).map(millis),
            out_packets: out.map(|out| out.packets),
            out_bytes: out.map(|out| out.bytes),
            in_packets: back.map(|back| back.packets),
            in_bytes: back.map(|back| back.bytes),
            offloaded: false,
            fastpath: Some(NO_FAST_PATH.into()),
            fastpath_detail: None,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl TrackedFlow {
    /// A flow whose first packet went `from` and `to` somewhere, and whose answers come from and go to
    /// `answers`, for tests.
    pub(crate) fn between(
        mark: Mark,
        protocol: Protocol,
        (from, to): (&str, &str),
        answers: (&str, &str),
    ) -> Self {
        let tuple = |source: &str, destination: &str| Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port: 4000,
            destination_port: 443,
            identifier: 77,
        };
        Self {
            mark,
            protocol,
            original: tuple(from, to),
            reply: tuple(answers.0, answers.1),
            status: 0,
            tcp_state: None,
            remaining: None,
            started: None,
            original_packets: None,
            reply_packets: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::flows::LostConnection;
    use crate::interface::InterfaceIndex;
    use crate::network::{InterfaceAddress, Link, NetworkView};

    const CONFIG: &str = "
uplinks:
  fiber: {interface: wan1, prefixes6: ['fd00:77::/48']}
downlinks: [lan0]
";

    fn surroundings() -> Surroundings {
        let link = |index| Link::ethernet(InterfaceIndex(index));
        let address = |interface, text: &str, prefix_len| InterfaceAddress {
            interface: InterfaceIndex(interface),
            address: text.parse().unwrap(),
            prefix_len,
        };
        let view = NetworkView {
            links: [
                ("wan1".parse().unwrap(), link(2)),
                ("lan0".parse().unwrap(), link(3)),
            ]
            .into(),
            addresses: vec![
                address(2, "198.18.11.2", 24),
                address(2, "fd00:18:11::2", 64),
                address(3, "198.18.0.1", 24),
                address(3, "fd00:18::1", 64),
            ],
            ..NetworkView::default()
        };
        Surroundings::new(&config::parse(CONFIG).unwrap(), &view)
    }

    fn tuple(from: (&str, u16), to: (&str, u16)) -> Tuple {
        Tuple {
            source: from.0.parse().unwrap(),
            destination: to.0.parse().unwrap(),
            source_port: from.1,
            destination_port: to.1,
            identifier: 0,
        }
    }

    fn tracked(original: Tuple, reply: Tuple) -> TrackedFlow {
        let packets = |packets, bytes| Some(Packets { packets, bytes });
        TrackedFlow {
            mark: Mark(0x0100_0000),
            protocol: Protocol(6),
            original,
            reply,
            status: SEEN_REPLY | ASSURED,
            tcp_state: Some(3),
            remaining: Some(Duration::from_secs(431_990)),
            started: Some(Duration::from_secs(1_000)),
            original_packets: packets(10, 1_000),
            reply_packets: packets(20, 2_000),
        }
    }

    fn told(flow: &TrackedFlow) -> FlowEntry {
        flow.entry(
            1.try_into().unwrap(),
            &"fiber".parse().unwrap(),
            &surroundings(),
            &Timeouts::default(),
            Duration::from_millis(1_002_500),
        )
    }

    /// Inside and outside with their ports, why, and packets out and in.
    fn sides(flow: &TrackedFlow) -> (String, String, Why, [Option<u64>; 2]) {
        let entry = told(flow);
        (
            format!("{} {}", entry.inside, entry.inside_port.unwrap()),
            format!("{} {}", entry.outside, entry.outside_port.unwrap()),
            entry.why,
            [entry.out_packets, entry.in_packets],
        )
    }

    const CLIENT: (&str, u16) = ("198.18.0.10", 4000);
    const SERVER: (&str, u16) = ("203.0.113.1", 443);
    const WAN: (&str, u16) = ("198.18.11.2", 4000);

    fn outbound(
        client: (&str, u16),
        server: (&str, u16),
    ) -> (String, String, Why, [Option<u64>; 2]) {
        (
            format!("{} {}", client.0, client.1),
            format!("{} {}", server.0, server.1),
            Why::Hash,
            [Some(10), Some(20)],
        )
    }

    #[test]
    fn a_translated_flow_is_told_as_its_client_sees_it() {
        let flow = tracked(tuple(CLIENT, SERVER), tuple(SERVER, WAN));
        assert_eq!(sides(&flow), outbound(CLIENT, SERVER));
        // Sent to another server than the client asked for: the client knows nothing of it.
        let elsewhere = ("203.0.113.9", 53);
        let flow = tracked(tuple(CLIENT, SERVER), tuple(elsewhere, WAN));
        assert_eq!(sides(&flow), outbound(CLIENT, SERVER));
    }

    #[test]
    fn a_flow_that_is_not_translated_is_outbound_from_inside() {
        let (client, server) = (("fd00:18::10", 4000), ("fd00:203::1", 443));
        let flow = tracked(tuple(client, server), tuple(server, client));
        assert_eq!(sides(&flow), outbound(client, server));
        // From a network further inside.
        let client = ("198.19.7.7", 4000);
        let flow = tracked(tuple(client, SERVER), tuple(SERVER, client));
        assert_eq!(sides(&flow), outbound(client, SERVER));
        // By the router itself.
        let flow = tracked(tuple(WAN, SERVER), tuple(SERVER, WAN));
        assert_eq!(sides(&flow), outbound(WAN, SERVER));
    }

    #[test]
    fn what_comes_in_by_the_uplink_is_inbound() {
        let inbound = |inside: (&str, u16), outside: (&str, u16)| {
            (
                format!("{} {}", inside.0, inside.1),
                format!("{} {}", outside.0, outside.1),
                Why::Inbound,
                [Some(20), Some(10)],
            )
        };
        let visitor = ("203.0.113.5", 5000);
        // To the router.
        let service = ("198.18.11.2", 80);
        let flow = tracked(tuple(visitor, service), tuple(service, visitor));
        assert_eq!(sides(&flow), inbound(service, visitor));
        // Forwarded to a host inside.
        let host = ("198.18.0.10", 8080);
        let flow = tracked(tuple(visitor, service), tuple(host, visitor));
        assert_eq!(sides(&flow), inbound(host, visitor));
        // And translated to the router's address on the way, for a host without a route back.
        let router = ("198.18.0.1", 5000);
        let flow = tracked(tuple(visitor, service), tuple(host, router));
        assert_eq!(sides(&flow), inbound(host, router));
        // Not translated, to a host on the downlink, and to one in a prefix that is routed here.
        for host in [("fd00:18::10", 8080), ("fd00:77:0:1::10", 8080)] {
            let visitor = ("fd00:203::5", 5000);
            let flow = tracked(tuple(visitor, host), tuple(host, visitor));
            assert_eq!(sides(&flow), inbound(host, visitor));
        }
    }

    #[test]
    fn a_connection_that_ends_is_closing() {
        let mut flow = tracked(tuple(CLIENT, SERVER), tuple(SERVER, WAN));
        let mut phase = |state, status| {
            flow.tcp_state = state;
            flow.status = status;
            (told(&flow).phase, told(&flow).confirmed)
        };
        assert_eq!(phase(Some(1), 0), (Phase::Opening, false));
        assert_eq!(phase(Some(2), SEEN_REPLY), (Phase::Established, true));
        assert_eq!(phase(Some(3), SEEN_REPLY), (Phase::Established, true));
        for ending in 4..=8 {
            assert_eq!(phase(Some(ending), SEEN_REPLY), (Phase::Closing, true));
        }
        // An open from both sides at once.
        assert_eq!(phase(Some(9), SEEN_REPLY), (Phase::Established, true));
        assert_eq!(phase(None, 0), (Phase::Opening, false));
        assert_eq!(phase(None, SEEN_REPLY), (Phase::Established, true));
    }

    #[test]
    fn what_the_kernel_does_not_note_is_not_told() {
        let mut flow = tracked(tuple(CLIENT, SERVER), tuple(SERVER, WAN));
        assert_eq!(told(&flow).age_ms, Some(2_500));
        flow.started = None;
        flow.original_packets = None;
        flow.reply_packets = None;
        let entry = told(&flow);
        assert_eq!(
            (
                entry.age_ms,
                entry.out_packets,
                entry.out_bytes,
                entry.in_packets,
                entry.in_bytes
            ),
            (None, None, None, None, None)
        );
        // Timeouts that could not be read.
        assert_eq!(entry.idle_ms, None);
    }

    #[test]
    fn an_echo_has_an_identifier_and_others_no_port() {
        let mut flow = tracked(tuple(CLIENT, SERVER), tuple(SERVER, WAN));
        flow.tcp_state = None;
        flow.original.identifier = 77;
        for (protocol, inside, outside) in [
            (1, Some(77), None),
            (58, Some(77), None),
            (47, None, None),
            (17, Some(4000), Some(443)),
        ] {
            flow.protocol = Protocol(protocol);
            let entry = told(&flow);
            assert_eq!((entry.inside_port, entry.outside_port), (inside, outside));
        }
    }

    fn lost(flow: &TrackedFlow) -> Option<String> {
        let lost = LostConnection::of(flow, &surroundings())?;
        Some(format!("{} {}", lost.inside, lost.outside))
    }

    #[test]
    fn a_translated_connection_is_lost_and_told_as_its_client_sees_it() {
        let outbound = tracked(tuple(CLIENT, SERVER), tuple(SERVER, WAN));
        let told = Some("198.18.0.10:4000 203.0.113.1:443".to_owned());
        assert_eq!(lost(&outbound), told);
        // Forwarded to a host inside.
        let (visitor, service, host) = (
            ("203.0.113.5", 5000),
            ("198.18.11.2", 80),
            ("198.18.0.10", 8080),
        );
        let inbound = tracked(tuple(visitor, service), tuple(host, visitor));
        let told = Some("198.18.0.10:8080 203.0.113.5:5000".to_owned());
        assert_eq!(lost(&inbound), told);
    }

    #[test]
    fn what_may_go_on_or_is_over_is_not_lost() {
        let open = tracked(tuple(CLIENT, SERVER), tuple(SERVER, WAN));
        // Being opened, in `TIME_WAIT`, closed.
        for state in [1, 7, 8] {
            let tcp_state = Some(state);
            let flow = TrackedFlow { tcp_state, ..open };
            assert_eq!(lost(&flow), None, "{state}");
        }
        let flow = TrackedFlow {
            protocol: Protocol(17),
            tcp_state: None,
            ..open
        };
        assert_eq!(lost(&flow), None, "UDP");
        let untranslated = tracked(tuple(CLIENT, SERVER), tuple(SERVER, CLIENT));
        assert_eq!(lost(&untranslated), None);
        let own = tracked(tuple(WAN, SERVER), tuple(SERVER, WAN));
        assert_eq!(lost(&own), None);
        let visitor = ("203.0.113.5", 5000);
        let to_the_router = tracked(tuple(visitor, WAN), tuple(WAN, visitor));
        assert_eq!(lost(&to_the_router), None);
    }
}
