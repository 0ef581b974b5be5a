//! The chains that pick the uplink of a new flow, and the maps that they look it up in.

use std::fmt::{self, Formatter};

use failover_common::SLOTS;

use super::{Ruleset, names, nfproto, pick_name, slots_name};
use crate::config::Affinity;
use crate::family::Family;

impl Ruleset<'_> {
    pub(super) fn slots(&self, f: &mut Formatter<'_>, family: Family) -> fmt::Result {
        writeln!(f, "  map {} {{", slots_name(family))?;
        writeln!(f, "    typeof numgen inc mod {SLOTS} : verdict")?;
        let table = &self.0.pools.get(family).table;
        if !table.is_empty() {
            write!(f, "    elements = {{ ")?;
            for (slot, id) in table.iter() {
                write!(f, "{slot} : goto to_{id}, ")?;
            }
            writeln!(f, "}}")?;
        }
        writeln!(f, "  }}")
    }

    pub(super) fn pick(&self, f: &mut Formatter<'_>, family: Family) -> fmt::Result {
        let (ip, echo) = match family {
            Family::Ipv4 => ("ip", "icmp"),
            Family::Ipv6 => ("ip6", "icmpv6"),
        };
        let pair = format!("{ip} saddr . {ip} daddr");
        let hashed: Vec<(String, String)> = match self.0.affinity {
            Affinity::Source => vec![(String::new(), format!("{ip} saddr"))],
            Affinity::Pair => vec![(String::new(), pair)],
            Affinity::Flow => vec![
                (
                    "meta l4proto { tcp, udp, udplite, sctp, dccp } ".to_owned(),
                    format!("{pair} . th sport . th dport"),
                ),
                (
                    format!("{echo} type echo-request "),
                    format!("{pair} . {echo} id"),
                ),
                (String::new(), pair),
            ],
        };
        let slots = slots_name(family);
        writeln!(f, "  chain {} {{", pick_name(family))?;
        for (matching, fields) in hashed {
            writeln!(
                f,
                "    {matching}jhash {fields} mod {SLOTS} seed 0x1 vmap @{slots}"
            )?;
        }
        writeln!(f, "  }}")
    }

    pub(super) fn new_flow(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let uplinks = names(self.0.uplinks.iter().map(|uplink| &uplink.interface));
        writeln!(f, "  chain new_flow {{")?;
        writeln!(f, "    meta pkttype != unicast return")?;
        writeln!(f, "    fib daddr . mark oifname != {uplinks} return")?;
        for family in Family::ALL {
            writeln!(
                f,
                "    meta nfproto {} goto {}",
                nfproto(family),
                pick_name(family)
            )?;
        }
        writeln!(f, "  }}")
    }
}
