//! What `nft` is told so that our table becomes another: only what differs is written anew, and what
//! packets noted in it stays.
//!
//! A table that is deleted and made anew loses the elements of its dynamic sets, such as who asked
//! which address of the router. And a packet that is in a chain at the very moment at which the
//! kernel changes over to the new rules still goes by the old ones, but finds their anonymous sets
//! empty already (elements are looked up by the generation of the moment, rules by that at which the
//! packet entered the chain: `nft_do_chain` in net/netfilter/nf_tables_core.c). So chains that stay
//! as they are, as those that keep connections on their uplinks, must not be touched.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::nftables::TABLE;

/// A part of a table that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Chain,
    /// A set or map with the elements that the table's text gives it.
    Fixed(Kind),
    /// A set or map that packets fill.
    Dynamic(Kind),
    /// It goes on counting as long as it is wanted.
    Counter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Set,
    Map,
}

impl Part {
    const fn word(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Counter => "counter",
            Self::Fixed(Kind::Set) | Self::Dynamic(Kind::Set) => "set",
            Self::Fixed(Kind::Map) | Self::Dynamic(Kind::Map) => "map",
        }
    }
}

/// A part of a table as it stands in a text.
#[derive(Clone, Copy, Debug)]
struct Piece<'t> {
    part: Part,
    /// All its lines.
    text: &'t str,
    /// Where it begins in the table's text.
    at: usize,
}

impl Piece<'_> {
    fn says(&self, other: &Self) -> bool {
        self.part == other.part && self.text == other.text
    }
}

/// How a table becomes another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refill {
    /// What `nft` is told.
    pub(super) batch: String,
    /// What it is told nothing about.
    pub(super) kept: Kept,
}

/// Parts of a table that were not written anew, as `nft` listed them before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept(BTreeMap<String, String>);

impl Kept {
    /// Whether they are listed in the same way now: nobody changed them meanwhile.
    pub(super) fn is_in(&self, listing: &str) -> bool {
        let Some(now) = parts(listing) else {
            return false;
        };
        self.0.iter().all(|(name, text)| {
            let found = now.get(name.as_str());
            found.is_some_and(|now| now.text == text)
        })
    }
}

/// How the table that `nft` lists as `present` becomes the one that is `wanted`. Where it is known
/// that `in_place` is what made it what it is, only what differs is written. `None` where one of them
/// has parts that are not known here.
pub(super) fn refill(present: &str, in_place: Option<&str>, wanted: &str) -> Option<Refill> {
    let (found, next) = (parts(present)?, parts(wanted)?);
    let former = in_place.and_then(parts).unwrap_or_default();
    let is_counter = |piece: Option<&Piece<'_>>| piece.is_some_and(|p| p.part == Part::Counter);
    let unchanged = |name: &str| {
        let pieces = former.get(name).zip(next.get(name));
        pieces.is_some_and(|(own, then)| own.says(then))
    };
    let stays = |name: &str| {
        let (there, then) = (found.get(name), next.get(name));
        is_counter(there) && is_counter(then) || there.is_some() && unchanged(name)
    };
    let (mut batch, mut deletions) = (String::new(), String::new());
    let mut kept = BTreeMap::new();
    // Everything is emptied before anything is deleted: rules lead to sets, elements of maps to chains.
    for (name, Piece { part, text, .. }) in &found {
        if stays(name) {
            kept.insert((*name).to_owned(), (*text).to_owned());
            continue;
        }
        let then = next.get(name).map(|then| then.part);
        let dynamic = matches!(part, Part::Dynamic(_));
        let redeclared = former.contains_key(name) && !unchanged(name);
        if dynamic && then == Some(*part) && !redeclared {
            continue;
        }
        let kind = part.word();
        // Writing to a string does not fail.
        if *part != Part::Counter {
            writeln!(batch, "flush {kind} inet {TABLE} {name}").ok()?;
        }
        if dynamic || then.is_none_or(|then| then.word() != kind) {
            writeln!(deletions, "delete {kind} inet {TABLE} {name}").ok()?;
        }
    }
    batch.push_str(&deletions);
    writeln!(batch, "table inet {TABLE} {{").ok()?;
    // In the order of the text: what comes first is what others refer to.
    let new = next.iter().filter(|(name, _)| !stays(name));
    let mut new: Vec<&Piece<'_>> = new.map(|(_, piece)| piece).collect();
    new.sort_unstable_by_key(|piece| piece.at);
    for piece in new {
        batch.push_str(piece.text);
    }
    batch.push_str("}\n");
    Some(Refill {
        batch,
        kept: Kept(kept),
    })
}

/// The named parts of a table with their text. The table is written with one step of indentation for
/// them and two for what is in them, as `nft` lists it and as ours is written. `None` for anything
/// else.
fn parts(table: &str) -> Option<BTreeMap<&str, Piece<'_>>> {
    let mut parts: BTreeMap<&str, Piece<'_>> = BTreeMap::new();
    let mut open: Option<(&str, Part, usize)> = None;
    let mut named = false;
    let mut next = 0;
    for line in table.split_inclusive('\n') {
        let at = next;
        next += line.len();
        let words = line.trim();
        if words.is_empty() {
            continue;
        }
        if !named {
            let head = line.trim_end().strip_prefix("table inet ")?;
            if head.strip_suffix(" {") != Some(TABLE) {
                return None;
            }
            named = true;
            continue;
        }
        match (indentation(line), words) {
            (0, "}") => {}
            (0, _) => return None,
            (1, "}") => {
                let (name, part, at) = open.take()?;
                let text = table.get(at..next)?;
                if parts.insert(name, Piece { part, text, at }).is_some() {
                    return None;
                }
            }
            (1, words) => {
                let (kind, name) = words.strip_suffix(" {")?.split_once(' ')?;
                let part = match kind {
                    "chain" => Part::Chain,
                    "counter" => Part::Counter,
                    "set" => Part::Fixed(Kind::Set),
                    "map" => Part::Fixed(Kind::Map),
                    _ => return None,
                };
                open = Some((name, part, at));
            }
            (_, words) => {
                let (_, part, _) = open.as_mut()?;
                if let Some(flags) = words.strip_prefix("flags ")
                    && flags.split(',').any(|flag| flag.trim() == "dynamic")
                    && let Part::Fixed(kind) = *part
                {
                    *part = Part::Dynamic(kind);
                }
            }
        }
    }
    named.then_some(parts)
}

/// In steps: a tab, or two spaces.
fn indentation(line: &str) -> usize {
    let tabs = line.bytes().take_while(|byte| *byte == b'\t').count();
    let spaces = line.bytes().take_while(|byte| *byte == b' ').count();
    tabs + spaces / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::{PickedBy, fixture, ruleset};

    /// As `nft` lists them.
    const PRESENT: &str = "\
table inet failover {
\tmap slots4 {
\t\ttypeof numgen inc mod 1021 : verdict
\t\telements = { 0 : goto to_1,
\t\t\t     1 : goto to_2 }
\t}

\tmap asked4 {
\t\ttype ipv4_addr . inet_service . inet_service : ipv4_addr
\t\tsize 65535
\t\tflags dynamic,timeout
\t\ttimeout 3m
\t}

\tset former {
\t\ttype inet_service
\t\tflags dynamic,timeout
\t}

\tchain to_1 {
\t\tmeta mark set meta mark & 0x00ffffff | 0x01000000
\t}

\tchain to_2 {
\t}
}
";
    const WANTED: &str = "\
table inet failover {
  map slots4 {
    typeof numgen inc mod 1021 : verdict
    elements = { 0 : goto to_1, 1 : goto to_1, }
  }
  chain to_1 {
    meta mark set meta mark & 0x00ffffff | 0x01000000
  }
  map asked4 {
    type ipv4_addr . inet_service . inet_service : ipv4_addr
    size 65535
    flags dynamic,timeout
    timeout 3m
  }
}
";

    /// What made the table what it is.
    fn in_place() -> String {
        WANTED.replace("1 : goto to_1, }", "1 : goto to_2, }")
    }

    #[test]
    fn what_packets_noted_stays_and_what_is_not_wanted_goes() {
        let refill = refill(PRESENT, None, WANTED).unwrap();
        let expected = format!(
            "flush set inet failover former
delete set inet failover former
flush map inet failover slots4
flush chain inet failover to_1
flush chain inet failover to_2
delete chain inet failover to_2
{WANTED}"
        );
        // In the order of names.
        let mut lines: Vec<&str> = refill.batch.lines().collect();
        let mut wanted: Vec<&str> = expected.lines().collect();
        let at = |lines: &[&str], text| lines.iter().position(|line| *line == text);
        assert!(
            at(&lines, "flush map inet failover slots4")
                < at(&lines, "delete chain inet failover to_2")
        );
        lines.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(lines, wanted);
        assert_eq!(refill.kept, Kept(BTreeMap::new()));
    }

    #[test]
    fn only_what_differs_is_written_where_it_is_known_what_is_in_place() {
        let refill = refill(PRESENT, Some(&in_place()), WANTED).unwrap();
        assert!(!refill.batch.contains("chain to_1"), "{}", refill.batch);
        assert!(!refill.batch.contains("asked4"), "{}", refill.batch);
        assert!(
            refill.batch.contains("  map slots4 {\n"),
            "{}",
            refill.batch
        );
        assert!(refill.kept.is_in(PRESENT));
        let changed = PRESENT.replace("| 0x01000000", "| 0x02000000");
        assert!(!refill.kept.is_in(&changed));
        assert!(!refill.kept.is_in("table inet failover {\n}\n"));
    }

    #[test]
    fn counters_go_on_counting_as_long_as_they_are_wanted() {
        let with = |table: &str, counters: &[&str]| {
            let parts = counters
                .iter()
                .map(|name| format!("  counter {name} {{\n  }}\n"));
            table.replacen("{\n", &format!("{{\n{}", parts.collect::<String>()), 1)
        };
        let wanted = with(WANTED, &["probes_1", "probes_3"]);
        let present = with(PRESENT, &["probes_1", "probes_2"]);
        for in_place in [None, Some(in_place())] {
            let batch = refill(&present, in_place.as_deref(), &wanted)
                .unwrap()
                .batch;
            assert!(!batch.contains("probes_1"), "{batch}");
            assert!(batch.contains("  counter probes_3 {\n"), "{batch}");
            let removed = batch.find("delete counter inet failover probes_2\n");
            assert!(
                removed > batch.find("flush chain inet failover to_2\n"),
                "{batch}"
            );
            assert!(!batch.contains("flush counter"), "{batch}");
        }
    }

    #[test]
    fn what_somebody_took_out_is_put_back() {
        let (before, after) = PRESENT.split_once("\tchain to_1 {").unwrap();
        let (_, after) = after.split_once("\t}\n").unwrap();
        let present = format!("{before}{after}");
        let refill = refill(&present, Some(&in_place()), WANTED).unwrap();
        assert!(
            refill.batch.contains("  chain to_1 {\n"),
            "{}",
            refill.batch
        );
    }

    #[test]
    fn a_set_that_becomes_another_kind_of_thing_is_made_anew() {
        let other = WANTED.replace("map asked4", "set asked4");
        let batch = refill(PRESENT, None, &other).unwrap().batch;
        assert!(
            batch.contains("delete map inet failover asked4\n"),
            "{batch}"
        );
    }

    #[test]
    fn what_is_not_known_here_is_left_to_a_whole_replacement() {
        for unknown in [
            "table inet failover {\n\tquota mine {\n\t\tover 1 bytes\n\t}\n}\n",
            "table inet failover {\n\tflags dormant\n}\n",
            "table inet failover { chain c { }; }",
            "table inet other {\n}\n",
            "",
        ] {
            assert_eq!(refill(unknown, None, WANTED), None, "{unknown}");
            assert_eq!(refill(PRESENT, None, unknown), None, "{unknown}");
        }
    }

    #[test]
    fn what_is_remembered_stays_when_uplinks_and_times_change() {
        use crate::config::Affinity;
        use std::time::Duration;

        let table = |minutes, uplinks: usize| {
            let mut situation = fixture::three_uplinks();
            situation.affinity = Affinity::Source(Some(Duration::from_mins(minutes)));
            for pool in [&mut situation.pools.ipv4, &mut situation.pools.ipv6] {
                let gone: Vec<_> = pool.members.keys().skip(uplinks).copied().collect();
                pool.members.retain(|id, _| !gone.contains(id));
            }
            ruleset::ruleset(&situation)
        };
        let (before, after) = (table(10, 3), table(5, 1));
        let batch = refill(&before, Some(&before), &after).unwrap().batch;
        assert!(batch.contains("chain pick4 {"), "{batch}");
        for change in ["flush set", "delete set", "set remembered4_00000000_2 {"] {
            assert!(!batch.contains(change), "{change}: {batch}");
        }
    }

    #[test]
    fn every_part_of_our_own_table_is_known() {
        for picked_by in [PickedBy::Nftables, PickedBy::Tc] {
            let mut situation = fixture::three_uplinks();
            situation.picked_by = picked_by;
            let text = ruleset::ruleset(&situation);
            let parts = parts(&text).expect("a table that is understood");
            let part = |name: &str| parts.get(name).map(|piece| piece.part);
            assert_eq!(part("asked4"), Some(Part::Dynamic(Kind::Map)));
            assert_eq!(part("prerouting"), Some(Part::Chain));
        }
    }
}
