//! What the gateway's kernel holds.

use std::collections::BTreeMap;
use std::fmt::Write;

use failover::family::Family;
use failover_tests::addressing::SERVER_PORT;
use failover_tests::{Node, ProgramSpec};

/// Told when a scenario fails. The rule set without the elements of its maps, which are thousands.
const QUESTIONS: [&str; 9] = [
    "ip -oneline address",
    "ip rule",
    "ip -6 rule",
    "ip route show table all",
    "ip -6 route show table all",
    "nft --terse list ruleset",
    "conntrack -C",
    "conntrack -L -f ipv4",
    "conntrack -L -f ipv6",
];

/// How many lines of an answer are told.
const LINES: usize = 150;

/// The mark of each tracked TCP and UDP flow to the lab's servers. A flow is told by its addresses
/// and ports of both directions.
pub(crate) async fn tracked(
    node: &Node,
    family: Family,
) -> Result<BTreeMap<String, String>, Box<dyn std::error::Error>> {
    let family = match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    };
    let server = format!("dport={SERVER_PORT}");
    let mut entries = BTreeMap::new();
    for protocol in ["tcp", "udp"] {
        let line = format!("conntrack -L -f {family} -p {protocol}");
        let text = node.must(ProgramSpec::line(&line)).await?;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if !words.contains(&server.as_str()) {
                continue;
            }
            let named = |names: &[&str]| -> Vec<&str> {
                words
                    .iter()
                    .filter(|word| names.iter().any(|name| word.starts_with(name)))
                    .copied()
                    .collect()
            };
            let flow = named(&["src=", "dst=", "sport=", "dport="]).join(" ");
            let mark = named(&["mark="]).join(" ");
            entries.insert(format!("{protocol} {flow}"), mark);
        }
    }
    Ok(entries)
}

/// All that helps to find out why a scenario failed.
pub(crate) async fn state(node: &Node) -> String {
    let mut text = String::new();
    for question in QUESTIONS {
        let answer = match node.must(ProgramSpec::line(question)).await {
            Ok(answer) => answer,
            Err(error) => error.to_string(),
        };
        // Writing to a string does not fail.
        writeln!(text, "--- {question}").ok();
        for line in answer.lines().take(LINES) {
            writeln!(text, "{line}").ok();
        }
    }
    text
}
