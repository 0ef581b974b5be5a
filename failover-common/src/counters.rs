//! What the programs count; each processor counts for itself.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit};

/// What went by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Counters {
    /// Packets; segments of an offloaded packet count each.
    pub packets: u64,
    /// Bytes, link-layer headers included where the interface has them.
    pub bytes: u64,
}

impl Counters {
    /// Adds what went by.
    #[inline(always)]
    pub const fn note(&mut self, packets: u64, bytes: u64) {
        self.packets = self.packets.wrapping_add(packets);
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// What went by of one uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct UplinkCounters {
    /// Came from users and was given this uplink.
    pub lan_in: Counters,
    /// Came by this uplink, whomever it is for.
    pub wan_in: Counters,
    /// Came by this uplink and went to users.
    pub lan_out: Counters,
    /// Packets of all these that took the fast path, segments of an offloaded packet counted each.
    pub fast: u64,
    /// Zero: the rest of a cache line.
    pub reserved: u64,
}

impl UplinkCounters {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            lan_in: self.lan_in.plus(other.lan_in),
            wan_in: self.wan_in.plus(other.wan_in),
            lan_out: self.lan_out.plus(other.lan_out),
            fast: self.fast.saturating_add(other.fast),
            reserved: 0,
        }
    }
}

/// What became of packets that no known flow decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Totals {
    /// Entries made in the flow table.
    pub entered: u64,
    /// Entries that the flow table did not take.
    pub refused: u64,
    /// Entries that were given an uplink anew: the old one's flows were forgotten, or the flow had
    /// ended.
    pub renewed: u64,
    /// Entries that were moved to the uplink by which their packets come back.
    pub corrected: u64,
    /// Packets that the kernel sends elsewhere than to an uplink.
    pub elsewhere: u64,
    /// Packets for which there was no selection or no uplink.
    pub unpicked: u64,
    /// Packets whose rule has no usable uplink and lets no other carry them.
    pub denied: u64,
    /// Packets whose headers make no sense, or go on beyond what is looked at.
    pub unread: u64,
    /// Packets of new flows that were not entered, since too many wait for a first answer: they are
    /// entered when one comes.
    pub held_off: u64,
    /// Flows that were offered to the daemon for the fast path.
    pub offered: u64,
    /// Offers for which there was no room.
    pub unheard: u64,
    /// Packets of offloaded flows that the stack had to see.
    pub returned: u64,
}

impl Totals {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            entered: self.entered.saturating_add(other.entered),
            refused: self.refused.saturating_add(other.refused),
            renewed: self.renewed.saturating_add(other.renewed),
            corrected: self.corrected.saturating_add(other.corrected),
            elsewhere: self.elsewhere.saturating_add(other.elsewhere),
            unpicked: self.unpicked.saturating_add(other.unpicked),
            denied: self.denied.saturating_add(other.denied),
            unread: self.unread.saturating_add(other.unread),
            held_off: self.held_off.saturating_add(other.held_off),
            offered: self.offered.saturating_add(other.offered),
            unheard: self.unheard.saturating_add(other.unheard),
            returned: self.returned.saturating_add(other.returned),
        }
    }
}
