//! What is decided about flows of rules when an uplink of an earlier group comes and goes.

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::controller::engine::Change;
use crate::controller::engine::tests::{Bench, YAML, both};
use crate::flows::{Protocol, TrackedFlow};
use crate::mark::Mark;

const CABLE: u8 = 2;
const LTE: u8 = 3;

/// `more` is what the configuration says of the uplinks, beside their priorities.
fn started(via: &str, more: &str) -> Bench {
    let config = YAML.replace("probe:", &format!("flows: {{{more}}}\nprobe:"));
    let rule = format!("rules: [{{match: {{protocol: udp}}, via: {via}}}]\n");
    let mut bench = Bench::new(&format!("{config}{rule}"));
    bench.rounds(1, &[]);
    assert_eq!(bench.decide().forget, BTreeSet::new());
    bench
}

fn fails(bench: &mut Bench, dead: &[u8]) {
    let dead: Vec<_> = dead.iter().copied().flat_map(both).collect();
    bench.rounds(3, &dead);
    bench.decide();
}

/// Five good rounds; what is forgotten then.
fn returns(bench: &mut Bench, dead: &[u8]) -> BTreeSet<Forget> {
    let dead: Vec<_> = dead.iter().copied().flat_map(both).collect();
    bench.rounds(5, &dead);
    bench.decide().forget
}

/// Lets time pass; what is forgotten then.
fn pass(bench: &mut Bench, seconds: u64) -> BTreeSet<Forget> {
    bench.sequence += 2 * seconds;
    bench.look();
    bench.decide().forget
}

/// Of which uplink flows are to be forgotten in part, and which of UDP and TCP stay.
fn parts(bench: &Bench, forget: &BTreeSet<Forget>) -> Vec<(u8, bool, bool)> {
    let keeping = bench.engine.keeping(forget);
    assert_eq!(keeping.len(), forget.len(), "{forget:?}");
    let ipv4 = keeping
        .iter()
        .filter(|((_, family), _)| *family == Family::Ipv4);
    ipv4.map(|((id, _), keeping)| {
        let stays = |protocol| keeping.keeps(&flow(protocol));
        (id.get(), stays(Protocol(17)), stays(Protocol::TCP))
    })
    .collect()
}

fn flow(protocol: Protocol) -> TrackedFlow {
    let ends = ("198.18.0.10", "203.0.113.11");
    TrackedFlow::between(Mark(0), protocol, ends, ("203.0.113.11", "198.18.12.2"))
}

/// What is told of flows of rules, and of others, in IPv4.
fn changes(bench: &mut Bench) -> (Vec<Change>, Vec<Change>) {
    let notices = bench.engine.take_drain_notices().into_iter();
    let notices = notices.filter(|notice| notice.family == Family::Ipv4);
    let (of_rules, others): (Vec<_>, Vec<_>) = notices.partition(|notice| notice.via.is_some());
    let changes = |notices: Vec<DrainNotice>| notices.into_iter().map(|notice| notice.change);
    (changes(of_rules).collect(), changes(others).collect())
}

#[test]
fn flows_of_a_rule_move_to_its_earlier_group_and_no_others_do() {
    let mut bench = started("[fiber, cable]", "on_up: move");
    fails(&mut bench, &[1]);
    let forget = returns(&mut bench, &[]);
    assert_eq!(parts(&bench, &forget), [(CABLE, false, true)]);
    assert!(forget.iter().all(|flows| bench.engine.forgets_again(flows)));
    assert_eq!(changes(&mut bench), (vec![Change::Moves], vec![]));
    assert_eq!(bench.decide().forget, BTreeSet::new(), "once");
    // The other way round there is nothing to be done.
    fails(&mut bench, &[2]);
    assert_eq!(returns(&mut bench, &[]), BTreeSet::new());
}

#[test]
fn flows_of_a_pool_stay_where_they_are() {
    for (via, more) in [
        ("{fiber: 1, cable: 1}", "on_up: move"),
        ("[fiber, cable]", "on_up: stay"),
    ] {
        let mut bench = started(via, more);
        fails(&mut bench, &[1]);
        assert_eq!(returns(&mut bench, &[]), BTreeSet::new(), "{via}");
        assert_eq!(changes(&mut bench), (vec![], vec![]));
    }
}

#[test]
fn flows_of_a_rule_may_finish_and_no_status_tells_that_their_uplink_drains() {
    let mut bench = started("[fiber, cable]", "on_up: {drain: 60s}");
    fails(&mut bench, &[1]);
    assert_eq!(returns(&mut bench, &[]), BTreeSet::new());
    let time = Duration::from_secs(60);
    assert_eq!(changes(&mut bench).0, [Change::Drains(time)]);
    let status = bench.engine.status(bench.now().at);
    assert!(status.uplinks.iter().all(|uplink| !uplink.draining));
    assert_eq!(bench.engine.look_again(), Some(bench.now().at + time));
    assert_eq!(pass(&mut bench, 59), BTreeSet::new());
    let forget = pass(&mut bench, 1);
    assert_eq!(parts(&bench, &forget), [(CABLE, false, true)]);
    assert_eq!(changes(&mut bench).0, [Change::Over]);
    assert_eq!(pass(&mut bench, 60), BTreeSet::new());
}

#[test]
fn draining_is_called_off_when_the_earlier_group_fails_again() {
    let mut bench = started("[fiber, cable]", "on_up: {drain: 60s}");
    fails(&mut bench, &[1]);
    returns(&mut bench, &[]);
    fails(&mut bench, &[1]);
    assert_eq!(changes(&mut bench).0.last(), Some(&Change::CalledOff));
    let forget = pass(&mut bench, 60);
    assert_eq!(forget, BTreeSet::new());
}

#[test]
fn nothing_is_given_up_for_an_earlier_group_that_is_silent() {
    let mut bench = started("[fiber, cable]", "on_up: {drain: 60s}");
    fails(&mut bench, &[1]);
    returns(&mut bench, &[]);
    bench.sequence += 2 * 60;
    bench.rounds(1, &both(1));
    assert_eq!(bench.decide().forget, BTreeSet::new(), "it may be dying");
    bench.rounds(1, &[]);
    let forget = bench.decide().forget;
    assert_eq!(parts(&bench, &forget), [(CABLE, false, true)]);
}

/// The uplink for all others returns first, and that of the rule later.
#[test]
fn flows_of_a_rule_and_others_each_have_their_own_time() {
    let mut bench = started("[cable, lte]", "on_up: {drain: 60s}");
    fails(&mut bench, &[1, 2]);
    assert_eq!(returns(&mut bench, &[2]), BTreeSet::new());
    assert_eq!(changes(&mut bench).1.len(), 1);
    assert_eq!(pass(&mut bench, 30), BTreeSet::new());
    assert_eq!(returns(&mut bench, &[]), BTreeSet::new());
    assert_eq!(changes(&mut bench).0.len(), 1);
    let forget = pass(&mut bench, 30);
    assert_eq!(parts(&bench, &forget), [(LTE, true, false)]);
    let forget = pass(&mut bench, 30);
    // Others went before, and those of them that were on their way then may go now.
    assert_eq!(parts(&bench, &forget), [(LTE, false, false)]);
}

#[test]
fn the_time_of_a_rules_flows_goes_on_over_a_restart_while_it_names_its_uplinks_so() {
    let mut bench = started("[fiber, cable]", "on_up: {drain: 60s}");
    let nothing = RememberedRuleDrains::new();
    assert_eq!(bench.engine.remembered_rule_drains(), nothing);
    fails(&mut bench, &[1]);
    returns(&mut bench, &[]);
    let drains = bench.engine.remembered_rule_drains();
    let of_rule = drains.get("[fiber, cable]").expect("it drains");
    let since = of_rule[&"cable".parse().unwrap()].ipv4;
    assert_eq!(since, Some(Timestamp::UNIX_EPOCH));

    let resumed = |via: &str| {
        let mut bench = started(via, "on_up: {drain: 60s}");
        bench.rounds(5, &[]);
        let now = bench.now();
        bench.engine.resume_rule_drains(&drains, now);
        assert_eq!(bench.decide().forget, BTreeSet::new());
        let forget = pass(&mut bench, 60);
        parts(&bench, &forget)
    };
    assert_eq!(resumed("[fiber, cable]"), [(CABLE, false, true)]);
    assert_eq!(resumed("[fiber, lte]"), []);
}

#[test]
fn what_is_known_of_rules_goes_with_them() {
    let mut bench = started("[fiber, cable]", "on_up: {drain: 60s}");
    fails(&mut bench, &[1]);
    returns(&mut bench, &[]);
    bench.engine.config.rules.clear();
    bench.engine.renew_policy();
    assert_eq!(bench.decide().forget, BTreeSet::new());
    assert_eq!(
        bench.engine.remembered_rule_drains(),
        RememberedRuleDrains::new()
    );
    assert_eq!(pass(&mut bench, 60), BTreeSet::new());
}
