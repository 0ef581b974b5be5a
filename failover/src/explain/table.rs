//! An explanation as people read it.

use std::fmt::Write as _;

use super::{Choice, ChosenPool, Decider, Explanation, Fate, Question};
use crate::flows::FlowEntry;
use crate::uplink::UplinkName;

/// The slots of a pool.
const SLOTS: u16 = failover_common::SLOTS;

/// The explanation in lines.
#[must_use]
pub fn table(explanation: &Explanation) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        // Writing to a string does not fail.
        writeln!(text, "{}", words.trim_end()).ok();
    };
    let Explanation {
        question,
        mode,
        fate,
        decided_by,
        flow_table,
        conntrack,
        route,
        new_flow,
        remembered,
        without,
    } = explanation;
    line(asked(question));
    line(format!(
        "goes {}: {}",
        where_to(fate),
        because(*decided_by, new_flow)
    ));
    line(String::new());
    if mode == "ebpf" {
        let words = flow_table.as_ref().map_or_else(
            || "nothing".to_owned(),
            |entry| {
                let sure = if entry.confirmed {
                    "answered there"
                } else {
                    "not answered yet"
                };
                format!(
                    "{}, {}, by {}, {sure}",
                    entry.uplink,
                    entry.phase.as_str(),
                    entry.why.as_str()
                )
            },
        );
        line(format!("  flow table  {words}"));
        if let Some(entry) = flow_table.as_ref().filter(|entry| entry.has_fast_path()) {
            line(format!("  fast path   {}", fast_path(entry)));
        }
    }
    let words = conntrack.as_ref().map_or_else(
        || "nothing".to_owned(),
        |tracked| {
            let uplink = match &tracked.uplink {
                Some(uplink) => uplink.to_string(),
                None => "no uplink".to_owned(),
            };
            format!(
                "{uplink} (mark {:#010x}), {}, answers go to {}",
                tracked.mark,
                tracked.phase.as_str(),
                tracked.translated_to
            )
        },
    );
    line(format!("  conntrack   {words}"));
    let words = match (&route.interface, &route.problem) {
        (Some(interface), _) if route.is_uplink => format!("{interface}, an uplink's: we choose"),
        (Some(interface), _) => format!("{interface}, no uplink's: none of ours"),
        (None, Some(problem)) => format!("no answer: {problem}"),
        (None, None) => "no answer".to_owned(),
    };
    line(format!("  routes      {words}"));
    let words = new_flow.rule.as_ref().map_or_else(
        || "none matches".to_owned(),
        |rule| {
            let usable = if rule.usable {
                ""
            } else {
                ", none of which is usable"
            };
            format!(
                "{} (the {} of the configuration, line {}): via {}{usable}",
                rule.name,
                ordinal(rule.position),
                rule.line,
                rule.via
            )
        },
    );
    line(format!("  rule        {words}"));
    let pool = &new_flow.pool;
    let members: Vec<String> = pool
        .members
        .iter()
        .map(|(name, weight)| format!("{name}: {weight}"))
        .collect();
    let of = match (pool.of_rule, pool.priority) {
        (true, _) => "of the rule".to_owned(),
        (false, Some(priority)) => format!("of all flows, priority {priority}"),
        (false, None) => "of all flows".to_owned(),
    };
    line(format!(
        "  pool        {of}, {}, by {}: {{{}}}, by {}",
        pool.tier.replace('_', " "),
        pool.strategy.replace('_', " "),
        members.join(", "),
        pool.affinity
    ));
    if !pool.full.is_empty() {
        line(format!("  full        {}", passed_over(pool)));
    }
    let words = match new_flow.slot {
        Some(slot) => format!("{slot} of {SLOTS}: {}", where_to(&new_flow.fate)),
        None => format!("not known: {}", where_to(&new_flow.fate)),
    };
    line(format!("  slot        {words}"));
    if let Some(remembered) = remembered {
        let counts = if new_flow.pool.members.contains_key(&remembered.uplink) {
            ""
        } else {
            ", which gets no new flows now"
        };
        line(format!(
            "  remembered  {} for {:.0} s more{counts}",
            remembered.uplink, remembered.seconds_left
        ));
    }
    if !without.is_empty() {
        line(String::new());
        let width = without
            .keys()
            .map(|name| name.as_str().len())
            .max()
            .unwrap_or(0);
        for (name, fate) in without {
            line(format!("  without {name:width$}  {}", where_to(fate)));
        }
    }
    text
}

/// Whether a flow takes the fast path, or why not.
fn fast_path(entry: &FlowEntry) -> String {
    if entry.offloaded {
        return "taken".to_owned();
    }
    let why = entry.path();
    match &entry.fastpath_detail {
        Some(detail) => format!("not taken: {why}, {detail}"),
        None => format!("not taken: {why}"),
    }
}

fn asked(question: &Question) -> String {
    let end = |address, port: Option<u16>| match (address, port) {
        (address, None) => format!("{address}"),
        (std::net::IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
        (address, Some(port)) => format!("{address}:{port}"),
    };
    let to = end(question.destination, question.port);
    let unbound = question.source.is_unspecified() && question.source_port.is_none();
    let mut words = if question.own && unbound {
        format!("{} to {to}", question.protocol)
    } else {
        let from = end(question.source, question.source_port);
        format!("{} from {from} to {to}", question.protocol)
    };
    if question.own {
        words.push_str(", of this host itself");
    }
    if let Some(interface) = &question.interface {
        words = format!("{words} by {interface}");
    }
    words
}

fn where_to(fate: &Fate) -> String {
    match fate {
        Fate::Uplink(name) => format!("by {name}"),
        Fate::OneOf(shares) => {
            let shares: Vec<String> = shares
                .iter()
                .map(|(name, share): (&UplinkName, &f64)| format!("{name} {:.0} %", share * 100.0))
                .collect();
            format!("by one of {}", shares.join(", "))
        }
        Fate::Dropped => "nowhere".to_owned(),
        Fate::Routed => "where the kernel's routes send it".to_owned(),
    }
}

/// The uplinks of a pool that are full, and what that means.
fn passed_over(pool: &ChosenPool) -> String {
    let names: Vec<&str> = pool.full.iter().map(UplinkName::as_str).collect();
    let meaning = if pool.members.keys().any(|name| pool.full.contains(name)) {
        "all are, so new flows go by weight"
    } else {
        "passed over"
    };
    format!("{}: {meaning}", names.join(", "))
}

fn because(decider: Decider, choice: &Choice) -> String {
    match decider {
        Decider::FlowTable => "the programs know the flow".to_owned(),
        Decider::Conntrack => "its connection's mark says so".to_owned(),
        Decider::Routes => "it is none of ours".to_owned(),
        Decider::Rule => match &choice.rule {
            Some(rule) => format!("a new flow, rule {} decides", rule.name),
            None => "a new flow, a rule decides".to_owned(),
        },
        Decider::Pool => "a new flow that may use all uplinks".to_owned(),
        Decider::Bound => "its socket is bound to that uplink's address".to_owned(),
        Decider::Memory => "a new flow that goes where earlier ones went".to_owned(),
    }
}

fn ordinal(position: usize) -> String {
    let ending = match (position % 10, position % 100) {
        (1, rest) if rest != 11 => "st",
        (2, rest) if rest != 12 => "nd",
        (3, rest) if rest != 13 => "rd",
        _ => "th",
    };
    format!("{position}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fastpath::standing::{Standing, Uncounted, Why};

    #[test]
    fn a_person_sees_whether_a_flow_takes_the_fast_path() {
        let entry: FlowEntry = serde_json::from_value(serde_json::json!({
            "protocol": "tcp", "family": "ipv4",
            "inside": "198.18.0.10", "inside_port": 40_000,
            "outside": "203.0.113.1", "outside_port": 443,
            "uplink": "lte", "uplink_id": 2,
            "why": "rule", "phase": "established", "confirmed": true,
            "age_ms": 3_600_000, "idle_ms": 5_000,
            "out_packets": 3, "out_bytes": 180, "in_packets": 2, "in_bytes": 3_000,
            "offloaded": false, "fastpath": "off",
        }))
        .unwrap();
        assert!(!entry.has_fast_path());
        let told = |standing| fast_path(&entry.clone().standing(&standing, 0));
        assert_eq!(told(Standing::Offloaded(Uncounted::default())), "taken");
        assert_eq!(
            told(Standing::Stack(Why::NoNeighbour)),
            "not taken: no neighbour"
        );
        assert_eq!(
            told(Standing::Stack(Why::Broken("no map".to_owned()))),
            "not taken: broken, no map"
        );
    }
}
