//! What a TCP header says.

use crate::packet::Packet;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Flags of a segment that begins a connection, or of one of its last ones: connection tracking must see
/// it.
pub(crate) const FOR_THE_STACK: u8 = SYN | FIN | RST;

/// The length of a TCP header, in bytes, by its byte that says so: in units of 4 bytes, in the upper half
/// (RFC 9293, section 3.1).
#[inline(always)]
pub(crate) const fn header_length(offset: u8) -> usize {
    (offset >> 4) as usize * 4
}

/// What a TCP header says of its segment; nothing for other protocols.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    is_one: bool,
    flags: u8,
    sequence: u32,
    /// Bytes of data.
    data: u32,
}

impl Segment {
    /// No segment: the packet is one of another protocol.
    pub(crate) const NONE: Self = Self {
        is_one: false,
        flags: 0,
        sequence: 0,
        data: 0,
    };

    /// Reads the header that begins `at`, as far as its flags, of a packet that reaches to `end`.
    #[inline(always)]
    pub(crate) fn read<const HEADER: usize>(
        packet: &Packet<'_, HEADER>,
        at: usize,
        end: usize,
    ) -> Option<Self> {
        let [sequence, _, fourth] = packet.words::<u32, 3>(at + 4)?;
        let [offset, flags, _, _] = fourth.to_ne_bytes();
        let header = header_length(offset);
        Some(Self {
            is_one: true,
            flags,
            sequence: u32::from_be(sequence),
            data: end.saturating_sub(at + header) as u32,
        })
    }

    /// The packet is one of TCP.
    #[inline(always)]
    pub(crate) const fn is_one(self) -> bool {
        self.is_one
    }

    /// Connection tracking must see it: [`FOR_THE_STACK`].
    #[inline(always)]
    pub(crate) const fn is_for_the_stack(self) -> bool {
        self.flags & FOR_THE_STACK != 0
    }

    /// It carries data.
    #[inline(always)]
    pub(crate) const fn has_data(self) -> bool {
        self.data != 0
    }

    /// The sequence number that follows it, if it takes up any (RFC 9293, section 3.4).
    #[inline(always)]
    pub(crate) const fn next(self) -> Option<u32> {
        let flags = (self.flags & SYN != 0) as u32 + (self.flags & FIN != 0) as u32;
        if self.flags & RST != 0 || flags + self.data == 0 {
            None
        } else {
            Some(self.sequence.wrapping_add(self.data).wrapping_add(flags))
        }
    }

    /// The other end accepts a connection.
    #[inline(always)]
    pub(crate) const fn accepts(self) -> bool {
        self.flags & (SYN | ACK | RST) == SYN | ACK
    }

    /// The first packet of a connection.
    #[inline(always)]
    pub(crate) const fn opens(self) -> bool {
        self.flags & (SYN | ACK | RST) == SYN
    }

    /// One of the last packets of a connection.
    #[inline(always)]
    pub(crate) const fn closes(self) -> bool {
        self.flags & (FIN | RST) != 0
    }

    /// What a host sends that was answered (RFC 9293).
    #[inline(always)]
    pub(crate) const fn answers(self) -> bool {
        self.flags & (SYN | ACK | RST) == ACK
    }

    /// A reset: whoever sent it need not be the other end.
    #[inline(always)]
    pub(crate) const fn resets(self) -> bool {
        self.flags & RST != 0
    }
}
