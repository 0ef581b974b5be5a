//! Entries of connection tracking: asked for one by one, and kept alive.

use std::io;
use std::time::Duration;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage};
use nix::errno::Errno;

use crate::family::Family;
use crate::fastpath::facts::{Connection, Kept, PassingPacket, Upkeep};
use crate::flows::Protocol;
use crate::kernel::conntrack::FirstPacket;
use crate::kernel::conntrack::asking::tuple;
use crate::kernel::conntrack::message::{Entry, append, attributes, family};
use crate::kernel::conntrack::tracked::{self, CTA_PROTOINFO, CTA_PROTOINFO_TCP};
use crate::kernel::questions::{Answer, Questions};

// Attributes (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`). The first three are there only where
// there is something to say: a helper that was assigned, numbers that are shifted (`IPS_SEQ_ADJUST`;
// `ctnetlink_dump_ct_seq_adj` in net/netfilter/nf_conntrack_netlink.c).
const CTA_HELP: u16 = 5;
const CTA_SEQ_ADJ_ORIG: u16 = 15;
const CTA_SEQ_ADJ_REPLY: u16 = 16;
const CTA_SYNPROXY: u16 = 24;

/// Asks for the entries of flows.
pub(super) fn ask(
    questions: &mut Questions,
    packets: &[PassingPacket],
) -> io::Result<Vec<Option<Connection>>> {
    questions.ask(
        packets,
        |batch, packet, flags, sequence| {
            let message = ConntrackMessage::Get(vec![tuple(&FirstPacket {
                protocol: packet.protocol,
                source: packet.source,
                destination: packet.destination,
                source_port: packet.source_port,
                port: packet.destination_port,
            })]);
            let family = family(Family::of(packet.source));
            append(batch, message, family, flags, sequence);
        },
        |_, answer| match answer {
            Answer::Found(message) => {
                Ok(Entry::parse(message.payload()).and_then(|e| connection(&e)))
            }
            Answer::Refused(error) if is(&error, Errno::ENOENT) => Ok(None),
            Answer::Refused(error) => Err(error),
        },
    )
}

fn connection(entry: &Entry<'_>) -> Option<Connection> {
    let mut is_helped = false;
    let mut is_shifted = false;
    for attribute in attributes(entry.attributes()) {
        match attribute.kind() {
            CTA_HELP => is_helped = true,
            CTA_SEQ_ADJ_ORIG | CTA_SEQ_ADJ_REPLY => is_shifted = true,
            CTA_SYNPROXY => is_shifted |= is_answered_for(attribute.value()),
            _ => {}
        }
    }
    Some(Connection {
        flow: tracked::read(entry)?,
        is_helped,
        is_shifted,
    })
}

/// Whether any number of a `CTA_SYNPROXY` says something: entries that a program made, as `conntrackd`
/// does for its peer, have one of noughts.
fn is_answered_for(synproxy: &[u8]) -> bool {
    attributes(synproxy).any(|number| number.value().iter().any(|byte| *byte != 0))
}

/// Has entries live on.
pub(super) fn keep(questions: &mut Questions, upkeep: &[Upkeep]) -> io::Result<Vec<Kept>> {
    let relaxed = relaxed();
    questions.order(
        upkeep,
        Kept::Done,
        |batch, upkeep, flags, sequence| {
            let mut wanted = vec![tuple(&FirstPacket {
                protocol: upkeep.protocol,
                source: upkeep.inside,
                destination: upkeep.outside,
                source_port: upkeep.inside_port,
                port: upkeep.outside_port,
            })];
            if let Some(remaining) = upkeep.remaining {
                wanted.push(ConntrackAttribute::CtaTimeout(whole_seconds(remaining)));
            }
            if upkeep.relax && upkeep.protocol == Protocol::TCP {
                wanted.push(relaxed.clone());
            }
            // Without `NLM_F_CREATE` the kernel changes only what is there, and of that only what it is
            // told.
            let message = ConntrackMessage::New(wanted);
            let family = family(Family::of(upkeep.inside));
            append(batch, message, family, flags, sequence);
        },
        |_, error| {
            // The second is said of an entry that is just being taken out, the third of one that ends at
            // a fixed time whatever anybody wants (`__nf_ct_change_timeout`).
            let gone = [Errno::ENOENT, Errno::ETIME, Errno::EPERM];
            if gone.iter().any(|errno| is(&error, *errno)) {
                Ok(Kept::Gone)
            } else {
                Err(error)
            }
        },
    )
}

/// "Packets of any window pass, in both directions."
fn relaxed() -> ConntrackAttribute {
    const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL: u16 = 4;
    const CTA_PROTOINFO_TCP_FLAGS_REPLY: u16 = 5;
    /// The flags, and which of them are meant (`struct nf_ct_tcp_flags`): `IP_CT_TCP_FLAG_BE_LIBERAL`
    /// set, `IP_CT_TCP_FLAG_MAXACK_SET` cleared.
    const LIBERAL: [u8; 2] = [0x08, 0x08 | 0x20];
    let both = [
        CTA_PROTOINFO_TCP_FLAGS_ORIGINAL,
        CTA_PROTOINFO_TCP_FLAGS_REPLY,
    ]
    .map(|kind| DefaultNla::new(kind, LIBERAL.to_vec()));
    let mut flags = vec![0; both.as_slice().buffer_len()];
    both.as_slice().emit(&mut flags);
    let tcp = [DefaultNla::new(CTA_PROTOINFO_TCP | NLA_F_NESTED, flags)];
    let mut value = vec![0; tcp.as_slice().buffer_len()];
    tcp.as_slice().emit(&mut value);
    ConntrackAttribute::Other(DefaultNla::new(CTA_PROTOINFO | NLA_F_NESTED, value))
}

/// Whole seconds, rounded up: the kernel takes no others.
fn whole_seconds(duration: Duration) -> u32 {
    let up = u64::from(duration.subsec_nanos() > 0);
    u32::try_from(duration.as_secs().saturating_add(up)).unwrap_or(u32::MAX)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_lives_shorter_than_is_wanted() {
        assert_eq!(whole_seconds(Duration::from_secs(30)), 30);
        assert_eq!(whole_seconds(Duration::from_millis(29_001)), 30);
        assert_eq!(whole_seconds(Duration::MAX), u32::MAX);
    }

    #[test]
    fn a_handshake_was_answered_if_any_number_of_it_is_known() {
        let number = |kind, value: [u8; 4]| {
            let attribute = [DefaultNla::new(kind, value.to_vec())];
            let mut bytes = vec![0; attribute.as_slice().buffer_len()];
            attribute.as_slice().emit(&mut bytes);
            bytes
        };
        let noughts = [number(1, [0; 4]), number(2, [0; 4]), number(3, [0; 4])].concat();
        assert!(!is_answered_for(&noughts));
        let known = [number(1, [0; 4]), number(2, [0, 0, 0, 9])].concat();
        assert!(is_answered_for(&known));
    }
}
