//! What to change so that the installed routes and rules become the wanted ones.
//!
//! The order is such that no packet finds less than before: routes first, then new rules, then old
//! rules go, then old routes.

use std::collections::{BTreeMap, BTreeSet};

use crate::family::Family;
use crate::wanted::routing::{Action, Route, Routing, RoutingChange, Rule, TableId};

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

/// A rule is added behind those that have its preference already. Where it must come before one of
/// these, that one is taken out and added again behind it.
fn rule_changes(wanted: &BTreeSet<Rule>, installed: &BTreeSet<Rule>) -> Vec<RoutingChange> {
    let missing: BTreeSet<Rule> = wanted.difference(installed).copied().collect();
    let overtaken: BTreeSet<Rule> = wanted
        .intersection(installed)
        .filter(|rule| missing.iter().any(|new| comes_before(new, rule)))
        .copied()
        .collect();
    let mut added: Vec<Rule> = missing.union(&overtaken).copied().collect();
    added.sort_by_key(|rule| (rule.priority, !is_specific(rule), *rule));
    let deleted = installed.difference(wanted);
    overtaken
        .iter()
        .map(|rule| RoutingChange::DeleteRule(*rule))
        .chain(added.into_iter().map(RoutingChange::AddRule))
        .chain(deleted.map(|rule| RoutingChange::DeleteRule(*rule)))
        .collect()
}

/// Whether `first` must be asked before `second` although both have one preference: specific routes
/// come before a table with a default.
fn comes_before(first: &Rule, second: &Rule) -> bool {
    first.priority == second.priority
        && first.family == second.family
        && is_specific(first)
        && !is_specific(second)
}

const fn is_specific(rule: &Rule) -> bool {
    matches!(rule.action, Action::LookupSpecific(_))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wanted::fixture;
    use crate::wanted::routing::Selector;

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
    fn the_specific_rule_of_the_catch_all_is_asked_first_even_when_it_was_lost() {
        let wanted = fixture::three_uplinks().wanted().routing;
        let mut installed = wanted.clone();
        let lost = installed
            .rules
            .iter()
            .find(|r| r.selector == Selector::All && is_specific(r))
            .copied()
            .unwrap();
        installed.rules.remove(&lost);
        let changes = difference(&wanted, &installed);
        let [
            RoutingChange::DeleteRule(taken),
            RoutingChange::AddRule(first),
            RoutingChange::AddRule(second),
        ] = changes.as_slice()
        else {
            panic!("{changes:?}");
        };
        assert_eq!((first, second), (&lost, taken));
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
