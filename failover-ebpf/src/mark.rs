//! Our bits of the packet mark.

use aya_ebpf::Global;

use crate::packet::Packet;

/// Our bits. The loader sets these three.
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
static MARK_MASK: Global<u32> = Global::new(0xff00_0000);
/// How far an uplink's id is shifted.
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
static MARK_SHIFT: Global<u32> = Global::new(24);
/// The bit that says "ask".
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
static MARK_ASK: Global<u32> = Global::new(0x8000_0000);

/// The bits of a packet's mark that are others'.
#[inline(always)]
pub(crate) fn others<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> u32 {
    packet.mark() & !MARK_MASK.load()
}

/// Marks a packet that no uplink may carry: the own nftables table drops it, unless its connection
/// is known.
#[inline(always)]
pub(crate) fn deny<const HEADER: usize>(packet: &Packet<'_, HEADER>) {
    packet.set_mark(packet.mark() & !MARK_MASK.load() | MARK_ASK.load());
}

/// How sure an uplink is.
#[derive(Clone, Copy)]
pub(crate) enum Certainty {
    /// Packets of the flow came back by it.
    Confirmed,
    /// The connection mark, if there is one, knows better.
    Ask,
}

/// Gives a packet an uplink. Others' bits stay.
#[inline(always)]
pub(crate) fn give<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    uplink: u8,
    certainty: Certainty,
) {
    let ask = match certainty {
        Certainty::Confirmed => 0,
        Certainty::Ask => MARK_ASK.load(),
    };
    let ours = u32::from(uplink) << (MARK_SHIFT.load() & 31) | ask;
    packet.set_mark(packet.mark() & !MARK_MASK.load() | ours);
}

/// The uplink that the packet's connection is on, as the own nftables table says at downlinks of
/// packets that came in where the interface does not tell; 0 for none.
#[inline(always)]
pub(crate) fn told<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> u8 {
    ((packet.mark() & MARK_MASK.load() & !MARK_ASK.load()) >> (MARK_SHIFT.load() & 31)) as u8
}

/// Whether the own nftables table says that this is the first packet of a connection.
#[inline(always)]
pub(crate) fn asks<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> bool {
    packet.mark() & MARK_ASK.load() != 0
}
