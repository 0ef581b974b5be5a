//! Chains of nftables that see what comes in by an interface before it is routed.
//!
//! They hang behind all TC programs (`__netif_receive_skb_core` in net/core/dev.c), and a packet that
//! ours redirects does not come to them.

use std::io;

use netlink_packet_core::{NetlinkSerializable, NlaBuffer, NlasIterator};
use nix::errno::Errno;

use crate::kernel::questions::Questions;

// Messages and attributes (`include/uapi/linux/netfilter/nf_tables.h`). Numbers are big-endian.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_DEV: u16 = 3;
const NFTA_HOOK_DEVS: u16 = 4;
const NFTA_DEVICE_NAME: u16 = 1;
const NFTA_DEVICE_PREFIX: u16 = 2;

/// Length of `struct nfgenmsg`.
const NFGENMSG_LEN: usize = 4;

/// The families that have such chains, and the number of the hook in each: `NFPROTO_INET` with
/// `NF_INET_INGRESS`, and `NFPROTO_NETDEV` with `NF_NETDEV_INGRESS` (`include/uapi/linux/netfilter.h`).
const FAMILIES: [(u8, u32); 2] = [(1, 5), (5, 0)];

/// Finds a chain at an interface; returns its table and name.
pub(super) fn find(questions: &mut Questions, interface: &str) -> io::Result<Option<String>> {
    for (family, hook) in FAMILIES {
        let found = questions.list(&Chains { family }, |message| {
            Ok(message
                .payload()
                .get(NFGENMSG_LEN..)
                .and_then(|chain| at(chain, hook, interface)))
        });
        match found {
            Ok(chains) => {
                if let Some(chain) = chains.into_iter().next() {
                    return Ok(Some(chain));
                }
            }
            // A kernel without nftables.
            Err(error) if is_unknown(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)
    )
}

/// Asks for all chains of a family.
#[derive(Clone)]
struct Chains {
    family: u8,
}

impl NetlinkSerializable for Chains {
    fn message_type(&self) -> u16 {
        NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN
    }

    fn buffer_len(&self) -> usize {
        NFGENMSG_LEN
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
        if let Some(family) = buffer.first_mut() {
            *family = self.family;
        }
    }
}

/// The table and name of a chain, if it hangs on a hook of an interface.
fn at(chain: &[u8], hook: u32, interface: &str) -> Option<String> {
    let place = find_attribute(chain, NFTA_CHAIN_HOOK)?;
    let number = find_attribute(place.value(), NFTA_HOOK_HOOKNUM)?;
    if u32::from_be_bytes(number.value().try_into().ok()?) != hook {
        return None;
    }
    let one = attributes(place.value())
        .any(|attribute| attribute.kind() == NFTA_HOOK_DEV && text(&attribute) == interface);
    let several = find_attribute(place.value(), NFTA_HOOK_DEVS).is_some_and(|devices| {
        attributes(devices.value()).any(|device| match device.kind() {
            NFTA_DEVICE_NAME => text(&device) == interface,
            NFTA_DEVICE_PREFIX => interface.starts_with(&text(&device)),
            _ => false,
        })
    });
    (one || several).then(|| {
        let word = |kind| find_attribute(chain, kind).map_or_else(String::new, |word| text(&word));
        format!("{} {}", word(NFTA_CHAIN_TABLE), word(NFTA_CHAIN_NAME))
    })
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).filter_map(Result::ok)
}

fn find_attribute(bytes: &[u8], kind: u16) -> Option<NlaBuffer<&[u8]>> {
    attributes(bytes).find(|attribute| attribute.kind() == kind)
}

/// A text ends with a nought.
fn text(attribute: &NlaBuffer<&[u8]>) -> String {
    let bytes = attribute.value();
    String::from_utf8_lossy(bytes.strip_suffix(b"\0").unwrap_or(bytes)).into_owned()
}
