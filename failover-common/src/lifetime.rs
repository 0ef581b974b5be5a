//! How long a silent flow is still the same flow.
//!
//! The times are those after which the kernel's connection tracking forgets it, by default
//! (`net/netfilter/nf_conntrack_proto_*.c`): whoever comes after that is new to both.

use crate::{Flow, FlowKey, Phase};

const SECOND_NS: u64 = 1_000_000_000;

/// IP protocol numbers (IANA).
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDPLITE: u8 = 136;
}

/// How long a flow of this protocol and phase lives without a packet, in nanoseconds.
#[must_use]
#[inline(always)]
pub const fn lifetime_ns(protocol: u8, phase: Phase) -> u64 {
    let seconds = match (protocol, phase) {
        (protocol::TCP, Phase::Established) => 5 * 24 * 3600,
        (protocol::TCP, Phase::Opening | Phase::Closing) => 120,
        (protocol::UDP | protocol::UDPLITE, Phase::Opening) => 30,
        (protocol::UDP | protocol::UDPLITE, _) => 120,
        (protocol::ICMP | protocol::ICMPV6, _) => 30,
        _ => 600,
    };
    seconds * SECOND_NS
}

/// Whether a flow is still alive at `now_ns` of `CLOCK_MONOTONIC`.
#[must_use]
#[inline(always)]
pub const fn is_alive(key: &FlowKey, flow: &Flow, now_ns: u64) -> bool {
    now_ns.saturating_sub(flow.seen_ns) <= lifetime_ns(key.protocol, flow.phase)
}

#[cfg(all(test, feature = "user"))]
mod tests {
    use super::protocol::{DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
    use super::*;
    use crate::Family;

    const DAY_S: u64 = 86_400;

    #[test]
    fn a_flow_lives_for_its_protocols_and_phases_time() {
        let gre = 47;
        for (protocol, opening_s, established_s, closing_s) in [
            (TCP, 120, 5 * DAY_S, 120),
            (UDP, 30, 120, 120),
            (UDPLITE, 30, 120, 120),
            (ICMP, 30, 30, 30),
            (ICMPV6, 30, 30, 30),
            (SCTP, 600, 600, 600),
            (DCCP, 600, 600, 600),
            (gre, 600, 600, 600),
        ] {
            for (phase, seconds) in [
                (Phase::Opening, opening_s),
                (Phase::Established, established_s),
                (Phase::Closing, closing_s),
            ] {
                let seen_ns = 77 * SECOND_NS;
                let (key, flow) = seen(protocol, phase, seen_ns);
                let end_ns = seen_ns + seconds * SECOND_NS;
                let what = (protocol, phase);
                assert!(is_alive(&key, &flow, end_ns), "{what:?}");
                assert!(!is_alive(&key, &flow, end_ns + 1), "{what:?}");
            }
        }
    }

    /// The clock of a packet on another processor may be a tick behind.
    #[test]
    fn a_flow_that_was_seen_in_the_future_is_alive() {
        let (key, flow) = seen(UDP, Phase::Opening, 100);
        assert!(is_alive(&key, &flow, 99));
    }

    fn seen(protocol: u8, phase: Phase, seen_ns: u64) -> (FlowKey, Flow) {
        let key = FlowKey {
            inside: [1; 16],
            outside: [2; 16],
            inside_port: 3,
            outside_port: 4,
            protocol,
            family: Family::Ipv6,
            reserved: [0; 2],
        };
        let flow = Flow {
            phase,
            ..Flow::begun(seen_ns)
        };
        (key, flow)
    }
}
