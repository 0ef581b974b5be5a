//! What the demo measures.

use std::time::{Duration, Instant};

use failover_common::family::{Family, PerFamily};
use serde::Serialize;

use super::newcomers::Newcomer;
use crate::traffic::{KeptFlow, Protocol, Tally};

/// An uplink of the demo.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct UplinkPlan {
    /// Its number, counted from 1.
    pub number: u8,
    /// Its name.
    pub name: &'static str,
    /// Its share of new flows.
    pub weight: u32,
}

/// New flows that were opened and asked once, of one protocol and family.
#[derive(Clone, Debug)]
pub struct Burst {
    /// What they spoke.
    pub protocol: Protocol,
    /// Their family.
    pub family: Family,
    /// By which uplinks they were answered.
    pub tally: Tally,
}

/// The new flows of a step of the demo.
#[derive(Clone, Debug, Default)]
pub struct NewFlows(pub Vec<Burst>);

impl NewFlows {
    /// How many were answered by an uplink; of one family if that is given.
    #[must_use]
    pub fn on(&self, uplink: u8, family: Option<Family>) -> usize {
        self.bursts(family)
            .map(|burst| burst.tally.on(uplink))
            .sum()
    }

    /// How many were answered.
    #[must_use]
    pub fn answered(&self, family: Option<Family>) -> usize {
        self.bursts(family)
            .map(|burst| burst.tally.answered())
            .sum()
    }

    /// How many were not.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.0.iter().map(|burst| burst.tally.unanswered).sum()
    }

    /// The part of the answered flows that went by an uplink, 0 to 1.
    #[must_use]
    pub fn share(&self, uplink: u8) -> f64 {
        fraction(self.on(uplink, None), self.answered(None))
    }

    fn bursts(&self, family: Option<Family>) -> impl Iterator<Item = &Burst> {
        self.0
            .iter()
            .filter(move |burst| family.is_none_or(|family| burst.family == family))
    }
}

fn fraction(part: usize, whole: usize) -> f64 {
    let whole = u32::try_from(whole).unwrap_or(u32::MAX).max(1);
    f64::from(u32::try_from(part).unwrap_or(u32::MAX)) / f64::from(whole)
}

/// The flows that were kept and asked all the time, seen together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeptFigures {
    /// How many flows there were.
    pub flows: usize,
    /// How many questions were asked.
    pub questions: u64,
    /// How many of them were not answered.
    pub lost: u64,
    /// The most that one flow lost.
    pub most_lost_by_one: u64,
    /// How many flows were seen by another address or port than at first, be it once.
    pub moved: usize,
    /// How many ended.
    pub ended: usize,
}

impl KeptFigures {
    /// Adds flows up.
    pub fn of<'a>(flows: impl IntoIterator<Item = &'a KeptFlow>) -> Self {
        flows.into_iter().fold(Self::default(), |sum, flow| Self {
            flows: sum.flows + 1,
            questions: sum.questions + flow.answered + flow.lost,
            lost: sum.lost + flow.lost,
            most_lost_by_one: sum.most_lost_by_one.max(flow.lost),
            moved: sum.moved + usize::from(flow.moves > 0),
            ended: sum.ended + usize::from(flow.ended.is_some()),
        })
    }
}

/// What became of the dead uplink's own flows over UDP and ICMP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refugees {
    /// How many flows there were.
    pub flows: usize,
    /// How many were answered over another uplink while theirs was dead.
    pub went_on: usize,
    /// How many changed their address once and not again, also when their uplink was back.
    pub moved_once: usize,
}

/// New flows opened all the time around the fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LostNewcomers {
    /// How many were opened.
    pub opened: usize,
    /// How many got no answer.
    pub lost: usize,
    /// How many of those were opened after the daemon said that the uplink is down.
    pub lost_after_detection: usize,
    /// When the last one that was lost was opened, from the fault on.
    #[serde(serialize_with = "seconds")]
    pub last_lost: Duration,
}

impl LostNewcomers {
    pub(super) fn of(newcomers: &[Newcomer], fault: Instant, detected: Instant) -> Self {
        let lost = || newcomers.iter().filter(|one| one.asked.is_err());
        Self {
            opened: newcomers.len(),
            lost: lost().count(),
            lost_after_detection: lost().filter(|one| one.opened > detected).count(),
            last_lost: lost()
                .map(|one| one.opened.saturating_duration_since(fault))
                .max()
                .unwrap_or_default(),
        }
    }
}

/// What the provider of the dead uplink saw from the detection until the end of the fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SeenAtProvider {
    /// Packets of flows that were new after the detection.
    pub packets_of_new_flows: u64,
    /// Flows of the users, old or new, of which a packet came.
    pub flows_with_packets: usize,
    /// Probes of the daemon, which go on: else nobody would see that the uplink is back.
    pub probes: u64,
}

/// Everything that the demo measured.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The uplinks.
    pub uplinks: Vec<UplinkPlan>,
    /// The number of the one that died.
    pub dead: u8,
    /// New flows while all were up.
    pub before: NewFlows,
    /// New flows while one was known to be dead.
    pub during: NewFlows,
    /// New flows after its return.
    pub after: NewFlows,
    /// From the fault until `failover status` said that the uplink is down.
    pub detection: PerFamily<Duration>,
    /// From the end of the fault until `failover status` said that it is up over both families.
    pub recognised: Duration,
    /// New flows around the fault.
    pub newcomers: LostNewcomers,
    /// What came to the dead uplink after the detection.
    pub provider: SeenAtProvider,
    /// The kept flows of the other uplinks.
    pub survivors: KeptFigures,
    /// The kept UDP and ICMP flows of the dead uplink.
    pub refugees: Refugees,
    /// Its kept TCP connections.
    pub connections: KeptFigures,
    /// How long the demo took.
    pub took: Duration,
}

impl Figures {
    /// The part of new flows that an uplink should get, 0 to 1, with or without the dead one.
    #[must_use]
    pub fn due(&self, uplink: &UplinkPlan, without_dead: bool) -> f64 {
        let counts = |plan: &&UplinkPlan| !(without_dead && plan.number == self.dead);
        let sum: u32 = self
            .uplinks
            .iter()
            .filter(counts)
            .map(|plan| plan.weight)
            .sum();
        if counts(&uplink) {
            f64::from(uplink.weight) / f64::from(sum.max(1))
        } else {
            0.0
        }
    }

    /// The longer of the two families' detection times.
    #[must_use]
    pub fn slowest_detection(&self) -> Duration {
        self.detection.ipv4.max(self.detection.ipv6)
    }

    /// The name of the uplink that died.
    #[must_use]
    pub fn dead_name(&self) -> &'static str {
        let dead = self.uplinks.iter().find(|plan| plan.number == self.dead);
        dead.map_or("", |plan| plan.name)
    }
}

fn seconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::AskError;

    #[test]
    fn only_what_was_opened_after_the_detection_is_held_against_it() {
        let fault = Instant::now();
        let at = |millis| fault + Duration::from_millis(millis);
        let lost = |millis| Newcomer {
            opened: at(millis),
            asked: Err(AskError::Timeout),
        };
        let found = LostNewcomers::of(&[lost(10), lost(900), lost(1200)], fault, at(1000));
        assert_eq!(
            (found.lost, found.lost_after_detection, found.last_lost),
            (3, 1, Duration::from_millis(1200))
        );
    }
}
