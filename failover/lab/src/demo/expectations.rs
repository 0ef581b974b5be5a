//! What the demo promises, held against what it measured.

use std::time::Duration;

use serde::Serialize;

use super::figures::{Figures, NewFlows, UplinkPlan};
use crate::terminal::Short;

/// How far a share may be from what the weights say, in parts of 1.
const SHARE_TOLERANCE: f64 = 0.05;
/// How long a silent black hole may stay unseen with default settings: three rounds, one every
/// 500 ms, of which the last waits up to 1 s for its answers.
const DETECTION_LIMIT: Duration = Duration::from_millis(3500);

/// One promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expectation {
    /// What was promised, and what was measured.
    pub text: String,
    /// Whether it holds.
    pub met: bool,
}

fn expect(met: bool, text: String) -> Expectation {
    Expectation { text, met }
}

/// All promises in the order of the story.
#[must_use]
pub fn expectations(figures: &Figures) -> Vec<Expectation> {
    let dead = figures.dead_name();
    let Figures {
        newcomers,
        provider,
        survivors,
        refugees,
        ..
    } = figures;
    vec![
        spread(figures, &figures.before, false, "while all uplinks are up"),
        expect(
            figures.slowest_detection() <= DETECTION_LIMIT,
            format!(
                "{dead} is seen to be dead within {}: IPv4 after {}, IPv6 after {}",
                Short(DETECTION_LIMIT),
                Short(figures.detection.ipv4),
                Short(figures.detection.ipv6)
            ),
        ),
        expect(
            newcomers.opened > 0 && newcomers.lost_after_detection == 0,
            format!(
                "new flows lost after that: {} (before: {} of {}, the last opened {} after the fault)",
                newcomers.lost_after_detection,
                newcomers.lost,
                newcomers.opened,
                Short(newcomers.last_lost)
            ),
        ),
        expect(
            provider.packets_of_new_flows == 0,
            format!(
                "packets of new flows sent to {dead} after that, counted at the provider: {}",
                provider.packets_of_new_flows
            ),
        ),
        expect(
            provider.flows_with_packets == 0 && provider.probes > 0,
            format!(
                "old flows that still sent to it: {} ({} probes went on, to see its return)",
                provider.flows_with_packets, provider.probes
            ),
        ),
        spread(figures, &figures.during, true, "while it is dead"),
        expect(
            survivors.flows > 0 && survivors.lost == 0 && survivors.ended == 0,
            format!(
                "answers lost by the {} flows of the other uplinks, over the whole time: {} of {}",
                survivors.flows, survivors.lost, survivors.questions
            ),
        ),
        expect(
            survivors.flows > 0 && survivors.moved == 0,
            format!(
                "flows that moved although they need not: {}",
                survivors.moved
            ),
        ),
        expect(
            refugees.flows > 0 && refugees.went_on == refugees.flows,
            format!(
                "UDP and ICMP flows of {dead} that go on over the others: {} of {}",
                refugees.went_on, refugees.flows
            ),
        ),
        spread(figures, &figures.after, false, "after its return"),
        expect(
            refugees.moved_once == refugees.flows,
            format!(
                "of those, flows that stay where they are when it returns: {} of {}",
                refugees.moved_once, refugees.flows
            ),
        ),
    ]
}

/// New flows are all answered and land by weight.
fn spread(figures: &Figures, flows: &NewFlows, without_dead: bool, when: &str) -> Expectation {
    let off =
        |plan: &UplinkPlan| (flows.share(plan.number) - figures.due(plan, without_dead)).abs();
    let worst = figures.uplinks.iter().map(off).fold(0.0, f64::max);
    let mut text = format!(
        "new flows {when}: all answered, by weight to within 5 points (worst {:.1})",
        worst * 100.0
    );
    if flows.unanswered() > 0 {
        text += &format!("; {} not answered", flows.unanswered());
    }
    let met = flows.answered(None) > 0 && flows.unanswered() == 0 && worst <= SHARE_TOLERANCE;
    expect(met, text)
}

#[cfg(test)]
mod tests {
    use failover_common::family::{Family, PerFamily};

    use super::*;
    use crate::demo::figures::{Burst, KeptFigures, LostNewcomers, Refugees, SeenAtProvider};
    use crate::traffic::{Protocol, Tally};

    fn flows(counts: [usize; 2], unanswered: usize) -> NewFlows {
        NewFlows(vec![Burst {
            protocol: Protocol::Udp,
            family: Family::Ipv4,
            tally: Tally {
                by_uplink: [(1, counts[0]), (2, counts[1])].into(),
                elsewhere: 0,
                unanswered,
            },
        }])
    }

    /// As it should be: weights 3 and 1, the first dies.
    fn good() -> Figures {
        let plan = |number, name, weight| UplinkPlan {
            number,
            name,
            weight,
        };
        let kept = KeptFigures {
            flows: 9,
            questions: 900,
            ..KeptFigures::default()
        };
        Figures {
            uplinks: vec![plan(1, "fiber", 3), plan(2, "lte", 1)],
            dead: 1,
            before: flows([750, 250], 0),
            during: flows([0, 1000], 0),
            after: flows([720, 280], 0),
            detection: PerFamily {
                ipv4: Duration::from_millis(2300),
                ipv6: Duration::from_millis(2400),
            },
            recognised: Duration::from_secs(3),
            newcomers: LostNewcomers {
                opened: 100,
                lost: 20,
                lost_after_detection: 0,
                last_lost: Duration::from_millis(2290),
            },
            provider: SeenAtProvider {
                probes: 40,
                ..SeenAtProvider::default()
            },
            survivors: kept,
            refugees: Refugees {
                flows: 8,
                went_on: 8,
                moved_once: 8,
            },
            connections: kept,
            took: Duration::from_secs(30),
        }
    }

    fn unmet(figures: &Figures) -> Vec<String> {
        let all = expectations(figures).into_iter();
        all.filter(|one| !one.met).map(|one| one.text).collect()
    }

    #[test]
    fn all_hold_when_all_is_well() {
        assert_eq!(unmet(&good()), Vec::<String>::new());
    }

    #[test]
    fn each_broken_promise_is_named() {
        type Break = fn(&mut Figures);
        let cases: [(&str, Break); 11] = [
            ("while all uplinks are up", |f| {
                f.before = flows([600, 400], 0);
            }),
            ("1 not answered", |f| f.before = flows([750, 250], 1)),
            ("seen to be dead", |f| {
                f.detection.ipv6 = Duration::from_secs(4);
            }),
            ("new flows lost after", |f| {
                f.newcomers.lost_after_detection = 1;
            }),
            ("counted at the provider: 7", |f| {
                f.provider.packets_of_new_flows = 7;
            }),
            ("old flows that still sent", |f| {
                f.provider.flows_with_packets = 1;
            }),
            ("while it is dead", |f| f.during = flows([100, 900], 0)),
            ("answers lost by the", |f| f.survivors.lost = 1),
            ("although they need not: 1", |f| f.survivors.moved = 1),
            ("go on over the others: 7 of 8", |f| f.refugees.went_on = 7),
            ("stay where they are", |f| f.refugees.moved_once = 7),
        ];
        for (text, spoil) in cases {
            let mut figures = good();
            spoil(&mut figures);
            let found = unmet(&figures);
            assert!(
                found.len() == 1 && found[0].contains(text),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn nothing_measured_is_nothing_shown() {
        let mut figures = good();
        figures.before = NewFlows::default();
        figures.survivors = KeptFigures::default();
        assert_eq!(unmet(&figures).len(), 3);
    }
}
