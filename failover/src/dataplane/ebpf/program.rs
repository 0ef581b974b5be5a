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
    /// From users or a provider, on one arm.
    ArmIn,
    /// To users or a provider, on one arm.
    ArmOut,
}

impl Point {
    /// All points.
    pub const ALL: [Self; 5] = [
        Self::LanIn,
        Self::LanOut,
        Self::WanIn,
        Self::ArmIn,
        Self::ArmOut,
    ];

    /// The points at an interface of this role.
    #[must_use]
    pub const fn of(role: Role) -> &'static [Self] {
        match role {
            Role::Downlink => &[Self::LanIn, Self::LanOut],
            Role::Uplink(_) | Role::SharedUplink => &[Self::WanIn],
            Role::OneArm => &[Self::ArmIn, Self::ArmOut],
        }
    }

    /// The side of the interface.
    #[must_use]
    pub const fn side(self) -> TcAttachType {
        match self {
            Self::LanIn | Self::WanIn | Self::ArmIn => TcAttachType::Ingress,
            Self::LanOut | Self::ArmOut => TcAttachType::Egress,
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
            // Without hardware addresses nothing tells which way a packet goes: there is one program
            // for each side, whatever the packets begin with.
            (Self::ArmIn, _) => "fo_arm_in",
            (Self::ArmOut, _) => "fo_arm_out",
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LanIn => "lan_in",
            Self::LanOut => "lan_out",
            Self::WanIn => "wan_in",
            Self::ArmIn => "arm_in",
            Self::ArmOut => "arm_out",
        })
    }
}
