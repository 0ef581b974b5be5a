//! Addresses as words, as they stand in headers and in the flow table.

/// An address in network order; an IPv4 address is the first four bytes, the others are zero.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Address([u64; 2]);

impl Address {
    #[inline(always)]
    pub(crate) const fn new(words: [u64; 2]) -> Self {
        Self(words)
    }

    #[inline(always)]
    pub(crate) const fn from_ipv4(word: u32) -> Self {
        // The first bytes are the low ones of a word: the programs are for little-endian machines.
        Self([word as u64, 0])
    }

    /// From its bytes in a key.
    #[inline(always)]
    pub(crate) const fn of(bytes: &[u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
        Self([
            u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            u64::from_ne_bytes(rest),
        ])
    }

    /// As words.
    #[inline(always)]
    pub(crate) const fn words(self) -> [u64; 2] {
        self.0
    }

    /// The bytes in their order on the wire.
    #[inline(always)]
    pub(crate) const fn bytes(self) -> [u8; 16] {
        // SAFETY: both are 16 initialised bytes, and any byte is valid.
        unsafe { core::mem::transmute(self.0) }
    }
}

/// No host alone: multicast, broadcast and reserved (RFC 1112, RFC 919).
#[inline(always)]
pub(crate) const fn is_unsteerable_ipv4(destination: u32) -> bool {
    let [first, ..] = destination.to_ne_bytes();
    first >= 224
}

/// Multicast (`ff00::/8`) and link-local (`fe80::/10`) addresses, which no router passes on to
/// another network (RFC 4291), by their first word.
#[inline(always)]
pub(crate) const fn is_unsteerable_ipv6(destination: u64) -> bool {
    let [first, second, ..] = destination.to_ne_bytes();
    first == 0xff || (first == 0xfe && second & 0xc0 == 0x80)
}
