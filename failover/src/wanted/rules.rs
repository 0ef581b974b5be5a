//! The `ip rule`s.
//!
//! | preference | rule | why |
//! | --- | --- | --- |
//! | base+1 | all but the router's own → on with base+6 | what is forwarded is not asked for each of the next |
//! | base+1 | what carries none of our bits → on with base+6 | nor is what they are not for |
//! | base+2 | the router's own, `fwmark PROBE+ID/MASK` → the uplink's table | a probe goes through the uplink that it tests |
//! | base+3 | the router's own, `fwmark PROBE/PROBE` → unreachable | never through another, when that table is empty |
//! | base+4 | the router's own, `fwmark ID/MASK` → `main`, but not its default | connected and specific routes win |
//! | base+5 | the router's own, `fwmark ID/MASK` → the uplink's table | an answer goes out where the question came in |
//! | base+6 | all → nothing | where the first ones lead |
//! | 32765 | all → `main` but not its default | specific routes win for everything else, too |
//! | 32765 | `fwmark ID/MASK` → the uplink's table | a flow goes through its uplink |
//! | 32765 | `from SOURCE` → the uplink's table | the router's own traffic bound to a usable uplink's address |
//! | 32765 | the router's own, `from` nowhere or itself → `own_traffic` | only where the user's rules are for it |
//! | 32765 | all → the base table | everything that nobody steered |
//! | 32765 | all → unreachable | only where `main` would use an uplink that is disabled by hand |
//!
//! Nothing of ours decides before 32765 about what is forwarded, marked or not, so other software's rules
//! (Tailscale's at 5210 to 5270, wg-quick's, a user's own by interface or port) decide about it as
//! they do without us; nftables cannot ask the kernel for their answer, since its `fib` knows
//! addresses and the mark only. Several rules share that preference because it is the first one that
//! the kernel gives to a rule added without a preference: such a rule, if it is older than ours,
//! still comes first. Among themselves they are asked in the order of the table (`difference` sees
//! to it).
//!
//! At base itself, which is 1000 by default, the kernel puts its rule for VRFs when the first one is
//! made (`vrf_fib_rule` in its `drivers/net/vrf.c`): nothing may be led past that.
//!
//! The router's own packets that carry our bits come early instead. Only those do that would
//! otherwise leave by another uplink than their connection's, and a VPN's outer packets among them
//! must not be caught by its own `not fwmark`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::family::Family;
use crate::mark::Mark;
use crate::wanted::routing::{Action, MAIN, Origin, Rule, Selector};
use crate::wanted::{Situation, own_traffic};

/// The preference of the last rules of ours, just before the kernel's own for `main` (32766).
pub const CATCH_ALL: u32 = 32765;

/// Behind the rules for the router's own packets, counted from the first preference.
const BEYOND: u32 = 6;

/// All rules of ours.
#[must_use]
pub fn rules(situation: &Situation) -> BTreeSet<Rule> {
    Family::ALL
        .into_iter()
        .flat_map(|family| {
            own(situation, family)
                .chain(everyones(situation, family))
                .chain(own_traffic::rules(situation, family))
        })
        .collect()
}

/// The rules for the router's own packets that carry our bits, and what leads others past them: there
/// are three for each uplink, and the kernel asks one after the other, for each packet. It takes two
/// kinds of its own questions about what is forwarded for questions about the router's packets, with no
/// mark or that of before: by which interface an IPv4 packet's source is reached (`__fib_validate_source`
/// in its `net/ipv4/fib_frontend.c`), and nftables' `fib`.
fn own(situation: &Situation, family: Family) -> impl Iterator<Item = Rule> {
    let numbers = situation.numbers;
    let mask = numbers.marks.bits();
    let probe = numbers.marks.probe_bit();
    let of_origin = move |offset: u32, origin, selector, action| Rule {
        priority: numbers.rule_priority + offset,
        family,
        origin,
        selector,
        action,
    };
    let rule = move |offset, selector, action| of_origin(offset, Origin::Local, selector, action);
    let beyond = Action::Goto(numbers.rule_priority + BEYOND);
    let passing = [
        of_origin(1, Origin::Others, Selector::ALL, beyond),
        of_origin(1, Origin::Any, Selector::mark(0, mask), beyond),
        of_origin(BEYOND, Origin::Any, Selector::ALL, Action::Nothing),
    ];
    let any_probe = Selector::mark(probe, probe);
    let of_uplinks = situation.uplinks.iter().flat_map(move |uplink| {
        let table = Action::Lookup(numbers.table(uplink.id));
        let marked = |mark: Mark| Selector::mark(mark.0, mask);
        let flow = marked(numbers.marks.flow(uplink.id));
        [
            rule(2, marked(numbers.marks.probe(uplink.id)), table),
            rule(4, flow.clone(), Action::LookupSpecific(MAIN)),
            rule(5, flow, table),
        ]
    });
    passing
        .into_iter()
        .chain([rule(3, any_probe, Action::Unreachable)])
        .chain(of_uplinks)
}

/// The rules for everything that nobody else's rules decided about.
fn everyones(situation: &Situation, family: Family) -> impl Iterator<Item = Rule> {
    let numbers = situation.numbers;
    let rule = move |selector, action| Rule {
        priority: CATCH_ALL,
        family,
        origin: Origin::Any,
        selector,
        action,
    };
    let marked = situation.uplinks.iter().map(move |uplink| {
        let selector = Selector::mark(numbers.marks.flow(uplink.id).0, numbers.marks.bits());
        rule(selector, Action::Lookup(numbers.table(uplink.id)))
    });
    let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
    let bound = situation
        .uplinks
        .iter()
        .filter(move |uplink| *uplink.usable.get(family))
        .filter_map(move |uplink| {
            let source = uplink.path(family)?.source;
            // In one network with one address they share the traffic that is bound to it.
            if situation.shares_source(uplink, family) {
                return None;
            }
            // Two uplinks that share an address cannot be told apart by it: the lower id has it.
            taken.insert(source).then(|| {
                let table = Action::Lookup(numbers.table(uplink.id));
                rule(Selector::from(source), table)
            })
        });
    let closed = *situation.closed.get(family);
    [
        rule(Selector::ALL, Action::LookupSpecific(MAIN)),
        rule(Selector::ALL, Action::Lookup(numbers.base())),
    ]
    .into_iter()
    .chain(closed.then(|| rule(Selector::ALL, Action::Unreachable)))
    .chain(marked)
    .chain(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::difference::difference;
    use crate::wanted::fixture;
    use crate::wanted::routing::{Routing, RoutingChange, TableId};

    #[test]
    fn a_dead_uplink_keeps_its_mark_rules_and_loses_its_address_rule() {
        let mut situation = fixture::three_uplinks();
        situation.uplinks[0].usable.ipv4 = false;
        let rules = rules(&situation);
        let source: IpAddr = "198.18.11.2".parse().unwrap();
        assert!(
            !rules
                .iter()
                .any(|rule| rule.selector == Selector::from(source))
        );
        let flow = Selector::mark(0x0100_0000, 0xff00_0000);
        let probe = Selector::mark(0x8100_0000, 0xff00_0000);
        for selector in [flow, probe] {
            assert!(rules.iter().any(|rule| rule.family == Family::Ipv4
                && rule.selector == selector
                && rule.action == Action::Lookup(TableId(301))));
        }
    }

    #[test]
    fn an_address_that_uplinks_of_one_network_share_binds_to_none_of_them() {
        let bound = |situation: &Situation| -> Vec<Selector> {
            rules(situation)
                .iter()
                .map(|rule| rule.selector.clone())
                .filter(|selector| selector.source.is_some())
                .collect()
        };
        let shared: IpAddr = "198.18.11.2".parse().unwrap();
        let mut situation = fixture::shared();
        assert!(!bound(&situation).contains(&Selector::from(shared)));
        let own: IpAddr = "198.18.11.7".parse().unwrap();
        situation.uplinks[1].paths.ipv4.as_mut().unwrap().source = own;
        for source in [shared, own] {
            assert!(bound(&situation).contains(&Selector::from(source)));
        }
    }

    #[test]
    fn what_may_not_leave_by_main_meets_that_last() {
        let mut situation = fixture::three_uplinks();
        situation.closed.ipv6 = true;
        let wanted = situation.wanted().routing;
        let end =
            |rule: &Rule| rule.selector == Selector::ALL && rule.action == Action::Unreachable;
        let families: Vec<Family> = wanted
            .rules
            .iter()
            .filter(|rule| end(rule))
            .map(|rule| rule.family)
            .collect();
        assert_eq!(families, [Family::Ipv6]);
        let changes = difference(&wanted, &Routing::default());
        let last = changes.iter().rev().find_map(|change| match change {
            RoutingChange::AddRule(rule) if rule.family == Family::Ipv6 => Some(rule.clone()),
            _ => None,
        });
        assert!(last.as_ref().is_some_and(end), "{last:?}");
    }

    #[test]
    fn nothing_of_ours_decides_about_what_is_forwarded_before_other_software() {
        for rule in rules(&fixture::three_uplinks()) {
            assert!(
                rule.origin == Origin::Local
                    || rule.priority == CATCH_ALL
                    || matches!(rule.action, Action::Goto(_) | Action::Nothing),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn what_is_forwarded_is_led_past_all_that_is_for_the_router_alone() {
        let rules = rules(&fixture::three_uplinks());
        for family in Family::ALL {
            let mut early: Vec<&Rule> = rules
                .iter()
                .filter(|rule| rule.family == family && rule.priority < CATCH_ALL)
                .collect();
            early.sort_by_key(|rule| rule.priority);
            let leads = |rule: &Rule| matches!(rule.action, Action::Goto(_));
            let (leading, rest) = early.split_at(2);
            assert!(leading.iter().all(|rule| leads(rule)), "{leading:?}");
            let none_of_ours = Selector::mark(0, 0xff00_0000);
            let kinds: BTreeSet<_> = leading
                .iter()
                .map(|rule| (rule.origin, rule.selector.clone()))
                .collect();
            let expected = [(Origin::Others, Selector::ALL), (Origin::Any, none_of_ours)];
            assert_eq!(kinds, expected.into());
            let (Some(first), [own @ .., last]) = (leading.first(), rest) else {
                panic!("{early:?}");
            };
            assert!(first.priority > fixture::three_uplinks().numbers.rule_priority);
            for rule in leading {
                assert_eq!(rule.action, Action::Goto(last.priority));
            }
            assert_eq!(last.action, Action::Nothing);
            assert!(own.iter().all(|rule| {
                rule.origin == Origin::Local
                    && (first.priority + 1..last.priority).contains(&rule.priority)
            }));
        }
    }

    #[test]
    fn the_routers_packets_without_our_bits_meet_nothing_of_ours_before_other_software() {
        for rule in rules(&fixture::three_uplinks()) {
            let ours_only = rule.selector.mark.is_some();
            let others = rule.origin == Origin::Others || rule.action == Action::Nothing;
            assert!(
                ours_only || others || rule.priority == CATCH_ALL,
                "{rule:?}"
            );
        }
    }
}
