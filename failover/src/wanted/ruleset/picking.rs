//! The chains that pick the uplink of a new flow, and the maps that they look it up in.

use std::fmt::{self, Formatter};

use failover_common::SLOTS;

use super::{Ruleset, names, nfproto, pick_name, slots_name};
use crate::config::Affinity;
use crate::family::Family;
use crate::select::Pool;

impl Ruleset<'_> {
    pub(super) fn slots(&self, f: &mut Formatter<'_>, name: &str, pool: &Pool) -> fmt::Result {
        writeln!(f, "  map {name} {{")?;
        writeln!(f, "    typeof numgen inc mod {SLOTS} : verdict")?;
        let table = &pool.table;
        if !table.is_empty() {
            write!(f, "    elements = {{ ")?;
            for (slot, id) in table.iter() {
                write!(f, "{slot} : goto to_{id}, ")?;
            }
            writeln!(f, "}}")?;
        }
        writeln!(f, "  }}")
    }

    /// A chain that looks a new flow up in slots.
    pub(super) fn pick(
        &self,
        f: &mut Formatter<'_>,
        family: Family,
        chain: &str,
        affinity: Affinity,
        slots: &str,
    ) -> fmt::Result {
        let (ip, echo) = match family {
            Family::Ipv4 => ("ip", "icmp"),
            Family::Ipv6 => ("ip6", "icmpv6"),
        };
        let pair = format!("{ip} saddr . {ip} daddr");
        let hashed: Vec<(String, String)> = match affinity {
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
        writeln!(f, "  chain {chain} {{")?;
        for (matching, fields) in hashed {
            writeln!(
                f,
                "    {matching}jhash {fields} mod {SLOTS} seed 0x1 vmap @{slots}"
            )?;
        }
        writeln!(f, "  }}")
    }

    /// The chains of the uplinks that all flows use.
    pub(super) fn common(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for family in Family::ALL {
            let (chain, slots) = (pick_name(family), slots_name(family));
            self.pick(f, family, chain, self.0.affinity, slots)?;
        }
        Ok(())
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
                self.tried_chain(family)
            )?;
        }
        writeln!(f, "  }}")
    }
}
