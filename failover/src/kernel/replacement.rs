//! What `nft` is told so that our table becomes another and keeps what packets noted in it.
//!
//! A table that is deleted and made anew loses the elements of its dynamic sets, such as who asked
//! which address of the router. So chains are emptied and filled again, and what is not wanted any
//! more is deleted, all in one transaction: packets meet the table as it was or as it is to be.

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Set,
    Map,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Map => "map",
        }
    }
}

/// The batch that makes of the table that `nft` lists as `present` the one that is `wanted`. `None`
/// where one of the two has parts that are not known here.
pub(super) fn batch(present: &str, wanted: &str) -> Option<String> {
    let (found, kept) = (parts(present)?, parts(wanted)?);
    let mut batch = format!("flush table inet {TABLE}\n");
    let mut deletions = String::new();
    // Sets before chains: the elements of a map may lead to chains.
    for (name, part) in &found {
        let stays = kept.get(name);
        match *part {
            Part::Dynamic(kind) if stays == Some(&Part::Dynamic(kind)) => {}
            Part::Fixed(kind) | Part::Dynamic(kind) => {
                let kind = kind.word();
                // Writing to a string does not fail.
                writeln!(batch, "flush {kind} inet {TABLE} {name}").ok()?;
                if stays != Some(part) {
                    writeln!(batch, "delete {kind} inet {TABLE} {name}").ok()?;
                }
            }
            Part::Chain if stays.is_none() => {
                writeln!(deletions, "delete chain inet {TABLE} {name}").ok()?;
            }
            Part::Chain => {}
        }
    }
    batch.push_str(&deletions);
    batch.push_str(wanted);
    batch.push('\n');
    Some(batch)
}

/// The named parts of a table that is written with one step of indentation for them and two for
/// what is in them, as `nft` lists it and as ours is written. `None` for anything else.
fn parts(table: &str) -> Option<BTreeMap<&str, Part>> {
    let mut parts = BTreeMap::new();
    let mut present: Option<&str> = None;
    let mut lines = table.lines().filter(|line| !line.trim().is_empty());
    let head = lines.next()?.strip_prefix("table inet ")?;
    if head.strip_suffix(" {") != Some(TABLE) {
        return None;
    }
    for line in lines {
        match (indentation(line), line.trim()) {
            (0 | 1, "}") => present = None,
            (1, words) => {
                let (kind, name) = words.strip_suffix(" {")?.split_once(' ')?;
                let part = match kind {
                    "chain" => Part::Chain,
                    "set" => Part::Fixed(Kind::Set),
                    "map" => Part::Fixed(Kind::Map),
                    _ => return None,
                };
                if parts.insert(name, part).is_some() {
                    return None;
                }
                present = Some(name);
            }
            (0, _) => return None,
            (_, words) => {
                if let Some(flags) = words.strip_prefix("flags ")
                    && flags.split(',').any(|flag| flag.trim() == "dynamic")
                    && let Some(part) = parts.get_mut(present?)
                    && let Part::Fixed(kind) = *part
                {
                    *part = Part::Dynamic(kind);
                }
            }
        }
    }
    Some(parts)
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

    #[test]
    fn what_packets_noted_stays_and_what_is_not_wanted_goes() {
        let expected = format!(
            "flush table inet failover
flush set inet failover former
delete set inet failover former
flush map inet failover slots4
delete chain inet failover to_2
{WANTED}
"
        );
        assert_eq!(batch(PRESENT, WANTED).unwrap(), expected);
    }

    #[test]
    fn a_set_that_becomes_another_kind_of_thing_is_made_anew() {
        let other = WANTED.replace("map asked4", "set asked4");
        let batch = batch(PRESENT, &other).unwrap();
        assert!(
            batch.contains("delete map inet failover asked4\n"),
            "{batch}"
        );
    }

    #[test]
    fn what_is_not_known_here_is_left_to_a_whole_replacement() {
        for unknown in [
            "table inet failover {\n\tcounter mine {\n\t\tpackets 0 bytes 0\n\t}\n}\n",
            "table inet failover {\n\tflags dormant\n}\n",
            "table inet failover { chain c { }; }",
            "table inet other {\n}\n",
            "",
        ] {
            assert_eq!(batch(unknown, WANTED), None, "{unknown}");
            assert_eq!(batch(PRESENT, unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_part_of_our_own_table_is_known() {
        for picked_by in [PickedBy::Nftables, PickedBy::Tc] {
            let mut situation = fixture::three_uplinks();
            situation.picked_by = picked_by;
            let text = ruleset::ruleset(&situation);
            let parts = parts(&text).expect("a table that is understood");
            assert_eq!(parts.get("asked4"), Some(&Part::Dynamic(Kind::Map)));
            assert_eq!(parts.get("prerouting"), Some(&Part::Chain));
        }
    }
}
