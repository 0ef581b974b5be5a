//! What to change so that the installed routes and rules become the wanted ones.
//!
//! The order is such that no packet finds less than before: routes first, then new rules, then old
//! rules go, then old routes. A table knows what it has nothing to say about before it has a route. A
//! rule that others go on with stands before they lead there, and goes after them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::family::Family;
use crate::wanted::routing::{
    Action, Exceptions, Origin, Route, Routing, RoutingChange, Rule, Selector, TableId,
};
use crate::wanted::rules::CATCH_ALL;

/// The changes, in order.
#[must_use]
pub fn difference(wanted: &Routing, installed: &Routing) -> Vec<RoutingChange> {
    let mut changes = Vec::new();
    let by_place = |routing: &Routing| -> BTreeMap<(TableId, Family), Route> {
        routing
            .routes
            .iter()
            .map(|route| ((route.table, route.family), route.clone()))
            .collect()
    };
    let (new, old) = (by_place(wanted), by_place(installed));
    changes.extend(exceptions(
        &wanted.exceptions,
        &installed.exceptions,
        RoutingChange::AddExceptions,
    ));
    changes.extend(
        new.iter()
            .filter(|(place, route)| old.get(place) != Some(route))
            .map(|(_, route)| RoutingChange::ReplaceRoute(route.clone())),
    );
    changes.extend(rule_changes(&wanted.rules, &installed.rules));
    changes.extend(
        old.into_iter()
            .filter(|(place, _)| !new.contains_key(place))
            .map(|(_, route)| RoutingChange::DeleteRoute(route)),
    );
    changes.extend(exceptions(
        &installed.exceptions,
        &wanted.exceptions,
        RoutingChange::DeleteExceptions,
    ));
    changes
}

/// The exceptions that are in `these` and not in `others`, by table.
fn exceptions(
    these: &Exceptions,
    others: &Exceptions,
    change: impl Fn(TableId, Family, Vec<IpNet>) -> RoutingChange,
) -> Vec<RoutingChange> {
    let missing = these.iter().filter_map(|(place, prefixes)| {
        let other = others.get(place);
        // Thousands, and most of the time the very same set.
        if other.is_some_and(|other| Arc::ptr_eq(prefixes, other)) {
            return None;
        }
        let prefixes: Vec<IpNet> = match other {
            Some(other) => prefixes.difference(other).copied().collect(),
            None => prefixes.iter().copied().collect(),
        };
        let (table, family) = *place;
        (!prefixes.is_empty()).then(|| change(table, family, prefixes))
    });
    missing.collect()
}

/// A rule is added behind those that have its preference already. Those that it must come before
/// are taken out and added again behind it, one by one, so that each is away for a moment only.
fn rule_changes(wanted: &BTreeSet<Rule>, installed: &BTreeSet<Rule>) -> Vec<RoutingChange> {
    let in_turn = |mut rules: Vec<Rule>| {
        rules.sort_by_cached_key(|rule| (rule.priority, turn(rule), rule.clone()));
        rules
    };
    let missing = in_turn(wanted.difference(installed).cloned().collect());
    let overtaken = wanted
        .intersection(installed)
        .filter(|rule| missing.iter().any(|new| comes_before(new, rule)))
        .cloned()
        .collect();
    let again = in_turn(overtaken).into_iter().flat_map(|rule| {
        [
            RoutingChange::DeleteRule(rule.clone()),
            RoutingChange::AddRule(rule),
        ]
    });
    let deleted = installed.difference(wanted).cloned();
    let (beyond, first): (Vec<Rule>, Vec<Rule>) = missing.into_iter().partition(is_beyond);
    let (gone_last, gone): (Vec<Rule>, Vec<Rule>) = deleted.partition(is_beyond);
    // Where others lead to comes before them; the last of it first, so that none leads nowhere.
    beyond
        .into_iter()
        .rev()
        .chain(first)
        .map(RoutingChange::AddRule)
        .chain(again)
        .chain(
            gone.into_iter()
                .chain(gone_last)
                .map(RoutingChange::DeleteRule),
        )
        .collect()
}

/// Whether a rule is asked only by those that others send there.
const fn is_beyond(rule: &Rule) -> bool {
    rule.priority > CATCH_ALL
}

/// Whether `first` must be asked before `second` although both have one preference.
fn comes_before(first: &Rule, second: &Rule) -> bool {
    first.priority == second.priority && first.family == second.family && turn(first) < turn(second)
}

/// The order among rules of one preference: what leads all forwarded packets on comes first, since there
/// are most of them; specific routes come before a table with a default, a
/// mark before an address, and both before a rule for all, of which the one that leads elsewhere comes
/// first; what ends it comes last. Beyond the last preference of the kernel's own it does not matter.
fn turn(rule: &Rule) -> u8 {
    match (rule.action, &rule.selector) {
        _ if is_beyond(rule) || rule.origin == Origin::Others => 0,
        (Action::LookupSpecific(_), _) => 0,
        (Action::Unreachable, _) => 5,
        // Also those that are for an address: a usable uplink's comes before.
        (Action::Goto(_), _) => 3,
        (_, Selector { mark: Some(_), .. }) => 1,
        (
            _,
            Selector {
                source: Some(_), ..
            },
        ) => 2,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wanted::fixture;

    /// Carries changes out; nothing is added twice, and nothing deleted that is not there.
    fn carry_out(changes: &[RoutingChange], routing: &mut Routing) {
        for change in changes {
            let before = routing.clone();
            routing.carry_out(change);
            let replaced = matches!(change, RoutingChange::ReplaceRoute(_));
            assert!(
                replaced || *routing != before,
                "changes nothing: {change:?}"
            );
        }
    }

    #[test]
    fn nothing_changes_where_nothing_differs() {
        let wanted = fixture::three_uplinks().wanted().routing;
        assert_eq!(difference(&wanted, &wanted), []);
    }

    #[test]
    fn rules_of_one_preference_are_asked_in_their_order_whichever_was_lost() {
        let wanted = fixture::three_uplinks().wanted().routing;
        let last: Vec<Rule> = wanted
            .rules
            .iter()
            .filter(|rule| rule.priority == CATCH_ALL && rule.family == Family::Ipv4)
            .cloned()
            .collect();
        assert_eq!(last.len(), 8, "{last:?}");
        for lost in &last {
            let mut installed = wanted.clone();
            installed.rules.remove(lost);
            // As the kernel keeps them: in the order in which they were added.
            let mut order = last.clone();
            order.sort_by_key(turn);
            order.retain(|rule| rule != lost);
            for change in difference(&wanted, &installed) {
                match change {
                    RoutingChange::AddRule(rule) => order.push(rule),
                    RoutingChange::DeleteRule(rule) => order.retain(|other| *other != rule),
                    other => panic!("{other:?}"),
                }
            }
            assert!(order.is_sorted_by_key(turn), "{lost:?}: {order:?}");
            assert_eq!(order.len(), last.len());
        }
    }

    #[test]
    fn all_that_is_forwarded_is_led_on_by_the_first_rule() {
        let wanted = fixture::three_uplinks().wanted().routing;
        let mut installed = wanted.clone();
        installed
            .rules
            .retain(|rule| rule.origin != Origin::Others || rule.family != Family::Ipv4);
        for installed in [Routing::default(), installed] {
            let changes = difference(&wanted, &installed);
            let first = changes.iter().find_map(|change| match change {
                RoutingChange::AddRule(rule) if rule.family == Family::Ipv4 => Some(rule),
                _ => None,
            });
            assert!(
                first.is_some_and(|rule| rule.origin == Origin::Others),
                "{first:?}"
            );
            let after = changes.iter().filter(|change| {
                matches!(change, RoutingChange::AddRule(rule)
                    if rule.family == Family::Ipv4
                        && rule.selector == Selector::mark(0, 0xff00_0000))
            });
            assert_eq!(after.count(), 1, "the other one comes after it");
        }
    }

    proptest! {
        #[test]
        fn any_installed_state_becomes_the_wanted_one(
            wanted in fixture::routings(),
            installed in fixture::routings(),
        ) {
            let changes = difference(&wanted, &installed);
            let mut routing = installed;
            carry_out(&changes, &mut routing);
            prop_assert_eq!(&routing, &wanted);
            prop_assert_eq!(difference(&wanted, &routing), []);
        }
    }
}
