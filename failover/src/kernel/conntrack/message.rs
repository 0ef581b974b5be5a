//! Messages of ctnetlink: what is asked for, and the few attributes of an answer that matter.
//!
//! Answers are read in place, since there may be half a million of them, and an entry's tuple is
//! sent back as it came: it may hold what no library knows.

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, NlaBuffer, NlasIterator};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use crate::family::Family;
use crate::kernel::former_address::EntryAddresses;
use crate::kernel::netlink;
use crate::mark::{Mark, MarkMask};

// Attributes (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`).
pub(super) const CTA_TUPLE_ORIG: u16 = 1;
pub(super) const CTA_TUPLE_REPLY: u16 = 2;
const CTA_MARK: u16 = 8;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_MARK_MASK: u16 = 21;
/// Within a tuple: the addresses.
pub(super) const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;

/// The version that a message must say for its family to count when entries are deleted by mark;
/// with 0 those of both families go (`ctnetlink_del_conntrack`).
const NFNETLINK_V1: u8 = 1;

/// Length of `struct nfgenmsg`.
const NFGENMSG_LEN: usize = 4;

/// Appends a message to a batch.
pub(in crate::kernel) fn append(
    batch: &mut Vec<u8>,
    message: ConntrackMessage,
    family: NetfilterProtoFamily,
    flags: u16,
    sequence: u32,
) {
    let header = NetfilterHeader::new(family, NFNETLINK_V1, 0);
    netlink::append(
        batch,
        NetfilterMessage::new(header, message),
        flags,
        sequence,
    );
}

/// "Whose mark is `mark` under `mask`", or "set our bits to `mark`".
pub(super) fn mark(mark: Mark, mask: MarkMask) -> Vec<ConntrackAttribute> {
    vec![
        ConntrackAttribute::CtaMark(mark.0),
        // The library has no name for it.
        ConntrackAttribute::Other(DefaultNla::new(
            CTA_MARK_MASK,
            mask.bits().to_be_bytes().to_vec(),
        )),
    ]
}

/// The family of netfilter.
pub(in crate::kernel) const fn family(family: Family) -> NetfilterProtoFamily {
    match family {
        Family::Ipv4 => NetfilterProtoFamily::IPv4,
        Family::Ipv6 => NetfilterProtoFamily::IPv6,
    }
}

/// An entry as it was listed.
pub(in crate::kernel) struct Entry<'a> {
    family: u8,
    attributes: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Takes a message's payload.
    pub(in crate::kernel) fn parse(payload: &'a [u8]) -> Option<Self> {
        Some(Self {
            family: *payload.first()?,
            attributes: payload.get(NFGENMSG_LEN..)?,
        })
    }

    /// Its family.
    pub(super) fn family(&self) -> NetfilterProtoFamily {
        self.family.into()
    }

    /// Its mark; none is nought.
    pub(super) fn mark(&self) -> Mark {
        let value = find(self.attributes, CTA_MARK)
            .and_then(|attribute| attribute.value().try_into().ok())
            .map_or(0, u32::from_be_bytes);
        Mark(value)
    }

    /// What says whose it is.
    pub(super) fn addresses(&self) -> EntryAddresses {
        EntryAddresses {
            mark: self.mark(),
            source: self.address(CTA_TUPLE_ORIG, [CTA_IP_V4_SRC, CTA_IP_V6_SRC]),
            destination: self.address(CTA_TUPLE_ORIG, [CTA_IP_V4_DST, CTA_IP_V6_DST]),
            reply_destination: self.reply_destination(),
        }
    }

    /// Where its replies go: the source, after translation.
    pub(super) fn reply_destination(&self) -> Option<IpAddr> {
        self.address(CTA_TUPLE_REPLY, [CTA_IP_V4_DST, CTA_IP_V6_DST])
    }

    fn address(&self, tuple: u16, kinds: [u16; 2]) -> Option<IpAddr> {
        let tuple = find(self.attributes, tuple)?;
        let addresses = find(tuple.value(), CTA_TUPLE_IP)?;
        ip_address(addresses.value(), kinds)
    }

    /// Its attributes, for those who read many of them.
    pub(in crate::kernel) const fn attributes(&self) -> &'a [u8] {
        self.attributes
    }

    /// What finds it again: its tuple and zone.
    pub(super) fn key(&self) -> Vec<ConntrackAttribute> {
        self.copies(&[CTA_TUPLE_ORIG, CTA_ZONE])
    }

    /// What finds it again, and not one that has taken its place meanwhile.
    pub(super) fn key_with_id(&self) -> Vec<ConntrackAttribute> {
        self.copies(&[CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID])
    }

    fn copies(&self, kinds: &[u16]) -> Vec<ConntrackAttribute> {
        attributes(self.attributes)
            .filter(|attribute| kinds.contains(&attribute.kind()))
            .map(|attribute| {
                let nested = if attribute.nested_flag() {
                    netlink_packet_core::NLA_F_NESTED
                } else {
                    0
                };
                ConntrackAttribute::Other(DefaultNla::new(
                    attribute.kind() | nested,
                    attribute.value().to_vec(),
                ))
            })
            .collect()
    }
}

/// Where packets of a tuple come from, by its `CTA_TUPLE_IP`.
pub(super) fn source(addresses: &[u8]) -> Option<IpAddr> {
    ip_address(addresses, [CTA_IP_V4_SRC, CTA_IP_V6_SRC])
}

/// Where packets of a tuple go, likewise.
pub(super) fn destination(addresses: &[u8]) -> Option<IpAddr> {
    ip_address(addresses, [CTA_IP_V4_DST, CTA_IP_V6_DST])
}

fn ip_address(addresses: &[u8], kinds: [u16; 2]) -> Option<IpAddr> {
    let found = attributes(addresses).find(|attribute| kinds.contains(&attribute.kind()))?;
    let bytes = found.value();
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

pub(in crate::kernel) fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).filter_map(Result::ok)
}

pub(in crate::kernel) fn find(bytes: &[u8], kind: u16) -> Option<NlaBuffer<&[u8]>> {
    attributes(bytes).find(|attribute| attribute.kind() == kind)
}
