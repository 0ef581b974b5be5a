//! What becomes of the flows of an uplink that works, once a better one is up again and new flows go
//! there: they stay, may finish within a time, or move at once (`flows.on_up`).

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::info;

use super::{Engine, Forget, Moment};
use crate::config::{OnDown, OnUp};
use crate::controller::uplink::Uplink;
use crate::family::{Family, PerFamily};
use crate::select::Tier;
use crate::state::RememberedDrains;
use crate::uplink::{UplinkId, UplinkName};

/// How an uplink stands to the pool of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// New flows come to it.
    Chosen,
    /// New flows come to it as long as better ones are full.
    Relieving,
    /// It works, and none comes to it, because a better one is up.
    Outranked,
    /// Neither.
    Other,
}

/// What there is to do about an uplink's flows of one family.
#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    /// Nothing: none came to it since they were last seen to.
    #[default]
    Settled,
    /// New flows came to it.
    Used,
    /// They may finish; since when.
    Draining(Moment),
    /// They are to be forgotten; since when they were draining, or are to be.
    Owed(Moment),
}

/// The flows of one uplink in one family.
#[derive(Debug, Default)]
pub(in crate::controller) struct Departure {
    stage: Stage,
    /// At the last decision.
    outranked: bool,
}

/// What becomes of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They may finish within this time.
    Drains(Duration),
    /// Their time is over, and those that are left are forgotten.
    Over,
    /// Their time is over, and those that are left stay, as if their uplink went down.
    OverAndKept,
    /// They stay after all: new flows come to their uplink again, or the configuration changed.
    CalledOff,
    /// They are forgotten at once.
    Moves,
}

/// Something that becomes of an uplink's flows, worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainNotice {
    /// The uplink.
    pub uplink: UplinkName,
    /// The family.
    pub family: Family,
    /// What.
    pub change: Change,
}

impl Departure {
    /// Takes a drain up that an earlier daemon began.
    fn resume(&mut self, since: Timestamp, now: Moment) {
        // A clock that was put back makes it begin anew, and never last longer than that.
        let passed = Duration::try_from(now.wall.duration_since(since)).unwrap_or_default();
        self.stage = Stage::Draining(Moment {
            at: now.at.checked_sub(passed).unwrap_or(now.at),
            wall: since.min(now.wall),
        });
    }

    fn step(
        &mut self,
        rank: Rank,
        (on_up, on_down): (OnUp, OnDown),
        now: Moment,
    ) -> Option<Change> {
        self.outranked = rank == Rank::Outranked;
        let (stage, change) = match (rank, self.stage, on_up) {
            (Rank::Chosen, Stage::Draining(_), _) => (Stage::Used, Some(Change::CalledOff)),
            (Rank::Chosen, _, _) => (Stage::Used, None),
            // What it takes over stays with it when the better ones are full no more.
            (Rank::Relieving, Stage::Draining(_), _) => (Stage::Settled, Some(Change::CalledOff)),
            (Rank::Relieving, _, _) => (Stage::Settled, None),
            (Rank::Outranked, Stage::Used, OnUp::Stay) => (Stage::Settled, None),
            (Rank::Outranked, Stage::Draining(_), OnUp::Stay) => {
                (Stage::Settled, Some(Change::CalledOff))
            }
            (Rank::Outranked, Stage::Used | Stage::Draining(_), OnUp::Move) => {
                (Stage::Owed(now), Some(Change::Moves))
            }
            (Rank::Outranked, Stage::Used, OnUp::Drain(time)) => {
                (Stage::Draining(now), Some(Change::Drains(time)))
            }
            (Rank::Outranked, Stage::Draining(since), OnUp::Drain(time))
                if now.at >= since.at + time =>
            {
                match on_down {
                    OnDown::Reset => (Stage::Owed(since), Some(Change::Over)),
                    OnDown::Keep => (Stage::Settled, Some(Change::OverAndKept)),
                }
            }
            // Its flows are nobody's business while it is dead: it may return before they are
            // forgotten.
            (_, stage, _) => (stage, None),
        };
        self.stage = stage;
        change
    }

    /// Whether flows are to be forgotten.
    const fn is_owed(&self) -> bool {
        self.outranked && matches!(self.stage, Stage::Owed(_))
    }
}

impl Engine {
    /// Takes up what an earlier daemon began. To be called before the first decision.
    pub fn resume_drains(&mut self, remembered: &RememberedDrains, now: Moment) {
        for uplink in self.uplinks.values_mut() {
            let Some(drains) = remembered.get(&uplink.name) else {
                continue;
            };
            for (family, since) in drains.iter() {
                if let Some(since) = since {
                    uplink.departures.get_mut(family).resume(*since, now);
                }
            }
        }
    }

    /// The uplinks that are draining, to be remembered over a restart.
    #[must_use]
    pub fn remembered_drains(&self) -> RememberedDrains {
        self.uplinks
            .values()
            .map(|uplink| (uplink.name.clone(), uplink.departures_remembered()))
            .filter(|(_, since)| *since != PerFamily::default())
            .collect()
    }

    /// What became of flows since this was last asked.
    pub fn take_drain_notices(&mut self) -> Vec<DrainNotice> {
        std::mem::take(&mut self.drain_notices)
    }

    /// Whether these flows, which were forgotten a moment ago, are to be forgotten once more: those
    /// that were between routing and confirmation then.
    #[must_use]
    pub fn forgets_again(&self, flows: &Forget) -> bool {
        let of = |id, ask: &dyn Fn(&Uplink) -> bool| self.uplinks.get(&id).is_some_and(ask);
        match *flows {
            Forget::Uplink(id, family) => !of(id, &|uplink| uplink.families.get(family).is_alive()),
            Forget::Leaving { uplink, family, .. } => {
                of(uplink, &|uplink| uplink.departures.get(family).outranked)
            }
            Forget::Former {
                uplink, address, ..
            } => !of(uplink, &|uplink| uplink.has(address)),
            Forget::Unmarked(_) => false,
        }
    }

    /// Decides for one family, once its pool is chosen.
    pub(super) fn settle_departures(&mut self, family: Family, now: Moment) {
        let pool = self.pools.get(family);
        let members = pool.members.keys().filter_map(|id| self.uplinks.get(id));
        let best = members.map(|uplink| uplink.config.priority).min();
        let best = best.filter(|_| pool.tier == Tier::Up);
        let unless_full = self.best_priority_up(family);
        for (id, uplink) in &mut self.uplinks {
            let works = uplink.config.new_flows && uplink.families.get(family).is_alive();
            let relieves = unless_full.is_some_and(|better| better < uplink.config.priority);
            let rank = if pool.members.contains_key(id) {
                if relieves {
                    Rank::Relieving
                } else {
                    Rank::Chosen
                }
            } else if works && best.is_some_and(|best| best < uplink.config.priority) {
                Rank::Outranked
            } else {
                Rank::Other
            };
            let policy = (uplink.config.on_up, uplink.config.on_down);
            let change = uplink.departures.get_mut(family).step(rank, policy, now);
            self.drain_notices.extend(change.map(|change| DrainNotice {
                uplink: uplink.name.clone(),
                family,
                change,
            }));
        }
    }

    /// The flows of a family that are to be forgotten though their uplinks work.
    pub(super) fn owed_departures(&self, family: Family) -> impl Iterator<Item = Forget> {
        self.uplinks
            .iter()
            .filter(move |(_, uplink)| uplink.departures.get(family).is_owed())
            .map(move |(&id, uplink)| Forget::Leaving {
                uplink: id,
                family,
                source: self.unshared(id, family, uplink.families.get(family).last_source()),
            })
    }

    /// The flows of an uplink were forgotten.
    pub(super) fn settle_departure(&mut self, id: UplinkId, family: Family) {
        if let Some(uplink) = self.uplinks.get_mut(&id) {
            uplink.departures.get_mut(family).stage = Stage::Settled;
        }
    }

    /// When the first time is over that flows have.
    pub(super) fn next_end_of_draining(&self) -> Option<Instant> {
        self.uplinks
            .values()
            .flat_map(|uplink| Family::ALL.map(|family| uplink.drains_until(family)))
            .flatten()
            .map(|end| end.at)
            .min()
    }

    /// The time of flows that may finish may be over.
    pub(super) fn notice_time(&mut self, now: Instant) {
        let ends = [self.next_end_of_draining(), self.next_end_by_hand()];
        self.stale |= ends.into_iter().flatten().any(|end| end <= now);
    }
}

impl Uplink {
    /// When the time of its flows of a family is over, if they have one.
    pub(in crate::controller) fn drains_until(&self, family: Family) -> Option<Moment> {
        let departure = self.departures.get(family);
        match (departure.stage, self.config.on_up) {
            (Stage::Draining(since), OnUp::Drain(time)) if departure.outranked => Some(Moment {
                at: since.at + time,
                wall: since.wall.checked_add(time).unwrap_or(Timestamp::MAX),
            }),
            _ => None,
        }
    }

    /// Of flows that are owed, too, so that they are not left behind if this daemon ends before it
    /// could forget them.
    fn departures_remembered(&self) -> PerFamily<Option<Timestamp>> {
        PerFamily::from_fn(|family| {
            let departure = self.departures.get(family);
            match departure.stage {
                Stage::Draining(since) | Stage::Owed(since) if departure.outranked => {
                    Some(since.wall)
                }
                _ => None,
            }
        })
    }
}

impl DrainNotice {
    /// Writes it to the log.
    pub fn tell(&self) {
        let Self {
            uplink,
            family,
            change,
        } = self;
        match change {
            Change::Drains(time) => {
                let seconds = time.as_secs();
                info!(%uplink, %family, seconds, "draining: a better uplink is up again, and open flows may finish");
            }
            Change::Over => {
                info!(%uplink, %family, "drained: flows that are left go to the better uplink");
            }
            Change::OverAndKept => {
                info!(%uplink, %family, "drained: flows that are left stay, as `on_down: keep` says");
            }
            Change::CalledOff => info!(%uplink, %family, "draining is called off"),
            Change::Moves => {
                info!(%uplink, %family, "a better uplink is up again: all flows go there");
            }
        }
    }
}

#[cfg(test)]
#[path = "draining_tests.rs"]
mod tests;
