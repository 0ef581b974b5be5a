//! What becomes of the flows of an uplink that works, once a better one is up again and new flows go
//! there: they stay, may finish within a time, or move at once (`flows.on_up`). Of flows that rules name,
//! `of_rules` decides by the groups of their `via`; of all others, the priorities do.

mod of_rules;

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
    /// They were forgotten, and what was on its way meanwhile goes after them.
    Gone,
}

/// The flows of one uplink in one family that go by the priorities, or by the groups of one `via`.
#[derive(Debug, Default)]
pub(in crate::controller) struct Departure {
    stage: Stage,
    /// At the last decision.
    outranked: bool,
    /// One of those that are better was beyond doubt then.
    trusted: bool,
}

/// The best places of those that are up: priorities, or groups of a `via`.
#[derive(Clone, Copy, Debug)]
struct Best {
    /// Of those that get new flows.
    chosen: Option<u32>,
    /// Of all, whether they are full or not.
    unless_full: Option<u32>,
    /// One of those that get new flows is beyond doubt.
    trusted: bool,
}

impl Best {
    fn rank(self, place: u32, is_member: bool, works: bool) -> Rank {
        let is_better = |best: Option<u32>| best.is_some_and(|best| best < place);
        if is_member && is_better(self.unless_full) {
            Rank::Relieving
        } else if is_member {
            Rank::Chosen
        } else if works && is_better(self.chosen) {
            Rank::Outranked
        } else {
            Rank::Other
        }
    }
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
    /// Of which rules, by how they name their uplinks; `None`: of all that no rule names.
    pub via: Option<String>,
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
        trusted: bool,
        (on_up, on_down): (OnUp, OnDown),
        now: Moment,
    ) -> Option<Change> {
        self.outranked = rank == Rank::Outranked;
        self.trusted = trusted;
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
        self.outranked && self.trusted && matches!(self.stage, Stage::Owed(_))
    }

    /// Whether flows go that are there when some of their uplink are forgotten.
    const fn goes(&self) -> bool {
        self.is_owed() || self.outranked && matches!(self.stage, Stage::Gone)
    }

    const fn forgotten(&mut self) {
        if self.is_owed() {
            self.stage = Stage::Gone;
        }
    }

    /// When the time is over that flows have, if they have one.
    fn until(&self, on_up: OnUp) -> Option<Moment> {
        match (self.stage, on_up) {
            (Stage::Draining(since), OnUp::Drain(time)) if self.outranked => Some(Moment {
                at: since.at + time,
                wall: since.wall.checked_add(time).unwrap_or(Timestamp::MAX),
            }),
            _ => None,
        }
    }

    /// Since when flows may finish. Of those that are owed, too, so that they are not left behind if this
    /// daemon ends before it could forget them.
    const fn remembered(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Draining(since) | Stage::Owed(since) if self.outranked => Some(since.wall),
            _ => None,
        }
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
            Forget::Leaving { uplink, family, .. } => of(uplink, &|uplink| {
                let mut departures = uplink.all_departures(family);
                departures.any(|departure| departure.outranked)
            }),
            Forget::Former {
                uplink, address, ..
            } => !of(uplink, &|uplink| uplink.has(address)),
            Forget::Unmarked(_) => false,
        }
    }

    /// Decides for one family, once its pools are chosen.
    pub(super) fn settle_departures(&mut self, family: Family, now: Moment) {
        let pool = self.pools.get(family);
        let members = pool.members.keys().filter_map(|id| self.uplinks.get(id));
        let chosen = members.map(|uplink| uplink.config.priority).min();
        let best = Best {
            chosen: chosen.filter(|_| pool.tier == Tier::Up),
            unless_full: self.best_priority_up(family),
            trusted: self.is_trusted(pool, family, None),
        };
        for (id, uplink) in &mut self.uplinks {
            let works = uplink.config.new_flows && uplink.families.get(family).is_alive();
            let is_member = pool.members.contains_key(id);
            let rank = best.rank(uplink.config.priority, is_member, works);
            let policy = (uplink.config.on_up, uplink.config.on_down);
            let departure = uplink.departures.get_mut(family);
            let change = departure.step(rank, best.trusted, policy, now);
            self.drain_notices.extend(change.map(|change| DrainNotice {
                uplink: uplink.name.clone(),
                family,
                via: None,
                change,
            }));
        }
        self.settle_departures_of_rules(family, now);
    }

    /// The flows of a family that are to be forgotten though their uplinks work.
    pub(super) fn owed_departures(&self, family: Family) -> impl Iterator<Item = Forget> {
        self.uplinks
            .iter()
            .filter(move |(_, uplink)| uplink.all_departures(family).any(Departure::is_owed))
            .map(move |(&id, uplink)| Forget::Leaving {
                uplink: id,
                family,
                source: self.unshared(id, family, uplink.families.get(family).last_source()),
            })
    }

    /// All flows of an uplink were forgotten.
    pub(super) fn settle_all_departures(&mut self, id: UplinkId, family: Family) {
        if let Some(uplink) = self.uplinks.get_mut(&id) {
            for departure in uplink.all_departures_mut(family) {
                departure.stage = Stage::Settled;
            }
        }
    }

    /// The flows of an uplink that were to be forgotten, were.
    pub(super) fn settle_owed_departures(&mut self, id: UplinkId, family: Family) {
        if let Some(uplink) = self.uplinks.get_mut(&id) {
            for departure in uplink.all_departures_mut(family) {
                departure.forgotten();
            }
        }
    }

    /// When the first time is over that flows have.
    pub(super) fn next_end_of_draining(&self) -> Option<Instant> {
        let each = |uplink: &Uplink, family| {
            let ends = uplink
                .all_departures(family)
                .filter_map(|departure| departure.until(uplink.config.on_up));
            ends.map(|end| end.at).min()
        };
        self.uplinks
            .values()
            .flat_map(|uplink| Family::ALL.map(|family| each(uplink, family)))
            .flatten()
            .min()
    }

    /// The time of flows that may finish may be over.
    pub(super) fn notice_time(&mut self, now: Instant) {
        let ends = [self.next_end_of_draining(), self.next_end_by_hand()];
        self.stale |= ends.into_iter().flatten().any(|end| end <= now);
    }
}

impl Uplink {
    /// When the time of its flows of a family is over, if they have one. Flows of rules are not told of.
    pub(in crate::controller) fn drains_until(&self, family: Family) -> Option<Moment> {
        self.departures.get(family).until(self.config.on_up)
    }

    fn departures_remembered(&self) -> PerFamily<Option<Timestamp>> {
        PerFamily::from_fn(|family| self.departures.get(family).remembered())
    }

    fn all_departures(&self, family: Family) -> impl Iterator<Item = &Departure> {
        let of_rules = self.departures_of_rules.values();
        std::iter::once(&self.departures)
            .chain(of_rules)
            .map(move |departures| departures.get(family))
    }

    fn all_departures_mut(&mut self, family: Family) -> impl Iterator<Item = &mut Departure> {
        let of_rules = self.departures_of_rules.values_mut();
        std::iter::once(&mut self.departures)
            .chain(of_rules)
            .map(move |departures| departures.get_mut(family))
    }
}

impl DrainNotice {
    /// Writes it to the log.
    pub fn tell(&self) {
        let Self {
            uplink,
            family,
            via,
            change,
        } = self;
        let via = via.as_deref();
        match change {
            Change::Drains(time) => {
                let seconds = time.as_secs();
                info!(%uplink, %family, via, seconds, "draining: a better uplink is up again, and open flows may finish");
            }
            Change::Over => {
                info!(%uplink, %family, via, "drained: flows that are left go to the better uplink");
            }
            Change::OverAndKept => {
                info!(%uplink, %family, via, "drained: flows that are left stay, as `on_down: keep` says");
            }
            Change::CalledOff => info!(%uplink, %family, via, "draining is called off"),
            Change::Moves => {
                info!(%uplink, %family, via, "a better uplink is up again: all flows go there");
            }
        }
    }
}

#[cfg(test)]
#[path = "draining_tests.rs"]
mod tests;
