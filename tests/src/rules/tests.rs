//! Whether random rules and packets are worth anything: many rules decide, by every kind of
//! condition, and neither all packets nor none go where no rule says.

use std::collections::{BTreeMap, BTreeSet};

use failover::family::Family;
use failover::policy::{Facts, Matching, Otherwise, first_match};

use super::*;

fn parameters(rules: usize, prefixes: usize, sets: usize) -> Parameters {
    let names = |names: [&str; 3]| names.map(str::to_owned).to_vec();
    Parameters {
        rules,
        prefixes,
        sets,
        uplinks: names(["one", "two", "three"]),
        downlinks: names(["lan0", "lan1", "lan2"]),
    }
}

/// A configuration that has the rules.
fn config(rules: &str) -> Config {
    let text = format!(
        "uplinks: {{one: {{interface: wan1}}, two: {{interface: wan2}}, three: {{interface: wan3}}}}\n\
         downlinks: [lan0, lan1, lan2]\n{rules}"
    );
    failover::config::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// Counts packets by what decides.
struct Mixture {
    by_rule: BTreeMap<usize, usize>,
    unmatched: usize,
}

fn mixture(rules: &[Rule], packets: &[Facts]) -> Mixture {
    let (mut by_rule, mut unmatched) = (BTreeMap::new(), 0);
    for packet in packets {
        match first_match(rules, packet) {
            Some(rule) => *by_rule.entry(rule).or_default() += 1,
            None => unmatched += 1,
        }
    }
    Mixture { by_rule, unmatched }
}

fn kinds(matching: &Matching) -> [bool; 9] {
    [
        matching.interfaces.is_some(),
        matching.source.is_some(),
        matching.destination.is_some(),
        matching.protocols.is_some(),
        matching.source_ports.is_some(),
        matching.ports.is_some(),
        matching.dscp.is_some(),
        matching.marks.is_some(),
        matching.macs.is_some(),
    ]
}

#[test]
fn many_rules_decide_by_every_kind_of_condition() {
    for (seed, parameters, at_least) in [
        (1, parameters(1000, 50_000, 30), 500),
        (2, parameters(300, 4_000, 20), 200),
    ] {
        let random = RandomRules::draw(&parameters, seed);
        let config = config(&random.yaml(Some(Path::new("/etc/failover/sets"))));
        let rules = random.resolve(&config);
        assert_eq!(rules.len(), parameters.rules);
        let packets = Packets::new(&rules, &parameters.downlinks, seed);
        let packets: Vec<Facts> = packets.take(10_000).collect();
        let Mixture { by_rule, unmatched } = mixture(&rules, &packets);
        let most = by_rule.values().max().copied().unwrap_or_default();
        assert!(by_rule.len() >= at_least, "{} rules decide", by_rule.len());
        assert!(most < 500, "one rule decides {most} packets");
        assert!((1000..7000).contains(&unmatched), "{unmatched} unmatched");
        let mut deciding = [0; 9];
        for rule in by_rule.keys() {
            for (count, has) in deciding.iter_mut().zip(kinds(&rules[*rule].matching)) {
                *count += usize::from(has);
            }
        }
        assert!(deciding.iter().all(|count| *count >= 10), "{deciding:?}");
        for family in Family::ALL {
            let of_family = packets.iter().filter(|p| Family::of(p.source) == family);
            assert!(of_family.count() > 3000);
        }
        let protocols: BTreeSet<u8> = packets.iter().map(|p| p.protocol.0).collect();
        assert!(protocols.len() >= 9, "{protocols:?}");
        let dropping = rules.iter().filter(|r| r.otherwise == Otherwise::Drop);
        assert!(dropping.count() > parameters.rules / 5);
    }
}

#[test]
fn sets_are_the_same_in_files_and_in_the_configuration() {
    let random = RandomRules::draw(&parameters(50, 2_000, 10), 3);
    let inline = random.resolve(&config(&random.yaml(None)));
    let in_files = random.resolve(&config(&random.yaml(Some(Path::new("/sets")))));
    assert_eq!(inline, in_files);
    let lines = |text: &str| text.lines().filter(|line| is_address(line)).count();
    let written: usize = random.files().map(|(_, text)| lines(&text)).sum();
    assert_eq!(written, 2_000);
}

fn is_address(line: &str) -> bool {
    let text = line.split('#').next().unwrap_or_default().trim();
    !text.is_empty()
}

#[test]
fn the_same_seed_gives_the_same() {
    let parameters = parameters(20, 100, 5);
    let text = |seed| RandomRules::draw(&parameters, seed).yaml(None);
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}
