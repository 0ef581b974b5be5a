//! The programs of the object: where each hangs, and what it is called.

use std::fmt;

use aya::programs::TcAttachType;

use crate::network::LinkLayer;
use crate::wanted::dataplane::Role;

/// Where on a packet's way a program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// From users.
    LanIn,
    /// To users.
    LanOut,
    /// From a provider.
    WanIn,
}

impl Point {
    /// All points.
    pub const ALL: [Self; 3] = [Self::LanIn, Self::LanOut, Self::WanIn];

    /// The points at an interface of this role.
    #[must_use]
    pub const fn of(role: Role) -> &'static [Self] {
        match role {
            Role::Downlink => &[Self::LanIn, Self::LanOut],
            Role::Uplink(_) => &[Self::WanIn],
            // Nothing tells yet whose a packet is.
            Role::SharedUplink => &[],
        }
    }

    /// The side of the interface.
    #[must_use]
    pub const fn side(self) -> TcAttachType {
        match self {
            Self::LanIn | Self::WanIn => TcAttachType::Ingress,
            Self::LanOut => TcAttachType::Egress,
        }
    }

    /// Whether a program of this name is one of ours. A name that was used once stays in the list
    /// for good: `failover clean` knows filters of all versions by it.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        Self::ALL.iter().any(|point| {
            [LinkLayer::Ethernet, LinkLayer::None]
                .iter()
                .any(|layer| point.program(*layer) == name)
        })
    }

    /// The name of the program, at most 15 characters, as `bpftool` and `tc` show it.
    #[must_use]
    pub const fn program(self, layer: LinkLayer) -> &'static str {
        match (self, layer) {
            (Self::LanIn, LinkLayer::Ethernet) => "fo_lan_in",
            (Self::LanIn, LinkLayer::None) => "fo_lan_in_l3",
            (Self::LanOut, LinkLayer::Ethernet) => "fo_lan_out",
            (Self::LanOut, LinkLayer::None) => "fo_lan_out_l3",
            (Self::WanIn, LinkLayer::Ethernet) => "fo_wan_in",
            (Self::WanIn, LinkLayer::None) => "fo_wan_in_l3",
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LanIn => "lan_in",
            Self::LanOut => "lan_out",
            Self::WanIn => "wan_in",
        })
    }
}
