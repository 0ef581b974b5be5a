//! Rules and routes of others where ours are, or before them.

use std::collections::BTreeSet;

use super::Finding;
use super::facts::{ForeignRule, Host};
use crate::family::Family;
use crate::interface::InterfaceIndex;
use crate::wanted::rules::CATCH_ALL;

/// Preferences from `rule_priority` on that are ours.
const PREFERENCES: u32 = 10;
/// Tables from `tables.base` on that are ours: one for each id, and the base itself.
const TABLES: u32 = 128;

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ours = host.config.rule_priority..host.config.rule_priority + PREFERENCES;
    let foreign: BTreeSet<(u32, Family)> = host
        .rules
        .iter()
        .map(|rule| (rule.priority, rule.family))
        .collect();
    for (priority, family) in foreign {
        if ours.contains(&priority) {
            findings.push(Finding::problem(
                "rules-overlap",
                format!(
                    "an {family} rule of somebody else has the preference {priority}, which is ours"
                ),
                format!(
                    "{} rule show pref {priority}; give it another preference, or set \
                     `rule_priority` so that it and the {PREFERENCES} from there on are free",
                    command(family)
                ),
            ));
        }
    }
    let base = host.config.base_table;
    let taken: BTreeSet<(u32, Family)> = host
        .routes
        .iter()
        .filter(|route| (base..base + TABLES).contains(&route.table))
        .map(|route| (route.table, route.family))
        .collect();
    for (table, family) in taken {
        findings.push(Finding::problem(
            "tables-overlap",
            format!("an {family} route of somebody else is in the table {table}, which is ours"),
            format!(
                "{} route show table {table}; put it into another table, or set `tables.base` so that \
                 the {TABLES} tables from there on are free",
                command(family)
            ),
        ));
    }
    findings.extend(host.rules.iter().filter_map(|rule| elsewhere(host, rule)));
    findings
}

/// A rule that decides before ours where everything, or a part of it, goes.
fn elsewhere(host: &Host, rule: &ForeignRule) -> Option<Finding> {
    let table = rule.table?;
    if rule.priority >= CATCH_ALL || rule.specific_only {
        return None;
    }
    let default = host
        .routes
        .iter()
        .find(|route| route.is_default && route.table == table && route.family == rule.family)?;
    let uplink = default
        .interfaces
        .iter()
        .find_map(|index| host.uplink_at(*index));
    let is_broad = !rule.narrow && (rule.mark.is_none() || rule.inverted);
    let (priority, family) = (rule.priority, rule.family);
    let see = format!(
        "{0} rule show pref {priority}; {0} route show table {table}",
        command(family)
    );
    match (is_broad, uplink) {
        (true, Some(uplink)) => Some(Finding::problem(
            "default-elsewhere",
            format!(
                "the {family} rule {priority} sends everything to table {table}, whose default route \
                 leaves by {uplink} whatever its state is"
            ),
            format!("{see}; take the rule out: failover has a table for each uplink itself"),
        )),
        (true, None) => Some(Finding::notice(
            "default-elsewhere",
            format!(
                "the {family} rule {priority} sends everything to table {table}, which leads to {} \
                 and past all uplinks; a VPN does that on purpose",
                interfaces(host, &default.interfaces)
            ),
            format!("{see}; nothing, if that is a VPN for all traffic"),
        )),
        (false, Some(uplink)) => Some(Finding::notice(
            "default-elsewhere",
            format!(
                "the {family} rule {priority} sends some packets to table {table}, whose default \
                 route leaves by {uplink} whatever its state is"
            ),
            format!("{see}; a rule of the configuration does the same, and fails over"),
        )),
        (false, None) => None,
    }
}

fn interfaces(host: &Host, indexes: &[InterfaceIndex]) -> String {
    let names: Vec<String> = indexes.iter().map(|index| host.name_of(*index)).collect();
    if names.is_empty() {
        "nowhere".to_owned()
    } else {
        names.join(", ")
    }
}

const fn command(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip -6",
    }
}
