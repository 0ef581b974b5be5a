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
