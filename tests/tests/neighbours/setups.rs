//! The rules, routes and nftables tables that VPNs make: those of Tailscale and of wg-quick.

use failover_tests::{LabError, Node, ProgramSpec};

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// A VPN for its own networks.
    Tailscale,
    /// The same for everything but the local networks.
    TailscaleExit,
    /// A VPN for everything.
    WgQuick,
}

const TAILSCALE: &[&str] = &[
    "ip rule add pref 5210 fwmark 0x80000/0xff0000 lookup main",
    "ip rule add pref 5230 fwmark 0x80000/0xff0000 lookup default",
    "ip rule add pref 5250 fwmark 0x80000/0xff0000 unreachable",
    "ip rule add pref 5270 lookup 52",
    "ip route add 198.51.100.0/24 dev tun0 table 52",
    "ip route add 192.0.2.0/25 dev tun0 table 52",
];
const TAILSCALE_EXIT: &[&str] = &[
    "ip route add throw 198.18.0.0/18 table 52",
    "ip route add throw 192.0.2.128/25 table 52",
    "ip route add default dev tun0 table 52",
];
const WG_QUICK: &[&str] = &[
    "ip address add 198.51.100.1/24 dev tun0",
    "ip route add default dev tun0 table 51820",
    "ip rule add not fwmark 0xca6c lookup 51820",
    "ip rule add lookup main suppress_prefixlength 0",
    "sysctl -q -w net.ipv4.conf.all.src_valid_mark=1",
];
/// What wg-quick does with marks, so that the outer packets' answers pass a strict filter.
const WG_QUICK_RULESET: &str = "
table ip wg-quick-tun0 {
    chain preraw {
        type filter hook prerouting priority raw; policy accept;
        iifname != tun0 ip daddr 198.51.100.1 fib saddr type != local drop
    }
    chain premangle {
        type filter hook prerouting priority mangle; policy accept;
        meta l4proto udp meta mark set ct mark
    }
    chain postmangle {
        type filter hook postrouting priority mangle; policy accept;
        meta l4proto udp meta mark 0xca6c ct mark set meta mark
    }
}";

impl Setup {
    pub(crate) const fn outer_mark(self) -> u32 {
        match self {
            Self::Tailscale | Self::TailscaleExit => 0x80000,
            Self::WgQuick => 0xca6c,
        }
    }

    pub(crate) async fn install(self, gateway: &Node) -> Result<(), LabError> {
        let commands = match self {
            Self::Tailscale => [TAILSCALE, &[]],
            Self::TailscaleExit => [TAILSCALE, TAILSCALE_EXIT],
            Self::WgQuick => [WG_QUICK, &[]],
        };
        for command in commands.into_iter().flatten() {
            gateway.must(ProgramSpec::line(command)).await?;
        }
        if self == Self::WgQuick {
            gateway.nft(WG_QUICK_RULESET).await?;
        }
        Ok(())
    }

    pub(crate) async fn remove(self, gateway: &Node) -> Result<(), LabError> {
        let commands: &[&str] = match self {
            Self::Tailscale | Self::TailscaleExit => &[
                "ip rule del pref 5210",
                "ip rule del pref 5230",
                "ip rule del pref 5250",
                "ip rule del pref 5270",
                "ip route flush table 52",
            ],
            Self::WgQuick => &[
                "ip rule del lookup 51820",
                "ip rule del lookup main suppress_prefixlength 0",
                "ip route flush table 51820",
                "ip address del 198.51.100.1/24 dev tun0",
                "nft delete table ip wg-quick-tun0",
            ],
        };
        for command in commands {
            gateway.must(ProgramSpec::line(command)).await?;
        }
        Ok(())
    }

    /// The uplink that is to die, given the one that the VPN's own packets use. Those of Tailscale
    /// go by the best default route in `main`, with the daemon as without it.
    pub(crate) const fn dying_uplink(self, outer: u8) -> u8 {
        match self {
            Self::WgQuick => outer,
            Self::Tailscale | Self::TailscaleExit => outer % 3 + 1,
        }
    }

    pub(crate) const fn takes_everything(self) -> bool {
        !matches!(self, Self::Tailscale)
    }
}
