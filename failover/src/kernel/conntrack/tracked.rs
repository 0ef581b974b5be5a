//! All that a listed entry says of a flow.

use std::time::Duration;

use super::message::{
    self, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, Entry, attributes, find,
};
use crate::flows::{Packets, Protocol, TrackedFlow, Tuple};

// Attributes (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`). Numbers are big-endian.
pub(in crate::kernel) const CTA_STATUS: u16 = 3;
pub(in crate::kernel) const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_TIMESTAMP: u16 = 20;
/// Within a tuple: protocol and ports.
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
pub(in crate::kernel) const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_COUNTERS_PACKETS: u16 = 1;
const CTA_COUNTERS_BYTES: u16 = 2;
/// Within a timestamp: nanoseconds since 1970.
const CTA_TIMESTAMP_START: u16 = 1;

/// Reads an entry; `None` if it lacks what every entry has.
pub(in crate::kernel) fn read(entry: &Entry<'_>) -> Option<TrackedFlow> {
    let mut original = None;
    let mut reply = None;
    let mut status = 0;
    let mut tcp_state = None;
    let mut remaining = None;
    let mut started = None;
    let mut original_packets = None;
    let mut reply_packets = None;
    for attribute in attributes(entry.attributes()) {
        let value = attribute.value();
        match attribute.kind() {
            CTA_TUPLE_ORIG => original = tuple(value),
            CTA_TUPLE_REPLY => reply = tuple(value),
            CTA_STATUS => status = number(value).map_or(0, u32::from_be_bytes),
            CTA_PROTOINFO => tcp_state = state(value),
            CTA_TIMEOUT => {
                let seconds = number(value).map(u32::from_be_bytes);
                remaining = seconds.map(|seconds| Duration::from_secs(seconds.into()));
            }
            CTA_COUNTERS_ORIG => original_packets = packets(value),
            CTA_COUNTERS_REPLY => reply_packets = packets(value),
            CTA_TIMESTAMP => {
                let start = find(value, CTA_TIMESTAMP_START);
                let start = start.and_then(|start| number(start.value()));
                started = start.map(|start| Duration::from_nanos(u64::from_be_bytes(start)));
            }
            _ => {}
        }
    }
    let (protocol, original) = original?;
    let (_, reply) = reply?;
    Some(TrackedFlow {
        mark: entry.mark(),
        protocol,
        original,
        reply,
        status,
        tcp_state,
        remaining,
        started,
        original_packets,
        reply_packets,
    })
}

fn tuple(value: &[u8]) -> Option<(Protocol, Tuple)> {
    let addresses = find(value, CTA_TUPLE_IP)?;
    let mut protocol = None;
    let mut tuple = Tuple {
        source: message::source(addresses.value())?,
        destination: message::destination(addresses.value())?,
        source_port: 0,
        destination_port: 0,
        identifier: 0,
    };
    for attribute in attributes(find(value, CTA_TUPLE_PROTO)?.value()) {
        let value = attribute.value();
        let port = || number(value).map_or(0, u16::from_be_bytes);
        match attribute.kind() {
            CTA_PROTO_NUM => protocol = value.first().copied().map(Protocol),
            CTA_PROTO_SRC_PORT => tuple.source_port = port(),
            CTA_PROTO_DST_PORT => tuple.destination_port = port(),
            CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => tuple.identifier = port(),
            _ => {}
        }
    }
    Some((protocol?, tuple))
}

/// The state of a TCP connection; `None` for other protocols.
fn state(value: &[u8]) -> Option<u8> {
    let tcp = find(value, CTA_PROTOINFO_TCP)?;
    let state = find(tcp.value(), CTA_PROTOINFO_TCP_STATE)?;
    state.value().first().copied()
}

fn packets(value: &[u8]) -> Option<Packets> {
    let count = |kind| {
        let bytes = number(find(value, kind)?.value())?;
        Some(u64::from_be_bytes(bytes))
    };
    Some(Packets {
        packets: count(CTA_COUNTERS_PACKETS)?,
        bytes: count(CTA_COUNTERS_BYTES)?,
    })
}

fn number<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}
