//! The chains that give answers of the router's own UDP services the address that was asked.
//!
//! A service that listens on the wildcard address leaves the source of its answer to the kernel,
//! which takes that of the uplink by which it would send it: not the address that was asked, so the
//! asker drops it, and connection tracking does not know it for an answer. What is asked is noted on
//! the way in, and put into the answer before connection tracking sees it. nft 1.0.6 aborts on
//! dynamic maps with concatenated IPv6 keys: there the asker's address alone is the key, and the port
//! is looked up on its own, so that what the router itself asks that host is left alone.
//!
//! `update` does not change an element's data: it is deleted and added.

use std::fmt::{self, Formatter};

use super::{Ruleset, names};

/// For how long an answer may follow the last question, as nft writes it: longer than connection
/// tracking's own 120 s for UDP streams (`nf_conntrack_udp_timeout_stream`).
const MEMORY: &str = "3m";

/// Askers that are noted at most; a flood of made-up ones takes no more memory than this.
const ASKERS: u32 = 65_535;

impl Ruleset<'_> {
    pub(super) fn answers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let noted = format!("size {ASKERS}\n    flags dynamic,timeout\n    timeout {MEMORY}");
        for (kind, name, key) in [
            (
                "map",
                "asked4",
                "ipv4_addr . inet_service . inet_service : ipv4_addr",
            ),
            ("map", "asked6", "ipv6_addr : ipv6_addr"),
            ("set", "asked_ports6", "inet_service"),
        ] {
            writeln!(f, "  {kind} {name} {{\n    type {key}\n    {noted}\n  }}")?;
        }
        let uplinks = names(self.0.uplinks.iter().map(|uplink| &uplink.interface));
        let asked4 = "@asked4 { ip saddr . udp sport . udp dport : ip daddr }";
        let asked6 = "@asked6 { ip6 saddr : ip6 daddr }";
        writeln!(f, "  chain questions {{")?;
        writeln!(
            f,
            "    type filter hook input priority filter - 10; policy accept;"
        )?;
        self.count_answers(f)?;
        writeln!(f, "    meta l4proto != udp return")?;
        writeln!(f, "    iifname != {uplinks} return")?;
        // Answers to what the router itself asked are none, nor is what goes to a group.
        writeln!(f, "    ct direction != original return")?;
        writeln!(f, "    fib daddr type != local return")?;
        for (family, noted) in [("ipv4", asked4), ("ipv6", asked6)] {
            writeln!(f, "    meta nfproto {family} delete {noted}")?;
            writeln!(f, "    meta nfproto {family} add {noted}")?;
        }
        writeln!(
            f,
            "    meta nfproto ipv6 update @asked_ports6 {{ udp dport }}\n  }}"
        )?;
        writeln!(f, "  chain answers {{")?;
        // Before connection tracking (-200), so that it knows the answer for one.
        writeln!(f, "    type route hook output priority raw; policy accept;")?;
        writeln!(f, "    meta l4proto != udp return")?;
        writeln!(
            f,
            "    ip saddr set ip daddr . udp dport . udp sport map @asked4"
        )?;
        writeln!(
            f,
            "    udp sport @asked_ports6 ip6 saddr set ip6 daddr map @asked6\n  }}"
        )
    }
}
