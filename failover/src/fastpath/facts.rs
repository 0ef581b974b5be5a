//! What the kernel says of a flow that could take the fast path.

use std::net::IpAddr;

use crate::family::Family;
use crate::flows::{Protocol, TrackedFlow};
use crate::interface::InterfaceIndex;
use crate::mark::Mark;
use crate::network::MacAddress;

/// A packet that comes in, for the kernel to say where it would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassingPacket {
    /// The interface by which it comes in.
    pub ingress: InterfaceIndex,
    /// Its mark.
    pub mark: Mark,
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port that it comes from.
    pub source_port: u16,
    /// The port that it goes to.
    pub destination_port: u16,
}

/// Where the kernel sends a packet next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// The interface.
    pub interface: InterfaceIndex,
    /// Who is asked there: a gateway, or the destination itself.
    pub address: IpAddr,
    /// The longest packet that the route allows (`RTAX_MTU`), where it says so.
    pub mtu: Option<u32>,
    /// Whose packets go there: IPv4 may have a next hop of IPv6 (RFC 5549).
    pub family: Family,
}

/// An entry of connection tracking, and what forbids the fast path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The entry.
    pub flow: TrackedFlow,
    /// A helper reads its packets (`CTA_HELP`), as of FTP or SIP.
    pub is_helped: bool,
    /// Its sequence numbers are shifted (`CTA_SEQ_ADJ_ORIG`, `CTA_SEQ_ADJ_REPLY`), or its handshake was
    /// answered for it (`CTA_SYNPROXY`).
    pub is_shifted: bool,
}

/// What is to be true of a connection whose packets do not pass connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// The flow, as users' packets look. (The kernel finds an entry by either direction.)
    pub inside: IpAddr,
    /// Its other end.
    pub outside: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port inside.
    pub inside_port: u16,
    /// The port outside.
    pub outside_port: u16,
    /// How long it lives from now on without another packet; `None`: as long as connection tracking has
    /// it by itself, of which a connection that ended meanwhile has little.
    pub remaining: Option<std::time::Duration>,
    /// For TCP: let packets of any window pass, in both directions (`IP_CT_TCP_FLAG_BE_LIBERAL` set,
    /// `IP_CT_TCP_FLAG_MAXACK_SET` cleared, `include/uapi/linux/netfilter/nf_conntrack_tcp.h`).
    pub relax: bool,
}

/// What became of an upkeep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is as was wanted.
    Done,
    /// There is no such entry any more.
    Gone,
}

/// How a neighbour stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its hardware address, if one is known and in use (`NUD_VALID`).
    pub mac: Option<MacAddress>,
    /// It was not heard of for a while, and nobody asks (`NUD_STALE`): packets that go to it by the
    /// stack would have it asked.
    pub is_stale: bool,
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its own hardware address; none where packets begin with the IP header.
    pub mac: Option<MacAddress>,
    /// The longest packet that it takes, from the IP header on, in bytes.
    pub mtu: u32,
    /// The longest one of IPv6, as a router's advertisement may say.
    pub ipv6_mtu: Option<u32>,
    /// It is up and has a carrier.
    pub is_up: bool,
}

/// What happened meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// An entry of connection tracking is gone: the addresses and ports of the packets of its original
    /// direction.
    Ended {
        /// What it spoke.
        protocol: Protocol,
        /// Where packets came from.
        source: IpAddr,
        /// Where they went.
        destination: IpAddr,
        /// The port that they came from.
        source_port: u16,
        /// The port that they went to.
        destination_port: u16,
    },
    /// A neighbour is so now.
    Neighbour {
        /// The interface behind which it is.
        interface: InterfaceIndex,
        /// Its address.
        address: IpAddr,
        /// How it stands; without an address if it is gone.
        neighbour: Neighbour,
    },
    /// An interface is so now.
    Port {
        /// Which.
        interface: InterfaceIndex,
        /// What it is; `None` if it is gone.
        port: Option<Port>,
    },
    /// A route or a rule has changed: ways that were told may not hold any more.
    Routes,
    /// Ends of entries were lost.
    LostEnds,
    /// Other news were lost.
    Lost,
}
