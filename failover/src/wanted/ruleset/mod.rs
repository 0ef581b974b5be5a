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
//!   The user's rules are tried first, where there are any. In eBPF mode the TC programs have picked
//!   before, and the table says whether their pick holds.
//! - `forward`, only in eBPF mode and where uplinks or users share an interface: the programs at a
//!   downlink are told the uplink of what came in there.
//! - `mss`, where an uplink's interface lets only smaller packets through than others send: what a
//!   TCP connection's first packets say of the size of segments.
//! - `output`: the same return of the id for the router's own packets, which are then routed anew.
//! - `forbidden`, while a rule lets none of the router's own packets out: they are refused.
//! - `first_packet_out`: before any translation, a connection's first packet gives the connection
//!   the id of the uplink through which it really leaves.
//! - `translate`: after the user's own source translation, so that the user's rules win.
//! - `output` and `questions` also count what probes take, in chains of their own.
//! - `questions` and `answers`: a UDP service of the router answers from the address that was asked.
//!
//! The maps are keyed by the hash slot; `typeof numgen` is how a map gets a plain integer as key in
//! nft 1.0.6, which crashes when it lists a map with `typeof jhash`.

mod answers;
mod connections;
mod forbidden;
mod lists;
mod mixed;
mod mss;
mod picking;
mod probes;
mod programs;
mod rules;
mod translation;

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

pub use picking::remembered_name;
pub use probes::counted_uplink;

use crate::family::Family;
use crate::interface::InterfaceName;
use crate::wanted::{Situation, UplinkSituation};

/// The own table's family and name.
pub const TABLE: &str = "inet failover";

/// The whole table as nft reads it.
#[must_use]
pub fn ruleset(situation: &Situation) -> String {
    Ruleset(situation).to_string()
}

/// How many values are compared one after the other: of more, a look into a set or a map is faster.
const FEW: usize = 4;

struct Ruleset<'s>(&'s Situation);

impl Display for Ruleset<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {TABLE} {{")?;
        self.probes(f)?;
        let picks = !self.0.downlinks.is_empty() && (!self.by_tc() || self.tries_rules());
        for uplink in &self.0.uplinks {
            self.mark_chains(f, uplink)?;
        }
        if self.by_tc() {
            self.programs(f)?;
        }
        self.adopt(f)?;
        if picks {
            self.common(f)?;
            if self.tries_rules() {
                self.vias(f)?;
                f.write_str(self.0.policy.written(rules::written))?;
            }
            self.new_flow(f)?;
        }
        self.prerouting(f, picks && !self.by_tc())?;
        self.forward(f)?;
        self.mss(f)?;
        self.output(f)?;
        self.forbidden(f)?;
        self.first_packet_out(f)?;
        self.translate(f)?;
        self.answers(f)?;
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
}

/// What an interface's name is compared with: a single one is no set, which the kernel would have to
/// look up.
fn names<'n>(interfaces: impl Iterator<Item = &'n InterfaceName>) -> String {
    let distinct: BTreeSet<String> = interfaces.map(|name| format!("\"{name}\"")).collect();
    let distinct: Vec<String> = distinct.into_iter().collect();
    match distinct.as_slice() {
        [name] => name.clone(),
        names => format!("{{ {} }}", names.join(", ")),
    }
}

/// Looks up where a packet goes on by the interface by which it leaves.
fn by_output<'n>(
    f: &mut Formatter<'_>,
    ways: impl Iterator<Item = (&'n InterfaceName, String)>,
) -> fmt::Result {
    let elements: Vec<String> = ways
        .map(|(interface, chain)| format!("\"{interface}\" : goto {chain}"))
        .collect();
    writeln!(f, "    oifname vmap {{ {} }}", elements.join(", "))
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

const fn family_number(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
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
    use crate::config::Nat;
    use crate::uplink::UplinkId;
    use crate::wanted::{PickedBy, fixture};

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
            "oifname \"wan1\" ip6 saddr != :: ip6 saddr != fe80::/10 ip6 saddr != fd00:18:11::/64 \
             snat ip6 to fd00:18:11::2"
        ));
        assert!(text.contains(
            "oifname \"wan1\" ip saddr != 0.0.0.0 ip saddr != 198.18.11.2 snat ip to 198.18.11.2"
        ));
        let mut situation = fixture::three_uplinks();
        let more = (3..7).map(|last| IpAddr::from([198, 18, 11, last]));
        situation.uplinks[0].addresses.extend(more);
        assert!(
            ruleset(&situation).contains("oifname \"wan1\" ip saddr != { 0.0.0.0, 198.18.11.2, ")
        );
    }

    #[test]
    fn older_connections_belong_to_the_uplink_of_any_address_of_its_interface() {
        let mut situation = fixture::three_uplinks();
        let second: IpAddr = "198.18.11.3".parse().unwrap();
        // Also an address of two interfaces is named once: nft refuses a key that stands twice.
        situation.uplinks[0].addresses.push(second);
        situation.uplinks[1].addresses.push(second);
        let text = ruleset(&situation);
        assert!(text.contains("198.18.11.2 : goto adopt_1"));
        assert!(text.contains("198.18.11.3 : goto adopt_1"));
        assert!(!text.contains("198.18.11.3 : goto adopt_2"));
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
    fn of_many_uplinks_the_one_by_which_a_packet_leaves_is_looked_up() {
        let few = ruleset(&fixture::three_uplinks());
        assert!(!few.contains("oifname vmap"));
        let mut situation = fixture::three_uplinks();
        for number in 4..=9 {
            let mut more = situation.uplinks[2].clone();
            more.id = UplinkId::try_from(number).unwrap();
            more.interface = format!("wan{number}").parse().unwrap();
            situation.uplinks.push(more);
        }
        let text = ruleset(&situation);
        for (base, to) in [
            ("first_packet_out", "connection"),
            ("translate", "translate"),
        ] {
            let asked: Vec<&str> = chain(&text, base)
                .lines()
                .filter(|line| line.contains("oifname"))
                .collect();
            let [asked] = asked.as_slice() else {
                panic!("{asked:?}");
            };
            assert!(asked.contains("oifname vmap { \"wan1\" : goto"), "{asked}");
            assert!(
                asked.contains(&format!("\"wan9\" : goto {to}_9")),
                "{asked}"
            );
        }
        assert_eq!(
            chain(&text, "translate_1"),
            "    ip saddr != 0.0.0.0 ip saddr != 198.18.11.2 snat ip to 198.18.11.2\n    \
             ip6 saddr != :: ip6 saddr != fe80::/10 ip6 saddr != fd00:18:11::/64 \
             snat ip6 to fd00:18:11::2"
        );
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
    fn a_packet_whose_way_the_programs_know_passes_before_anything_is_looked_up() {
        let mut situation = fixture::three_uplinks();
        situation.picked_by = PickedBy::Tc;
        let text = ruleset(&situation);
        let prerouting = text.split("chain prerouting").nth(1).unwrap();
        let first = prerouting.lines().nth(2).unwrap().trim();
        assert_eq!(
            first,
            "meta mark & 0xff000000 != 0 meta mark & 0x80000000 == 0 iifname \"lan0\" return"
        );
        // Their pick for a first packet passes as soon.
        let second = prerouting.lines().nth(3).unwrap().trim();
        assert_eq!(
            second,
            "meta mark & 0x80000000 != 0 ct mark & 0xff000000 == 0 ct state new iifname \"lan0\" \
             goto picked"
        );
        // For any other, it is asked after the connection mark.
        let asked = prerouting.find("goto asked").unwrap();
        assert!(prerouting.find("ct mark & 0xff000000 vmap").unwrap() < asked);
        situation.downlinks.clear();
        let none = ruleset(&situation);
        let prerouting = none.split("chain prerouting").nth(1).unwrap();
        assert!(!prerouting.contains("goto picked") && !prerouting.contains("goto asked"));
    }

    #[test]
    fn a_first_packet_passes_at_once_only_where_nobody_but_users_send() {
        let mut situation = fixture::one_arm();
        situation.picked_by = PickedBy::Tc;
        let text = ruleset(&situation);
        let prerouting = chain(&text, "prerouting");
        assert!(prerouting.contains("goto asked") && !prerouting.contains("goto picked"));
    }

    /// A chain of the table.
    fn chain<'t>(text: &'t str, name: &str) -> &'t str {
        let start = format!("  chain {name} {{\n");
        let rest = text.split(&start).nth(1).unwrap();
        rest.split("\n  }").next().unwrap()
    }

    #[test]
    fn uplinks_of_one_interface_are_told_apart_by_next_hop_and_by_their_gateways_addresses() {
        let situation = fixture::shared();
        let text = ruleset(&situation);
        assert!(text.contains("\"wan1\" : goto from_shared"));
        assert!(chain(&text, "from_shared").contains(
            "meta nfproto ipv4 iifname . ether saddr vmap \
             { \"wan1\" . 02:00:00:00:00:01 : goto from_1, \"wan1\" . 02:00:00:00:00:02 : goto from_2 }"
        ));
        assert!(text.contains("ct mark & 0xff000000 == 0x02000000 ip saddr"));
        // The next hop says by which it leaves, whatever the mark says.
        let out = chain(&text, "first_packet_out");
        let by_hop = out
            .find("rt ip nexthop 198.18.11.102 goto connection_2")
            .unwrap();
        let by_mark = out.find("meta mark & 0xff000000 == 0x01000000").unwrap();
        assert!(by_hop < by_mark);
        assert!(out.contains("oifname \"wan3\" goto connection_3"));
    }

    #[test]
    fn connections_older_than_the_table_stay_where_the_kernel_sent_them() {
        let mut situation = fixture::shared();
        for (metric, older) in [(50, 2), (200, 1)] {
            situation.uplinks[0].main_metric.ipv4 = Some(100);
            situation.uplinks[1].main_metric.ipv4 = Some(metric);
            let adopted = format!("198.18.11.2 : goto adopt_{older}");
            assert!(chain(&ruleset(&situation), "adopt").contains(&adopted));
        }
    }

    #[test]
    fn one_arm_asks_for_the_gateway_first_and_leaves_neighbours_alone() {
        let text = ruleset(&fixture::one_arm());
        let first = chain(&text, "prerouting").lines().nth(1).unwrap();
        assert!(first.contains("meta nfproto ipv4 iifname . ether saddr vmap"));
        assert!(!text.contains("\"wan1\" : goto from"));
        let out = chain(&text, "first_packet_out");
        assert!(out.contains("oifname \"wan1\" rt ip6 nexthop fe80::2 goto connection_2"));
        assert!(!out.contains("oifname \"wan1\" meta nfproto"), "{out}");
        assert!(text.contains("oifname \"wan1\" icmpv6 type nd-redirect drop"));
        assert!(!ruleset(&fixture::shared()).contains("nd-redirect"));
        // Nor are those translated that reach users from outside.
        assert!(chain(&text, "translate").contains(
            "oifname \"wan1\" rt ip nexthop 198.18.11.102 ip saddr != 0.0.0.0 ip saddr != 198.18.11.2 snat"
        ));
    }

    #[test]
    fn a_next_hop_that_nft_does_not_know_is_told_by_the_mark() {
        let mut situation = fixture::one_arm();
        let path = situation.uplinks[0].paths.ipv4.as_mut().unwrap();
        path.gateway = Some("fe80::1".parse().unwrap());
        let text = ruleset(&situation);
        let out = chain(&text, "first_packet_out");
        assert!(out.contains(
            "oifname \"wan1\" meta nfproto ipv4 meta mark & 0xff000000 == 0x01000000 goto connection_1"
        ));
        assert!(!out.contains("meta nfproto ipv6 meta mark"));
    }

    #[test]
    fn the_programs_are_told_the_uplink_where_the_interface_does_not_tell() {
        let mut situation = fixture::shared();
        assert!(!ruleset(&situation).contains("hook forward"));
        situation.picked_by = PickedBy::Tc;
        let text = ruleset(&situation);
        let forward = chain(&text, "forward");
        assert!(forward.contains("iifname != \"wan1\" return"));
        assert!(forward.contains("oifname != \"lan0\" return"));
        let mut plain = fixture::three_uplinks();
        plain.picked_by = PickedBy::Tc;
        assert!(!ruleset(&plain).contains("hook forward"));
    }
}
