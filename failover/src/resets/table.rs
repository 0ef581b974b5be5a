//! The nftables table that answers packets of lost connections.
//!
//! A set holds what is lost, as its packets look when they come from inside; each element lives for
//! a minute, so that a later connection with the same addresses and ports is never hit, daemon or no
//! daemon. One that begins earlier takes its element out with its first packet.
//!
//! It is a table of its own, since the other one is replaced as a whole, and it is there only while
//! there is something to answer.

use std::net::SocketAddr;
use std::time::Duration;

use crate::family::Family;
use crate::flows::LostConnection;
use crate::kernel::nftables::{RESETS_TABLE, removal};

/// For how long packets of a lost connection are answered.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// Connections that are told at most; more than connection tracking has by default.
const ROOM: u32 = 1 << 20;

/// A set and the fields of a packet that are looked up in it.
struct Set {
    name: &'static str,
    address: &'static str,
    fields: &'static str,
}

const fn set(family: Family) -> Set {
    match family {
        Family::Ipv4 => Set {
            name: "lost4",
            address: "ipv4_addr",
            fields: "ip saddr . tcp sport . ip daddr . tcp dport",
        },
        Family::Ipv6 => Set {
            name: "lost6",
            address: "ipv6_addr",
            fields: "ip6 saddr . tcp sport . ip6 daddr . tcp dport",
        },
    }
}

/// The table anew, with nothing in it.
pub(super) fn table() -> String {
    let mut text = removal(RESETS_TABLE);
    let sets = Family::ALL.map(set);
    text += &format!("table inet {RESETS_TABLE} {{\n");
    for Set { name, address, .. } in &sets {
        text += &format!(
            "  set {name} {{
    type {address} . inet_service . {address} . inet_service
    size {ROOM}
    flags dynamic,timeout
    timeout {}s
  }}
",
            LIFETIME.as_secs()
        );
    }
    text += "  chain begins {\n";
    for Set { name, fields, .. } in &sets {
        text += &format!("    delete @{name} {{ {fields} }}\n");
    }
    // After connection tracking and before the chain that would give the packet an uplink anew.
    text += "  }
  chain prerouting {
    type filter hook prerouting priority mangle + 5; policy accept;
    meta l4proto != tcp return
    tcp flags & (syn | ack) == syn goto begins
";
    for Set { name, fields, .. } in &sets {
        text += &format!("    {fields} @{name} reject with tcp reset\n");
    }
    text + "  }\n}\n"
}

/// Adds connections to the table.
pub(super) fn elements(lost: &[LostConnection]) -> String {
    let mut text = String::new();
    for family in Family::ALL {
        let mut these = lost
            .iter()
            .filter(|lost| Family::of(lost.inside.ip()) == family)
            .peekable();
        if these.peek().is_none() {
            continue;
        }
        text += &format!("add element inet {RESETS_TABLE} {} {{\n", set(family).name);
        for LostConnection { inside, outside } in these {
            let end = |end: &SocketAddr| format!("{} . {}", end.ip(), end.port());
            text += &format!("{} . {},\n", end(inside), end(outside));
        }
        text += "}\n";
    }
    text
}

/// Takes the table out.
pub(super) fn nothing() -> String {
    removal(RESETS_TABLE)
}
