//! Where things stand in packets, and in what the kernel shows a TC program of them.

/// In `struct __sk_buff` (include/uapi/linux/bpf.h): the mark, the interface, the packet's beginning and end.
pub(super) const MARK: i16 = 8;
pub(super) const INTERFACE: i16 = 40;
pub(super) const DATA: i16 = 76;
pub(super) const DATA_END: i16 = 80;

/// How long the Ethernet header is, and where in it the sender and the protocol are named.
pub(super) const ETHERNET: i16 = 14;
pub(super) const SENDER: i16 = 6;
pub(super) const PROTOCOL: i16 = 12;

/// What of UDP and TCP must be there.
pub(super) const UDP_LENGTH: i16 = 8;
pub(super) const TCP_LENGTH: i16 = 20;
pub(super) const UDP_CHECKSUM: i16 = 6;
pub(super) const TCP_SEQUENCE: i16 = 4;
pub(super) const TCP_ACKNOWLEDGED: i16 = 8;
pub(super) const TCP_FLAGS: i16 = 13;
pub(super) const TCP_CHECKSUM: i16 = 16;

/// The numbers of the protocols.
pub(super) const TCP: i32 = 6;
pub(super) const UDP: i32 = 17;

/// An IP header without options, behind an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Ipv4,
    Ipv6,
}

impl Header {
    /// A number for each.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 6,
        }
    }

    /// How the Ethernet header names it, as two bytes in memory are loaded.
    pub(super) fn protocol(self) -> i32 {
        let bytes = match self {
            Self::Ipv4 => [0x08, 0x00],
            Self::Ipv6 => [0x86, 0xdd],
        };
        u16::from_ne_bytes(bytes).into()
    }

    /// How long an address is.
    pub(super) const fn address(self) -> i16 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
        }
    }

    pub(super) const fn source(self) -> i16 {
        ETHERNET
            + match self {
                Self::Ipv4 => 12,
                Self::Ipv6 => 8,
            }
    }

    pub(super) const fn destination(self) -> i16 {
        self.source() + self.address()
    }

    /// What is behind the header.
    pub(super) const fn next(self) -> i16 {
        ETHERNET
            + match self {
                Self::Ipv4 => 9,
                Self::Ipv6 => 6,
            }
    }

    /// How many hops are left.
    pub(super) const fn hops(self) -> i16 {
        ETHERNET
            + match self {
                Self::Ipv4 => 8,
                Self::Ipv6 => 7,
            }
    }

    /// The header's own checksum.
    pub(super) const fn checksum(self) -> Option<i16> {
        match self {
            Self::Ipv4 => Some(ETHERNET + 10),
            Self::Ipv6 => None,
        }
    }

    /// Where UDP or TCP begins.
    pub(super) const fn payload(self) -> i16 {
        ETHERNET
            + match self {
                Self::Ipv4 => 20,
                Self::Ipv6 => 40,
            }
    }
}
