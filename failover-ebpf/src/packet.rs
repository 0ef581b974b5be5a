//! A packet: what the kernel knows of it, and its bytes.

use core::arch::asm;
use core::hint::cold_path;

use aya_ebpf::helpers::generated::bpf_csum_update;
use aya_ebpf::programs::TcContext;

/// What stands before the IP header on an Ethernet interface, in bytes.
pub(crate) const ETHERNET_HEADER: usize = 14;
/// Nothing stands before the IP header on TUN, PPP, WireGuard and other tunnels.
pub(crate) const NO_HEADER: usize = 0;

/// Headers that begin further on are not looked at. All bits below the highest one are set.
const MOST_OFFSET: usize = 0x7fff;
/// `PACKET_HOST`: it is for this host, and for no other (include/uapi/linux/if_packet.h).
const PACKET_HOST: u32 = 0;
/// What stands in `tc_index` of a packet that took the fast path: a field that queueing disciplines
/// which are not in Linux any more (dsmark, tcindex) had for notes among themselves.
const FAST: u32 = 0xfa57;
/// The id of a VLAN within its tag; 0 is a priority without a VLAN (IEEE 802.1Q).
const VLAN_ID: u32 = 0xfff;

/// A packet whose IP header begins after `HEADER` bytes.
pub(crate) struct Packet<'c, const HEADER: usize> {
    context: &'c TcContext,
}

macro_rules! field {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(&self) -> u32 {
            // SAFETY: the kernel gives each program a valid context; the verifier knows its fields.
            unsafe { (*self.context.skb.skb).$name }
        }
    };
}

impl<'c, const HEADER: usize> Packet<'c, HEADER> {
    #[inline(always)]
    pub(crate) const fn new(context: &'c TcContext) -> Self {
        Self { context }
    }

    /// A packet that comes in. What another gateway on this host, in another network namespace, noted
    /// of it is no note of ours.
    #[inline(always)]
    pub(crate) fn arriving(context: &'c TcContext) -> Self {
        let packet = Self::new(context);
        if packet.is_fast() {
            packet.note(0);
        }
        packet
    }

    /// Notes that it takes the fast path, for the program that it meets on its way out.
    #[inline(always)]
    pub(crate) fn set_fast(&self) {
        self.note(FAST);
    }

    /// Tells the kernel by how much its words add up to more than before, as a difference in one's
    /// complement, where hardware has summed it up.
    #[inline(always)]
    pub(crate) fn tell_change(&self, change: u16) {
        // SAFETY: the context is valid for the call. It fails where hardware has not summed up the
        // packet.
        let _unneeded = unsafe { bpf_csum_update(self.context.skb.skb, u32::from(change)) };
    }

    /// Whether it took the fast path.
    #[inline(always)]
    pub(crate) fn is_fast(&self) -> bool {
        self.tc_index() == FAST
    }

    #[inline(always)]
    fn note(&self, note: u32) {
        // SAFETY: the kernel gives each program a valid context; the verifier knows that this field may
        // be written.
        unsafe { (*self.context.skb.skb).tc_index = note };
    }

    field!(
        /// The mark.
        mark
    );
    field!(
        /// The index of the interface that it is at.
        ifindex
    );
    field!(
        /// The index of the interface that it came in by; 0 for the host's own.
        ingress_ifindex
    );
    field!(
        /// The type of its network layer (`ETH_P_IP`, `ETH_P_IPV6`), in network order.
        protocol
    );
    field!(gso_segs);
    field!(
        /// How much data each segment of an offloaded packet carries, in bytes; 0 for other packets.
        gso_size
    );
    field!(tc_index);
    field!(vlan_present);
    field!(vlan_tci);
    field!(pkt_type);

    #[inline(always)]
    pub(crate) fn set_mark(&self, mark: u32) {
        self.context.set_mark(mark);
    }

    /// For helpers and the log.
    #[inline(always)]
    pub(crate) const fn context(&self) -> &TcContext {
        self.context
    }

    /// It belongs to a VLAN on this trunk, not to the trunk itself.
    #[inline(always)]
    pub(crate) fn is_tagged(&self) -> bool {
        self.vlan_present() != 0 && self.vlan_tci() & VLAN_ID != 0
    }

    /// It carries no VLAN tag at all, not even one that only says a priority.
    #[inline(always)]
    pub(crate) fn is_untagged(&self) -> bool {
        self.vlan_present() == 0
    }

    /// It is for this host: not broadcast, not multicast, and not another's on a promiscuous
    /// interface.
    #[inline(always)]
    pub(crate) fn is_for_us(&self) -> bool {
        self.pkt_type() == PACKET_HOST
    }

    /// The hardware addresses that it goes to and comes from, in this order, in a frame.
    #[inline(always)]
    pub(crate) fn hardware_addresses(&self) -> Option<([u8; 6], [u8; 6])> {
        // Every frame has them in its linear part.
        let start = self.context.data();
        if HEADER < ETHERNET_HEADER || start + ETHERNET_HEADER > self.context.data_end() {
            return None;
        }
        // SAFETY: the words lie within the packet, by the comparison above.
        let [first, second, third] = unsafe {
            [
                u32::load::<0>(start),
                u32::load::<4>(start),
                u32::load::<8>(start),
            ]
        };
        let ([a, b, c, d], [e, f, g, h], [i, j, k, l]) = (
            first.to_ne_bytes(),
            second.to_ne_bytes(),
            third.to_ne_bytes(),
        );
        Some(([a, b, c, d, e, f], [g, h, i, j, k, l]))
    }

    /// How many packets it is on the wire.
    #[inline(always)]
    pub(crate) fn segments(&self) -> u64 {
        let segments = self.gso_segs();
        if segments == 0 {
            1
        } else {
            u64::from(segments)
        }
    }

    /// Its length with its link-layer header.
    #[inline(always)]
    pub(crate) fn length(&self) -> u64 {
        u64::from(self.context.len())
    }

    /// The same offset, of which the verifier knows nothing any more. It follows each way through the
    /// headers on its own until two of them know the same: offsets that it had worked out would have
    /// it follow all the rest once for each of them.
    #[inline(always)]
    pub(crate) fn any_offset(&self, offset: usize) -> usize {
        let mut offset = offset;
        // SAFETY: the instructions change a number, and back again; they touch no memory.
        unsafe {
            asm!(
                "{offset} ^= {unknown}",
                "{offset} ^= {unknown}",
                offset = inout(reg) offset,
                unknown = in(reg) self.length(),
                options(nomem, nostack, pure)
            );
        }
        offset
    }

    /// Whether the packet has all bytes before an offset from the IP header.
    #[inline(always)]
    pub(crate) fn reaches(&self, offset: usize) -> bool {
        self.length() >= (HEADER + offset) as u64
    }

    /// Where the packet begins, with its link-layer header, if so many bytes of it are in one piece.
    #[inline(always)]
    pub(crate) fn front(&self, length: usize) -> Option<usize> {
        let start = self.context.data();
        (start + length <= self.context.data_end()).then_some(start)
    }

    /// The same, and they are put into one piece where they are not. Addresses that were got before are
    /// void then.
    #[inline(always)]
    pub(crate) fn pulled(&self, length: usize) -> Option<usize> {
        if let Some(start) = self.front(length) {
            return Some(start);
        }
        cold_path();
        self.context.pull_data(length as u32).ok()?;
        self.front(length)
    }

    /// Reads words, in network order, at an offset from the IP header. `None` where the packet ends
    /// before, or beyond [`MOST_OFFSET`].
    #[inline(always)]
    pub(crate) fn words<W: Word, const COUNT: usize>(&self, offset: usize) -> Option<[W; COUNT]> {
        if offset > MOST_OFFSET {
            return None;
        }
        let offset = HEADER + bounded(offset);
        let first = self.context.data() + offset;
        if first + size_of::<[W; COUNT]>() > self.context.data_end() {
            // Not in the linear part: many drivers, and sockets that send whole frames, leave no
            // more than the Ethernet header there.
            cold_path();
            return self.context.load(offset).ok();
        }
        let mut words = [W::ZERO; COUNT];
        for (index, word) in words.iter_mut().enumerate() {
            // SAFETY: the word lies within the packet, by the comparison above.
            *word = unsafe { W::load::<0>(first + size_of::<W>() * index) };
        }
        Some(words)
    }
}

/// The same offset, of which the verifier knows that it is at most [`MOST_OFFSET`]. The comparison alone
/// does not tell it before Linux 6.3: the compiler may compare a copy of what it keeps on the stack.
#[inline(always)]
fn bounded(offset: usize) -> usize {
    let mut offset = offset;
    // SAFETY: the instruction changes a number; it touches no memory.
    unsafe {
        asm!(
            "{offset} &= {most}",
            offset = inout(reg) offset,
            most = const MOST_OFFSET,
            options(nomem, nostack, pure)
        );
    }
    offset
}

/// What a packet is read and written by. The addresses need not be aligned: behind an Ethernet header an
/// IP header is not, on most processors. The compiler would go byte by byte; the kernel allows a word
/// wherever the processor can do that.
pub(crate) trait Word: Copy {
    /// Any value.
    const ZERO: Self;

    /// Loads a word that stands so many bytes behind an address.
    ///
    /// # Safety
    /// The bytes must lie within the packet. The hazard is a read beyond it, which the kernel's
    /// verifier refuses.
    unsafe fn load<const AT: usize>(address: usize) -> Self;

    /// Stores it so many bytes behind an address.
    ///
    /// # Safety
    /// As for [`Self::load`], and the bytes must be the packet's alone, not those of a clone: the kernel
    /// sees to that before a program begins that stores into packets (`bpf_unclone_prologue`,
    /// net/core/filter.c).
    unsafe fn store<const AT: usize>(self, address: usize);
}

macro_rules! word {
    ($type:ty, $width:literal) => {
        impl Word for $type {
            const ZERO: Self = 0;

            #[inline(always)]
            unsafe fn load<const AT: usize>(address: usize) -> Self {
                let word: u64;
                // SAFETY: by the caller's promise; the instruction reads memory and nothing else.
                unsafe {
                    asm!(
                        concat!("{word} = *(", $width, " *)({address} + {at})"),
                        word = lateout(reg) word,
                        address = in(reg) address,
                        at = const AT,
                        options(nostack, readonly, pure)
                    );
                }
                word as Self
            }

            #[inline(always)]
            unsafe fn store<const AT: usize>(self, address: usize) {
                // SAFETY: by the caller's promise; the instruction writes these bytes and nothing else.
                unsafe {
                    asm!(
                        concat!("*(", $width, " *)({address} + {at}) = {word}"),
                        word = in(reg) u64::from(self),
                        address = in(reg) address,
                        at = const AT,
                        options(nostack)
                    );
                }
            }
        }
    };
}

/// Loads a word as [`Word::load`] does, filled up with zeros: the kernel loads it so, which the compiler does
/// not know.
///
/// # Safety
/// As there.
#[inline(always)]
pub(crate) unsafe fn load_filled<const AT: usize>(address: usize) -> u64 {
    let word: u64;
    // SAFETY: by the caller's promise; the instruction reads memory and nothing else.
    unsafe {
        asm!(
            "{word} = *(u32 *)({address} + {at})",
            word = lateout(reg) word,
            address = in(reg) address,
            at = const AT,
            options(nostack, readonly, pure)
        );
    }
    word
}

word!(u8, "u8");
word!(u16, "u16");
word!(u32, "u32");
word!(u64, "u64");
