//! What the engine decides when the configuration changes.

use super::*;
use crate::config;
use crate::controller::engine::tests::{Bench, YAML, both, id};
use crate::controller::engine::{Decision, Forget};
use crate::probe::ProbePlan;
use crate::status::{FamilyStatus, State};

impl Bench {
    /// Follows another configuration, and does at once what is decided: before it is taken over, if
    /// uplinks leave, and after.
    pub(in crate::controller) fn reload(&mut self, yaml: &str) -> (Option<Decision>, Decision) {
        let config = config::parse(yaml).unwrap();
        let ids = config
            .uplinks
            .iter()
            .map(|(name, uplink)| (name.clone(), uplink.id.unwrap()))
            .collect();
        let first = self.engine.retire(&config, &ids).then(|| self.decide());
        let now = self.now();
        self.engine.reconfigure(config, &ids, Sets::new(), now);
        assert!(self.engine.is_stale());
        (first, self.decide())
    }

    fn up(yaml: &str) -> Self {
        let mut bench = Self::new(yaml);
        bench.rounds(3, &[]);
        bench.decide();
        bench.engine.take_notices();
        bench
    }

    fn plans(&self) -> Vec<ProbePlan> {
        self.engine.probe_plans().into_values().collect()
    }

    fn ipv4(&self, name: &str) -> FamilyStatus {
        let uplinks = self.engine.status(self.now().at).uplinks;
        let uplink = uplinks
            .into_iter()
            .find(|found| found.name.as_str() == name);
        uplink.unwrap().ipv4
    }
}

fn forgotten(decision: &Decision) -> Vec<(u8, Family)> {
    let uplinks = decision.forget.iter().filter_map(|flows| match flows {
        Forget::Uplink(id, family) => Some((id.get(), *family)),
        _ => None,
    });
    uplinks.collect()
}

fn without_cable() -> String {
    YAML.replace("  cable: {interface: wan2, id: 2}\n", "")
}

#[test]
fn the_same_configuration_changes_nothing() {
    let mut bench = Bench::up(YAML);
    let (wanted, plans) = (bench.decide().wanted, bench.plans());
    let (first, second) = bench.reload(YAML);
    assert!(first.is_none());
    assert_eq!((&second.wanted, second.forget.len()), (&wanted, 0));
    assert_eq!(bench.plans(), plans);
    assert_eq!(bench.engine.take_notices(), []);
}

#[test]
fn weights_and_priorities_change_with_no_flow_forgotten_and_no_probe_disturbed() {
    let mut bench = Bench::up(YAML);
    let (plans, before) = (bench.plans(), bench.ipv4("fiber"));
    let (first, second) = bench.reload(
        &YAML
            .replace("id: 1}", "id: 1, weight: 9}")
            .replace("priority: 2", "priority: 1"),
    );
    assert!(first.is_none());
    assert_eq!(second.forget.len(), 0);
    let disturbed = bench.plans().into_iter().zip(plans).any(|(after, before)| {
        // What was the reserve is needed now.
        !after.is_same_but_for_pace(&before) || after.interval > before.interval
    });
    assert!(!disturbed);
    assert_eq!(bench.members(Family::Ipv4), [1, 2, 3]);
    let after = bench.ipv4("fiber");
    assert!(after.share > 0.8 && before.share < 0.6);
    assert_eq!((after.state, after.rtt_ms), (State::Up, before.rtt_ms));
    assert_eq!(after.reason, before.reason);
}

#[test]
fn a_removed_uplink_is_left_before_it_is_taken_out() {
    let mut bench = Bench::up(YAML);
    let (first, second) = bench.reload(&without_cable());
    let first = first.unwrap();
    let of = |decision: &Decision, mark: &str| decision.wanted.ruleset.contains(mark);
    // While its flows are forgotten, their packets still find their way.
    assert!(of(&first, "0x02000000") && of(&first, "wan2"));
    assert!(forgotten(&first).starts_with(&both(2)));
    assert_eq!(forgotten(&first).len(), 2);
    assert!(!of(&second, "0x02000000") && !of(&second, "wan2"));
    assert_eq!(bench.members(Family::Ipv4), [1]);
    assert!(bench.plans().iter().all(|plan| plan.uplink != id(2)));
    assert_eq!(bench.engine.take_notices(), [], "it did not fail");
    assert_eq!(bench.decide().forget.len(), 0, "said once");
}

#[test]
fn flows_of_a_removed_uplink_wait_for_nothing() {
    let keep = "flows: {on_down: keep}";
    let mut bench = Bench::up(&format!("{YAML}{keep}"));
    let dead: Vec<_> = both(1).into_iter().chain(both(3)).collect();
    bench.rounds(3, &dead);
    bench.decide();
    let (first, _) = bench.reload(&format!("{}{keep}", without_cable()));
    assert_eq!(
        forgotten(&first.unwrap()),
        both(2),
        "to keep is for what returns"
    );
    assert_eq!(bench.members(Family::Ipv4), [1, 3], "the last resort");
}

#[test]
fn what_could_not_be_forgotten_of_a_removed_uplink_is_said_again() {
    let mut bench = Bench::up(YAML);
    let config = config::parse(&without_cable()).unwrap();
    let mut ids = bench.engine.current().ids;
    ids.remove(&"cable".parse().unwrap());
    assert!(bench.engine.retire(&config, &ids));
    let now = bench.now();
    bench.engine.decide(now);
    bench.engine.reconfigure(config, &ids, Sets::new(), now);
    for _ in 0..2 {
        assert_eq!(forgotten(&bench.engine.decide(now)), both(2));
    }
}

#[test]
fn an_added_uplink_is_used_when_it_has_answered() {
    let mut bench = Bench::up(&without_cable());
    let plans = bench.plans();
    let (first, second) = bench.reload(YAML);
    assert!(first.is_none());
    assert_eq!(second.forget.len(), 0);
    assert_eq!(bench.members(Family::Ipv4), [1]);
    assert_eq!(bench.ipv4("cable").state, State::Unknown);
    let now = bench.plans();
    assert!(plans.iter().all(|plan| now.contains(plan)));
    assert_eq!(now.len(), plans.len() + 2);
    bench.rounds(1, &[]);
    bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [1, 2]);
}

#[test]
fn another_interface_is_another_line_of_the_same_name() {
    let mut bench = Bench::up(&without_cable());
    let moved = without_cable().replace("wan1", "wan2");
    let (first, second) = bench.reload(&moved);
    assert_eq!(forgotten(&first.unwrap()), both(1));
    // Again: in between there was nothing else to go to.
    assert_eq!(forgotten(&second), both(1));
    let status = bench.ipv4("fiber");
    assert_eq!(
        status.state,
        State::Unknown,
        "what the old line answered proves nothing"
    );
    assert_eq!(status.source, Some("198.18.12.2".parse().unwrap()));
    bench.rounds(1, &[]);
    assert_eq!(bench.decide().forget.len(), 0);
    assert_eq!(bench.ipv4("fiber").state, State::Up);
}

#[test]
fn probes_that_an_uplinks_predecessor_sent_prove_nothing() {
    let mut bench = Bench::up(YAML);
    let renamed = YAML.replace("cable: {interface: wan2", "other: {interface: wan2");
    let before = bench.now();
    bench.reload(&renamed);
    let round = crate::health::Round::of_two(
        crate::health::PlanNumber(1),
        1000,
        before.at - std::time::Duration::from_millis(1),
        crate::health::Outcome::Answered {
            rtt: std::time::Duration::from_millis(5),
        },
    );
    let now = bench.now();
    bench.engine.round(id(2), Family::Ipv4, &round, now);
    assert_eq!(bench.ipv4("other").state, State::Unknown);
}

#[test]
fn an_id_that_goes_to_another_takes_no_flows_along() {
    let mut bench = Bench::up(YAML);
    let swapped = YAML
        .replace("wan1, id: 1", "wan1, id: 9")
        .replace("wan2, id: 2", "wan2, id: 1")
        .replace("wan1, id: 9", "wan1, id: 2");
    let (first, second) = bench.reload(&swapped);
    for decision in [&first.unwrap(), &second] {
        let forgotten = forgotten(decision);
        assert!(
            both(1)
                .iter()
                .chain(&both(2))
                .all(|flows| forgotten.contains(flows))
        );
    }
}

#[test]
fn other_probe_settings_leave_the_verdict() {
    let mut bench = Bench::up(YAML);
    bench.rounds(3, &both(1));
    bench.decide();
    let others = YAML.replace(
        "targets: [icmp://203.0.113.1,",
        "targets: [icmp://203.0.113.9,",
    );
    let (first, second) = bench.reload(&others.replace("probe: {", "probe: {up_after: 2, "));
    assert!(first.is_none());
    assert_eq!(second.forget.len(), 0);
    assert_eq!(bench.ipv4("fiber").state, State::Down);
    assert_eq!(bench.ipv4("cable").state, State::Up);
    bench.rounds(1, &[]);
    assert_eq!(bench.ipv4("fiber").state, State::Down);
    bench.rounds(1, &[]);
    assert_eq!(
        bench.ipv4("fiber").state,
        State::Up,
        "the new number counts"
    );
}

#[test]
fn a_verdict_in_the_making_is_not_put_off_by_a_reload() {
    let mut bench = Bench::up(YAML);
    bench.rounds(2, &both(1));
    bench.reload(&YAML.replace("id: 2}", "id: 2, weight: 5}"));
    bench.rounds(1, &both(1));
    assert!(forgotten(&bench.decide()).starts_with(&both(1)[..1]));
    assert_eq!(bench.members(Family::Ipv4), [2]);
}

#[test]
fn what_was_up_unprobed_is_up_until_a_probe_says_otherwise() {
    let mut bench = Bench::up(&YAML.replace("icmp://203.0.113.1, ", ""));
    assert_eq!(bench.ipv4("fiber").reason, "not probed: no IPv4 target");
    bench.reload(YAML);
    assert_eq!(bench.ipv4("fiber").state, State::Up);
    bench.rounds(3, &both(1));
    assert_eq!(bench.ipv4("fiber").state, State::Down);
}

#[test]
fn a_gateway_that_is_given_no_more_counts_no_more() {
    let given = YAML.replace("wan1, ", "wan1, gateway: 198.18.11.77, ");
    let mut bench = Bench::up(&given);
    assert_eq!(
        bench.ipv4("fiber").gateway,
        Some("198.18.11.77".parse().unwrap())
    );
    let (_, second) = bench.reload(YAML);
    assert_eq!(
        bench.ipv4("fiber").gateway,
        Some("198.18.11.1".parse().unwrap())
    );
    assert_eq!(
        second.forget.len(),
        0,
        "its flows go on by the other gateway"
    );
}

#[test]
fn downlinks_affinity_and_numbers_are_taken_over() {
    let mut bench = Bench::up(YAML);
    let (first, second) = bench.reload(
        &(YAML.replace("[lan0]", "[lan7]")
            + "tables: {base: 1000}\nrule_priority: 77\nflows: {affinity: source}\n"),
    );
    assert!(first.is_none());
    assert_eq!(second.forget.len(), 0);
    let wanted = second.wanted;
    assert!(wanted.ruleset.contains("lan7") && !wanted.ruleset.contains("lan0"));
    assert!(
        wanted
            .routing
            .routes
            .iter()
            .all(|route| route.table.0 >= 1000)
    );
    let early = wanted.routing.rules.iter().map(|rule| rule.priority);
    let early: Vec<u32> = early.filter(|priority| *priority < 32_765).collect();
    assert!(early.contains(&78) && early.iter().all(|priority| (77..87).contains(priority)));
}
