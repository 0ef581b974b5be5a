//! The chains that pick the uplink of a new flow, and the maps that they look it up in.
//!
//! Pools that remember have a set for each uplink and family, with the sources or pairs that were given
//! it: an element lives for as long as it is remembered. Those of the uplinks that get new flows now are
//! asked before the slots; `note` chains put a flow into the set of its uplink and take it out of the
//! others. What packets put into sets stays there while the table changes.

use std::collections::BTreeSet;
use std::fmt::{self, Formatter};
use std::time::Duration;

use failover_common::SLOTS;

use super::{Ruleset, family_number, names, nfproto, pick_name, slots_name};
use crate::config::{Affinity, written};
use crate::family::Family;
use crate::policy::PoolIdentity;
use crate::select::Pool;
use crate::uplink::UplinkId;

/// Sources or pairs that are remembered at most for each uplink of a pool.
const REMEMBERED: u32 = 65_535;

/// Uplinks that share new flows.
pub(super) struct Picking<'p> {
    /// What the pool is known by.
    pub(super) identity: PoolIdentity,
    pub(super) family: Family,
    pub(super) affinity: Affinity,
    /// All uplinks that the pool may ever have.
    pub(super) named: &'p BTreeSet<UplinkId>,
    /// Those that it has now; `None` while it has none and nobody is sent there.
    pub(super) pool: Option<&'p Pool>,
    /// The chain that picks.
    pub(super) chain: &'p str,
    /// The map with the uplink of each slot.
    pub(super) slots: &'p str,
}

/// The name of the set in which `failover` remembers who was given an uplink.
#[must_use]
pub fn remembered_name(identity: PoolIdentity, family: Family, uplink: UplinkId) -> String {
    let family = family_number(family);
    format!("remembered{family}_{identity}_{uplink}")
}

impl Picking<'_> {
    /// The slots, what is remembered, and the chain that picks.
    pub(super) fn write(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.affinity.remembers().is_some() {
            self.sets(f)?;
        }
        let Some(pool) = self.pool else {
            return Ok(());
        };
        if let Some(time) = self.affinity.remembers() {
            self.notes(f, pool, time)?;
        }
        self.slots(f, pool)?;
        self.pick(f, pool)
    }

    /// What makes flows go together as nft has it, and the type of a set of it.
    fn key(&self) -> (String, String) {
        let (ip, address) = match self.family {
            Family::Ipv4 => ("ip", "ipv4_addr"),
            Family::Ipv6 => ("ip6", "ipv6_addr"),
        };
        match self.affinity {
            Affinity::Source(_) => (format!("{ip} saddr"), address.to_owned()),
            Affinity::Flow | Affinity::Pair(_) => (
                format!("{ip} saddr . {ip} daddr"),
                format!("{address} . {address}"),
            ),
        }
    }

    fn set(&self, uplink: UplinkId) -> String {
        remembered_name(self.identity, self.family, uplink)
    }

    /// The chain to which a flow goes that gets an uplink.
    fn to(&self, uplink: UplinkId) -> String {
        if self.affinity.remembers().is_none() {
            return format!("to_{uplink}");
        }
        let family = family_number(self.family);
        format!("note{family}_{}_{uplink}", self.identity)
    }

    fn sets(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (_, kind) = self.key();
        for uplink in self.named {
            let set = self.set(*uplink);
            writeln!(f, "  set {set} {{\n    type {kind}")?;
            writeln!(f, "    size {REMEMBERED}\n    flags dynamic,timeout\n  }}")?;
        }
        Ok(())
    }

    /// The chains that give a flow its uplink and note that.
    fn notes(&self, f: &mut Formatter<'_>, pool: &Pool, time: Duration) -> fmt::Result {
        let (key, _) = self.key();
        for uplink in pool.members.keys() {
            writeln!(f, "  chain {} {{", self.to(*uplink))?;
            for other in self.named.iter().filter(|other| *other != uplink) {
                writeln!(f, "    delete @{} {{ {key} }}", self.set(*other))?;
            }
            let (set, time) = (self.set(*uplink), written(time));
            writeln!(f, "    update @{set} {{ {key} timeout {time} }}")?;
            writeln!(f, "    goto to_{uplink}\n  }}")?;
        }
        Ok(())
    }

    fn slots(&self, f: &mut Formatter<'_>, pool: &Pool) -> fmt::Result {
        writeln!(f, "  map {} {{", self.slots)?;
        writeln!(f, "    typeof numgen inc mod {SLOTS} : verdict")?;
        let table = &pool.table;
        if !table.is_empty() {
            write!(f, "    elements = {{ ")?;
            for (slot, id) in table.iter() {
                write!(f, "{slot} : goto {}, ", self.to(id))?;
            }
            writeln!(f, "}}")?;
        }
        writeln!(f, "  }}")
    }

    /// A chain that looks a new flow up in slots.
    fn pick(&self, f: &mut Formatter<'_>, pool: &Pool) -> fmt::Result {
        let (ip, echo) = match self.family {
            Family::Ipv4 => ("ip", "icmp"),
            Family::Ipv6 => ("ip6", "icmpv6"),
        };
        let pair = format!("{ip} saddr . {ip} daddr");
        let hashed: Vec<(String, String)> = match self.affinity {
            Affinity::Source(_) => vec![(String::new(), format!("{ip} saddr"))],
            Affinity::Pair(_) => vec![(String::new(), pair)],
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
        writeln!(f, "  chain {} {{", self.chain)?;
        if self.affinity.remembers().is_some() {
            let (key, _) = self.key();
            for uplink in pool.members.keys() {
                writeln!(
                    f,
                    "    {key} @{} goto {}",
                    self.set(*uplink),
                    self.to(*uplink)
                )?;
            }
        }
        for (matching, fields) in hashed {
            writeln!(
                f,
                "    {matching}jhash {fields} mod {SLOTS} seed 0x1 vmap @{}",
                self.slots
            )?;
        }
        writeln!(f, "  }}")
    }
}

impl Ruleset<'_> {
    /// The slots and chains of the uplinks that all flows use.
    pub(super) fn common(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let named = self.0.uplinks.iter().map(|uplink| uplink.id).collect();
        for family in Family::ALL {
            let picking = Picking {
                identity: PoolIdentity::COMMON,
                family,
                affinity: self.0.affinity,
                named: &named,
                pool: Some(self.0.pools.get(family)),
                chain: pick_name(family),
                slots: slots_name(family),
            };
            picking.write(f)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::fixture;
    use crate::wanted::ruleset::ruleset;

    fn remembering(affinity: Affinity) -> String {
        let mut situation = fixture::three_uplinks();
        situation.affinity = affinity;
        ruleset(&situation)
    }

    fn chain<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
        let start = format!("  chain {name} {{\n");
        let rest = text.split(&start).nth(1).unwrap();
        let body = rest.split("\n  }").next().unwrap();
        body.lines().map(str::trim).collect()
    }

    #[test]
    fn nothing_is_remembered_where_nobody_wants_it() {
        assert!(!remembering(Affinity::Source(None)).contains("remembered"));
    }

    #[test]
    fn the_uplinks_that_get_new_flows_are_asked_before_the_slots() {
        let text = remembering(Affinity::Source(Some(Duration::from_mins(10))));
        assert_eq!(
            chain(&text, "pick6"),
            [
                "ip6 saddr @remembered6_00000000_1 goto note6_00000000_1",
                "ip6 saddr @remembered6_00000000_2 goto note6_00000000_2",
                "jhash ip6 saddr mod 1021 seed 0x1 vmap @slots6",
            ]
        );
        assert_eq!(
            chain(&text, "note6_00000000_2"),
            [
                "delete @remembered6_00000000_1 { ip6 saddr }",
                "delete @remembered6_00000000_3 { ip6 saddr }",
                "update @remembered6_00000000_2 { ip6 saddr timeout 10m }",
                "goto to_2",
            ]
        );
        let slots = text.split("map slots6 {").nth(1).unwrap();
        let slots = slots.split("\n  }").next().unwrap();
        assert!(slots.contains("goto note6_00000000_1") && !slots.contains("goto to_"));
    }

    #[test]
    fn pairs_are_remembered_by_both_addresses() {
        let text = remembering(Affinity::Pair(Some(Duration::from_millis(1500))));
        assert!(text.contains("set remembered6_00000000_3 {\n    type ipv6_addr . ipv6_addr\n"));
        assert!(text.contains("{ ip saddr . ip daddr timeout 1500ms }"));
    }
}
