//! The own nftables table, written whole.
//!
//! What each chain does, in the order in which a packet meets them:
//!
//! - `prerouting`: a packet that comes in by an uplink gives its connection the uplink's id, if the
//!   connection has none. A packet that comes in elsewhere gets its connection's id back, so that
//!   it goes out where the connection went before. A new flow from a downlink is given an uplink,
//!   if the kernel's own answer for it is an uplink at all: what a VPN's or the user's rules send
//!   elsewhere passes unmarked. Packets from uplinks get no mark: they are on their way in, and a
//!   mark would send those for a VPN's or a container's peer out again.
//! - `output`: the same return of the id for the router's own packets, which are then routed anew.
//! - `first_packet_out`: before any translation, a connection's first packet gives the connection
//!   the id of the uplink through which it really leaves.
//! - `translate`: after the user's own source translation, so that the user's rules win.
//!
//! The maps are keyed by the hash slot; `typeof numgen` is how a map gets a plain integer as key in
//! nft 1.0.6, which crashes when it lists a map with `typeof jhash`.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use crate::config::{Affinity, Nat};
use crate::family::Family;
use crate::select::SLOTS;
use crate::wanted::{PickedBy, Situation, UplinkSituation};

/// The own table's family and name.
pub const TABLE: &str = "inet failover";

/// The whole table as nft reads it.
#[must_use]
pub fn ruleset(situation: &Situation) -> String {
    Ruleset(situation).to_string()
}

struct Ruleset<'s>(&'s Situation);

impl Display for Ruleset<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {TABLE} {{")?;
        let picks = self.0.picked_by == PickedBy::Nftables && !self.0.downlinks.is_empty();
        if picks {
            for family in Family::ALL {
                self.slots(f, family)?;
            }
        }
        for uplink in &self.0.uplinks {
            self.mark_chains(f, uplink)?;
        }
        self.adopt(f)?;
        if picks {
            for family in Family::ALL {
                self.pick(f, family)?;
            }
            self.new_flow(f)?;
        }
        self.prerouting(f, picks)?;
        self.output(f)?;
        self.first_packet_out(f)?;
        self.translate(f)?;
        writeln!(f, "}}")
    }
}

impl Ruleset<'_> {
    fn mask(&self) -> u32 {
        self.0.numbers.marks.bits()
    }

    fn mark(&self, uplink: &UplinkSituation) -> u32 {
        self.0.numbers.marks.flow(uplink.id).0
    }

    /// The statement that sets our bits of a packet's or a connection's mark and keeps the others.
    fn set(&self, what: &str, value: u32) -> String {
        let others = self.0.numbers.marks.others();
        format!("{what} mark set {what} mark & {others:#010x} | {value:#010x}")
    }

    fn slots(&self, f: &mut Formatter<'_>, family: Family) -> fmt::Result {
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

    fn mark_chains(&self, f: &mut Formatter<'_>, uplink: &UplinkSituation) -> fmt::Result {
        let id = uplink.id;
        let mark = self.mark(uplink);
        writeln!(
            f,
            "  chain to_{id} {{\n    {}\n  }}",
            self.set("meta", mark)
        )?;
        writeln!(
            f,
            "  chain connection_{id} {{\n    {}\n  }}",
            self.set("ct", mark)
        )?;
        writeln!(
            f,
            "  chain adopt_{id} {{\n    {}\n    goto to_{id}\n  }}",
            self.set("ct", mark)
        )
    }

    /// Connections that are older than the table: one that is translated to an uplink's address
    /// belongs to that uplink.
    fn adopt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  chain adopt {{")?;
        for (family, key) in [
            (Family::Ipv4, "ct reply ip daddr"),
            (Family::Ipv6, "ct reply ip6 daddr"),
        ] {
            let mut taken = BTreeSet::new();
            let elements: Vec<String> = self
                .0
                .uplinks
                .iter()
                .filter_map(|uplink| {
                    let source = uplink.path(family)?.source;
                    taken
                        .insert(source)
                        .then(|| format!("{source} : goto adopt_{}", uplink.id))
                })
                .collect();
            if !elements.is_empty() {
                let family = nfproto(family);
                writeln!(
                    f,
                    "    meta nfproto {family} {key} vmap {{ {} }}",
                    elements.join(", ")
                )?;
            }
        }
        writeln!(f, "  }}")
    }

    fn pick(&self, f: &mut Formatter<'_>, family: Family) -> fmt::Result {
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

    fn new_flow(&self, f: &mut Formatter<'_>) -> fmt::Result {
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

    fn prerouting(&self, f: &mut Formatter<'_>, picks: bool) -> fmt::Result {
        let mask = self.mask();
        let mut interfaces = BTreeSet::new();
        for uplink in &self.0.uplinks {
            if interfaces.insert(&uplink.interface) && !self.0.shares_interface(uplink) {
                writeln!(f, "  chain from_{} {{", uplink.id)?;
                writeln!(
                    f,
                    "    ct mark & {mask:#010x} == 0 goto connection_{}",
                    uplink.id
                )?;
                writeln!(f, "  }}")?;
            }
        }
        writeln!(f, "  chain from_shared {{\n    return\n  }}")?;
        // After conntrack (-200) and after the user's own marking at mangle (-150), before
        // translation of destinations (-100).
        writeln!(f, "  chain prerouting {{")?;
        writeln!(
            f,
            "    type filter hook prerouting priority mangle + 10; policy accept;"
        )?;
        let mut seen = BTreeSet::new();
        let from: Vec<String> = self
            .0
            .uplinks
            .iter()
            .filter(|uplink| seen.insert(&uplink.interface))
            .map(|uplink| {
                if self.0.shares_interface(uplink) {
                    format!("\"{}\" : goto from_shared", uplink.interface)
                } else {
                    format!("\"{}\" : goto from_{}", uplink.interface, uplink.id)
                }
            })
            .collect();
        writeln!(f, "    iifname vmap {{ {} }}", from.join(", "))?;
        self.restore(f)?;
        writeln!(f, "    ct mark & {mask:#010x} != 0 return")?;
        writeln!(f, "    ct state established,related goto adopt")?;
        if picks {
            let downlinks = names(self.0.downlinks.iter());
            writeln!(
                f,
                "    iifname {downlinks} ct state new,untracked goto new_flow"
            )?;
        }
        writeln!(f, "  }}")
    }

    fn output(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mask = self.mask();
        let uplinks = names(self.0.uplinks.iter().map(|uplink| &uplink.interface));
        writeln!(f, "  chain output {{")?;
        writeln!(
            f,
            "    type route hook output priority mangle + 10; policy accept;"
        )?;
        // Probes, and sockets that chose an uplink themselves.
        writeln!(f, "    meta mark & {mask:#010x} != 0 return")?;
        // An ICMP error about a forwarded flow is related to it and may go to either side; where it
        // goes, the kernel's first route for it says.
        writeln!(f, "    ct state related oifname != {uplinks} return")?;
        self.restore(f)?;
        writeln!(
            f,
            "    ct mark & {mask:#010x} == 0 ct state established,related goto adopt"
        )?;
        writeln!(f, "  }}")
    }

    fn restore(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let elements: Vec<String> = self
            .0
            .uplinks
            .iter()
            .map(|uplink| format!("{:#010x} : goto to_{}", self.mark(uplink), uplink.id))
            .collect();
        writeln!(
            f,
            "    ct mark & {:#010x} vmap {{ {} }}",
            self.mask(),
            elements.join(", ")
        )
    }

    fn first_packet_out(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mask = self.mask();
        let probe = self.0.numbers.marks.probe_bit();
        writeln!(f, "  chain first_packet_out {{")?;
        writeln!(
            f,
            "    type nat hook postrouting priority srcnat - 10; policy accept;"
        )?;
        writeln!(f, "    ct mark & {mask:#010x} != 0 return")?;
        // So that a probe's entry is never taken for a flow of the uplink: it is not counted and not
        // deleted with them.
        writeln!(
            f,
            "    meta mark & {probe:#010x} != 0 {} return",
            self.set("ct", probe)
        )?;
        for uplink in &self.0.uplinks {
            let interface = &uplink.interface;
            let id = uplink.id;
            if self.0.shares_interface(uplink) {
                let mark = self.mark(uplink);
                writeln!(
                    f,
                    "    oifname \"{interface}\" meta mark & {mask:#010x} == {mark:#010x} goto connection_{id}"
                )?;
                for family in Family::ALL {
                    if let Some(gateway) = uplink.path(family).and_then(|path| path.gateway) {
                        let ip = address_keyword(gateway);
                        writeln!(
                            f,
                            "    oifname \"{interface}\" rt {ip} nexthop {gateway} goto connection_{id}"
                        )?;
                    }
                }
            } else {
                writeln!(f, "    oifname \"{interface}\" goto connection_{id}")?;
            }
        }
        writeln!(f, "  }}")
    }

    fn translate(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mask = self.mask();
        writeln!(f, "  chain translate {{")?;
        writeln!(
            f,
            "    type nat hook postrouting priority srcnat + 10; policy accept;"
        )?;
        for uplink in self
            .0
            .uplinks
            .iter()
            .filter(|uplink| uplink.nat == Nat::Masquerade)
        {
            // Which of the uplinks of a shared interface it is, the chain before has written into
            // the connection mark.
            let mut leaves_by = format!("oifname \"{}\"", uplink.interface);
            if self.0.shares_interface(uplink) {
                leaves_by += &format!(" ct mark & {mask:#010x} == {:#010x}", self.mark(uplink));
            }
            for family in Family::ALL {
                let Some(source) = uplink.path(family).map(|path| path.source) else {
                    continue;
                };
                let ip = address_keyword(source);
                let untranslated = untranslated(uplink, source);
                writeln!(
                    f,
                    "    {leaves_by} {ip} saddr != {{ {untranslated} }} snat {ip} to {source}"
                )?;
            }
        }
        writeln!(f, "  }}")
    }
}

/// The sources that stay as they are: the uplink's own addresses and prefixes, and those that mean
/// something on the link only.
fn untranslated(uplink: &UplinkSituation, source: IpAddr) -> String {
    let family = Family::of(source);
    let mut kept: Vec<String> = match family {
        Family::Ipv4 => vec!["0.0.0.0".to_owned()],
        Family::Ipv6 => vec!["::".to_owned(), "fe80::/10".to_owned()],
    };
    let prefixes = match family {
        Family::Ipv4 => [].as_slice(),
        Family::Ipv6 => uplink.prefixes6.as_slice(),
    };
    // Elements of an interval set must not overlap: an address in one of the prefixes is left out.
    let addresses: BTreeSet<IpAddr> = uplink.addresses.iter().copied().chain([source]).collect();
    kept.extend(
        ipnet::Ipv6Net::aggregate(&prefixes.to_vec())
            .iter()
            .map(ToString::to_string),
    );
    kept.extend(
        addresses
            .into_iter()
            .filter(|address| Family::of(*address) == family)
            .filter(|address| match address {
                IpAddr::V4(_) => true,
                IpAddr::V6(address) => {
                    !address.is_unicast_link_local()
                        && !prefixes.iter().any(|prefix| prefix.contains(address))
                }
            })
            .map(|address| address.to_string()),
    );
    kept.join(", ")
}

fn names<'n>(interfaces: impl Iterator<Item = &'n crate::interface::InterfaceName>) -> String {
    let distinct: BTreeSet<String> = interfaces.map(|name| format!("\"{name}\"")).collect();
    format!(
        "{{ {} }}",
        distinct.into_iter().collect::<Vec<_>>().join(", ")
    )
}

const fn slots_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "slots4",
        Family::Ipv6 => "slots6",
    }
}

const fn pick_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "pick4",
        Family::Ipv6 => "pick6",
    }
}

const fn nfproto(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

const fn address_keyword(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "ip",
        IpAddr::V6(_) => "ip6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::fixture;

    #[test]
    fn a_family_that_an_uplink_does_not_speak_is_never_picked_for_it() {
        let text = ruleset(&fixture::three_uplinks());
        let slots6 = text
            .split("map slots6")
            .nth(1)
            .unwrap()
            .split('}')
            .next()
            .unwrap();
        assert!(slots6.contains("goto to_1") && slots6.contains("goto to_2"));
        assert!(!slots6.contains("goto to_3"));
    }

    #[test]
    fn addresses_of_the_link_and_of_the_uplink_itself_are_not_translated() {
        let text = ruleset(&fixture::three_uplinks());
        assert!(text.contains(
            "oifname \"wan1\" ip6 saddr != { ::, fe80::/10, fd00:18:11::/64 } snat ip6 to fd00:18:11::2"
        ));
        assert!(text.contains(
            "oifname \"wan1\" ip saddr != { 0.0.0.0, 198.18.11.2 } snat ip to 198.18.11.2"
        ));
    }

    #[test]
    fn without_nat_nothing_is_translated_on_that_uplink() {
        let mut situation = fixture::three_uplinks();
        situation.uplinks[0].nat = Nat::None;
        let text = ruleset(&situation);
        assert!(!text.contains("snat ip to 198.18.11.2"));
        assert!(text.contains("snat ip to 198.18.12.2"));
    }

    #[test]
    fn when_tc_picks_the_table_has_no_slots() {
        let mut situation = fixture::three_uplinks();
        situation.picked_by = PickedBy::Tc;
        let text = ruleset(&situation);
        assert!(!text.contains("slots4") && !text.contains("new_flow"));
        assert!(text.contains("chain first_packet_out"));
    }

    #[test]
    fn uplinks_of_one_interface_are_told_apart_by_mark_and_next_hop() {
        let mut situation = fixture::three_uplinks();
        situation.uplinks[1].interface = situation.uplinks[0].interface.clone();
        let text = ruleset(&situation);
        assert!(text.contains("rt ip nexthop 198.18.12.1 goto connection_2"));
        assert!(text.contains("\"wan1\" : goto from_shared"));
        assert!(text.contains("ct mark & 0xff000000 == 0x02000000 ip saddr"));
    }
}
