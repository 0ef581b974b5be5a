//! Keeps TCP segments as small as the interface of the uplink that they pass, so that nothing depends
//! on path MTU discovery between users and us.
//!
//! Each side of a connection says in its SYN how large the segments may be that it is sent (RFC 9293,
//! section 3.7.1). What passes an uplink with a smaller MTU says less, in both directions. The kernel
//! never lets it say more (`nft_exthdr_tcp_set_eval` in net/netfilter/nft_exthdr.c).

use std::collections::BTreeSet;
use std::fmt::{self, Formatter};

use super::{Ruleset, nfproto};
use crate::family::Family;
use crate::interface::InterfaceName;
use crate::network::Mtu;

impl Ruleset<'_> {
    /// The chain is there only where an interface needs it: each packet that is forwarded meets it.
    pub(super) fn mss(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let of_family = |family| {
            let narrow = self.0.narrow.iter();
            narrow.filter_map(move |(name, mtu)| {
                Some((family, name, largest((*mtu.get(family))?, family)?))
            })
        };
        let segments: Vec<(Family, &InterfaceName, u32)> =
            Family::ALL.into_iter().flat_map(of_family).collect();
        if segments.is_empty() {
            return Ok(());
        }
        let sizes: BTreeSet<u32> = segments.iter().map(|(.., size)| *size).collect();
        for size in sizes {
            writeln!(
                f,
                "  chain mss_{size} {{\n    tcp option maxseg size set {size}\n  }}"
            )?;
        }
        writeln!(f, "  chain mss {{")?;
        // Behind the user's own rules at mangle, which may make it smaller yet.
        writeln!(
            f,
            "    type filter hook forward priority mangle + 10; policy accept;"
        )?;
        writeln!(f, "    meta l4proto != tcp return")?;
        writeln!(f, "    tcp flags & (syn | rst) != syn return")?;
        for family in Family::ALL {
            let elements: BTreeSet<String> = segments
                .iter()
                .filter(|(of, ..)| *of == family)
                .map(|(_, name, size)| format!("\"{name}\" : jump mss_{size}"))
                .collect();
            if elements.is_empty() {
                continue;
            }
            let elements = elements.into_iter().collect::<Vec<_>>().join(", ");
            for direction in ["oifname", "iifname"] {
                let family = nfproto(family);
                writeln!(
                    f,
                    "    meta nfproto {family} {direction} vmap {{ {elements} }}"
                )?;
            }
        }
        writeln!(f, "  }}")
    }
}

/// What is left of a packet for TCP's data behind headers without options.
fn largest(mtu: Mtu, family: Family) -> Option<u32> {
    let headers = match family {
        Family::Ipv4 => 20 + 20,
        Family::Ipv6 => 40 + 20,
    };
    mtu.0.checked_sub(headers).filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use crate::family::PerFamily;
    use crate::network::Mtu;
    use crate::wanted::{fixture, ruleset};

    #[test]
    fn nothing_is_looked_at_where_no_uplink_is_narrow() {
        let text = ruleset::ruleset(&fixture::three_uplinks());
        assert!(!text.contains("mss") && !text.contains("hook forward"));
    }

    #[test]
    fn a_narrow_uplink_makes_segments_smaller_in_both_directions() {
        let mut situation = fixture::three_uplinks();
        situation.narrow.insert(
            "wan2".parse().unwrap(),
            PerFamily {
                ipv4: Some(Mtu(1492)),
                ipv6: Some(Mtu(1480)),
            },
        );
        let only_ipv6 = PerFamily {
            ipv4: None,
            ipv6: Some(Mtu(1492)),
        };
        situation.narrow.insert("wan3".parse().unwrap(), only_ipv6);
        let text = ruleset::ruleset(&situation);
        for direction in ["oifname", "iifname"] {
            for wanted in [
                format!("meta nfproto ipv4 {direction} vmap {{ \"wan2\" : jump mss_1452 }}"),
                format!(
                    "meta nfproto ipv6 {direction} vmap {{ \"wan2\" : jump mss_1420, \
                     \"wan3\" : jump mss_1432 }}"
                ),
            ] {
                assert!(text.contains(&wanted), "{wanted} in {text}");
            }
        }
        assert!(text.contains("tcp option maxseg size set 1432"));
    }
}
