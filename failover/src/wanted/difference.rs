//! What to change so that the installed routes and rules become the wanted ones.
//!
//! The order is such that no packet finds less than before: routes first, then new rules, then old
//! rules go, then old routes.

use std::collections::{BTreeMap, BTreeSet};

use crate::family::Family;
use crate::wanted::routing::{Action, Route, Routing, RoutingChange, Rule, Selector, TableId};

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
    changes
}

/// A rule is added behind those that have its preference already. Those that it must come before
/// are taken out and added again behind it, one by one, so that each is away for a moment only.
fn rule_changes(wanted: &BTreeSet<Rule>, installed: &BTreeSet<Rule>) -> Vec<RoutingChange> {
    let in_turn = |mut rules: Vec<Rule>| {
        rules.sort_by_key(|rule| (rule.priority, turn(rule), *rule));
        rules
    };
    let missing: Vec<Rule> = in_turn(wanted.difference(installed).copied().collect());
    let overtaken = wanted
        .intersection(installed)
        .filter(|rule| missing.iter().any(|new| comes_before(new, rule)))
        .copied()
        .collect();
    let again = in_turn(overtaken).into_iter().flat_map(|rule| {
        [
            RoutingChange::DeleteRule(rule),
            RoutingChange::AddRule(rule),
        ]
    });
    let deleted = installed.difference(wanted);
    missing
        .iter()
        .map(|rule| RoutingChange::AddRule(*rule))
        .chain(again)
        .chain(deleted.map(|rule| RoutingChange::DeleteRule(*rule)))
        .collect()
}

/// Whether `first` must be asked before `second` although both have one preference.
fn comes_before(first: &Rule, second: &Rule) -> bool {
    first.priority == second.priority && first.family == second.family && turn(first) < turn(second)
}

/// The order among rules of one preference: specific routes come before a table with a default, a
/// mark before an address, and both before a rule for all; what ends it comes last.
const fn turn(rule: &Rule) -> u8 {
    match (rule.action, rule.selector) {
        (Action::LookupSpecific(_), _) => 0,
        (Action::Unreachable, _) => 4,
        (_, Selector::Mark { .. }) => 1,
        (_, Selector::From(_)) => 2,
        (_, Selector::All) => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wanted::fixture;
    use crate::wanted::rules::CATCH_ALL;

    /// Carries changes out as the kernel does.
    fn carry_out(changes: &[RoutingChange], routing: &mut Routing) {
        for change in changes {
            match change {
                RoutingChange::ReplaceRoute(route) => {
                    routing
                        .routes
                        .retain(|r| (r.table, r.family) != (route.table, route.family));
                    routing.routes.insert(route.clone());
                }
                RoutingChange::DeleteRoute(route) => {
                    assert!(
                        routing.routes.remove(route),
                        "deleted what is not there: {route:?}"
                    );
                }
                RoutingChange::AddRule(rule) => {
                    assert!(routing.rules.insert(*rule), "added twice: {rule:?}");
                }
                RoutingChange::DeleteRule(rule) => {
                    assert!(
                        routing.rules.remove(rule),
                        "deleted what is not there: {rule:?}"
                    );
                }
            }
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
            .copied()
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
