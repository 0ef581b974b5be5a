//! Which flows must not take the fast path, since a rule says so.

use super::matching::FlowFacts;
use super::pools::Policy;
use crate::config::FastPathSetting;

impl Policy {
    /// Whether the first rule that a flow matches forbids the fast path. What cannot be told of a flow
    /// (code point, mark, hardware address) may be as a rule wants it, or not: any rule that may be the
    /// first forbids it. So no flow takes it that must not.
    #[must_use]
    pub fn forbids_fast_path(&self, flow: &FlowFacts<'_>) -> bool {
        for rule in &self.rules {
            if !rule.matching.may_hold(flow) {
                continue;
            }
            match rule.fast_path {
                FastPathSetting::Off => return true,
                FastPathSetting::Auto if rule.matching.is_told_by_flow() => return false,
                FastPathSetting::Auto => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::flows::Protocol;
    use crate::interface::InterfaceName;
    use crate::policy::Sets;

    /// Whether rules forbid the fast path to a TCP flow from 198.18.0.10 by `lan0` to a port.
    fn forbidden(rules: &[&str], to: &str, port: u16) -> bool {
        let rules: String = rules
            .iter()
            .map(|rule| format!("  - {{via: fiber, {rule}}}\n"))
            .collect();
        let text = format!(
            "uplinks: {{fiber: {{interface: wan1}}}}\ndownlinks: [lan0, lan1]\nrules:\n{rules}"
        );
        let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let lan: InterfaceName = "lan0".parse().unwrap();
        Policy::of(&config, &Sets::new()).forbids_fast_path(&FlowFacts {
            interface: Some(&lan),
            source: "198.18.0.10".parse().unwrap(),
            destination: to.parse().unwrap(),
            protocol: Protocol::TCP,
            source_port: 40_000,
            port,
        })
    }

    #[test]
    fn the_first_rule_that_a_flow_matches_decides() {
        let off = "match: {ports: 5060}, fastpath: off";
        assert!(forbidden(&[off], "203.0.113.1", 5060));
        assert!(!forbidden(&[off], "203.0.113.1", 443));
        let office = "match: {destination: 203.0.113.0/24}";
        assert!(!forbidden(&[office, off], "203.0.113.1", 5060));
        assert!(forbidden(&[office, off], "192.0.2.1", 5060));
        assert!(forbidden(&[off, office], "203.0.113.1", 5060));
        assert!(!forbidden(
            &["match: {interface: lan1}, fastpath: off"],
            "203.0.113.1",
            443
        ));
        assert!(!forbidden(&["fastpath: auto"], "203.0.113.1", 443));
        assert!(forbidden(&["fastpath: off"], "203.0.113.1", 443));
    }

    #[test]
    fn what_cannot_be_told_of_a_flow_counts_against_the_fast_path() {
        for unknown in ["dscp: ef", "mark: 0x10", "mac: 02:00:5e:10:00:01"] {
            let off = format!("match: {{{unknown}, ports: 443}}, fastpath: off");
            assert!(forbidden(&[&off], "203.0.113.1", 443), "{unknown}");
            assert!(!forbidden(&[&off], "203.0.113.1", 80), "{unknown}");
            // It may be this rule that the flow matches, or the next.
            let auto = format!("match: {{{unknown}}}");
            assert!(forbidden(&[&auto, "fastpath: off"], "203.0.113.1", 443));
            assert!(!forbidden(&[&auto], "203.0.113.1", 443), "{unknown}");
        }
    }
}
