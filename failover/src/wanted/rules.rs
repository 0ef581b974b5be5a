//! The `ip rule`s.
//!
//! | preference | rule | why |
//! | --- | --- | --- |
//! | base | `fwmark PROBE+ID/MASK` → the uplink's table | a probe goes through the uplink that it tests |
//! | base+1 | `fwmark PROBE/PROBE` → unreachable | never through another, when that table is empty |
//! | base+2 | `not fwmark 0/MASK` → `main`, but not its default | connected and specific routes win for steered packets |
//! | base+3 | `fwmark ID/MASK` → the uplink's table | a flow goes through its uplink |
//! | 32765 | all → `main` but not its default | specific routes win for everything else, too |
//! | 32765 | `from SOURCE` → the uplink's table | the router's own traffic bound to a usable uplink's address |
//! | 32765 | all → the base table | everything that nobody steered |
//!
//! Packets that carry none of our bits meet nothing of ours before 32765, so other software's rules
//! (Tailscale's at 5210 to 5270, wg-quick's, a user's own) decide about them as they do without us.
//! Several rules share that preference because it is the first one that the kernel gives to a rule
//! added without a preference: such a rule, if it is older than ours, still comes first. Among
//! themselves they are asked in the order of the table (`difference` sees to it).

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::family::Family;
use crate::wanted::Situation;
use crate::wanted::routing::{Action, MAIN, Rule, Selector};

/// The preference of the last rules of ours, just before the kernel's own for `main` (32766).
pub const CATCH_ALL: u32 = 32765;

/// All rules of ours.
#[must_use]
pub fn rules(situation: &Situation) -> BTreeSet<Rule> {
    Family::ALL
        .into_iter()
        .flat_map(|family| {
            marked(situation, family)
                .into_iter()
                .chain(unmarked(situation, family))
        })
        .collect()
}

fn marked(situation: &Situation, family: Family) -> Vec<Rule> {
    let numbers = &situation.numbers;
    let mask = numbers.marks.bits();
    let probe = numbers.marks.probe_bit();
    let rule = |offset: u32, selector, action| Rule {
        priority: numbers.rule_priority + offset,
        family,
        selector,
        action,
    };
    let mut rules = vec![
        rule(
            1,
            Selector::Mark {
                value: probe,
                mask: probe,
            },
            Action::Unreachable,
        ),
        rule(2, Selector::AnyMark { mask }, Action::LookupSpecific(MAIN)),
    ];
    for uplink in &situation.uplinks {
        let table = Action::Lookup(numbers.table(uplink.id));
        let probes = numbers.marks.probe(uplink.id).0;
        let flows = numbers.marks.flow(uplink.id).0;
        rules.push(rule(
            0,
            Selector::Mark {
                value: probes,
                mask,
            },
            table,
        ));
        rules.push(rule(3, Selector::Mark { value: flows, mask }, table));
    }
    rules
}

fn unmarked(situation: &Situation, family: Family) -> Vec<Rule> {
    let rule = |priority, selector, action| Rule {
        priority,
        family,
        selector,
        action,
    };
    let mut rules = vec![
        rule(CATCH_ALL, Selector::All, Action::LookupSpecific(MAIN)),
        rule(
            CATCH_ALL,
            Selector::All,
            Action::Lookup(situation.numbers.base()),
        ),
    ];
    let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
    for uplink in situation
        .uplinks
        .iter()
        .filter(|uplink| *uplink.usable.get(family))
    {
        let Some(path) = uplink.path(family) else {
            continue;
        };
        // Two uplinks that share an address cannot be told apart by it: the lower id has it.
        if !taken.insert(path.source) {
            continue;
        }
        rules.push(rule(
            CATCH_ALL,
            Selector::From(path.source),
            Action::Lookup(situation.numbers.table(uplink.id)),
        ));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::fixture;
    use crate::wanted::routing::TableId;

    #[test]
    fn a_dead_uplink_keeps_its_mark_rules_and_loses_its_address_rule() {
        let mut situation = fixture::three_uplinks();
        situation.uplinks[0].usable.ipv4 = false;
        let rules = rules(&situation);
        let source: IpAddr = "198.18.11.2".parse().unwrap();
        assert!(
            !rules
                .iter()
                .any(|rule| rule.selector == Selector::From(source))
        );
        let flow = Selector::Mark {
            value: 0x0100_0000,
            mask: 0xff00_0000,
        };
        let probe = Selector::Mark {
            value: 0x8100_0000,
            mask: 0xff00_0000,
        };
        for selector in [flow, probe] {
            assert!(rules.iter().any(|rule| rule.family == Family::Ipv4
                && rule.selector == selector
                && rule.action == Action::Lookup(TableId(301))));
        }
    }

    #[test]
    fn packets_without_our_bits_meet_nothing_of_ours_before_other_software() {
        for rule in rules(&fixture::three_uplinks()) {
            let ours_only = matches!(
                rule.selector,
                Selector::Mark { .. } | Selector::AnyMark { .. }
            );
            assert!(ours_only || rule.priority == CATCH_ALL, "{rule:?}");
        }
    }
}
